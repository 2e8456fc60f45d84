"""How a stage runs: one line at the start, one at the end, one line for a user's mistake."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable

# Errors the user can fix: disk full, permission denied, read-only.
MACHINE_PROBLEMS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


class UserError(Exception):
    """An error that the user can fix. Its text says what is wrong, where, and what to do, in one line."""


def run(name: str, main: Callable[[], str], outlives_parent: bool = False) -> None:
    """Run a stage's `main`, which returns its summary line. A UserError is one line on stderr and exit code 1."""
    if not outlives_parent:
        die_with_parent()
    warnings.simplefilter("ignore", FutureWarning)  # libraries warn each other; our versions are pinned
    began_s = time.monotonic()
    try:
        summary = main()
    except UserError as error:
        # An error in a data loader's worker comes with that process's traceback; its own line is the last.
        message = str(error).splitlines()[-1].removeprefix(f"{__name__}.{UserError.__name__}: ")
        print(f"{name}: {message}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{name}: stopped; run it again to resume", file=sys.stderr, flush=True)
        sys.exit(130)
    except OSError as error:
        if error.errno not in MACHINE_PROBLEMS:
            raise
        where = f": {error.filename}" if error.filename else ""
        print(f"{name}: {error.strerror}{where}: free some space, or allow writing there", file=sys.stderr, flush=True)
        sys.exit(1)
    print(f"{name}: {summary} ({time.monotonic() - began_s:.1f} s)", flush=True)


def number_option(name: str, default: float) -> float:
    """A number given to make as NAME=NUMBER, which hands it on in the environment.

    Raises: UserError if it is not a number.
    """
    try:
        return float(os.environ.get(name) or default)
    except ValueError:
        raise UserError(f"{name} is {os.environ[name]!r}: give a number such as {name}={default:g}") from None


def announce(name: str, **settings: object) -> None:
    """Print a stage's settings on one line."""
    print(f"{name}: " + " ".join(f"{key}={value}" for key, value in settings.items()), flush=True)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies.

    A stage is a child of DVC. If DVC is killed (kill -9, out of memory), the stage would run on, and the next `dvc
    repro` would train beside it. On other systems only the lock of the training's scratch folder prevents that.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG in linux/prctl.h
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # the parent died before the request
        os.kill(os.getpid(), signal.SIGKILL)

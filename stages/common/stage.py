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

# What the machine's owner can mend: no room, not allowed, read only.
MACHINE_PROBLEMS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


class UserError(Exception):
    """Something the user can mend. Its text says what is wrong, where, and what to do, in one line."""


def run(name: str, main: Callable[[], str], outlives_parent: bool = False) -> None:
    """Run a stage's `main`, which returns its summary line; exit code 1 and one line on stderr for a UserError."""
    if not outlives_parent:
        die_with_parent()
    warnings.simplefilter("ignore", FutureWarning)  # of libraries to each other; exact versions are pinned
    began_s = time.monotonic()
    try:
        summary = main()
    except UserError as error:
        # One from a data loader's worker comes with that process' traceback, and its own line last.
        message = str(error).splitlines()[-1].removeprefix(f"{__name__}.{UserError.__name__}: ")
        print(f"{name}: {message}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{name}: stopped; run it again to go on", file=sys.stderr, flush=True)
        sys.exit(130)
    except OSError as error:
        if error.errno not in MACHINE_PROBLEMS:
            raise
        where = f": {error.filename}" if error.filename else ""
        print(f"{name}: {error.strerror}{where}: make room, or allow writing there", file=sys.stderr, flush=True)
        sys.exit(1)
    print(f"{name}: {summary} ({time.monotonic() - began_s:.1f} s)", flush=True)


def announce(name: str, **settings: object) -> None:
    """Print a stage's resolved settings on one line."""
    print(f"{name}: " + " ".join(f"{key}={value}" for key, value in settings.items()), flush=True)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies.

    DVC starts a stage as its child. Killed itself (kill -9, out of memory), it would leave the stage running, and the
    next `dvc repro` would train beside it. Elsewhere than on Linux only the lock in the training scratch guards.
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

"""Locks that end with the process that holds them, however it ends: flock on a file."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

# Looking whether a lock is held shares it for an instant: who really wants it tries for longer than that.
PATIENCE_S = 1.0


@contextlib.contextmanager
def lock(path: Path, patience_s: float = PATIENCE_S) -> Iterator[IO[str] | None]:
    """Hold a lock file, which is made where it is missing and stays; None where another process keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        gives_up_at_s = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= gives_up_at_s:
                    yield None
                    return
                time.sleep(0.02)
        yield file


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock. Many may look at a time and do not see each other."""
    try:
        file = path.open()
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

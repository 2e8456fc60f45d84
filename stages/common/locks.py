"""Locks between processes (the library filelock); a lock ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

PATIENCE_S = 1.0
LOOK_S = 0.03
POLL_S = 0.01
FOR_EVER = math.inf


@contextlib.contextmanager
def lock(path: Path, patience_s: float = PATIENCE_S) -> Iterator[int | None]:
    """Hold the lock file `path`, which is made if missing and never removed.

    Args:
        patience_s: how long to wait for another holder; 0 tries once, FOR_EVER waits until the lock is free.

    Yields: the lock's file descriptor, or None if another holder keeps the lock. A child process that gets the
        descriptor (`pass_fds`) keeps the lock if its parent is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptors: list[int] = []
    file_lock = FileLock(path, timeout=patience_s, poll_interval=POLL_S, on_acquired=descriptors.append)
    with contextlib.suppress(Timeout):
        file_lock.acquire()
    try:
        yield descriptors[0] if file_lock.is_locked else None
    finally:
        file_lock.release()


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock. A look takes the lock for an instant, so it tries longer than another look."""
    if not path.exists():
        return False
    with lock(path, LOOK_S) as descriptor:
        return descriptor is None

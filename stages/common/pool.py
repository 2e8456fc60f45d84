"""One function over many items: in processes of this machine, or on a Dask cluster.

A sound library may crash, hang or take all memory on a hostile file. That costs this file alone, never the run.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from stages.common.stage import UserError, die_with_parent

if TYPE_CHECKING:
    from pebble import ProcessPool

WORKER_MEMORY_BYTES = 4 << 30  # beside what a process has when it begins: an hour of stereo takes 3.5 GB
LOOKS_EVERY_S = 0.005  # for ended processes; pebble's own 0.1 s is most of the time that a single clip takes
ATTEMPTS = 3  # pebble takes its pool for broken if a process dies just as it begins an item
DASK_ANSWERS_WITHIN_S = 30
KEPT_BYTES = 64 << 20  # of freed memory, in a process: taking a clip's pages anew each time is a tenth of its work

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failed:
    """In place of a result: what became of the process that had this item."""

    why: str


def run_each(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    limit_s: float,
    dask_scheduler: str | None = None,
) -> Iterator[Result | Failed]:
    """`work` (a function that can be pickled) of each item, in their order.

    workers: processes on this machine, at least 1. limit_s: for one item, here; a cluster has its own limits of time
    and memory. An exception of `work` is raised here, and ends the run.

    Raises: UserError if the cluster does not answer, or if the processes cannot start.
    """
    if dask_scheduler:
        yield from _on_cluster(work, items, dask_scheduler)
        return
    from pebble import CONSTS, ProcessPool  # imported here: a run without work needs none

    CONSTS.sleep_unit = LOOKS_EVERY_S
    done, attempts = 0, 0
    while done < len(items):
        pool = ProcessPool(min(workers, len(items) - done), initializer=_begin)
        try:
            for result in _results(pool, work, items[done:], limit_s):
                yield result
                done, attempts = done + 1, 0
        except BrokenProcessPool:
            attempts += 1
            if attempts == ATTEMPTS:
                remedy = "free some memory, or set prepare.workers to 1, and run it again"
                raise UserError(f"worker processes cannot start, or were ended: {remedy}") from None
        finally:
            pool.stop()
            pool.join()


def _results(pool: ProcessPool, work: Callable, items: Sequence, limit_s: float) -> Iterator:
    """Raises: BrokenProcessPool."""
    from pebble import ProcessExpired

    try:
        futures = [pool.schedule(work, args=(item,), timeout=limit_s) for item in items]
    except RuntimeError:  # the pool is broken already
        raise BrokenProcessPool from None
    for future in futures:
        while not wait([future], timeout=1.0).done:
            if not pool.active:  # futures of a broken pool may never end
                raise BrokenProcessPool
        try:
            yield future.result()
        except ProcessExpired:
            yield Failed("the process that read it crashed, or was ended for its memory")
        except TimeoutError:
            yield Failed(f"it took longer than {limit_s:g} s")


def _begin() -> None:
    """In each new process of the pool."""
    die_with_parent()
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # glibc's
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in malloc.h
        mallopt(trim_threshold, KEPT_BYTES)
        mallopt(mmap_threshold, KEPT_BYTES // 2)  # 32 MB, the most that it takes
    if sys.platform == "linux":
        pages = Path("/proc/self/statm").read_text().split()[0]
        most = int(pages) * os.sysconf("SC_PAGE_SIZE") + WORKER_MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _on_cluster(work: Callable, items: Sequence, address: str) -> Iterator:
    from distributed import Client, KilledWorker

    try:
        client = Client(address, timeout=DASK_ANSWERS_WITHIN_S)
    except (OSError, ValueError) as error:
        raise UserError(f"prepare.dask_scheduler: no Dask scheduler answers at {address}: {error}") from None
    with client:
        for future in client.map(work, items, pure=False):
            try:
                yield future.result()
            except KilledWorker:
                yield Failed("the processes of the Dask cluster that read it died")

"""One function over many items, in processes that may die: on this machine, or on a Dask cluster.

A sound library may crash, hang or take all memory on a hostile file. That costs the one file, never the run: the pool
(pebble) starts another process, and what the dead one had is done again, item by item. Results come in the order of
the items, and only a few are held at a time.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import os
import resource
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from stages.common.stage import UserError, die_with_parent

if TYPE_CHECKING:
    from pebble import ProcessPool

CHUNK = 8  # items that a process takes at once; a few milliseconds each
CHUNKS_WAITING = 8  # for each process
DASK_WINDOW = 1000  # items that the cluster knows of at a time
DASK_ANSWERS_WITHIN_S = 30
KEPT_BYTES = 64 << 20  # of freed memory, in a process; taking a clip's pages anew each time is a tenth of its work
WORKER_MEMORY_BYTES = 4 << 30  # beside what a process has when it begins: an hour of stereo takes 3.5 GB
RESTARTS = 5  # one after the other, without a result between them
LOOKS_EVERY_S = 0.005  # for an ended process; pebble's own 0.1 s is most of the time that a single clip takes
LOCK_LIMIT_S = 5  # pebble's 60 s, twice, is how long a run stops when a process dies with the lock of the others' pipe

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failed:
    """In place of a result: what became of the process that had this item."""

    why: str


def run_each(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    limit_s: float | None,
    dask_scheduler: str | None,
    imports: Sequence[str] = (),
) -> Iterator[Result | Failed]:
    """`work` (a function that can be pickled) of each item, in their order; the first are at work on return.

    workers: processes on this machine. limit_s: for one item, here. On a cluster its own settings hold for processes,
    memory and time. imports: modules that a process here imports first, before its memory is limited. What `work`
    raises is raised here, and ends the run.

    Raises: UserError where the cluster does not answer, or where processes end as soon as they begin.
    """
    if dask_scheduler:
        return _on_cluster(work, items, dask_scheduler)
    return _Pool(work, workers, limit_s, imports).run(items)


def start_ahead(imports: Sequence[str]) -> None:
    """Start a process now, for each `run_each` that needs but one and has the same `imports`; it ends with this one.

    Memory that a process and the one it comes from share is copied, page by page, where either touches it: with 10,000
    clips in it, that takes longer than one clip's work.
    """
    pool = _start(1, imports)
    pool.schedule(len, args=([],))  # the first task starts it
    _ahead[tuple(imports)] = pool
    atexit.register(stop_ahead)


def stop_ahead() -> None:
    while _ahead:
        _stop(_ahead.popitem()[1])


_ahead: dict[tuple[str, ...], ProcessPool] = {}  # by what they have imported


class _Pool:
    def __init__(self, work: Callable, workers: int, limit_s: float | None, imports: Sequence[str]) -> None:
        self.work, self.workers, self.limit_s, self.imports = work, workers, limit_s, tuple(imports)
        self.is_ahead = workers == 1 and self.imports in _ahead
        self.pool = _ahead[self.imports] if self.is_ahead else _start(workers, imports)
        self.restarts = 0
        self.waiting: deque[tuple[list, Future]] = deque()

    def run(self, items: Iterable) -> Iterator:
        items = iter(items)
        self.hand_out(items)
        return self.collect(items)

    def hand_out(self, items: Iterator) -> None:
        while len(self.waiting) < self.workers * CHUNKS_WAITING and (chunk := list(islice(items, CHUNK))):
            self.waiting.append((chunk, self.submit(chunk)))

    def collect(self, items: Iterator) -> Iterator:
        try:
            while self.waiting:
                yield from self.finish(*self.waiting.popleft())
                self.hand_out(items)
        finally:
            if not self.is_ahead:
                _stop(self.pool)

    def submit(self, chunk: list) -> Future:
        try:
            return self.pool.schedule(_work_on, args=(self.work, chunk), timeout=self.limit_s)
        except RuntimeError:  # the pool broke; whoever asks for the result starts another
            future: Future = Future()
            future.set_exception(BrokenProcessPool())
            return future

    def finish(self, chunk: list, future: Future) -> list:
        from pebble import ProcessExpired

        try:
            results = self.result(future)
            self.restarts = 0
            return results
        except BrokenProcessPool:  # a process died that had nothing to do
            self.restart()
            return self.finish(chunk, self.submit(chunk))
        except (ProcessExpired, TimeoutError) as error:
            if len(chunk) > 1:
                return [result for item in chunk for result in self.finish([item], self.submit([item]))]
            if isinstance(error, ProcessExpired):
                return [Failed("the process that read it crashed, or was ended for its memory")]
            return [Failed(f"it took longer than {self.limit_s:g} s")]

    def result(self, future: Future) -> list:
        """Raises: BrokenProcessPool, too, where the pool broke before it had taken note of `future`: it never ends."""
        while not wait([future], timeout=1.0).done:
            if not self.pool.active and not future.done():
                raise BrokenProcessPool
        return future.result()

    def restart(self) -> None:
        """Start anew, with all that waits. Raises: UserError where that was done too often."""
        self.restarts += 1
        if self.restarts > RESTARTS:
            for module in self.imports:  # what cannot be imported there says here why
                importlib.import_module(module)
            raise UserError("processes end as soon as they begin: free some memory, or set prepare.workers to 1")
        _stop(self.pool)
        self.pool = _start(self.workers, self.imports)
        if self.is_ahead:
            _ahead[self.imports] = self.pool
        self.waiting = deque((chunk, self.submit(chunk)) for chunk, _ in self.waiting)


def _start(workers: int, imports: Sequence[str]) -> ProcessPool:
    from pebble import CONSTS, ProcessPool  # imported here: a run without work needs none

    CONSTS.sleep_unit = LOOKS_EVERY_S
    CONSTS.channel_lock_timeout = LOCK_LIMIT_S
    return ProcessPool(workers, initializer=_begin, initargs=(imports,))


def _stop(pool: ProcessPool) -> None:
    pool.stop()
    pool.join()


def _begin(imports: Sequence[str]) -> None:
    """In each new process of the pool."""
    die_with_parent()
    for module in imports:
        importlib.import_module(module)
    keep_freed_memory()
    if sys.platform == "linux":
        pages = Path("/proc/self/statm").read_text().split()[0]
        most = int(pages) * os.sysconf("SC_PAGE_SIZE") + WORKER_MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def keep_freed_memory() -> None:
    """Let this process use again what it has freed, instead of giving it back and taking new pages each time."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # glibc's
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in malloc.h
        mallopt(trim_threshold, KEPT_BYTES)
        mallopt(mmap_threshold, KEPT_BYTES // 2)  # 32 MB, the most that it takes


def _work_on(work: Callable[[Item], Result], chunk: list[Item]) -> list[Result]:
    return [work(item) for item in chunk]


def _on_cluster(work: Callable, items: Iterable, address: str) -> Iterator:
    from distributed import Client, KilledWorker

    try:
        client = Client(address, timeout=DASK_ANSWERS_WITHIN_S)
    except (OSError, ValueError) as error:
        raise UserError(f"prepare.dask_scheduler: no Dask scheduler answers at {address}: {error}") from None
    items = iter(items)
    with client:
        while window := list(islice(items, DASK_WINDOW)):
            for future in client.map(work, window, pure=False):
                try:
                    yield future.result()
                except KilledWorker:
                    yield Failed("the processes of the Dask cluster that read it died")

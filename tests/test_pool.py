"""Work over processes: in order, a few at a time, and a process that dies costs its item alone."""

import contextlib
import functools
import gc
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pebble.pool.channel import ChannelMutex

from stages.common import pool
from stages.common.pool import Failed, run_each
from stages.common.stage import UserError


def square(number: int) -> int:
    return number * number


def die_at(number: int, deadly: set[int]) -> int:
    if number in deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def hang_at(number: int, slow: int) -> int:
    time.sleep(60 * (number == slow))
    return number


def fail_at(number: int, bad: int) -> int:
    if number == bad:
        raise OSError(28, "No space left on device", "somewhere")
    return number


def run(work, items, workers=2, limit_s=60.0, imports=()):
    return list(run_each(work, items, workers, limit_s, None, imports))


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 200])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(workers, count):
    assert run(square, range(count), workers) == [number * number for number in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("deadly", [{0}, {29}, {3, 4, 20}, set(range(10))])
def test_processes_that_die_cost_the_items_that_killed_them(workers, deadly):
    results = run(functools.partial(die_at, deadly=deadly), range(30), workers)
    assert {number for number, result in enumerate(results) if isinstance(result, Failed)} == deadly
    assert all(result == number for number, result in enumerate(results) if number not in deadly)
    assert {result.why for result in results if isinstance(result, Failed)} == {
        "the process that read it crashed, or was ended for its memory"
    }


def test_item_that_takes_too_long_is_given_up_and_the_others_are_done():
    began_s = time.monotonic()
    results = run(functools.partial(hang_at, slow=5), range(20), limit_s=1.0)
    assert results[5] == Failed("it took longer than 1 s")
    assert [result for result in results if result != results[5]] == [*range(5), *range(6, 20)]
    assert time.monotonic() - began_s < 30


def test_error_of_the_work_ends_the_run_as_it_is():
    with pytest.raises(OSError, match="No space left on device") as caught:
        run(functools.partial(fail_at, bad=40), range(100))
    assert (caught.value.errno, caught.value.filename) == (28, "somewhere")


def test_only_a_few_items_are_taken_before_their_results_are_asked_for():
    taken = itertools.count()
    results = run_each(square, (number for number in range(10_000) if next(taken) >= 0), 2, 60.0, None)
    assert [next(results) for _ in range(10)] == [number * number for number in range(10)]
    assert next(taken) < 1000
    results.close()


def own_pid(_: int) -> int:
    return os.getpid()


def test_process_that_is_killed_from_outside_while_it_has_nothing_to_do_is_replaced():
    results = run_each(own_pid, range(16), 1, 60.0, None)
    process = next(results)
    os.kill(process, signal.SIGKILL)
    assert len(list(results)) == 15


def die_with_the_lock_once(number: int, marker: Path) -> int:
    if number == 3 and not marker.exists():
        marker.touch()
        mutexes = [found for found in gc.get_objects() if type(found) is ChannelMutex and found.reader_mutex]
        assert mutexes and all(mutex.acquire(block=False) for mutex in mutexes)
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_lock_that_dies_with_a_process_stops_the_run_for_seconds(tmp_path, monkeypatch):
    """Without a limit of our own it is two minutes: the time of one who is killed while it fetches its work."""
    assert pool.LOCK_LIMIT_S <= 5
    monkeypatch.setattr(pool, "LOCK_LIMIT_S", 0.3)
    began_s = time.monotonic()
    work = functools.partial(die_with_the_lock_once, marker=tmp_path / "died")
    assert run(work, range(20), workers=1) == list(range(20))
    assert (tmp_path / "died").exists() and time.monotonic() - began_s < 30


def test_processes_that_die_again_and_again_end_no_run_that_gets_on():
    deaths = 0
    for number, process in enumerate(run_each(own_pid, range(1000), 1, 60.0, None)):
        if number % pool.CHUNK == 0:
            with contextlib.suppress(ProcessLookupError):  # results of one that is dead already
                os.kill(process, signal.SIGKILL)
                deaths += 1
    assert number == 999 and deaths > 2 * pool.RESTARTS


def test_processes_that_cannot_begin_are_one_line(monkeypatch):
    monkeypatch.setattr(pool, "_begin", functools.partial(os._exit, 1))
    with pytest.raises(UserError, match="processes end as soon as they begin"):
        run(square, range(3), 1)


def test_process_that_was_started_ahead_does_all_work_that_needs_but_one_with_its_imports():
    run_ahead = functools.partial(run, workers=1, imports=[IMPORTED])
    pool.start_ahead([IMPORTED])
    try:
        [worker] = {one.pid for one in multiprocessing.active_children()}
        assert set(run_ahead(own_pid, range(3))) == set(run_ahead(own_pid, range(3))) == {worker}
        assert run_ahead(is_imported, range(3)) == [True] * 3
        assert len(run(square, range(50), 2, imports=[IMPORTED])) == 50
        assert worker not in run(own_pid, range(3), 1)
        os.kill(worker, signal.SIGKILL)
        [another] = set(run_ahead(own_pid, range(3)))
        assert another != worker and set(run_ahead(own_pid, range(3))) == {another}
    finally:
        pool.stop_ahead()
    for process in (worker, another):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert not pool._ahead and not multiprocessing.active_children()


@pytest.mark.parametrize("end", ["", "sys.exit(1)", "raise ValueError"])
def test_process_that_was_started_ahead_ends_with_the_one_that_started_it(end):
    code = "import os, sys; from stages.common import pool; from tests.test_pool import own_pid, run\n"
    code += f"pool.start_ahead([]); print(*run(own_pid, [1], 1, imports=[])); {end}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == bool(end)
    assert not Path(f"/proc/{int(result.stdout)}").exists()


def test_processes_import_what_they_need_before_their_memory_is_limited():
    assert all(run(is_imported, range(30), imports=[IMPORTED]))
    assert not any(run(is_imported, range(30)))


def test_what_processes_cannot_import_is_said():
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        run(square, range(3), imports=["no_such_library"])


IMPORTED = "tests.memory_when_imported"


def is_imported(_: int) -> bool:
    return IMPORTED in sys.modules and not sys.modules[IMPORTED].WAS_LIMITED


def test_processes_end_with_the_pool():
    pids = set(run(own_pid, range(50)))
    assert pids and not any(Path(f"/proc/{pid}").exists() for pid in pids)

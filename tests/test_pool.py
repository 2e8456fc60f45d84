"""Work over processes: results in order, and an item that ends its process costs itself alone."""

import functools
import os
import signal
import time
from pathlib import Path

import pytest

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


def own_pid(_: int) -> int:
    return os.getpid()


def run(work, items, workers=2, limit_s=60.0):
    return list(run_each(work, items, workers, limit_s))


@pytest.mark.parametrize(("workers", "count"), [(1, 1), (1, 200), (3, 200)])
def test_results_come_in_the_order_of_the_items(workers, count):
    assert run(square, range(count), workers) == [number * number for number in range(count)]


@pytest.mark.parametrize("deadly", [{0, 3, 4, 29}, set(range(10))])
def test_processes_that_die_cost_the_items_that_killed_them(deadly):
    results = run(functools.partial(die_at, deadly=deadly), range(30), limit_s=10.0)
    assert {number for number, result in enumerate(results) if isinstance(result, Failed)} == deadly
    assert all(result == number for number, result in enumerate(results) if number not in deadly)


def test_item_that_takes_too_long_is_given_up_and_the_others_are_done():
    began_s = time.monotonic()
    results = run(functools.partial(hang_at, slow=5), range(20), limit_s=1.0)
    assert isinstance(results[5], Failed)
    assert [*results[:5], *results[6:]] == [*range(5), *range(6, 20)]
    assert time.monotonic() - began_s < 30


def test_error_of_the_work_ends_the_run_as_it_is():
    with pytest.raises(OSError, match="No space left on device: 'somewhere'"):
        run(functools.partial(fail_at, bad=40), range(100))


@pytest.mark.parametrize("count", [1, 100])
def test_processes_that_cannot_begin_are_one_line(monkeypatch, count):
    monkeypatch.setattr(pool, "_begin", functools.partial(os._exit, 1))
    with pytest.raises(UserError, match="worker processes cannot start"):
        run(square, range(count))


def test_processes_end_with_the_pool():
    pids = set(run(own_pid, range(50)))
    unfinished = run_each(own_pid, range(1000), 2, 60.0)
    pids.add(next(unfinished))
    unfinished.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)

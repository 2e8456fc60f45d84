"""Locks: one holder at a time, however it ends; looking takes nothing away from anybody."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stages.common.locks import is_locked, lock
from tests.recordings import recorder_environment

HOLD = """
import subprocess, sys, time
from pathlib import Path
from stages.common.locks import lock
with lock(Path("a.lock"), patience_s=0) as held:
    print("held" if held else "refused", flush=True)
    {then}
"""

CHILD = "child = subprocess.Popen(['sleep', '60']{options}); print(child.pid, flush=True); child.wait()"


@pytest.fixture
def hold(workspace):
    """`hold("code")` starts a process that takes a.lock, says so and then runs the code; ended with the test."""
    started = []

    def start(then: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD.format(then=then)],
            cwd=workspace, env=recorder_environment(workspace), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_lock_is_held_by_one_process_and_free_after_its_end_however_it_ends(hold):
    path = Path("a.lock")
    assert not is_locked(path)
    for is_killed in (False, True):
        holder = hold("sys.stdin.readline()")
        assert is_locked(path)
        with lock(path, patience_s=0) as held:
            assert held is None
        if is_killed:
            holder.kill()
        holder.communicate("" if is_killed else "end\n")
        assert not is_locked(path)
    with lock(path, patience_s=0) as held:
        assert held is not None and is_locked(path)
    assert not is_locked(path)


@pytest.mark.parametrize("is_given", [True, False])
def test_only_a_child_that_was_given_the_lock_keeps_it_when_its_parent_is_killed(hold, is_given):
    """So does dvc when the supervisor is killed."""
    holder = hold(CHILD.format(options=", pass_fds=[held]" if is_given else ""))
    child = int(holder.stdout.readline())
    holder.kill()
    holder.wait()
    assert is_locked(Path("a.lock")) is is_given
    subprocess.run(["kill", "-9", str(child)], check=True)
    with lock(Path("a.lock"), patience_s=5) as held:
        assert held is not None


def test_two_who_look_at_once_do_not_take_each_other_for_the_holder(workspace):
    path = Path("a.lock")
    path.touch()
    with ThreadPoolExecutor(4) as lookers:
        for _ in range(50):
            assert not any(lookers.map(is_locked, [path] * 4))

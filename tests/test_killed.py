"""Killed at any moment, or out of room on the disk: the next run of prepare ends as if nothing had been."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.workspaces import content_of, environment, make_workspace, run_stage, run_stages

CLIPS = 60


def write_clips(workspace: Path, numbers: range) -> None:
    folder = workspace / "data/raw/phone"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "clips.jsonl").open("a") as rows:
        for number in numbers:
            noise = np.random.default_rng(number).normal(0, 0.1, 22_050)
            soundfile.write(folder / f"{number}.wav", noise, 22_050)
            rows.write(json.dumps({"audio_path": f"{number}.wav", "text": f"number {number}"}) + "\n")


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """What prepare writes when nothing disturbs it, and what was in data/raw."""
    workspace = make_workspace(tmp_path_factory.mktemp("undisturbed"), prepare__workers=2)
    write_clips(workspace, range(CLIPS))
    run_stages(workspace, "prepare")
    return {name: content_of(workspace / "data" / name) for name in ("raw", "prepared")}


def kill_after(workspace: Path, seconds: float) -> bool:
    """Start prepare, and kill it and nothing else after so long; whether it was still at work."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.prepare"],
        cwd=workspace, env=environment(workspace), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.kill)])
def test_killed_at_random_moments_the_next_run_ends_right(tmp_path, expected, kills):
    """A file that a kill has left half written would be taken for a whole one, or a clip be missed."""
    workspace = make_workspace(tmp_path, prepare__workers=2)
    write_clips(workspace, range(CLIPS))
    began_s = time.monotonic()
    run_stages(workspace, "prepare")
    takes_s = time.monotonic() - began_s
    rng = random.Random("prepare")
    killed = 0
    for number in range(kills):
        if number % 2 == 0:  # every other time it goes on with what the kill before has left
            shutil.rmtree(workspace / ".cache", ignore_errors=True)
        killed += kill_after(workspace, rng.uniform(0.2, 1.0) * takes_s)
        assert content_of(workspace / "data/raw") == expected["raw"]
        if number % 4 == 3:
            run_stages(workspace, "prepare")
            assert content_of(workspace / "data/prepared") == expected["prepared"]
    assert killed >= kills // 2
    run_stages(workspace, "prepare")
    assert content_of(workspace / "data/prepared") == expected["prepared"]
    assert {path.name for path in (workspace / "data").iterdir()} == {"raw", "prepared", "demo"}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize(
    "free_bytes", [70_000, *(pytest.param(free, marks=pytest.mark.kill) for free in (0, 300_000, 1_500_000))]
)
def test_full_disk_is_one_line_and_with_room_the_next_run_ends_right(tmp_path, expected, small_disk, free_bytes):
    """data/prepared and the cache are on the full disk."""
    workspace = make_workspace(tmp_path / "workspace", prepare__workers=2)
    write_clips(workspace, range(CLIPS))
    (workspace / "data/prepared").symlink_to(small_disk / "prepared")
    (small_disk / "prepared").mkdir()
    cache = {"OWNVOICE_CACHE": str(small_disk / "cache")}
    filler = small_disk / ".filler"
    with filler.open("wb") as file:
        state = os.statvfs(small_disk)
        file.write(bytes(max(state.f_bavail * state.f_frsize - free_bytes, 0)))
    result = run_stage(workspace, "prepare", **cache)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.replace("\r", "\n").split("\n") if line and "clip/s" not in line]
    assert line.startswith("prepare: No space left on device")
    assert not (workspace / "data/prepared/metadata.jsonl").exists()
    assert content_of(workspace / "data/raw") == expected["raw"]
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert run_stage(workspace, "prepare", **cache).returncode == 0
    assert content_of(workspace / "data/prepared") == expected["prepared"]

"""Killed at any moment, or out of room on the disk: the next run of prepare and split ends as if nothing had been."""

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

from tests.workspaces import environment, make_workspace, run_stage

CLIPS = 60


def write_clips(workspace: Path, numbers: range) -> None:
    folder = workspace / "data/raw/phone"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "clips.jsonl").open("a") as rows:
        for number in numbers:
            noise = np.random.default_rng(number).normal(0, 0.1, 22_050)
            soundfile.write(folder / f"{number}.wav", noise, 22_050)
            rows.write(json.dumps({"audio_path": f"{number}.wav", "text": f"number {number}"}) + "\n")


def content_of(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found
    return found


def succeed(workspace: Path, stage: str, **extra: str) -> None:
    result = run_stage(workspace, stage, **extra)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """What the stages write when nothing disturbs them, and what was in data/raw."""
    workspace = make_workspace(tmp_path_factory.mktemp("undisturbed"), prepare__workers=2)
    write_clips(workspace, range(CLIPS))
    for stage in ("prepare", "split"):
        succeed(workspace, stage)
    return {name: content_of(workspace / "data" / name) for name in ("raw", "prepared", "split")}


def kill_after(workspace: Path, stage: str, seconds: float) -> bool:
    """Start a stage, and kill it and nothing else after so long; whether it was still at work."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=workspace,
        env=environment(workspace),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("stage", "kills"),
    [
        ("prepare", 2),
        pytest.param("prepare", 20, marks=pytest.mark.kill),
        pytest.param("split", 20, marks=pytest.mark.kill),
    ],
)
def test_killed_at_random_moments_the_next_run_ends_right(tmp_path, expected, stage, kills):
    workspace = make_workspace(tmp_path, prepare__workers=2)
    write_clips(workspace, range(CLIPS))
    if stage == "split":
        succeed(workspace, "prepare")
    began_s = time.monotonic()
    succeed(workspace, stage)
    takes_s = time.monotonic() - began_s
    rng = random.Random(stage)
    written = stage.replace("prepare", "prepared")
    killed = 0
    for number in range(kills):
        if number % 2 == 0 and stage == "prepare":  # every other time it goes on with what the kill before has left
            shutil.rmtree(workspace / ".cache", ignore_errors=True)
        killed += kill_after(workspace, stage, rng.uniform(0.2, 1.0) * takes_s)
        assert content_of(workspace / "data/raw") == expected["raw"]
        if number % 4 == 3:
            succeed(workspace, stage)
            assert content_of(workspace / "data" / written) == expected[written]
    assert killed >= kills // 2
    succeed(workspace, stage)
    assert content_of(workspace / "data" / written) == expected[written]
    assert {path.name for path in (workspace / "data").iterdir()} <= {"raw", "prepared", "split", "demo"}


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
    ("full", "free_bytes"),
    [
        ("data", 70_000),
        *(
            pytest.param(full, free_bytes, marks=pytest.mark.kill)
            for full in ("cache", "data")
            for free_bytes in (0, 4_000, 70_000, 300_000, 1_000_000, 1_500_000)
            if (full, free_bytes) != ("data", 70_000)
        ),
    ],
)
def test_full_disk_is_one_line_and_with_room_the_next_run_ends_right(tmp_path, expected, small_disk, full, free_bytes):
    workspace = make_workspace(tmp_path / "workspace", prepare__workers=2)
    write_clips(workspace, range(CLIPS))
    cache = small_disk if full == "cache" else workspace / ".cache"
    if full == "data":
        (workspace / "data/raw").rename(workspace / "raw")
        shutil.rmtree(workspace / "data")
        (workspace / "data").symlink_to(small_disk)
        (small_disk / "raw").symlink_to(workspace / "raw")
    filler = small_disk / ".filler"
    with filler.open("wb") as file:
        state = os.statvfs(small_disk)
        file.write(bytes(max(state.f_bavail * state.f_frsize - free_bytes, 0)))
    result = run_stage(workspace, "prepare", OWNVOICE_CACHE=str(cache))
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.replace("\r", "\n").split("\n") if line and "clip/s" not in line]
    assert line.startswith("prepare: No space left on device") and line.endswith(
        ": free some space, or allow writing there"
    )
    assert not (workspace / "data/prepared/metadata.jsonl").exists()
    raw = workspace / ("raw" if full == "data" else "data/raw")
    assert content_of(raw) == expected["raw"]
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    succeed(workspace, "prepare", OWNVOICE_CACHE=str(cache))
    assert content_of(workspace / "data/prepared") == expected["prepared"]

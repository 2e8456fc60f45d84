"""Recordings and takes for the tests of the recorder: the demo's voice, as a microphone would have heard it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from recorder import inbox, takes
from recorder.takes import Take
from stages.common.params import PrepareParams, load_params
from stages.speech import audio
from tests.workspaces import DEMO_CLIPS, ROOT, environment, init_dvc

DEMO_ROWS = [json.loads(line) for line in (DEMO_CLIPS / "clips.jsonl").read_text().splitlines()]


@functools.cache
def limits() -> PrepareParams:
    return load_params(ROOT / "params.yaml").prepare


@functools.cache
def spoken(number: int) -> tuple[np.ndarray, int]:
    """Samples [frames] and rate in Hz of a demo clip; not to be changed."""
    samples, sample_rate_hz = audio.decode((DEMO_CLIPS / DEMO_ROWS[number]["audio_path"]).read_bytes())
    return samples.mean(axis=1), sample_rate_hz


def text_of(number: int) -> str:
    return DEMO_ROWS[number % len(DEMO_ROWS)]["text"]


def make_take(number: int) -> Take:
    """The same number is the same recording; others differ, also beyond the demo's clips."""
    samples, sample_rate_hz = spoken(number % len(DEMO_ROWS))
    slower = 0.95 ** (number // len(DEMO_ROWS))  # a louder or softer copy would be the same take to prepare
    return takes.from_recording(samples, round(sample_rate_hz * slower), limits())


def save(number: int, **fields: object) -> inbox.StoredClip:
    """Save a take as the page does, with other fields where given."""
    values = {"text": text_of(number), "language": "en", "speaker": "ann"} | fields
    clip_id, is_new = inbox.save_clip(make_take(number), **values)
    assert is_new
    return next(clip for clip in inbox.stored_clips() if clip.id == clip_id)


def track_recordings(folder: Path, no_scm: bool = True) -> None:
    """Make `folder` a DVC repository whose data/raw is known to DVC."""
    from dvc.repo import Repo

    raw = folder / "data/raw"
    raw.mkdir(parents=True, exist_ok=True)
    if no_scm:
        init_dvc(folder, tracks_raw=True)
        if not any(raw.iterdir()):
            return
    with Repo(str(folder)) if no_scm else Repo.init(str(folder)) as repository:
        repository.add(str(raw))


def recorder_environment(workspace: Path, **extra: str) -> dict[str, str]:
    return environment(workspace, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", **extra)


def enter(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it the working folder, of this process and of those that it starts."""
    monkeypatch.chdir(workspace)
    for name, value in recorder_environment(workspace).items():
        monkeypatch.setenv(name, value)


def processes_in(workspace: Path, *words: str) -> list[psutil.Process]:
    """All that work in a folder, but for this one, and have these words in the beginning of their command."""
    found = []
    for process in psutil.process_iter():
        try:
            is_here = process.pid != os.getpid() and Path(process.cwd()).is_relative_to(workspace)
            if is_here and all(any(word in part for part in process.cmdline()[:4]) for word in words):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@contextlib.contextmanager
def repro_beside() -> Iterator[subprocess.Popen]:
    """`dvc repro` in another terminal; it is killed at the end."""
    command = [sys.executable, "-m", "dvc", "repro"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_until(is_so: Callable[[], object], seconds: float = 60.0) -> None:
    gives_up_at_s = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < gives_up_at_s, f"not so after {seconds:g} s"
        time.sleep(0.05)


def broken_cache_objects(workspace: Path) -> list[str]:
    """Objects in DVC's cache whose content is not their name; hidden files are copies that a kill cut off."""
    objects = [path for path in (workspace / ".dvc/cache/files/md5").glob("??/*") if path.name[0] != "."]
    assert objects, "the cache is empty"
    return [
        str(path)
        for path in objects
        if hashlib.md5(path.read_bytes()).hexdigest() != path.parent.name + path.name.removesuffix(".dir")
    ]

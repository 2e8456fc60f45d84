"""Recordings and takes for the tests of the recorder: the demo's voice, as a microphone would have heard it."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

from recorder import takes
from recorder.takes import Take
from stages.pipeline.params import PrepareParams, load_params
from stages.speech import audio
from tests.workspaces import DEMO_CLIPS, ROOT, dvc, make_workspace

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
    louder = 0.9 ** (number // len(DEMO_ROWS))
    return takes.from_recording(samples * louder, sample_rate_hz, text_of(number), "en", limits())


def make_recorder_workspace(folder: Path, **overrides: object) -> Path:
    """A workspace whose data/raw is empty and known to DVC."""
    folder.mkdir(parents=True, exist_ok=True)
    make_workspace(folder, **overrides)
    (folder / "data/raw").mkdir(parents=True)
    dvc(folder, "init", "--no-scm", "--quiet")
    dvc(folder, "add", "--quiet", "data/raw")
    return folder

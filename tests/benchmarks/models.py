"""What the benchmarks run on: models of three sizes with random weights, and prepared clips of a real speaker."""

from __future__ import annotations

import csv
import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

import soundfile
import torch
from transformers import VoxtralConfig, VoxtralForConditionalGeneration

from stages.speech import audio
from stages.speech.clips import Clip
from stages.voxtral.loading import device_name
from stages.voxtral.tiny import architecture
from stages.voxtral.tiny.architecture import Architecture
from tests.workspaces import SPEECH

MIDDLE = Architecture(window_s=30, width=256, encoder_layers=4, decoder_layers=4, tokens=8256 - 40, max_positions=4096)
FULL_TOKENS = 130_000  # of the 3B model's vocabulary, which has some more
SIZES = ("tiny", "middle", "3b")


def make_model(size: str, folder: Path) -> Path:
    """A model folder with random weights: nothing here depends on what a model has learned."""
    if size == "3b":
        return _make_full(folder)
    kind = {"tiny": architecture.TINY, "middle": MIDDLE}[size]
    architecture.write_processor(folder, kind)
    architecture.untrained_model(0, kind).save_pretrained(folder)
    return folder


def _make_full(folder: Path) -> Path:
    """The published 3B configuration, which is the library's default."""
    kind = Architecture(30, 1280, 32, 30, FULL_TOKENS, 131072)
    architecture.write_processor(folder, kind)
    config = VoxtralConfig()
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = VoxtralForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return folder


def make_clips(folder: Path, count: int) -> list[Clip]:
    """`count` clips in `folder` as prepare writes them; beyond the recordings that there are, the same, softer."""
    with (SPEECH / "kathleen/transcripts.csv").open() as file:
        rows = list(csv.DictReader(file))
    clips = []
    for number in range(count):
        row = rows[number % len(rows)]
        content = (SPEECH / "kathleen" / row["file"]).read_bytes()
        samples = audio.to_mono_16k(*audio.decode(content)) * 0.9 ** (number // len(rows))
        name = f"{number}.flac"
        soundfile.write(folder / name, samples, audio.SAMPLE_RATE_HZ)
        clip_id = hashlib.sha256(f"{number}".encode()).hexdigest()[:16]
        clip = Clip(
            id=clip_id, audio_path=str(folder / name), text=row["text"], language="en", source="kathleen",
            recorded_file=row["file"],
            duration_s=len(samples) / audio.SAMPLE_RATE_HZ, peak_dbfs=-3, level_dbfs=-20, snr_db=30, clipped_fraction=0,
        )  # fmt: skip
        clips.append(clip)
    return clips


def machine() -> str:
    """The machine and the versions that a table of figures belongs to."""
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers", "peft"))
    where = device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} cores ({platform.machine()})"
    return f"{where}; Python {platform.python_version()}, {versions}"


def require_recordings() -> None:
    if not SPEECH.is_dir():
        raise SystemExit(f"no recordings in {SPEECH}")

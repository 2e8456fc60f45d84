"""The sound of clips in data/prepared, as train, evaluate and the pages read it: 16 kHz mono FLAC."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import soundfile

from stages.common import paths
from stages.common.stage import UserError

SAMPLE_RATE_HZ = 16_000  # of the features that Voxtral's encoder was trained on
MANIFEST = paths.PREPARED / "metadata.jsonl"


def audio_path(clip_id: str) -> str:
    """The file of a clip's sound, relative to data/prepared."""
    return f"audio/{clip_id[:2]}/{clip_id}.flac"


def path_of(clip_id: str) -> Path | None:
    """The file of a clip's sound; None if there is no such clip."""
    path = paths.PREPARED / audio_path(clip_id)
    return path if path.is_file() else None


def content(path: Path) -> bytes:
    """Raises: UserError if the file is missing."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run 'dvc repro prepare'") from None


def sha256(path: Path) -> str:
    """Hex digest of a clip's FLAC file. Raises: UserError if it is missing."""
    return hashlib.sha256(content(path)).hexdigest()


def read_prepared(path: Path) -> np.ndarray:
    """Samples [frames] of a file that prepare wrote. Raises: UserError if it is missing or damaged."""
    try:
        samples, sample_rate_hz = soundfile.read(io.BytesIO(content(path)), dtype="float32")
    except soundfile.SoundFileError:
        raise UserError(f"{path} is damaged: remove it, and run 'dvc repro prepare'") from None
    if sample_rate_hz != SAMPLE_RATE_HZ or samples.ndim != 1:
        raise ValueError(f"{path} is not {SAMPLE_RATE_HZ} Hz mono: it was not written by the prepare stage")
    return samples

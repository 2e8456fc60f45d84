"""Sound: decoding, resampling, trimming, measuring.

Samples are float32 in [-1, 1]: [frames, channels] as recorded, [frames] once mono.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLE_RATE_HZ = 16_000  # of the features that Voxtral's encoder was trained on
FULL_SCALE = 0.999
QUIETEST_DBFS = -100.0
FRAME_S = 0.02
TRIM_BELOW_PEAK_DB = 40
TRIM_MARGIN_S = 0.1


def decode(content: bytes) -> tuple[np.ndarray, int]:
    """Decode a sound file held in memory.

    Returns: samples [frames, channels] and the sample rate in Hz.
    Raises: soundfile.SoundFileError where the content is no sound that libsndfile reads.
    """
    samples, sample_rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return samples, sample_rate_hz


def encode_flac(samples: np.ndarray) -> bytes:
    """16-bit FLAC at SAMPLE_RATE_HZ."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1, 1), SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def read_prepared(path: Path) -> np.ndarray:
    """Samples [frames] of a file that prepare wrote."""
    samples, sample_rate_hz = soundfile.read(path, dtype="float32")
    if sample_rate_hz != SAMPLE_RATE_HZ or samples.ndim != 1:
        raise ValueError(f"{path} is not {SAMPLE_RATE_HZ} Hz mono: it was not written by the prepare stage")
    return samples


def to_mono_16k(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Mean of the channels, resampled with soxr at its highest quality."""
    mono = samples.mean(axis=1)
    if sample_rate_hz == SAMPLE_RATE_HZ:
        return mono
    return soxr.resample(mono, sample_rate_hz, SAMPLE_RATE_HZ, quality="VHQ").astype(np.float32)


def trim_silence(samples: np.ndarray) -> np.ndarray:
    """Cut both ends where they are 40 dB below the loudest frame, leaving a tenth of a second."""
    import librosa  # imported here: it takes a second, and trimming is optional

    _, (start, end) = librosa.effects.trim(samples, top_db=TRIM_BELOW_PEAK_DB, frame_length=512, hop_length=128)
    margin = int(TRIM_MARGIN_S * SAMPLE_RATE_HZ)
    return samples[max(start - margin, 0) : end + margin]


def clipped_fraction(samples: np.ndarray) -> float:
    """Share of samples that stand at full scale beside another one that does.

    To be taken from the recording as it came: resampling rounds the flat tops off.
    """
    at_limit = np.abs(samples) >= FULL_SCALE
    in_run = at_limit.copy()
    in_run[:1] = False
    in_run[1:] &= at_limit[:-1]
    in_run[:-1] |= in_run[1:]
    return float(in_run.mean()) if samples.size else 0.0


def measure(samples: np.ndarray) -> dict[str, float]:
    """Levels of a mono clip [frames] in dBFS, and an estimate of its signal-to-noise ratio in dB.

    Level: the 95th percentile of the RMS of 20 ms frames; noise: their 10th percentile, so a clip without any pause
    is estimated noisier than it is.
    """
    frame_length = int(FRAME_S * SAMPLE_RATE_HZ)
    frame_count = max(len(samples) // frame_length, 1)
    frames = np.resize(samples, (frame_count, frame_length)) if len(samples) else np.zeros((1, frame_length))
    rms_dbfs = _dbfs(np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1)))
    level_dbfs, noise_dbfs = np.percentile(rms_dbfs, [95, 10])
    return {
        "duration_s": round(len(samples) / SAMPLE_RATE_HZ, 3),
        "peak_dbfs": round(float(_dbfs(np.abs(samples).max(initial=0.0))), 1),
        "level_dbfs": round(float(level_dbfs), 1),
        "snr_db": round(float(level_dbfs - noise_dbfs), 1),
    }


def _dbfs(amplitude: np.ndarray | float) -> np.ndarray | float:
    return np.maximum(20 * np.log10(np.maximum(amplitude, 1e-10)), QUIETEST_DBFS)

"""Where a long recording can be cut: in its pauses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from stages.speech import audio

READ_AT_ONCE_S = 600.0
FRAME_S = 0.02
# A stop consonant closes the mouth for a tenth of a second, people wait half a second and more between sentences.
PAUSE_S = 0.4
MARGIN_S = 0.2  # of a pause, left at both ends of a piece
QUIET = 1 / 3  # of the way from the noise's level to that of speech, in dB


def find_pieces(recorded: BinaryIO, channels: str) -> tuple[float, list[tuple[float, float]]]:
    """A recording's length, and begin and end of each stretch of sound between two pauses, in seconds.

    channels: prepare.channels. Only a part of the recording is held in memory at a time.
    Raises: audio.UnreadableSound, audio.ChannelsDiffer.
    """
    levels_dbfs = np.concatenate([_levels_dbfs(samples) for samples in _read_in_parts(recorded, channels)])
    noise_dbfs, speech_dbfs = np.percentile(levels_dbfs, [10, 95])
    loud = levels_dbfs > noise_dbfs + QUIET * (speech_dbfs - noise_dbfs)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(int))) * FRAME_S
    duration_s = len(levels_dbfs) * FRAME_S
    pieces: list[list[float]] = []
    for begins_s, ends_s in edges.reshape(-1, 2):
        if pieces and begins_s - pieces[-1][1] < PAUSE_S:
            pieces[-1][1] = ends_s
        else:
            pieces.append([begins_s, ends_s])
    widened = ((max(begin - MARGIN_S, 0.0), min(end + MARGIN_S, duration_s)) for begin, end in pieces)
    return round(duration_s, 3), [(round(float(begin), 3), round(float(end), 3)) for begin, end in widened]


def _read_in_parts(recorded: BinaryIO, channels: str) -> Iterator[np.ndarray]:
    """Samples [frames] at 16 kHz, some minutes at a time."""
    begins_s = 0.0
    while True:
        try:
            samples, sample_rate_hz = audio.decode(recorded, begins_s, begins_s + READ_AT_ONCE_S)
            is_last = False
        except audio.EndsEarly:
            is_last = True
            try:
                samples, sample_rate_hz = audio.decode(recorded, begins_s)
            except audio.EndsEarly:  # it ended with the part before
                return
        yield audio.to_mono_16k(samples, sample_rate_hz, channels)
        if is_last:
            return
        begins_s += READ_AT_ONCE_S


def _levels_dbfs(samples: np.ndarray) -> np.ndarray:
    """RMS of each frame of FRAME_S."""
    length = round(FRAME_S * audio.SAMPLE_RATE_HZ)
    frames = samples[: len(samples) // length * length].reshape(-1, length)
    return 20 * np.log10(np.maximum(np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1)), 1e-5))

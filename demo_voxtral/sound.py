"""Recordings: read from any file, checked, and cut into parts for the model.

Samples are float32 in [-1, 1], mono: [frames].
"""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import numpy as np

SHORTEST_S = 0.1
SILENCE_DBFS = -60.0  # a recording whose loudest parts are below this is silent
FRAME_S = 0.02
PAUSE_S = 0.2  # shorter ones are within words
QUIETER_DB = 35  # a pause is this much below the loudest parts
KEPT_SILENCE_S = 0.1  # at both ends of a part
# Formats of sound and common videos; none that opens other files or addresses.
DEMUXERS = "aac,aiff,amr,asf,au,caf,flac,matroska,mov,mp3,ogg,w64,wav"
NO_SOUND = "There is no sound in this file. Upload a recording, or record one here."


class Refused(Exception):
    """Why a recording is not transcribed, and what to do, in a sentence."""


def read(path: Path, sample_rate_hz: int, longest_s: float) -> np.ndarray:
    """Samples [frames] at the rate asked for.

    Raises: Refused for a file that holds no sound, is damaged, silent, too short or too long.
    """
    try:
        samples = _decode(path, sample_rate_hz, longest_s)
    except (av.FFmpegError, ValueError):  # ValueError: rate or channels change within the file
        raise Refused("This file cannot be read as sound. Use WAV, FLAC, MP3, M4A, OGG or WebM.") from None
    if len(samples) < SHORTEST_S * sample_rate_hz:
        raise Refused("This recording is too short to hold a word. Record again, and stop after you have spoken.")
    if not np.isfinite(samples).all():
        raise Refused("This file is damaged. Save it again as WAV or FLAC, and upload that.")
    samples = np.clip(samples, -1, 1)
    if is_silent(samples, sample_rate_hz):
        raise Refused("There is only silence in this recording. Check that the microphone is on, and record again.")
    return samples


def _decode(path: Path, sample_rate_hz: int, longest_s: float) -> np.ndarray:
    """Samples [frames], the mean of all channels; a small file may unpack to days, so it is read only so far."""
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "none"}
    # Channels in one plane: PyAV's arrays of many planes hold memory that is none from 8 channels on.
    resampler = av.AudioResampler(format="flt", rate=sample_rate_hz)
    blocks, seconds = [], 0.0
    if _names_wrong_sizes(path):
        options["ignore_length"] = "1"
    with path.open("rb") as file, av.open(file, container_options=options, metadata_errors="replace") as container:
        if not container.streams.audio:
            raise Refused(NO_SOUND)
        for decoded in itertools.chain(container.decode(container.streams.audio[0]), [None]):
            # Before it is resampled: a frame at 1 Hz would fill the memory.
            seconds += decoded.samples / decoded.sample_rate if decoded else 0
            if seconds > longest_s:
                raise Refused(f"This recording is longer than {longest_s:g} seconds. Cut it into shorter ones.")
            for block in resampler.resample(decoded):
                blocks.append(block.to_ndarray().reshape(-1, block.layout.nb_channels).mean(axis=1))
    if not blocks:
        raise Refused(NO_SOUND)
    return np.concatenate(blocks)


def _names_wrong_sizes(path: Path) -> bool:
    """Whether a WAV file's parts do not fill it: its recorder crashed, or files were joined."""
    with path.open("rb") as file:
        head, at, end = file.read(12), 12, path.stat().st_size
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return False
        while at + 8 <= end:
            file.seek(at)
            name, size = file.read(4), int.from_bytes(file.read(4), "little")
            if name == b"RIFF" or not name.isascii():
                return True
            at += 8 + size + size % 2
    return at not in (end, end + 1)


def is_silent(samples: np.ndarray, sample_rate_hz: int) -> bool:
    """Whether 95 % of all 20 ms frames are below the level of speech."""
    return np.percentile(_level_dbfs(samples, sample_rate_hz), 95) < SILENCE_DBFS


def cut(samples: np.ndarray, sample_rate_hz: int, longest: int) -> list[np.ndarray]:
    """Parts of at most `longest` samples, in order, cut in pauses and without silent ends; a short recording whole."""
    if len(samples) <= longest:
        return [samples]
    loud_dbfs = np.percentile(_level_dbfs(samples, sample_rate_hz), 95)
    quiet_dbfs = max(loud_dbfs - QUIETER_DB, SILENCE_DBFS)
    parts, rest = [], _without_silent_ends(samples, sample_rate_hz, quiet_dbfs)
    while len(rest) > longest:
        end = _middle_of_pause(rest[:longest], sample_rate_hz)
        parts.append(_without_silent_ends(rest[:end], sample_rate_hz, quiet_dbfs))
        rest = _without_silent_ends(rest[end:], sample_rate_hz, quiet_dbfs)
    return [part for part in [*parts, rest] if len(part)]


def _middle_of_pause(samples: np.ndarray, sample_rate_hz: int) -> int:
    """The sample in the middle of the longest pause in the last two thirds."""
    first, frames = len(samples) // 3, round(PAUSE_S / FRAME_S)
    level_dbfs = np.convolve(_level_dbfs(samples[first:], sample_rate_hz), np.ones(frames) / frames, mode="valid")
    quiet = level_dbfs < max(level_dbfs.min() + 6, SILENCE_DBFS)
    changes = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]])))
    begins, ends = changes[::2], changes[1::2]
    longest = (ends - begins).argmax()
    middle_s = ((begins[longest] + ends[longest] - 1) + frames) / 2 * FRAME_S
    return first + round(middle_s * sample_rate_hz)


def _without_silent_ends(samples: np.ndarray, sample_rate_hz: int, quiet_dbfs: float) -> np.ndarray:
    """The samples from the first to the last frame louder than `quiet_dbfs`, with KEPT_SILENCE_S at both ends."""
    loud = np.flatnonzero(_level_dbfs(samples, sample_rate_hz) > quiet_dbfs)
    if not len(loud):
        return samples[:0]
    frame, kept = round(FRAME_S * sample_rate_hz), round(KEPT_SILENCE_S / FRAME_S)
    return samples[max(loud[0] - kept, 0) * frame : (loud[-1] + 1 + kept) * frame]


def _level_dbfs(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Level of each frame of 20 ms."""
    frame = round(FRAME_S * sample_rate_hz)
    whole = np.resize(samples, (max(len(samples) // frame, 1), frame))
    return 20 * np.log10(np.maximum(np.sqrt((whole.astype(np.float64) ** 2).mean(axis=1)), 1e-10))

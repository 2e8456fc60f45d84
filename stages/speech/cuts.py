"""Parts of long recordings: their ids, their sound, and where they overlap."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np

from stages.speech import audio
from stages.speech.clips import ID_LENGTH, Clip

# Times in manifests and subtitles are rounded: so much may a part reach beyond the end, or into the next part.
TOLERANCE_S = 0.1


class BadCut(Exception):
    """Times that name no part of the recording; its words say why."""


def clip_id(digest: str, begins_s: float | None, ends_s: float | None) -> str:
    """The id of a recording with this sha256; a part's is that of the sha256 and both times in milliseconds."""
    if begins_s is None:
        return digest[:ID_LENGTH]
    return hashlib.sha256(f"{digest} {times(begins_s, ends_s)}".encode()).hexdigest()[:ID_LENGTH]


def times(begins_s: float | None, ends_s: float | None) -> str:
    """Both times in whole milliseconds, `12340-15600`; `12340-` up to the end, '' for the whole recording."""
    if begins_s is None:
        return ""
    return f"{round(begins_s * 1000)}-{'' if ends_s is None else round(ends_s * 1000)}"


# The recording read last, by path, size and time of change: hashing it for each part would take a second each.
_read: dict[tuple, tuple[bytes, str]] = {}


def read(path: Path, is_part: bool) -> tuple[bytes, str]:
    """A recording's bytes and their sha256. Raises: OSError."""
    key = (path, path.stat().st_size, path.stat().st_mtime_ns) if is_part else ()
    if not is_part or key not in _read:
        _read.clear()
        content = path.read_bytes()
        _read[key] = (content, hashlib.sha256(content).hexdigest())
    return _read[key]


# The recording decoded last, by its sha256: the parts of one follow each other.
_decoded: dict[str, tuple[np.ndarray, int]] = {}


def decode(content: bytes, digest: str, begins_s: float | None, ends_s: float | None) -> tuple[np.ndarray, int]:
    """Samples [frames, channels] and rate in Hz of a recording, or of its part between two times.

    Raises: audio.UnreadableSound, and BadCut where the times lie outside of the recording.
    """
    if begins_s is None:
        return audio.decode(content)
    if digest not in _decoded:
        _decoded.clear()
        _decoded[digest] = audio.decode(content)
    samples, sample_rate_hz = _decoded[digest]
    length_s = len(samples) / sample_rate_hz
    if ends_s is not None and ends_s <= begins_s:
        raise BadCut(f"it ends at {ends_s:.3f} s, before it begins: mend its times")
    if begins_s >= length_s or (ends_s or 0.0) > length_s + TOLERANCE_S:
        raise BadCut(f"the recording ends at {length_s:.3f} s: mend its times, or put the whole recording back")
    end = None if ends_s is None else round(ends_s * sample_rate_hz)
    return samples[round(begins_s * sample_rate_hz) : end], sample_rate_hz


def overlapping(clips: list[Clip]) -> dict[Clip, Clip]:
    """Parts that share more than TOLERANCE_S with one before them in the same recording -> that one."""
    by_file: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.begins_s is not None and clip.ends_s is not None:
            by_file.setdefault(clip.recorded_file, []).append(clip)
    found = {}
    for parts in by_file.values():
        parts.sort(key=lambda clip: (clip.begins_s, clip.ends_s))
        longest = parts[0]
        for before, clip in pairwise(parts):
            longest = max(longest, before, key=lambda one: one.ends_s)
            if longest.ends_s - clip.begins_s > TOLERANCE_S:
                found[clip] = longest
    return found

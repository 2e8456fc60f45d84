"""Parts of long recordings: their ids, their sound, and where they overlap."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import BinaryIO

import numpy as np

from stages.speech import audio
from stages.speech.clips import ID_LENGTH, Clip

# Times in manifests and subtitles are rounded: so much may a part reach beyond the end, or into the next part.
TOLERANCE_S = 0.1


class BadCut(Exception):
    """Times that name no part of the recording; its words say why."""


def digest(recorded_sha256: str, begins_s: float | None, ends_s: float | None) -> str:
    """What stands for a recording, or a part of it, as a sha256 does for a file: over the recording's and both times.

    A clip's id is its beginning (clips.ID_LENGTH).
    """
    if begins_s is None:
        return recorded_sha256
    return hashlib.sha256(f"{recorded_sha256} {times(begins_s, ends_s)}".encode()).hexdigest()


def clip_id(recorded_sha256: str, begins_s: float | None, ends_s: float | None) -> str:
    return digest(recorded_sha256, begins_s, ends_s)[:ID_LENGTH]


def times(begins_s: float | None, ends_s: float | None) -> str:
    """Both times in whole milliseconds, `12340-15600`; `12340-` up to the end, '' for the whole recording."""
    if begins_s is None:
        return ""
    return f"{round(begins_s * 1000)}-{'' if ends_s is None else round(ends_s * 1000)}"


def decode(recorded: BinaryIO, begins_s: float | None, ends_s: float | None) -> tuple[np.ndarray, int]:
    """Samples [frames, channels] and rate in Hz of a recording, or of its part between two times.

    Raises: audio.UnreadableSound, and BadCut where the times lie outside of the recording.
    """
    if begins_s is None:
        return audio.decode(recorded)
    if ends_s is not None and ends_s <= begins_s:
        raise BadCut(f"it ends at {ends_s:.3f} s, before it begins: mend its times")
    try:
        samples, sample_rate_hz = audio.decode(recorded, begins_s, ends_s)
    except audio.EndsEarly as error:
        raise BadCut(str(error)) from None
    end_s = begins_s + len(samples) / sample_rate_hz
    if ends_s is not None and end_s < ends_s - TOLERANCE_S:
        raise BadCut(f"the recording ends at {end_s:.3f} s: mend its times, or put the whole recording back")
    return samples, sample_rate_hz


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

"""The same take in two files (re-encoded, louder or softer), found by the likeness of the sounds' fingerprints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stages.speech import quality
from stages.speech.clips import Clip

# Sentences re-encoded as MP3 or AAC at 32 kbit/s are above it but for 1 to 3 of 100, as Opus at 16 kbit/s but for 20;
# two takes of one sentence stay below 0.93, of one digit by one speaker below 0.975.
SAME_SOUND = 0.98
SAME_LENGTH_S = 0.25  # codecs add at most this much
BLOCK = 512


def find_duplicates(clips: Sequence[Clip], fingerprints: Mapping[str, str]) -> dict[str, str]:
    """{id: id of the first clip that has the same sound}, in the clips' order. fingerprints: by id."""
    number_of = {clip.id: number for number, clip in enumerate(clips)}
    sounding = [clip for clip in clips if not _is_silence(fingerprints[clip.id])]
    first_of: dict[int, int] = {}
    pairs = find_alike([clip.duration_s for clip in sounding], [fingerprints[clip.id] for clip in sounding])
    for one, other in pairs:
        first, again = sorted((number_of[sounding[one].id], number_of[sounding[other].id]))
        first_of[again] = min(first_of.get(again, first), first)
    return {clips[again].id: clips[first_of[again]].id for again in sorted(first_of)}


def find_alike(durations_s: Sequence[float], fingerprints: Sequence[str]) -> list[tuple[int, int]]:
    """Each two sounds that are one take, by their numbers."""
    order = np.argsort(durations_s, kind="stable")
    durations_s = np.asarray(durations_s)[order]
    shapes = quality.shapes_of(fingerprints)[order]
    found = []
    for begin in range(0, len(order), BLOCK):  # of the shorter one of each two
        unit = _unit(shapes[begin : begin + BLOCK])
        end = np.searchsorted(durations_s, durations_s[begin : begin + BLOCK][-1] + SAME_LENGTH_S, side="right")
        for at in range(begin, end, BLOCK):
            likeness = unit @ _unit(shapes[at : min(at + BLOCK, end)]).T
            for row, column in np.argwhere(likeness > SAME_SOUND):
                one, other = begin + row, at + column
                if one < other and durations_s[other] - durations_s[one] <= SAME_LENGTH_S:
                    found.append((int(order[one]), int(order[other])))
    return found


def _is_silence(fingerprint: str) -> bool:
    """All zeros, which are the letter A in base64: like nothing."""
    return not fingerprint.strip("A")


def _unit(shapes: np.ndarray) -> np.ndarray:
    """Float32 rows of length 1. Of a block only: all clips' would take four times their memory."""
    rows = shapes.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)

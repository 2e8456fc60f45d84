"""The same take in two files (re-encoded, louder or softer), found by the likeness of the sounds' fingerprints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stages.speech import quality
from stages.speech.clips import Clip

# Finds 97 to 99 % of sentences re-encoded as MP3 or AAC at 32 kbit/s, and 80 % of those as Opus at 16 kbit/s. Two takes
# of one sentence stay below 0.93, of one digit by one speaker below 0.975.
SAME_SOUND = 0.98
SAME_LENGTH_S = 0.25  # codecs add at most this much
BLOCK = 512  # clips compared with all others at a time: bounds the memory


def find_duplicates(clips: Sequence[Clip], fingerprints: Mapping[str, str]) -> dict[str, str]:
    """{id: id of the first clip that has the same sound}, in the clips' order. fingerprints: by id."""
    sounding = [number for number, clip in enumerate(clips) if not _is_silence(fingerprints[clip.id])]
    order = sorted(sounding, key=lambda number: clips[number].duration_s)
    durations_s = np.array([clips[number].duration_s for number in order])
    shapes = quality.shapes_of(fingerprints[clips[number].id] for number in order).astype(np.float32)
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    first_of: dict[int, int] = {}
    for begin in range(0, len(order), BLOCK):  # of the shorter one of each two
        end = np.searchsorted(durations_s, durations_s[begin : begin + BLOCK][-1] + SAME_LENGTH_S, side="right")
        likeness = shapes[begin : begin + BLOCK] @ shapes[begin:end].T
        for one, other in begin + np.argwhere(likeness > SAME_SOUND):
            if one < other and durations_s[other] - durations_s[one] <= SAME_LENGTH_S:
                first, again = sorted((order[one], order[other]))
                first_of[again] = min(first_of.get(again, first), first)
    return {clips[again].id: clips[first_of[again]].id for again in sorted(first_of)}


def _is_silence(fingerprint: str) -> bool:
    """All zeros, which are the letter A in base64: like nothing."""
    return not fingerprint.strip("A")

"""Which sounds are the same take in another file: by the likeness of their fingerprints; in worker processes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.speech import quality

# Copies of sentences as MP3 and AAC at 32 kbit/s lie above it but for 1 to 3 of 100, as Opus at 16 kbit/s but for 20;
# two takes of one sentence stay below 0.93, of one digit by one speaker below 0.975.
SAME_SOUND = 0.98
SAME_LENGTH_S = 0.25  # codecs add so much at most
BLOCK = 512


def find_alike(durations_s: Sequence[float], fingerprints: str, is_new: Sequence[bool]) -> list[tuple[int, int]]:
    """Each two sounds that are one take, by their numbers, at least one of them new.

    fingerprints: of all sounds, one after the other (see quality.fingerprint).
    """
    order = np.argsort(durations_s, kind="stable")
    durations_s = np.asarray(durations_s)[order]
    shapes = quality.shapes_of([fingerprints])[order]
    is_new = np.asarray(is_new)[order]
    found = []
    for block in np.split(np.flatnonzero(is_new), range(BLOCK, int(is_new.sum()), BLOCK)):
        nearest, farthest = durations_s[block[[0, -1]]] + [-SAME_LENGTH_S, SAME_LENGTH_S]
        begin, end = np.searchsorted(durations_s, [nearest, farthest + 1e-9])
        unit = _unit(shapes[block])
        for at in range(begin, end, BLOCK):
            likeness = unit @ _unit(shapes[at : min(at + BLOCK, end)]).T
            for row, column in np.argwhere(likeness > SAME_SOUND):
                one, other = block[row], at + column
                seen_from_both = is_new[other] and other <= one
                if not seen_from_both and abs(durations_s[one] - durations_s[other]) <= SAME_LENGTH_S:
                    found.append((int(order[one]), int(order[other])))
    return found


def _unit(shapes: np.ndarray) -> np.ndarray:
    """Float32 rows of length 1, of a block only: all clips' would take four times their memory."""
    rows = shapes.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)

"""The same take in two files: re-encoded, louder or softer, found by the likeness of the sounds' fingerprints.

Which clips are alike is kept in the content cache, so a new clip is compared with all others, and those not again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import orjson

from stages.pipeline.cache import ContentCache
from stages.pipeline.files import sha256_of_file
from stages.speech import quality
from stages.speech.clips import Clip

# Copies of sentences as MP3 and AAC at 32 kbit/s lie above it but for 1 to 3 of 100, as Opus at 16 kbit/s but for 20;
# two takes of one sentence stay below 0.93, of one digit by one speaker below 0.975.
SAME_SOUND = 0.98
SAME_LENGTH_S = 0.25  # codecs add so much at most
SILENCE = quality.as_text(np.zeros(quality.SEGMENTS * quality.BANDS, np.int8))
BLOCK = 512
KEPT_UNUSED_S = 30 * 24 * 3600


def find_copies(clips: list[Clip], fingerprints: Mapping[str, str], made_by: dict) -> dict[str, str]:
    """{id: id of the first clip of which it is a copy}, in the clips' order.

    fingerprints: of the clips, by id (see quality.fingerprint); made_by: all that they depend on, besides the sound.
    """
    compared = [clip for clip in clips if fingerprints[clip.id] != SILENCE]
    cache = ContentCache("copies")
    key = {**made_by, "compared_by": sha256_of_file(Path(__file__))}
    known = orjson.loads(cache.read(key) or '{"ids": [], "alike": []}')
    new = {clip.id for clip in compared}.difference(known["ids"])
    present = {clip.id: number for number, clip in enumerate(clips)}
    alike = [pair for pair in known["alike"] if pair[0] in present and pair[1] in present]
    if new:
        alike += _alike(compared, fingerprints, new)
        cache.write(key, orjson.dumps({"ids": [clip.id for clip in compared], "alike": alike}))
    if cache.has(key):
        cache.remove_unused(KEPT_UNUSED_S)
    first_of: dict[str, str] = {}
    for pair in alike:
        first, copy = sorted(pair, key=present.__getitem__)
        first_of[copy] = min(first_of.get(copy, first), first, key=present.__getitem__)
    return {copy: first_of[copy] for copy in sorted(first_of, key=present.__getitem__)}


def _alike(clips: list[Clip], fingerprints: Mapping[str, str], new: set[str]) -> list[tuple[str, str]]:
    """Ids of each two clips that are one take, at least one of them new."""
    clips = sorted(clips, key=lambda clip: clip.duration_s)
    durations_s = np.array([clip.duration_s for clip in clips])
    shapes = quality.shapes_of(fingerprints[clip.id] for clip in clips)
    is_new = np.array([clip.id in new for clip in clips])
    found = []
    for block in np.split(np.flatnonzero(is_new), range(BLOCK, len(new), BLOCK)):
        nearest, farthest = durations_s[block[[0, -1]]] + [-SAME_LENGTH_S, SAME_LENGTH_S]
        begin, end = np.searchsorted(durations_s, [nearest, farthest + 1e-9])
        unit = _unit(shapes[block])
        for at in range(begin, end, BLOCK):
            likeness = unit @ _unit(shapes[at : min(at + BLOCK, end)]).T
            for row, column in np.argwhere(likeness > SAME_SOUND):
                one, other = block[row], at + column
                seen_from_both = is_new[other] and other <= one
                if not seen_from_both and abs(durations_s[one] - durations_s[other]) <= SAME_LENGTH_S:
                    found.append((clips[one].id, clips[other].id))
    return found


def _unit(shapes: np.ndarray) -> np.ndarray:
    """Float32 rows of length 1, of a block only: all clips' would take four times their memory."""
    rows = shapes.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)

"""The same take in two files: re-encoded, louder or softer, found by the likeness of the sounds' fingerprints.

Which clips are alike is kept in the content cache, so a new clip is compared with all others, and those not again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson

from stages.pipeline.cache import ContentCache
from stages.pipeline.files import sha256_of_file
from stages.pipeline.pool import Failed, run_each
from stages.pipeline.stage import UserError
from stages.speech.clips import Clip
from stages.speech.conversion import load_sound_libraries

KEPT_UNUSED_S = 30 * 24 * 3600


def find_copies(clips: list[Clip], fingerprints: Mapping[str, str], made_by: dict) -> dict[str, str]:
    """{id: id of the first clip of which it is a copy}, in the clips' order.

    fingerprints: of the clips, by id (see quality.fingerprint); made_by: all that they depend on, besides the sound.

    Raises: UserError where the process that compares them ends.
    """
    compared = [clip for clip in clips if not _is_silence(fingerprints[clip.id])]
    cache = ContentCache("copies")
    key = {**made_by, "compared_by": sha256_of_file(Path(__file__).with_name("likeness.py"))}
    known = orjson.loads(cache.read(key) or '{"ids": [], "alike": []}')
    new = {clip.id for clip in compared}.difference(known["ids"])
    present = {clip.id: number for number, clip in enumerate(clips)}
    alike = [pair for pair in known["alike"] if pair[0] in present and pair[1] in present]
    if new:
        alike += _find_alike(compared, fingerprints, new)
        cache.write(key, orjson.dumps({"ids": [clip.id for clip in compared], "alike": alike}))
    if cache.has(key):
        cache.remove_unused(KEPT_UNUSED_S)
    first_of: dict[str, str] = {}
    for pair in alike:
        first, copy = sorted(pair, key=present.__getitem__)
        first_of[copy] = min(first_of.get(copy, first), first, key=present.__getitem__)
    return {copy: first_of[copy] for copy in sorted(first_of, key=present.__getitem__)}


def _is_silence(fingerprint: str) -> bool:
    """All zeros, which are the letter A in base64: like nothing."""
    return not fingerprint.strip("A")


def _find_alike(clips: list[Clip], fingerprints: Mapping[str, str], new: set[str]) -> list[tuple[str, str]]:
    """Ids of each two clips that are one take, at least one of them new; found in a process that has numpy already."""
    sounds = (
        [clip.duration_s for clip in clips],
        "".join(fingerprints[clip.id] for clip in clips),
        [clip.id in new for clip in clips],
    )
    (found,) = run_each(_find_alike_here, [sounds], 1, None, None, load_sound_libraries)
    if isinstance(found, Failed):
        raise UserError(f"recordings could not be compared with each other, {found.why}: free some memory")
    return [(clips[one].id, clips[other].id) for one, other in found]


def _find_alike_here(sounds: tuple) -> list[tuple[int, int]]:
    from stages.speech.likeness import find_alike

    return find_alike(*sounds)

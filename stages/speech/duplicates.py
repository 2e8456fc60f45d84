"""The same take in two files: re-encoded, louder or softer, found by the likeness of the sounds' fingerprints.

Which clips are alike is kept in the content cache, so a new clip is compared with all others, and those not again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path

import orjson

from stages.common.cache import ContentCache
from stages.common.files import sha256_of_file
from stages.common.pool import Failed, run_each
from stages.common.stage import UserError
from stages.speech import WORKER_MODULES
from stages.speech.clips import Clip
from stages.speech.segments import Converted

KEPT_UNUSED_S = 30 * 24 * 3600


def begin_to_compare(converted: Iterable[Converted], made_by: dict) -> Callable[[], list[tuple[str, str]]]:
    """What is returned gives the ids of each two sounds that are one take; a process is at work on them till then.

    made_by: all that figures depend on, besides the sound. Raises: UserError where that process ends.
    """
    sounds = {one.id: one for one in converted if one.figures and not _is_silence(one.fingerprint)}
    cache = ContentCache("copies")
    key = {**made_by, "compared_by": sha256_of_file(Path(__file__).with_name("likeness.py"))}
    known = orjson.loads(cache.read(key) or '{"ids": [], "alike": []}')
    new = sounds.keys() - known["ids"]
    found = _begin_to_find_alike(sounds, new) if new else None

    def finish() -> list[tuple[str, str]]:
        alike = [tuple(pair) for pair in known["alike"] if sounds.keys() >= set(pair)]
        if found:
            alike += found()
            cache.write(key, orjson.dumps({"ids": list(sounds), "alike": alike}))
        if cache.has(key):
            cache.remove_unused(KEPT_UNUSED_S)
        return alike

    return finish


def find_copies(clips: list[Clip], alike: Iterable[tuple[str, str]]) -> dict[str, str]:
    """{id: id of the first clip of which it is a copy}, in the clips' order.

    alike: ids of each two sounds that are one take (see begin_to_compare).
    """
    present = {clip.id: number for number, clip in enumerate(clips)}
    first_of: dict[str, str] = {}
    for pair in alike:
        if present.keys() >= set(pair):
            first, copy = sorted(pair, key=present.__getitem__)
            first_of[copy] = min(first_of.get(copy, first), first, key=present.__getitem__)
    return {copy: first_of[copy] for copy in sorted(first_of, key=present.__getitem__)}


def _is_silence(fingerprint: str) -> bool:
    """All zeros, which are the letter A in base64: like nothing."""
    return not fingerprint.strip("A")


def _begin_to_find_alike(sounds: Mapping[str, Converted], new: Set[str]) -> Callable[[], list[tuple[str, str]]]:
    """begin_to_compare, for sounds of which some are new; by a process that has numpy already."""
    ids = list(sounds)
    columns = (
        [sounds[clip_id].figures["duration_s"] for clip_id in ids],
        "".join(sounds[clip_id].fingerprint for clip_id in ids),
        [clip_id in new for clip_id in ids],
    )
    results = run_each(_find_alike_here, [columns], 1, None, None, WORKER_MODULES)

    def finish() -> list[tuple[str, str]]:
        """Raises: UserError where the process ended."""
        (found,) = results
        if isinstance(found, Failed):
            raise UserError(f"recordings could not be compared with each other, {found.why}: free some memory")
        return [(ids[one], ids[other]) for one, other in found]

    return finish


def _find_alike_here(columns: tuple) -> list[tuple[int, int]]:
    from stages.speech.likeness import find_alike

    return find_alike(*columns)

"""Recordings into clips' sound: decoded, cut, brought to 16 kHz mono and measured, each once.

What is known from earlier runs comes from the sound cache; the rest is done over all cores or on a Dask cluster, by
recorded.py, which those processes alone import: numpy and the sound libraries take longer than one clip.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from importlib.metadata import version

from stages.common.cache import ContentCache
from stages.common.code import code_hash
from stages.common.params import PrepareParams
from stages.common.pool import CHUNK, Failed, Result, run_each
from stages.common.stage import UserError
from stages.speech import WORKER_MODULES
from stages.speech.clips import digest as digest_of
from stages.speech.segments import Converted, Part, Stored
from stages.speech.sound_cache import Measured, SoundCache

NOTED_AT_ONCE = 500  # results that a killed run may have to find in the cache again


def made_by(params: PrepareParams) -> dict:
    """Everything that a converted recording depends on, besides its own bytes."""
    return {"trim_silence": params.trim_silence, "channels": params.channels, **_made_by_here()}


@functools.cache
def _made_by_here() -> dict:
    libraries = [version(package) for package in ("soundfile", "soxr", "librosa", "av")]
    return {"code": code_hash("stages.speech.recorded"), "libraries": libraries}


def _convert(part: Part, params: PrepareParams, cache: ContentCache, wanted: dict) -> Converted:
    """In a worker process. wanted: `made_by` of the process that asks."""
    _refuse_other_versions(params, wanted)
    from stages.speech import recorded

    return recorded.convert(part, params, cache, {"sha256": part.sha256, **wanted})


def _refuse_other_versions(params: PrepareParams, wanted: dict) -> None:
    if made_by(params) != wanted:
        raise UserError("prepare.dask_scheduler: a worker has other versions of ownvoice or of its sound libraries")


def convert_all(
    locations: Sequence[str | Stored],
    times_s: Sequence[tuple[float | None, float | None]],
    cache: SoundCache,
    params: PrepareParams,
) -> list[Converted]:
    """Figures of each recording, or of its part between two times, or why it cannot be used; with a progress bar."""
    files = list(dict.fromkeys(location for location in locations if isinstance(location, str)))
    digests = dict(zip(files, cache.digests(files, _workers(params)), strict=True))
    found: list[str | OSError] = []
    wanted: dict[str, tuple] = {}
    for location, times in zip(locations, times_s, strict=True):
        digest = digests[location] if isinstance(location, str) else _digest_of_stored(location)
        if not isinstance(digest, OSError):
            recorded_sha256, digest = digest, digest_of(digest, *times)
            wanted[digest] = location, recorded_sha256, *times
        found.append(digest)
    by_digest = _convert_missing(wanted, cache, params)
    return [Converted.unreadable(one) if isinstance(one, OSError) else by_digest[one] for one in found]


def _convert_missing(wanted: dict[str, tuple], cache: SoundCache, params: PrepareParams) -> dict[str, Converted]:
    """{sha256: figures or why not} of all parts; wanted: {sha256: what a Part is made of}."""
    known = cache.figures()
    missing = {digest: Part(*fields) for digest, fields in wanted.items() if digest not in known}
    work = functools.partial(_convert, params=params, cache=cache.loose, wanted=cache.made_by)
    results = _run_each(work, missing.values(), params) if missing else ()
    # What is known is read while the processes are at work.
    found = {digest: _judged(digest, *known[digest], params) for digest in wanted if digest in known}
    if len(missing) > 1:
        from tqdm import tqdm  # imported here: it takes as long as one clip

        results = tqdm(results, total=len(missing), desc="prepare", unit="clip")
    new: dict[str, Measured] = {}
    for digest, result in zip(missing, results, strict=True):
        if isinstance(result, Failed):
            found[digest] = Converted(reason="unreadable audio", remedy=f"{result.why}: save it as WAV or FLAC")
        elif not result.sha256:
            found[digest] = result
        else:
            figures = result.figures or {"reason": result.reason, "remedy": result.remedy}
            new[digest] = figures, result.fingerprint
            found[digest] = _judged(digest, *new[digest], params)
        if len(new) == NOTED_AT_ONCE:
            cache.add(new)
            new = {}
    if new:
        cache.add(new)
    return found


def _run_each(work: Callable[[Part], Result], parts: Collection[Part], params: PrepareParams) -> Iterator[Result]:
    """pool.run_each, on no more processes than have something to do."""
    workers = min(_workers(params), math.ceil(len(parts) / CHUNK))
    return run_each(work, parts, workers, params.max_seconds_per_file, params.dask_scheduler, WORKER_MODULES)


def _workers(params: PrepareParams) -> int:
    return params.workers or os.cpu_count() or 1


def _digest_of_stored(location: Stored) -> str | OSError:
    try:
        return location.sha256()
    except OSError as error:
        return error


def _judged(digest: str, figures: dict, fingerprint: str, params: PrepareParams) -> Converted:
    problem = (figures["reason"], figures["remedy"]) if "reason" in figures else check_figures(figures, params)
    return Converted(digest, *problem) if problem else Converted(digest, figures=figures, fingerprint=fingerprint)


def check_figures(figures: dict[str, float], params: PrepareParams) -> tuple[str, str] | None:
    """(reason, remedy) where a recording's sound cannot be used, None where it can."""
    duration_s, level_dbfs = figures["duration_s"], figures["level_dbfs"]
    if duration_s < params.min_duration_s:
        return (
            "too short",
            f"{duration_s:.2f} s is below prepare.min_duration_s {params.min_duration_s:g}: record it again",
        )
    if duration_s > params.max_duration_s:
        remedy = "cut it, or put its text with times beside it, as subtitles (.srt) of the same name"
        return "too long", f"{duration_s:.1f} s is above prepare.max_duration_s {params.max_duration_s:g}: {remedy}"
    if level_dbfs < params.silence_dbfs:
        return "silence", f"loudest part at {level_dbfs:.0f} dBFS: check the microphone and record it again"
    if figures["clipped_fraction"] > params.max_clipped_fraction:
        clipped = f"{figures['clipped_fraction']:.0%} of it at full scale"
        return "heavy clipping", f"{clipped}: turn the microphone down and record it again"
    return None

"""Recordings into clips' sound: decoded, cut, brought to 16 kHz mono and measured, each once.

What is known from earlier runs comes from the sound cache; the rest is done over all cores or on a Dask cluster.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import orjson

from stages.pipeline.cache import ContentCache, code_of
from stages.pipeline.params import PrepareParams
from stages.pipeline.pool import CHUNK, Failed, Result, run_each
from stages.pipeline.stage import UserError
from stages.speech import audio, cuts, lines, quality
from stages.speech.clips import ID_LENGTH
from stages.speech.sound_cache import SoundCache

NOTED_AT_ONCE = 500  # results that a killed run may have to find in the cache again


class Stored(Protocol):
    """A recording that is no file of its own: a row of a data set on the Hub, in the content cache."""

    def read_bytes(self) -> bytes: ...

    def sha256(self) -> str: ...


@dataclass(frozen=True)
class Part:
    """A recording, where its bytes are and what they were; all of it, or what lies between two times."""

    location: str | Stored
    recorded_sha256: str
    begins_s: float | None
    ends_s: float | None

    @property
    def sha256(self) -> str:
        return cuts.digest(self.recorded_sha256, self.begins_s, self.ends_s)

    def open(self) -> BinaryIO:
        if isinstance(self.location, str):
            return Path(self.location).open("rb")
        return io.BytesIO(self.location.read_bytes())


@dataclass  # not frozen, like Clip
class Converted:
    """A part's sha256 and figures, or why it cannot be used (`reason`, `remedy`).

    Without a sha256 the reason may be gone the next time; with one it lies in the recording's bytes.
    """

    sha256: str = ""
    reason: str = ""
    remedy: str = ""
    figures: dict[str, float | str] | None = None

    @property
    def id(self) -> str:
        return self.sha256[:ID_LENGTH]


def made_by(params: PrepareParams) -> dict:
    """Everything that a converted recording depends on, besides its own bytes."""
    return {"trim_silence": params.trim_silence, "channels": params.channels, **_made_by_here()}


@functools.cache
def _made_by_here() -> dict:
    libraries = [version(package) for package in ("soundfile", "soxr", "librosa", "av")]
    return {"code": code_of(audio, cuts, quality), "libraries": libraries}


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
            recorded_sha256, digest = digest, cuts.digest(digest, *times)
            wanted[digest] = location, recorded_sha256, *times
        found.append(digest)
    by_digest = _convert_missing(wanted, cache, params)
    return [_unreadable(one) if isinstance(one, OSError) else by_digest[one] for one in found]


def _convert_missing(wanted: dict[str, tuple], cache: SoundCache, params: PrepareParams) -> dict[str, Converted]:
    """{sha256: figures or why not} of all parts; wanted: {sha256: what a Part is made of}."""
    known = cache.figures()
    missing = {digest: Part(*fields) for digest, fields in wanted.items() if digest not in known}
    work = functools.partial(convert, params=params, cache=cache.loose, wanted=cache.made_by)
    results = _run_each(work, missing.values(), params) if missing else ()
    # What is known is read while the processes are at work.
    found = {digest: _judged(digest, orjson.loads(known[digest]), params) for digest in wanted if digest in known}
    if len(missing) > 1:
        from tqdm import tqdm  # imported here: it takes as long as one clip

        results = tqdm(results, total=len(missing), desc="prepare", unit="clip")
    new: dict[str, dict] = {}
    for digest, result in zip(missing, results, strict=True):
        if isinstance(result, Failed):
            found[digest] = Converted(reason="unreadable audio", remedy=f"{result.why}: save it as WAV or FLAC")
        elif not result.sha256:
            found[digest] = result
        else:
            new[digest] = result.figures or {"reason": result.reason, "remedy": result.remedy}
            found[digest] = _judged(digest, new[digest], params)
        if len(new) == NOTED_AT_ONCE:
            cache.add(new)
            new = {}
    if new:
        cache.add(new)
    return found


def _run_each(work: Callable[[Part], Result], parts: Collection[Part], params: PrepareParams) -> Iterator[Result]:
    """pool.run_each, on no more processes than have something to do."""
    workers = min(_workers(params), math.ceil(len(parts) / CHUNK))
    return run_each(work, parts, workers, params.max_seconds_per_file, params.dask_scheduler)


def _workers(params: PrepareParams) -> int:
    return params.workers or os.cpu_count() or 1


def find_pieces(
    locations: Sequence[str | Stored], cache: SoundCache, params: PrepareParams
) -> list[tuple[float, list[tuple[float, float]]] | None]:
    """lines.find_pieces of each recording, each once; None where it cannot be read (convert_all says why)."""
    files = [location for location in locations if isinstance(location, str)]
    digests = dict(zip(files, cache.digests(files, _workers(params)), strict=True))
    known = ContentCache("pieces")
    cut_by = {**_made_by_here(), "channels": params.channels, "pieces": code_of(lines)}
    found: dict[int, bytes] = {}
    missing: dict[int, Part] = {}
    for index, location in enumerate(locations):
        digest = digests[location] if isinstance(location, str) else _digest_of_stored(location)
        if isinstance(digest, OSError):
            continue
        if entry := known.read({"sha256": digest, **cut_by}):
            found[index] = entry
        else:
            missing[index] = Part(location, digest, None, None)
    if missing:
        work = functools.partial(_find_pieces, params=params, wanted=cache.made_by)
        results = _run_each(work, missing.values(), params)
        for (index, part), result in zip(missing.items(), results, strict=True):
            if isinstance(result, bytes):
                known.write({"sha256": part.sha256, **cut_by}, result)
                found[index] = result
    return [json.loads(found[index]) if index in found else None for index in range(len(locations))]


def _find_pieces(part: Part, params: PrepareParams, wanted: dict) -> bytes | None:
    """In a worker process: JSON, None where the recording cannot be read or is not what it was."""
    _refuse_other_versions(params, wanted)
    try:
        with part.open() as recorded:
            if _sha256_of(recorded) == part.recorded_sha256:
                return json.dumps(lines.find_pieces(recorded, params.channels)).encode()
    except (OSError, MemoryError, audio.UnreadableSound, audio.ChannelsDiffer):
        return None  # convert, which reads it again, names the reason
    return None


def convert(part: Part, params: PrepareParams, cache: ContentCache, wanted: dict) -> Converted:
    """Decode, resample and measure one part, in a worker process; its sound goes to the cache.

    wanted: `made_by` of the process that asks.

    Raises: UserError on a machine of a cluster that would make other sounds of it.
    """
    _refuse_other_versions(params, wanted)
    digest = part.sha256
    key = {"sha256": digest, **wanted}
    known = cache.read(key)
    if known is None:
        try:
            with part.open() as recorded:
                if _sha256_of(recorded) != part.recorded_sha256:
                    return Converted(reason="unreadable audio", remedy="it changed while it was read: run it again")
                # The same open file that was hashed, whatever has this name by now.
                figures, flac = _convert_sound(recorded, part, params)
        except OSError as error:
            return _unreadable(error)
        except audio.UnreadableSound as error:
            return Converted(digest, reason="unreadable audio", remedy=str(error))
        except cuts.BadCut as error:
            return Converted(digest, reason="cut out of range", remedy=str(error))
        except audio.ChannelsDiffer as error:
            return Converted(digest, reason="channels differ", remedy=str(error))
        except MemoryError:
            return Converted(reason="too much memory", remedy="cut it into shorter recordings")
        known = json.dumps(figures).encode() + b"\n" + flac
        cache.write(key, known)
    return Converted(digest, figures=json.loads(known.partition(b"\n")[0]))


def _refuse_other_versions(params: PrepareParams, wanted: dict) -> None:
    if made_by(params) != wanted:
        raise UserError("prepare.dask_scheduler: a worker has other versions of ownvoice or of its sound libraries")


def _convert_sound(recorded: BinaryIO, part: Part, params: PrepareParams) -> tuple[dict[str, float | str], bytes]:
    """A part's figures, and its sound as FLAC. Raises: UnreadableSound, BadCut, ChannelsDiffer."""
    samples, sample_rate_hz = cuts.decode(recorded, part.begins_s, part.ends_s)
    if not np.isfinite(samples).all():
        raise audio.UnreadableSound("some samples are no numbers: record or export it again")
    mono = audio.to_mono_16k(samples, sample_rate_hz, params.channels)
    if params.trim_silence:
        mono = audio.trim_silence(mono)
    spectra = quality.power_spectra(mono)
    figures = {
        **audio.measure(mono),
        "clipped_fraction": round(audio.clipped_fraction(samples), 4),
        "bandwidth_hz": quality.bandwidth_hz(spectra),
        "fingerprint": quality.fingerprint(spectra),
    }
    return figures, audio.encode_flac(mono)


_hashed_last: dict[tuple, str] = {}  # the parts of a long recording follow each other


def _sha256_of(recorded: BinaryIO) -> str:
    """Of an open recording; of a file that is as it was the last time, what was found then."""
    if isinstance(recorded, io.BytesIO):
        return hashlib.sha256(recorded.getbuffer()).hexdigest()
    state = os.fstat(recorded.fileno())
    signature = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    if signature not in _hashed_last:
        _hashed_last.clear()
        _hashed_last[signature] = hashlib.file_digest(recorded, "sha256").hexdigest()
    return _hashed_last[signature]


def _digest_of_stored(location: Stored) -> str | OSError:
    try:
        return location.sha256()
    except OSError as error:
        return error


def _unreadable(error: OSError) -> Converted:
    if isinstance(error, FileNotFoundError):
        return Converted(reason="missing audio", remedy="put the file back, or remove its row")
    return Converted(reason="unreadable audio", remedy=f"check the file: {error.strerror}")


def _judged(digest: str, figures: dict, params: PrepareParams) -> Converted:
    problem = (figures["reason"], figures["remedy"]) if "reason" in figures else check_figures(figures, params)
    return Converted(digest, *problem) if problem else Converted(digest, figures=figures)


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

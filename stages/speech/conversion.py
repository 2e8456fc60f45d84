"""One recording, or a part of it, into a clip's sound and figures: decoded, cut, brought to 16 kHz mono, measured.

`convert` runs in worker processes, here or on a Dask cluster, and puts what it makes into the cache.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from stages.common.cache import ContentCache
from stages.common.code import code_hash
from stages.common.params import PrepareParams
from stages.common.stage import UserError
from stages.speech import audio, quality
from stages.speech.clips import ID_LENGTH, TOLERANCE_S, digest


class Stored(Protocol):
    """A recording that is not a file of its own: a row of a data set on the Hub, in the content cache."""

    def read_bytes(self) -> bytes: ...

    def sha256(self) -> str: ...


@dataclass(frozen=True)
class Part:
    """A recording, or the part of it between two times. `location`: its file, or a row of a data set on the Hub."""

    location: str | Stored
    begins_s: float | None = None
    ends_s: float | None = None

    def open(self) -> BinaryIO:
        if isinstance(self.location, str):
            return Path(self.location).open("rb")
        return io.BytesIO(self.location.read_bytes())


@dataclass
class Converted:
    """Figures and fingerprint of a part's sound, or `reason` and `remedy` if it cannot be used.

    recorded_sha256: of the whole recording. sha256: of this part (clips.digest). Without them nothing is known of
    the bytes, and the part is read again the next time.
    """

    sha256: str = ""
    recorded_sha256: str = ""
    reason: str = ""
    remedy: str = ""
    figures: dict[str, float] | None = None
    fingerprint: str = ""

    @property
    def id(self) -> str:
        return self.sha256[:ID_LENGTH]

    @classmethod
    def unreadable(cls, error: OSError) -> Converted:
        if isinstance(error, FileNotFoundError):
            return cls(reason="missing audio", remedy="put the file back, or remove its row")
        return cls(reason="unreadable audio", remedy=f"check the file: {error.strerror}")


class BadCut(Exception):
    """Times that name no part of the recording; its words say why."""


REASONS = {BadCut: "cut out of range", audio.ChannelsDiffer: "channels differ", audio.TooLong: "too long"}


def made_by(params: PrepareParams) -> dict:
    """What a converted sound depends on, besides the recorded bytes: part of its key in the cache."""
    return {"trim_silence": params.trim_silence, "channels": params.channels, **_versions()}


@functools.cache
def _versions() -> dict:
    libraries = [version(package) for package in ("soundfile", "soxr", "librosa", "av")]
    return {"code": code_hash(__name__), "libraries": libraries}


def convert(part: Part, params: PrepareParams, cache: ContentCache, wanted: dict) -> Converted:
    """Decode, resample and measure one part; its sound goes to the cache. wanted: `made_by` of who asks.

    Raises: UserError if this process has other versions of the code or of the libraries, or if the recording changes.
    """
    if made_by(params) != wanted:
        raise UserError("prepare.dask_scheduler: a worker has other versions of ownvoice or of its sound libraries")
    with contextlib.ExitStack() as stack:
        try:
            recorded = stack.enter_context(part.open())
            state = _state_of(recorded)
            recorded_sha256 = _sha256_of(recorded, state)
        except OSError as error:
            return Converted.unreadable(error)
        sha256 = digest(recorded_sha256, part.begins_s, part.ends_s)
        found = functools.partial(Converted, sha256, recorded_sha256)
        key = {"sha256": sha256, **wanted}
        entry = cache.read(key) if cache.has(key) else None
        if entry is None:
            try:  # the open file that was hashed, whatever has its name by now
                figures, fingerprint, flac = _convert_sound(recorded, part, params)
            except OSError as error:
                return Converted.unreadable(error)
            except MemoryError:
                return Converted(reason="too much memory", remedy="cut it into shorter recordings")
            except (audio.UnreadableSound, BadCut, audio.ChannelsDiffer) as error:
                return found(REASONS.get(type(error), "unreadable audio"), str(error))
            finally:  # written over in place: what was decoded is not what was hashed
                if _state_of(recorded) != state:
                    raise UserError(f"{part.location} changed while it was read: run it again")
            entry = json.dumps([figures, fingerprint]).encode() + b"\n" + flac
            cache.write(key, entry)
    figures, fingerprint = json.loads(entry.partition(b"\n")[0])
    return found(figures=figures, fingerprint=fingerprint)


def sound_in(entry: bytes) -> bytes:
    """The FLAC file in an entry of the cache."""
    return entry.partition(b"\n")[2]


def _convert_sound(recorded: BinaryIO, part: Part, params: PrepareParams) -> tuple[dict[str, float], str, bytes]:
    """A part's figures, its fingerprint, and its sound as FLAC. Raises: UnreadableSound, BadCut, ChannelsDiffer."""
    samples, sample_rate_hz = decode(recorded, part.begins_s, part.ends_s)
    if not np.isfinite(samples).all():
        raise audio.UnreadableSound("some samples are not numbers: record or export it again")
    mono = audio.to_mono_16k(samples, sample_rate_hz, params.channels)
    if params.trim_silence:
        mono = audio.trim_silence(mono)
    spectra = quality.power_spectra(mono)
    figures = {
        **audio.measure(mono),
        "clipped_fraction": round(audio.clipped_fraction(samples), 4),
        "bandwidth_hz": quality.bandwidth_hz(spectra),
    }
    return figures, quality.fingerprint(spectra), audio.encode_flac(mono)


def decode(recorded: BinaryIO, begins_s: float | None, ends_s: float | None) -> tuple[np.ndarray, int]:
    """Samples [frames, channels] and rate in Hz of a recording, or of its part between two times.

    Raises: audio.UnreadableSound; BadCut if the times are outside the recording.
    """
    if begins_s is None:
        return audio.decode(recorded)
    if ends_s is not None and ends_s <= begins_s:
        raise BadCut(f"it ends at {ends_s:.3f} s, before it begins: correct its times")
    try:
        samples, sample_rate_hz = audio.decode(recorded, begins_s, ends_s)
    except audio.EndsEarly as error:
        raise BadCut(str(error)) from None
    end_s = begins_s + len(samples) / sample_rate_hz
    if ends_s is not None and end_s < ends_s - TOLERANCE_S:
        raise BadCut(f"the recording ends at {end_s:.3f} s: correct its times, or put the whole recording back")
    return samples, sample_rate_hz


_last_hash: dict[tuple, str] = {}  # of one recording: the parts of a long one follow each other


def _state_of(recorded: BinaryIO) -> tuple[int, ...] | None:
    """The signature of an open file; None for bytes in memory, which do not change."""
    return None if isinstance(recorded, io.BytesIO) else signature(os.fstat(recorded.fileno()))


def _sha256_of(recorded: BinaryIO, state: tuple[int, ...] | None) -> str:
    """Hex digest of an open recording."""
    if isinstance(recorded, io.BytesIO):
        return hashlib.sha256(recorded.getbuffer()).hexdigest()
    if state not in _last_hash:
        _last_hash.clear()
        _last_hash[state] = hashlib.file_digest(recorded, "sha256").hexdigest()
    return _last_hash[state]


def signature(state: os.stat_result) -> tuple[int, ...]:
    """What changes when a file changes. No program can set the last one, the time of change of status."""
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns

"""One recording, or a part of it, into a clip's sound and figures: decoded, cut, brought to 16 kHz mono, measured.

`convert` runs in worker processes, here or on a Dask cluster, and puts what it makes into the cache.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import json
import os
import stat
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Protocol

from stages.common.cache import ContentCache
from stages.common.code import code_hash
from stages.common.params import PrepareParams
from stages.common.stage import UserError
from stages.speech import audio, quality
from stages.speech.clips import ID_LENGTH, digest


class Stored(Protocol):
    """A recording that is not a file of its own: a row of a data set on the Hub, in the content cache."""

    def read_bytes(self) -> bytes: ...

    def sha256(self) -> str: ...


@dataclass(frozen=True)
class Part:
    """A recording, or the part of it between two times. `location`: its file, or a row of a data set on the Hub."""

    location: Path | Stored
    begins_s: float | None = None
    ends_s: float | None = None

    def open(self) -> BinaryIO:
        """Raises: OSError, also for a folder or a named pipe."""
        if isinstance(self.location, Path):
            state_of(self.location)
            return self.location.open("rb")
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


def _unreadable(error: OSError) -> Converted:
    if isinstance(error, FileNotFoundError):
        return Converted(reason="missing audio", remedy="put the file back, or remove its row")
    return Converted(reason="unreadable audio", remedy=f"check the file: {error.strerror}")


def made_by(params: PrepareParams) -> dict:
    """What a converted sound depends on, besides the recorded bytes: part of its key in the cache."""
    return {"channels": params.channels, **_versions()}


@functools.cache
def _versions() -> dict:
    libraries = [version(package) for package in ("soundfile", "soxr", "av")]
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
            state = None if isinstance(recorded, io.BytesIO) else state_of(recorded.fileno())
            recorded_sha256 = _sha256_of(recorded, state)
        except OSError as error:
            return _unreadable(error)
        sha256 = digest(recorded_sha256, part.begins_s, part.ends_s)
        key = {"sha256": sha256, **wanted}
        entry = cache.read(key) if cache.has(key) else None
        if entry is None:
            try:  # the open file that was hashed, whatever has its name by now
                entry = _entry_of(recorded, part, params)
            except OSError as error:
                return _unreadable(error)
            except MemoryError:
                return Converted(reason="too much memory", remedy="cut it into shorter recordings")
            except audio.UnreadableSound as error:
                return Converted(sha256, recorded_sha256, error.reason, str(error))
            finally:  # written over in place: what was decoded is not what was hashed
                if state and state_of(recorded.fileno()) != state:
                    raise UserError(f"{part.location} changed while it was read: run it again")
            cache.write(key, entry)
    figures, fingerprint = json.loads(entry.partition(b"\n")[0])
    return Converted(sha256, recorded_sha256, figures=figures, fingerprint=fingerprint)


def _entry_of(recorded: BinaryIO, part: Part, params: PrepareParams) -> bytes:
    """An entry of the cache: a line with figures and fingerprint, then the sound. Raises: audio.UnreadableSound."""
    samples, sample_rate_hz = audio.decode(recorded, part.begins_s or 0.0, part.ends_s)
    mono = audio.to_mono_16k(samples, sample_rate_hz, params.channels)
    spectra = quality.power_spectra(audio.without_offset(mono))
    figures = {
        **audio.measure(mono),
        "clipped_fraction": round(audio.clipped_fraction(samples), 4),
        "bandwidth_hz": quality.bandwidth_hz(spectra),
    }
    return json.dumps([figures, quality.fingerprint(spectra)]).encode() + b"\n" + audio.encode_flac(mono)


def sound_in(entry: bytes) -> bytes:
    """The FLAC file in an entry of the cache."""
    return entry.partition(b"\n")[2]


_last_hash: dict[tuple, str] = {}  # of one recording: the parts of a long one follow each other


def _sha256_of(recorded: BinaryIO, state: list[int] | None) -> str:
    """Hex digest of an open recording."""
    if state is None:
        return hashlib.sha256(recorded.getbuffer()).hexdigest()
    if tuple(state) not in _last_hash:
        _last_hash.clear()
        _last_hash[tuple(state)] = hashlib.file_digest(recorded, "sha256").hexdigest()
    return _last_hash[tuple(state)]


def state_of(file: Path | str | int) -> list[int]:
    """What changes when a file (its path or descriptor) changes. No program can set the last, the status' time.

    Raises: OSError, also for a folder or a named pipe, which could not be read or never end.
    """
    state = os.stat(file)
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "it is a folder or a pipe, name a file")
    return [state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]

"""One recording, or a part of it, from its bytes to a clip's sound and figures; in worker processes."""

from __future__ import annotations

import hashlib
import io
import json
import os
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from stages.common.cache import ContentCache
from stages.speech import audio, quality
from stages.speech.clips import TOLERANCE_S
from stages.speech.segments import Converted, Part

if TYPE_CHECKING:
    from stages.common.params import PrepareParams


class BadCut(Exception):
    """Times that name no part of the recording; its words say why."""


def convert(part: Part, params: PrepareParams, cache: ContentCache, key: dict) -> Converted:
    """Decode, resample and measure one part; its sound goes to the cache, under `key`."""
    digest = part.sha256
    known = cache.read(key)
    if known is None:
        try:
            with part.open() as recorded:
                if _sha256_of(recorded) != part.recorded_sha256:
                    return Converted(reason="unreadable audio", remedy="it changed while it was read: run it again")
                # The same open file that was hashed, whatever has this name by now.
                *measured, flac = _convert_sound(recorded, part, params)
        except OSError as error:
            return Converted.unreadable(error)
        except audio.UnreadableSound as error:
            return Converted(digest, reason="unreadable audio", remedy=str(error))
        except BadCut as error:
            return Converted(digest, reason="cut out of range", remedy=str(error))
        except audio.ChannelsDiffer as error:
            return Converted(digest, reason="channels differ", remedy=str(error))
        except MemoryError:
            return Converted(reason="too much memory", remedy="cut it into shorter recordings")
        known = json.dumps(measured).encode() + b"\n" + flac
        cache.write(key, known)
    figures, fingerprint = json.loads(known.partition(b"\n")[0])
    return Converted(digest, figures=figures, fingerprint=fingerprint)


def _convert_sound(recorded: BinaryIO, part: Part, params: PrepareParams) -> tuple[dict[str, float], str, bytes]:
    """A part's figures, its fingerprint, and its sound as FLAC. Raises: UnreadableSound, BadCut, ChannelsDiffer."""
    samples, sample_rate_hz = decode(recorded, part.begins_s, part.ends_s)
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
    }
    return figures, quality.fingerprint(spectra), audio.encode_flac(mono)


def decode(recorded: BinaryIO, begins_s: float | None, ends_s: float | None) -> tuple[np.ndarray, int]:
    """Samples [frames, channels] and rate in Hz of a recording, or of its part between two times.

    Raises: audio.UnreadableSound, and BadCut where the times lie outside of the recording.
    """
    if begins_s is None:
        return audio.decode(recorded)
    if ends_s is not None and ends_s <= begins_s:
        raise BadCut(f"it ends at {ends_s:.3f} s, before it begins: mend its times")
    try:
        samples, sample_rate_hz = audio.decode(recorded, begins_s, ends_s)
    except audio.EndsEarly as error:
        raise BadCut(str(error)) from None
    end_s = begins_s + len(samples) / sample_rate_hz
    if ends_s is not None and end_s < ends_s - TOLERANCE_S:
        raise BadCut(f"the recording ends at {end_s:.3f} s: mend its times, or put the whole recording back")
    return samples, sample_rate_hz


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

"""Sound: decoding, resampling, measuring.

Samples are float32 in [-1, 1]: [frames, channels] as recorded, [frames] once mono.
"""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from stages.speech import ffmpeg, headers
from stages.speech.prepared import SAMPLE_RATE_HZ
from stages.speech.unreadable import (
    MISSING_S,
    SEEK_MARGIN_S,
    BadCut,
    ChannelsDiffer,
    UnreadableSound,
    check_rate,
    longest_frames,
    refuse_missing_end,
)

FULL_SCALE = 0.999
QUIETEST_DBFS = -100.0
FRAME_S = 0.02
OFFSET_S = 0.04  # two periods of a hum of 50 Hz, which is noise and no offset

# Channels hold the same sound if they correlate this much at some delay, with either sign. Measured: two people up to
# 0.32 (words of 0.3 s) and 0.21 (sentences); two microphones in one room, as much echo as direct sound, 0.4.
SAME_SOUND_CORRELATION = 0.35
SAME_SOUND_DELAY_S = 0.02
MIXED_FROM_CORRELATION = 0.8  # below this, without delay, the mean sounds hollow or cancels out
DEAD_BELOW_LOUDEST_DB, DEAD_DBFS = 30, -60.0


def decode(content: bytes | BinaryIO, begins_s: float = 0.0, ends_s: float | None = None) -> tuple[np.ndarray, int]:
    """Decode a sound file, or the part of it from `begins_s` up to `ends_s`.

    By libsndfile, which is exact and quick in parts of long recordings, or else by FFmpeg (M4A, WebM, a video's sound),
    chosen by content, never by name. A part is exact to the sample in lossless formats, to a codec's frame in others.
    Only the part is held in memory, and in formats with an index only the part is decoded.

    Returns: samples [frames, channels] and the sample rate in Hz.
    Raises: UnreadableSound if the content is not sound that either reads, is damaged or cut off, or claims an
        impossible rate; TooLong above MAX_SAMPLES or MAX_DURATION_S; BadCut if it ends before the part.
    """
    if ends_s is not None and ends_s <= begins_s:
        raise BadCut(f"it ends at {ends_s:.3f} s, before it begins: correct its times")
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    source = headers.with_true_sizes(source)
    decoded = _decode_by_libsndfile(source, begins_s, ends_s) or ffmpeg.decode(source, begins_s, ends_s)
    samples, sample_rate_hz = decoded
    if not len(samples) and not begins_s:
        raise UnreadableSound("there is no sound in this file: record it again")
    found_s = begins_s + len(samples) / sample_rate_hz
    if not len(samples) or (ends_s is not None and found_s < ends_s - MISSING_S):
        raise BadCut("it ends before this part does: correct the times, or put the whole recording back")
    if not np.isfinite(samples).all():
        raise UnreadableSound("some samples are not numbers: record or export it again")
    return samples, sample_rate_hz


def _decode_by_libsndfile(source: BinaryIO, begins_s: float, ends_s: float | None) -> tuple[np.ndarray, int] | None:
    """None if libsndfile does not know the format, or would not read all of it: FFmpeg then reads or refuses it."""
    names_length = _names_length(source)
    source.seek(0)
    is_tagged = source.read(3) == b"ID3"
    source.seek(0)
    try:
        file = soundfile.SoundFile(source)
    except (soundfile.SoundFileError, TypeError):  # TypeError: content that looks like headerless samples
        return None
    with file:
        if file.format == "MP3" and not names_length:
            return None  # libsndfile would guess the length from the first frame, and may stop early
        if is_tagged and file.format not in ("MP3", "FLAC"):
            return None  # libsndfile would drop sound as long as the tag
        check_rate(file.samplerate)
        begin = min(round(begins_s * file.samplerate), file.frames)
        end = file.frames if ends_s is None else min(round(ends_s * file.samplerate), file.frames)
        if end - begin > longest_frames(file.channels, file.samplerate):
            return None  # a header may claim any length, and NumPy would allocate it; FFmpeg counts what is there
        try:
            start = max(begin - round(SEEK_MARGIN_S * file.samplerate), 0)
            if start:
                file.seek(start)
            samples = file.read(max(end - start, 0), dtype="float32", always_2d=True)[begin - start :]
        except soundfile.SoundFileError as error:
            raise UnreadableSound("the file is damaged: record or export it again, as WAV or FLAC") from error
        refuse_missing_end(len(samples) / file.samplerate, (end - begin) / file.samplerate)
        return samples, file.samplerate


def _names_length(source: BinaryIO) -> bool:
    """Whether an MP3 file says in its first frame how many there are (the Xing or LAME header)."""
    source.seek(0)
    head = source.read(10)
    if head[:3] == b"ID3":  # ID3v2.4, 3.1: the tag's size in four bytes of 7 bits
        source.seek(10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=False)))
    else:
        source.seek(0)
    first_frame = source.read(64)  # its header and side information take 4 + 32 bytes at most
    return b"Xing" in first_frame or b"Info" in first_frame


def encode_flac(samples: np.ndarray) -> bytes:
    """16-bit FLAC at SAMPLE_RATE_HZ."""
    buffer = io.BytesIO()
    whole = np.clip(np.rint(samples * 0x8000), -0x8000, 0x7FFF).astype(np.int16)  # as libsndfile does, but faster
    soundfile.write(buffer, whole, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def to_mono_16k(samples: np.ndarray, sample_rate_hz: int, channels: str = "auto") -> np.ndarray:
    """One channel (see to_mono), resampled with soxr at its highest quality."""
    mono = to_mono(samples, sample_rate_hz, channels)
    if sample_rate_hz == SAMPLE_RATE_HZ:
        return mono
    return soxr.resample(mono, sample_rate_hz, SAMPLE_RATE_HZ, quality="VHQ").astype(np.float32)


def to_mono(samples: np.ndarray, sample_rate_hz: int, channels: str = "auto") -> np.ndarray:
    """Samples [frames] from samples [frames, channels], by prepare.channels.

    mix: the mean; left, right: the first or second channel (or the only one); auto: the mean of the channels that are
    not dead, or the loudest if they are the same sound inverted or delayed, so that the mean would cancel out.

    Raises: ChannelsDiffer in auto, if channels hold different sounds.
    """
    count = samples.shape[1]
    if count == 1 or channels == "left":
        return samples[:, 0]
    if channels == "right":
        return samples[:, 1]
    if channels == "mix":
        return samples.mean(axis=1)
    if (samples[:, 1:] == samples[:, :1]).all():  # most stereo from one microphone
        return np.ascontiguousarray(samples[:, 0])
    centred = without_offset(samples, sample_rate_hz)
    level_dbfs = _dbfs(np.sqrt((centred**2).mean(axis=0)))
    loudest = int(np.argmax(level_dbfs))
    heard_dbfs = max(level_dbfs[loudest] - DEAD_BELOW_LOUDEST_DB, DEAD_DBFS)
    others = [number for number in range(count) if level_dbfs[number] >= heard_dbfs and number != loudest]
    delays = round(SAME_SOUND_DELAY_S * sample_rate_hz)
    correlations = {number: _correlations(centred[:, loudest], centred[:, number], delays) for number in others}
    for number, correlation in correlations.items():
        if np.abs(correlation).max() < SAME_SOUND_CORRELATION:
            first, second = sorted((loudest + 1, number + 1))
            raise ChannelsDiffer(f"channels {first} and {second} differ: set prepare.channels to left, right or mix")
    if all(correlation[delays] >= MIXED_FROM_CORRELATION for correlation in correlations.values()):
        return samples[:, [loudest, *others]].mean(axis=1)
    return samples[:, loudest]


def _correlations(one: np.ndarray, other: np.ndarray, delays: int) -> np.ndarray:
    """Normalised cross-correlation [2 * delays + 1] of two signals without offset, at delays up to `delays` samples."""
    block = 2**17
    padded = np.pad(other, delays)
    total = np.zeros(2 * delays + 1)
    for begin in range(0, len(one), block):  # the spectrum of an hour would take gigabytes
        part, beside = one[begin : begin + block], padded[begin : begin + block + 2 * delays]
        length = block + 4 * delays
        spectrum = np.fft.rfft(beside, length) * np.conj(np.fft.rfft(part, length))
        total += np.fft.irfft(spectrum, length)[: 2 * delays + 1]
    return total / max(np.sqrt(np.sum(one**2, dtype=float) * np.sum(other**2, dtype=float)), 1e-20)


def without_offset(samples: np.ndarray, sample_rate_hz: int = SAMPLE_RATE_HZ) -> np.ndarray:
    """Samples [frames, ...] less the direct current that a cheap microphone adds, constant or drifting slowly.

    For measuring: it would count as sound. What is stored keeps it, because Try it, the server and the Space pass the
    same microphone's sound on to the model as it comes.
    """
    length = round(OFFSET_S * sample_rate_hz)
    count = len(samples) // length
    if count < 2:
        return samples - samples.mean(axis=0) if len(samples) else samples
    centred = samples.copy()
    blocks = centred[: count * length].reshape(count, length, *samples.shape[1:])
    means = blocks.mean(axis=1)
    # Straight lines through the blocks' edges, the first and last continued.
    edges = np.concatenate([1.5 * means[:1] - 0.5 * means[1:2], (means[1:] + means[:-1]) / 2])
    edges = np.concatenate([edges, 1.5 * means[-1:] - 0.5 * means[-2:-1]])
    ramp = np.linspace(0, 1, length, endpoint=False, dtype=samples.dtype).reshape(-1, *[1] * (samples.ndim - 1))
    blocks -= edges[:-1, None] + (edges[1:] - edges[:-1])[:, None] * ramp
    centred[count * length :] -= edges[-1]
    return centred


def clipped_fraction(samples: np.ndarray) -> float:
    """Share of samples at full scale next to another one at full scale.

    Of the recording as it came: resampling rounds flat tops off, and full scale is where sound is cut off, also if an
    offset shifts it there.
    """
    if samples.min(initial=0.0) > -FULL_SCALE and samples.max(initial=0.0) < FULL_SCALE:  # as in most
        return 0.0
    at_limit = np.abs(samples) >= FULL_SCALE
    in_run = at_limit.copy()
    in_run[:1] = False
    in_run[1:] &= at_limit[:-1]
    in_run[:-1] |= in_run[1:]
    return float(in_run.mean()) if samples.size else 0.0


def measure(samples: np.ndarray) -> dict[str, float]:
    """Levels of a mono clip [frames] in dBFS, and an estimate of its signal-to-noise ratio in dB.

    Without an offset. Level: the 95th percentile of the RMS of 20 ms frames; noise: their 10th percentile, so a clip
    without pauses seems noisier than it is.
    """
    samples = without_offset(samples)
    frame_length = int(FRAME_S * SAMPLE_RATE_HZ)
    frame_count = max(len(samples) // frame_length, 1)
    frames = np.resize(samples, (frame_count, frame_length)) if len(samples) else np.zeros((1, frame_length))
    rms_dbfs = _dbfs(np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1)))
    level_dbfs, noise_dbfs = np.percentile(rms_dbfs, [95, 10])
    return {
        "duration_s": round(len(samples) / SAMPLE_RATE_HZ, 3),
        "peak_dbfs": round(float(_dbfs(np.abs(samples).max(initial=0.0))), 1),
        "level_dbfs": round(float(level_dbfs), 1),
        "snr_db": round(float(level_dbfs - noise_dbfs), 1),
    }


def _dbfs(amplitude: np.ndarray | float) -> np.ndarray | float:
    return np.maximum(20 * np.log10(np.maximum(amplitude, 1e-10)), QUIETEST_DBFS)

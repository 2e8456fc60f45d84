"""Damaged and lying sound files: each must be decoded to sane sound or refused in words, in bounded time and memory.

    python -m tests.benchmarks.hostile [FILES]        (10,000 take half an hour of two cores)

A file's number decides all of it, so one that fails can be made again. The files are decoded in the processes in which
prepare decodes, so that a crash or a hang costs one file.
"""

from __future__ import annotations

import functools
import re
import struct
import sys
from collections import Counter

import numpy as np

from stages.common.pool import Failed, run_each
from stages.speech import audio, unreadable
from tests.memory import peak_bytes
from tests.sounds import encode, encode_by_ffmpeg, speech_like, video

LIMIT_S = 60.0
EXTREMES = (0, 1, 0x7FFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1_092_676)


@functools.cache
def originals() -> list[bytes]:
    """Whole files of every kind, of a second each."""
    by_libsndfile = (
        "WAV/PCM_16 WAV/PCM_U8 WAV/DOUBLE WAV/MS_ADPCM RF64/PCM_16 W64/PCM_24 AIFF/PCM_16 AU/FLOAT CAF/ALAC_16 "
        "FLAC/PCM_16 FLAC/PCM_24 OGG/VORBIS OGG/OPUS MP3/MPEG_LAYER_III NIST/PCM_16 VOC/PCM_16"
    )
    by_ffmpeg = (
        "ipod/aac ipod/alac webm/libopus matroska/aac adts/aac asf/wmav2 avi/libmp3lame flv/aac mpegts/aac mpeg/mp2 "
        "ac3/ac3 wv/wavpack tta/tta"
    )
    spoken = speech_like(1, 48_000)
    files = [encode(spoken, 48_000, *kind.split("/")) for kind in by_libsndfile.split()]
    files += [encode_by_ffmpeg(spoken, 48_000, *kind.split("/"), 2) for kind in by_ffmpeg.split()]
    files.append(encode_by_ffmpeg(speech_like(1, 8_000), 8_000, "amr", "libopencore_amrnb"))
    files.append(video(spoken))
    return files


def flip_bits(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for place in rng.integers(len(content), size=rng.integers(1, 30)):
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def flip_bits_of_header(content: bytes, rng: np.random.Generator) -> bytes:
    return flip_bits(content[:128], rng) + content[128:]


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(len(content))]


def overwrite(content: bytes, rng: np.random.Generator) -> bytes:
    """A stretch becomes nothing, zeros or noise."""
    begin, end = sorted(rng.integers(len(content), size=2).tolist())
    put_there = (b"", bytes(end - begin), rng.bytes(end - begin))[rng.integers(3)]
    return content[:begin] + put_there + content[end:]


def lie(content: bytes, rng: np.random.Generator) -> bytes:
    """Lengths, rates and counts of the header become extreme ones."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(min(len(content), 300) - 8)) // 2 * 2
        number = int(EXTREMES[rng.integers(len(EXTREMES))])
        struct.pack_into(str(rng.choice(["<I", ">I", "<Q", ">Q"])), damaged, place, number)
    return bytes(damaged)


def put_tags_before(content: bytes, rng: np.random.Generator) -> bytes:
    """ID3 tags, many or long, whole or longer than the file, some with a picture that claims a gigabyte."""
    count = rng.choice([1, 2, 1_000, 20_000])
    tags = bytearray()
    for size in rng.choice([0, 10, 200, 2**28 - 1], count, p=[0.3, 0.3, 0.395, 0.005]).tolist():
        body = (b"APIC" + struct.pack(">I", 2**30) + bytes(300))[: min(size, 200)]
        tags += b"ID3\x04\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0)) + body
    return bytes(tags) + content


def put_another_behind(content: bytes, rng: np.random.Generator) -> bytes:
    return content + content[: rng.integers(len(content))]


MUTATIONS = (flip_bits, flip_bits_of_header, cut, overwrite, overwrite, lie, put_tags_before, put_another_behind)


def make(number: int, files: list[bytes]) -> bytes:
    """The damaged file of that number: one of the whole ones after one to three mutations."""
    rng = np.random.default_rng(number)
    content = files[number % len(files)]
    for _ in range(rng.integers(1, 4)):
        if len(content) < 16:
            break
        content = MUTATIONS[rng.integers(len(MUTATIONS))](content, rng)
    return content


def judge(content: bytes) -> str:
    """'accepted', or the words of the refusal; an error where what came out is no sane sound."""
    whole, part = _decode(content), _decode(content, 0.3, 0.6)
    # A part is sought: what is damaged may be found only then.
    assert part == "accepted" or whole != "accepted" or re.search("times|index|damaged", part), (whole, part)
    return whole


def _decode(content: bytes, *times: float) -> str:
    try:
        samples, sample_rate_hz = audio.decode(content, *times)
    except audio.UnreadableSound as error:
        words = str(error)
        assert words and "\n" not in words and words.isprintable(), words
        return words
    assert samples.dtype == np.float32 and samples.ndim == 2, (samples.dtype, samples.shape)
    assert samples.size <= unreadable.MAX_SAMPLES
    assert unreadable.LOWEST_RATE_HZ <= sample_rate_hz <= unreadable.HIGHEST_RATE_HZ
    assert np.isfinite(samples).all()
    try:
        mono = audio.to_mono_16k(samples, sample_rate_hz)
    except audio.ChannelsDiffer:
        return "channels that differ"
    assert abs(len(mono) - len(samples) / sample_rate_hz * audio.SAMPLE_RATE_HZ) <= 1
    assert np.isfinite(list(audio.measure(mono).values())).all()
    assert 0 <= audio.clipped_fraction(samples) <= 1
    assert audio.encode_flac(mono).startswith(b"fLaC")
    return "accepted"


def verdict_of(number: int) -> tuple[str, int]:
    """What becomes of a damaged file, and the highest memory of the process so far, in bytes."""
    try:
        verdict = judge(make(number, originals()))
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is what we look for
        verdict = f"FAILED {type(error).__name__}: {error}"
    return verdict, peak_bytes()


def run(count: int) -> tuple[Counter, list[str], int]:
    """Of damaged files 0 to `count`: how often each verdict came, what failed, and the highest memory in bytes."""
    verdicts, failures, highest_bytes = Counter(), [], 0
    originals()  # before the processes are forked
    for number, result in enumerate(run_each(verdict_of, range(count), 2, LIMIT_S)):
        verdict, used_bytes = (f"FAILED {result.why}", 0) if isinstance(result, Failed) else result
        highest_bytes = max(highest_bytes, used_bytes)
        verdicts[verdict if verdict.startswith(("accepted", "FAILED")) else "refused"] += 1
        if verdict.startswith("FAILED"):
            failures.append(f"file {number}: {verdict}")
    return verdicts, failures, highest_bytes


if __name__ == "__main__":
    verdicts, failures, highest_bytes = run(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
    print(*failures, sep="\n")
    print(dict(verdicts), f"{len(failures)} failures, at most {highest_bytes / 1e6:.0f} MB a process")
    sys.exit(bool(failures))

"""WAV, AIFF and AU files whose header names a wrong size: all samples that are there are heard.

A recorder that crashed has written 0, or the size of its last save; joined files have a header within; some programs
count a few bytes too many. libsndfile believes the header. A file that is far shorter than its header says is a broken
copy, and is refused: its transcript says more than can be heard.

Sizes are 4 bytes behind a name of 4 (EA IFF 85, RIFF). Here a header that is wrong is replaced by one for "unknown",
with which libsndfile and FFmpeg read up to the end.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO, Literal

from stages.speech.unreadable import MISSING_S, UnreadableSound

UNKNOWN = 0xFFFF_FFFF
STREAMED_BYTES = 0x7FFF_0000  # larger sizes are placeholders in files of unknown length
NOT_SOUND_S = 0.05  # a shorter rest behind the sound is a tag, or odd bytes
FORMS = (b"RIFF", b"FORM", b".snd")


@dataclass(frozen=True)
class Layout:
    """Where a file's sound is: `begin` of its samples, the size that the header names, bytes a second."""

    order: Literal["little", "big"]
    size_at: int
    begin: int
    size: int
    bytes_per_s: int
    form: bytes  # what the samples are, as the header says
    frames_at: int | None = None  # of AIFF's number of frames


def with_true_sizes(source: BinaryIO) -> BinaryIO:
    """The file itself if its header is right or of another kind, else a copy in memory with the sound up to its end.

    Raises: UnreadableSound if it is a broken copy, or holds joined recordings of different kinds.
    """
    end = source.seek(0, io.SEEK_END)
    source.seek(0)
    head = source.read(12)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        claimed = 8 + int.from_bytes(head[4:8], "little")
        if end < claimed < STREAMED_BYTES:
            raise UnreadableSound(f"it holds {end} of {claimed} bytes: copy or export it again, whole")
    layout = _layout(source, 0, end)
    if layout is None:
        return source
    if _is_right(source, layout, end):
        return source
    found_s, claimed_s = ((size / layout.bytes_per_s) for size in (end - layout.begin, layout.size))
    if layout.size < STREAMED_BYTES and found_s < claimed_s - MISSING_S:
        raise UnreadableSound(f"it ends after {found_s:.1f} of {claimed_s:.1f} s: copy or export it again, whole")
    if layout.size and 0 <= found_s - claimed_s < NOT_SOUND_S:
        return source  # the rest is a tag, or odd bytes
    source.seek(0)
    content = bytearray(source.read())
    unknown = 0 if layout.frames_at else UNKNOWN
    content[layout.size_at : layout.size_at + 4] = unknown.to_bytes(4, layout.order)
    if head[:4] != b".snd":
        content[4:8] = unknown.to_bytes(4, layout.order)
    if layout.frames_at:
        content[layout.frames_at : layout.frames_at + 4] = bytes(4)
    return io.BytesIO(content[: layout.begin] + b"".join(_pieces(source, content, layout, end)))


def _pieces(source: BinaryIO, content: bytearray, layout: Layout, end: int) -> list[bytearray]:
    """The samples of a file, of each of its recordings if several were joined."""
    pieces = []
    while following := _next_recording(source, layout, end):
        if following.form != layout.form:
            raise UnreadableSound("it holds several recordings of different kinds: save each as a file of its own")
        pieces.append(content[layout.begin : layout.begin + layout.size])
        layout = following
    last_end = layout.begin + layout.size if _is_right(source, layout, end) else end
    return [*pieces, content[layout.begin : last_end]]


def _layout(source: BinaryIO, start: int, end: int) -> Layout | None:
    """Of the WAV, AIFF or AU file that begins at `start`; None if none does, or its samples are not found."""
    source.seek(start)
    head = source.read(12)
    if head[:4] == b".snd":
        source.seek(start)
        fields = [int.from_bytes(source.read(4), "big") for _ in range(6)]
        _, offset, size, encoding, rate_hz, channels = fields
        sample_bytes = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(encoding)
        if not (sample_bytes and rate_hz and channels):
            return None
        form = str(fields[3:]).encode()
        return Layout("big", start + 8, start + offset, size, sample_bytes * rate_hz * channels, form)
    kind = (head[:4], head[8:12])
    if kind not in ((b"RIFF", b"WAVE"), (b"FORM", b"AIFF"), (b"FORM", b"AIFC")):
        return None
    order = "little" if kind[0] == b"RIFF" else "big"
    at, form, bytes_per_s, frames_at = start + 12, b"", 0, None
    while at + 8 <= end:
        source.seek(at)
        name, size = source.read(4), int.from_bytes(source.read(4), order)
        if name == b"fmt ":
            form = source.read(min(size, 64))
            bytes_per_s = int.from_bytes(form[8:12], order)
        elif name == b"COMM":
            form = source.read(min(size, 64))
            frames_at = at + 10
            channels, bits = (int.from_bytes(form[place : place + 2], order) for place in (0, 6))
            bytes_per_s = channels * -(-bits // 8) * _extended(form[8:18])
            form = form[:2] + form[6:]  # without the number of frames
        elif name in (b"data", b"SSND"):
            if not bytes_per_s:
                return None
            before = 8 if name == b"SSND" else 0  # AIFF's offset and block size, counted as part of the chunk
            return Layout(order, at + 4, at + 8 + before, max(size - before, 0), bytes_per_s, form, frames_at)
        at += 8 + size + size % 2
    return None


def _is_right(source: BinaryIO, layout: Layout, end: int) -> bool:
    """Whether nothing follows the sound up to the file's end, or chunks such as a tag."""
    at = _behind_chunks(source, layout, end)
    return at in (end, end + 1)  # the last byte, which makes a size even, is often left out


def _next_recording(source: BinaryIO, layout: Layout, end: int) -> Layout | None:
    """The recording that was joined to this one."""
    return _layout(source, _behind_chunks(source, layout, end), end) if layout.size else None


def _behind_chunks(source: BinaryIO, layout: Layout, end: int) -> int:
    """The place behind the sound, as the header has it, and behind the chunks that follow."""
    at = layout.begin + layout.size + layout.size % 2
    while at + 8 <= end:
        source.seek(at)
        name, size = source.read(4), int.from_bytes(source.read(4), layout.order)
        if name in FORMS or not (name.isascii() and name.decode().isprintable()) or at + 8 + size > end:
            break
        at += 8 + size + size % 2
    return at


def _extended(number: bytes) -> int:
    """A whole number in 80 bits, as AIFF writes its sample rate: exponent of 15 bits, then 64 of the mantissa."""
    if len(number) < 10:
        return 0
    exponent = (int.from_bytes(number[:2], "big") & 0x7FFF) - 16383
    mantissa = int.from_bytes(number[2:10], "big")
    return mantissa >> (63 - exponent) if 0 <= exponent <= 63 else 0

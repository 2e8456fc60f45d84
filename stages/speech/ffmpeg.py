"""Sound that libsndfile does not read: by FFmpeg (M4A, WebM, MP3 without an index, a video's sound)."""

from __future__ import annotations

import contextlib
import io
import os
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from stages.speech.unreadable import (
    SEEK_MARGIN_S,
    TooLong,
    UnreadableSound,
    check_rate,
    longest_frames,
    refuse_missing_end,
)

if TYPE_CHECKING:
    from av import AudioFrame
    from av.container import InputContainer

# FFmpeg's demuxers that may be used: for sound and common video files, none that opens other files or addresses
# (playlists, concat, image sequences). To add a format: its demuxer here.
DEMUXERS = ("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "eac3", "flac", "flv", "matroska", "mov")
DEMUXERS += ("mp3", "mpeg", "mpegts", "ogg", "tta", "w64", "wav", "wv")
# Those whose files have an index of times and name their length.
INDEXED = ("mov", "matroska")
HELD_FRAMES = 512  # of a file left open, some 10 s: subtitles overlap
CUT_IT = "cut it into sentences, or list its segments with begin and end"


def decode(source: BinaryIO, begins_s: float, ends_s: float | None) -> tuple[np.ndarray, int]:
    """The first audio stream, at its own rate. Raises: UnreadableSound, also for one damaged packet."""
    import av  # imported here: most recordings do not need it

    if not source.seek(0, os.SEEK_END):  # PyAV would print a traceback
        raise UnreadableSound(_what_it_is(source))
    # Grows in place: a list of pieces would need the memory twice.
    samples = bytearray()
    channels = sample_rate_hz = 0
    to_float = av.AudioResampler(format="flt")  # interleaved float32; rate and channels stay
    try:
        with _open(source, begins_s, is_part=ends_s is not None) as opened:
            for position, decoded in opened.frames():
                sample_rate_hz = decoded.sample_rate
                check_rate(sample_rate_hz)
                begin = round(begins_s * sample_rate_hz) - position
                end = None if ends_s is None else round(ends_s * sample_rate_hz) - position
                if decoded.samples <= begin:
                    continue
                if end is not None and end <= 0:
                    break
                for frame in to_float.resample(decoded):
                    channels = frame.layout.nb_channels
                    samples += frame.to_ndarray().reshape(-1, channels)[max(begin, 0) : end].tobytes()
                longest = longest_frames(channels, sample_rate_hz)
                if len(samples) // 4 // channels > longest:
                    minutes = longest / sample_rate_hz / 60
                    raise TooLong(f"longer than {minutes:.0f} minutes at {sample_rate_hz} Hz: {CUT_IT}")
            # In a video the pictures may be longer than the sound.
            container = opened.container
            names_length = _is_indexed(container) and len(container.streams) == 1 and container.duration
            if samples and ends_s is None and names_length:
                found_s = begins_s + len(samples) / 4 / channels / sample_rate_hz
                refuse_missing_end(found_s, container.duration / av.time_base)
    except (av.FFmpegError, ValueError, OSError) as error:
        # ValueError: rate or channels change; OSError: a seek before the file's beginning
        reason = getattr(error, "strerror", None) or "its rate or channels change"
        known = _what_it_is(source)
        raise UnreadableSound(
            known or f"not a sound file that can be read ({reason}): save it as WAV or FLAC"
        ) from error
    return np.frombuffer(samples, np.float32).reshape(-1, max(channels, 1)), max(sample_rate_hz, 1)


def _what_it_is(source: BinaryIO) -> str | None:
    """In words, for a file that is often found in place of sound: empty, a pointer of Git LFS, a text."""
    source.seek(0)
    head = source.read(1024)
    if not head:
        return "the file is empty (0 bytes): copy it again, or record it again"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the sound itself: run 'git lfs pull' where it came from"
    if not any(byte < 9 or 13 < byte < 32 for byte in head):  # control characters, of which sound is full
        return "a text, not sound: export or download the recording again"
    return None


class _Opened:
    """A file's first audio stream, decoded frame by frame, each with its position in samples."""

    def __init__(self, source: BinaryIO, begins_s: float) -> None:
        import av

        source.seek(0)
        options = {"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "none"}
        self.container = av.open(source, container_options=options, metadata_errors="replace")
        if not self.container.streams.audio:
            self.container.close()
            raise UnreadableSound("there is no sound in this file: record it again")
        self.coming = _frames_from(self.container, begins_s)
        self.held: deque[tuple[int, AudioFrame]] = deque(maxlen=HELD_FRAMES)

    def frames(self) -> Iterator[tuple[int, AudioFrame]]:
        """From the oldest frame held."""
        yield from tuple(self.held)
        for found in self.coming:
            self.held.append(found)
            yield found

    def holds(self, begins_s: float) -> bool:
        """Whether `frames` begins at this time or before."""
        return bool(self.held) and self.held[0][0] <= begins_s * self.held[0][1].sample_rate


_left_open: dict[tuple, _Opened] = {}  # the last file without an index, by what changes when it does


@contextlib.contextmanager
def _open(source: BinaryIO, begins_s: float, is_part: bool) -> Iterator[_Opened]:
    """A file by FFmpeg. One without an index stays open: its next part is decoded from there, not from the beginning.

    A recording of 95 minutes in 1,000 parts would else be decoded a thousand times.
    """
    key: tuple = ()
    if is_part and isinstance(source, io.BufferedReader):
        state = os.fstat(source.fileno())
        key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    opened = _left_open.pop(key, None)
    if opened and not opened.holds(begins_s):
        opened.container.close()
        opened = None
    if opened is None:
        while _left_open:
            _left_open.popitem()[1].container.close()
        opened = _Opened(os.fdopen(os.dup(source.fileno()), "rb") if key else source, begins_s)
    try:
        yield opened
    except BaseException:
        opened.container.close()
        raise
    if key and not _is_indexed(opened.container):
        _left_open[key] = opened
    else:
        opened.container.close()


def _frames_from(container: InputContainer, begins_s: float) -> Iterator[tuple[int, AudioFrame]]:
    """Decoded frames of the first audio stream with their positions in samples, from `begins_s` or a little before."""
    stream = container.streams.audio[0]
    frames = container.decode(stream)
    first = next(frames, None)
    position = 0
    if first and first.pts is not None and begins_s > SEEK_MARGIN_S and _is_indexed(container):
        begin = first.pts
        container.seek(begin + int((begins_s - SEEK_MARGIN_S) / stream.time_base), stream=stream)
        frames = container.decode(stream)
        first = next(frames, None)
        if first:
            if first.pts is None or (first.pts - begin) * stream.time_base > begins_s:
                raise UnreadableSound("its index is damaged: save it as WAV or FLAC")
            position = round((first.pts - begin) * stream.time_base * first.sample_rate)
    while first:
        yield position, first
        position += first.samples
        first = next(frames, None)


def _is_indexed(container: InputContainer) -> bool:
    return container.format.name.split(",")[0] in INDEXED

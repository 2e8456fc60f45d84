"""Recordings and parts of them: where their bytes are, what their ids are, what became of them, where parts overlap."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Protocol

from stages.speech.clips import ID_LENGTH, Clip

# Times in manifests and subtitles are rounded: so much may a part reach beyond the end, or into the next part.
TOLERANCE_S = 0.1


def digest(recorded_sha256: str, begins_s: float | None, ends_s: float | None) -> str:
    """What stands for a recording, or a part of it, as a sha256 does for a file: over the recording's and both times.

    A clip's id is its beginning (clips.ID_LENGTH).
    """
    if begins_s is None:
        return recorded_sha256
    return hashlib.sha256(f"{recorded_sha256} {times(begins_s, ends_s)}".encode()).hexdigest()


def clip_id(recorded_sha256: str, begins_s: float | None, ends_s: float | None) -> str:
    return digest(recorded_sha256, begins_s, ends_s)[:ID_LENGTH]


def times(begins_s: float | None, ends_s: float | None) -> str:
    """Both times in whole milliseconds, `12340-15600`; `12340-` up to the end, '' for the whole recording."""
    if begins_s is None:
        return ""
    return f"{round(begins_s * 1000)}-{'' if ends_s is None else round(ends_s * 1000)}"


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
        return digest(self.recorded_sha256, self.begins_s, self.ends_s)

    def open(self) -> BinaryIO:
        if isinstance(self.location, str):
            return Path(self.location).open("rb")
        return io.BytesIO(self.location.read_bytes())


@dataclass  # not frozen, like Clip
class Converted:
    """A part's sha256, figures and fingerprint (of its sound), or why it cannot be used (`reason`, `remedy`).

    Without a sha256 the reason may be gone the next time; with one it lies in the recording's bytes.
    """

    sha256: str = ""
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


def overlapping(clips: list[Clip]) -> dict[Clip, Clip]:
    """Parts that share more than TOLERANCE_S with one before them in the same recording -> that one."""
    by_file: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.begins_s is not None and clip.ends_s is not None:
            by_file.setdefault(clip.recorded_file, []).append(clip)
    found = {}
    for parts in by_file.values():
        parts.sort(key=lambda clip: (clip.begins_s, clip.ends_s))
        longest = parts[0]
        for before, clip in pairwise(parts):
            longest = max(longest, before, key=lambda one: one.ends_s)
            if longest.ends_s - clip.begins_s > TOLERANCE_S:
                found[clip] = longest
    return found

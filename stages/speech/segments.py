"""Recordings and parts of them: where their bytes are, what their ids are, what became of them, where parts overlap."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Protocol

from stages.speech.clips import ID_LENGTH, Clip, digest

# Times in manifests and subtitles are rounded: so much may a part reach beyond the end, or into the next part.
TOLERANCE_S = 0.1


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

"""Recordings and parts of them: where their bytes are, and what became of them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from stages.speech.clips import ID_LENGTH, digest


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

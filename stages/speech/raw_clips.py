"""What a reader of a layout gives: a clip as its source lists it, or why there is none."""

from __future__ import annotations

import functools
import math
import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.speech.clips import where
from stages.speech.text import clean

AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64"}
# What telephones, browsers and cameras record: read by FFmpeg.
AUDIO_SUFFIXES |= {".m4a", ".mp4", ".aac", ".webm", ".wma", ".amr", ".3gp", ".mkv", ".mov"}
HUB = "hf://datasets/"  # begins the source of a clip from a data set on the Hub
OPTIONAL_FIELDS = ("language", "speaker", "session", "prompt_id", "recorded_at")


@dataclass  # not frozen, like Clip
class RawClip:
    """A recording, or the part of one between two times, as its source lists it.

    `audio_path` is relative to the source's folder. `begins_s` and `ends_s` are None for a whole recording; with
    `begins_s` alone the part goes on to the end.
    """

    source: str
    audio_path: str
    text: str
    language: str | None = None
    speaker: str | None = None
    session: str | None = None
    prompt_id: str | None = None
    recorded_at: str | None = None
    begins_s: float | None = None
    ends_s: float | None = None

    @property
    def file(self) -> str:
        """The recording's path below data/raw."""
        return f"{self.source}/{self.audio_path}"

    @property
    def where(self) -> str:
        """The file, and for a part of it between which times: no two clips share it."""
        return where(self.file, self.begins_s, self.ends_s)


@dataclass(frozen=True)
class Rejection:
    """A file that does not become a clip: which, why, and what to do."""

    file: str
    reason: str
    remedy: str

    def row(self) -> dict[str, str]:
        return asdict(self)


def raw_clip(
    manifest: Path,
    source: Path,
    audio_path: str,
    text: str,
    row: Mapping,
    begins_s: float | None = None,
    ends_s: float | None = None,
) -> RawClip:
    """A clip from a manifest's row, whose path is relative to the manifest; `source` is the folder below data/raw."""
    audio_path = audio_path.strip()
    name, folder = _place_of(manifest, source)
    if folder:
        audio_path = posixpath.join(folder, audio_path)
    optional = {name: clean(str(row[name])) or None for name in OPTIONAL_FIELDS if row.get(name) is not None}
    if begins_s is not None or ends_s is not None:
        begins_s = begins_s or 0.0
        optional.setdefault("session", audio_path)  # what was said in one go shares its room, day and microphone
    return RawClip(name, audio_path, text, **optional, begins_s=begins_s, ends_s=ends_s)


def seconds(value: object) -> float | None:
    """A time in a manifest, to the millisecond; None where there is none.

    Raises: ValueError where it is no number of seconds.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not math.isfinite(time_s := float(value)) or time_s < 0:
        raise ValueError(f"{value!r} is no time in seconds")
    return round(time_s, 3)


def where_in(manifest: Path, source: Path, line: int | None = None) -> str:
    """A manifest, or one line of it, as rejected.jsonl names it."""
    name = _name_of(manifest, source)
    return name if line is None else f"{name}:{line}"


# Asked again for each row of a manifest.
@functools.lru_cache(maxsize=16)
def _place_of(manifest: Path, source: Path) -> tuple[str, str]:
    """The source's name, and the manifest's folder below it."""
    folder = manifest.parent.relative_to(source).as_posix()
    return source.name, "" if folder == "." else folder


@functools.lru_cache(maxsize=16)
def _name_of(manifest: Path, source: Path) -> str:
    return printable(f"{source.name}/{manifest.relative_to(source).as_posix()}")


def read_text(path: Path, source: Path) -> str | Rejection:
    """A text file's content, its byte order mark gone."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        return Rejection(where_in(path, source), "unreadable row", f"save it as UTF-8: {error.reason}")


def printable(name: str) -> str:
    """A file name with bytes that are no UTF-8 spelled out, so that it can be written down."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()

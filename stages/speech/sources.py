"""What lies in data/raw: recordings with their transcripts, paired by name.

A source is a folder below data/raw. Its transcripts stand in the first of these that it has: `clips.jsonl`,
`metadata.csv`, `transcripts.csv`, or text files named like the recordings. What cannot be paired comes back as a
Rejection, never silently left out.
"""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from stages.speech.text import clean

AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64"}
# What telephones, browsers and cameras record: read by FFmpeg.
AUDIO_SUFFIXES |= {".m4a", ".mp4", ".aac", ".webm", ".wma", ".amr", ".3gp", ".mkv", ".mov"}
MANIFESTS = ("clips.jsonl", "metadata.csv", "transcripts.csv")
OPTIONAL_FIELDS = ("language", "speaker", "session", "prompt_id", "recorded_at")


@dataclass(frozen=True)
class RawClip:
    """A recording as its source lists it; `audio_path` is relative to the source's folder."""

    source: str
    audio_path: str
    text: str
    language: str | None = None
    speaker: str | None = None
    session: str | None = None
    prompt_id: str | None = None
    recorded_at: str | None = None

    @property
    def file(self) -> str:
        """The recording's path below data/raw."""
        return f"{self.source}/{self.audio_path}"


@dataclass(frozen=True)
class Rejection:
    """A file that does not become a clip: which, why, and what to do."""

    file: str
    reason: str
    remedy: str

    def row(self) -> dict[str, str]:
        return asdict(self)


def read_sources(raw: Path) -> tuple[list[RawClip], list[Rejection]]:
    """All clips of all sources, in a fixed order, and what could not be paired."""
    clips: list[RawClip] = []
    rejections: list[Rejection] = []
    for entry in sorted(raw.iterdir()) if raw.is_dir() else []:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found, unpaired = read_source(entry)
            clips += found
            rejections += unpaired
        elif _is_audio(entry) or entry.name in MANIFESTS:
            remedy = f"move it into a folder, such as {raw}/recordings/, with its transcript"
            rejections.append(Rejection(_printable(entry.name), "in no source folder", remedy))
    return clips, rejections


def read_source(folder: Path) -> tuple[list[RawClip], list[Rejection]]:
    """The clips of one source, and what could not be paired."""
    items = list(_read_source(folder))
    clips = [item for item in items if isinstance(item, RawClip)]
    return clips, [item for item in items if isinstance(item, Rejection)]


def locate(raw: Path, clip: RawClip) -> Path | None:
    """The recording's file, None where its path leads out of its source's folder (by .., a root or a link)."""
    try:
        folder = (raw / clip.source).resolve()
        path = (folder / clip.audio_path).resolve()
    except (ValueError, RuntimeError, OSError):  # a zero byte, a circle of links, a name too long
        return None
    return path if path.is_relative_to(folder) else None


def locate_all(raw: Path, clips: list[RawClip]) -> list[str | None]:
    """`locate` for each clip, as strings. What it asks of a folder is asked once: 10,000 clips would take a second."""
    folders: dict[tuple[str, str], Path | None] = {}
    found: list[str | None] = []
    for clip in clips:
        place, name = os.path.split(clip.audio_path)
        if (clip.source, place) not in folders:
            folders[clip.source, place] = locate(raw, replace(clip, audio_path=place))
        folder = folders[clip.source, place]
        path = f"{folder}/{name}" if folder and name not in ("", ".", "..") else ""
        if not _is_plain(path):
            path = locate(raw, clip)
        found.append(path and str(path))
    return found


def _is_plain(path: str) -> bool:
    """Whether there is something with this name that is no link."""
    try:
        return not stat.S_ISLNK(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def _read_source(folder: Path) -> Iterator[RawClip | Rejection]:
    manifest = next((folder / name for name in MANIFESTS if (folder / name).is_file()), None)
    if manifest is None:
        items = list(_read_text_files(folder))
    else:
        items = list(_read_jsonl(manifest) if manifest.suffix == ".jsonl" else _read_csv(manifest))
    yield from items
    # Recordings that no row names would be missed without a word.
    listed = {os.path.normpath(clip.audio_path) for clip in items if isinstance(clip, RawClip)}
    for name in _names_below(folder):
        if name in listed or name.startswith(".") or "/." in name:
            continue
        path = folder / name
        if name != _printable(name):
            if _is_audio(path):
                yield Rejection(
                    _printable(f"{folder.name}/{name}"), "no transcript", "rename it: its name is not UTF-8"
                )
        elif _is_audio(path):
            if manifest:
                remedy = f"add a row with its text to {folder.name}/{manifest.name}"
            else:
                remedy = f"write what was said into {Path(name).with_suffix('.txt')}"
            yield Rejection(f"{folder.name}/{name}", "no transcript", remedy)


def _names_below(folder: Path) -> list[str]:
    """Names of all files below a folder, relative to it, sorted; Path.rglob takes ten times as long."""
    places = ((os.path.relpath(place, folder), files) for place, _, files in os.walk(folder))
    return sorted(name if place == "." else f"{place}/{name}" for place, files in places for name in files)


def _read_jsonl(manifest: Path) -> Iterator[RawClip | Rejection]:
    for number, line in enumerate(manifest.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{manifest.parent.name}/{manifest.name}:{number}"
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except ValueError as error:
            yield Rejection(where, "unreadable row", f"mend the JSON: {error}")
            continue
        if not (isinstance(row, dict) and isinstance(row.get("audio_path"), str) and isinstance(row.get("text"), str)):
            yield Rejection(where, "unreadable row", 'write {"audio_path": "...", "text": "..."} with both as strings')
            continue
        yield _raw_clip(manifest.parent, row["audio_path"], row["text"], row)


def _read_csv(manifest: Path) -> Iterator[RawClip | Rejection]:
    """`file,text[,speaker,language,...]` with a header, or LJSpeech's `id|text|normalised` without one."""
    folder = manifest.parent
    try:
        content = manifest.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        yield Rejection(f"{folder.name}/{manifest.name}", "unreadable row", f"save it as UTF-8: {error.reason}")
        return
    lines = content.split("\n")
    header = [name.strip(' "\r') for name in lines[0].split(",")]
    if "file" in header and "text" in header:
        reader = csv.DictReader(io.StringIO(content, newline=""), header, skipinitialspace=True, strict=True)
        next(reader)  # the header itself
        try:
            for row in reader:
                if row["file"] is None or row["text"] is None or None in row:
                    where = f"{folder.name}/{manifest.name}:{reader.line_num}"
                    remedy = f"give it the header's {len(header)} columns, quoted if needed"
                    yield Rejection(where, "unreadable row", remedy)
                else:
                    yield _raw_clip(folder, row["file"], row["text"], row)
        except csv.Error as error:
            where = f"{folder.name}/{manifest.name}:{reader.line_num}"
            yield Rejection(where, "unreadable row", f"close or double the quotes in this row or one above: {error}")
    elif "|" in lines[0]:
        # LJSpeech names a recording without its ending, in wavs/ or beside the manifest.
        found = [path for place in (folder, folder / "wavs") for path in sorted(place.glob("*")) if _is_audio(path)]
        recordings = {path.stem: path.relative_to(folder).as_posix() for path in found}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            columns = line.rstrip("\r").split("|")
            if len(columns) < 2:
                where = f"{folder.name}/{manifest.name}:{number}"
                yield Rejection(where, "unreadable row", "write id|text or id|text|normalised text")
                continue
            text = columns[2] if len(columns) > 2 and columns[2].strip() else columns[1]
            yield _raw_clip(folder, recordings.get(columns[0].strip(), f"wavs/{columns[0].strip()}.wav"), text, {})
    else:
        remedy = "begin it with the line file,text (and speaker, language where known), or write LJSpeech's id|text"
        yield Rejection(f"{folder.name}/{manifest.name}", "unreadable row", remedy)


def _read_text_files(folder: Path) -> Iterator[RawClip | Rejection]:
    """A text file holds what is said in the recording of the same name; recordings without one are found later."""
    recordings: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if _is_audio(path):
            recordings.setdefault(path.with_suffix(""), []).append(path)
    for path in sorted(folder.rglob("*.txt")):
        where = f"{folder.name}/{path.relative_to(folder).as_posix()}"
        same_name = recordings.get(path.with_suffix(""), [])
        if not same_name:
            yield Rejection(where, "missing audio", "put the recording of the same name beside it, or remove it")
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            yield Rejection(where, "unreadable row", f"save it as UTF-8: {error.reason}")
            continue
        for recording in same_name:
            yield _raw_clip(folder, recording.relative_to(folder).as_posix(), text, {})


def _raw_clip(folder: Path, audio_path: str, text: str, row: dict) -> RawClip:
    optional = {name: clean(str(row[name])) or None for name in OPTIONAL_FIELDS if row.get(name) is not None}
    return RawClip(source=folder.name, audio_path=audio_path.strip(), text=text, **optional)


def _printable(name: str) -> str:
    """A file name with bytes that are no UTF-8 spelled out, so that it can be written down."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()

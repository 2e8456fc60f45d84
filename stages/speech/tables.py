"""Manifests with a row for each clip: JSON lines (clips.jsonl, NeMo, audiofolder), CSV and TSV, LJSpeech, Common Voice.

A row names its recording relative to the manifest. Rows that cannot be read come back as Rejections.
"""

from __future__ import annotations

import codecs
import csv
import functools
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from stages.speech.raw_clips import RawClip, Rejection, is_audio, raw_clip, read_text, seconds, where_in

# The names that tables give to a column, the first that a table has; compared in small letters.
COLUMNS = {
    "audio_path": ("audio_path", "file", "file_name", "audio_filepath", "path"),
    "text": ("text", "sentence", "transcription", "transcript"),
    "language": ("language", "lang", "locale"),
    "speaker": ("speaker", "speaker_id", "client_id"),
}
DELIMITERS = ",\t;|"
NEMO_PATH = "audio_filepath"
COMMON_VOICE_MANIFEST, COMMON_VOICE_FOLDER = "validated.tsv", "clips"


def read_jsonl(manifest: Path, source: Path) -> Iterator[RawClip | Rejection]:
    """One JSON object a line: `audio_path` (audiofolder: `file_name`, NeMo: `audio_filepath`) and `text`."""
    for number, line in enumerate(manifest.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line.removeprefix(codecs.BOM_UTF8))
        except ValueError as error:
            yield Rejection(where_in(manifest, source, number), "unreadable row", f"mend the JSON: {error}")
            continue
        named = by_our_names(row) if isinstance(row, dict) else {}
        if not (isinstance(named.get("audio_path"), str) and isinstance(named.get("text"), str)):
            remedy = 'write {"audio_path": "...", "text": "..."} with both as strings'
            yield Rejection(where_in(manifest, source, number), "unreadable row", remedy)
            continue
        yield _clip_of(manifest, source, number, named)


def is_nemo(manifest: Path) -> bool:
    """Whether a JSON file is a NeMo manifest: its first line is an object with `audio_filepath`."""
    with manifest.open("rb") as file:
        first = file.readline(1_000_000)
    try:
        row = json.loads(first.decode("utf-8-sig"))
    except ValueError:
        return False
    return isinstance(row, dict) and NEMO_PATH in row


def read_table(manifest: Path, source: Path) -> Iterator[RawClip | Rejection]:
    """`file,text[,speaker,language,...]` with a header, or LJSpeech's `id|text|normalised` without one."""
    content = read_text(manifest, source)
    if isinstance(content, Rejection):
        yield content
        return
    first = content.split("\n", 1)[0]
    if delimiter := delimiter_of(first):
        yield from _read_rows(manifest, source, content, delimiter, csv.QUOTE_MINIMAL)
    elif "|" in first:
        yield from _read_ljspeech(manifest, source, content)
    else:
        remedy = "begin it with the line file,text (and speaker, language where known), or write LJSpeech's id|text"
        yield Rejection(where_in(manifest, source), "unreadable row", remedy)


def is_table(manifest: Path) -> bool:
    """Whether a CSV or TSV file of any name begins with a header that names recordings and texts."""
    with manifest.open("rb") as file:
        return delimiter_of(file.readline(100_000).decode("utf-8-sig", "replace")) is not None


def read_common_voice(manifest: Path, source: Path) -> Iterator[RawClip | Rejection]:
    """validated.tsv: `path` is a file in clips/, `locale` begins with the language; a quote is a mere character."""
    content = read_text(manifest, source)
    if isinstance(content, Rejection):
        yield content
    elif delimiter_of(content.split("\n", 1)[0]) != "\t":
        remedy = "begin it with Common Voice's line of column names, path and sentence among them, parted by tabs"
        yield Rejection(where_in(manifest, source), "unreadable row", remedy)
    else:
        yield from _read_rows(manifest, source, content, "\t", csv.QUOTE_NONE, folder=f"{COMMON_VOICE_FOLDER}/")


def _read_rows(
    manifest: Path, source: Path, content: str, delimiter: str, quoting: int, folder: str = ""
) -> Iterator[RawClip | Rejection]:
    lines = io.StringIO(content, newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, skipinitialspace=delimiter != "\t", strict=True)
    try:
        header = names_of(next(reader))
        for cells in reader:
            if not cells:
                continue
            row = dict(zip(header, cells, strict=False))
            if len(cells) > len(header) or not {"audio_path", "text"} <= set(named := by_our_names(row)):
                remedy = f"give it the header's {len(header)} columns, quoted if needed"
                yield Rejection(where_in(manifest, source, reader.line_num), "unreadable row", remedy)
                continue
            if folder:
                named |= {"audio_path": folder + named["audio_path"], "language": row.get("locale", "").split("-")[0]}
            yield _clip_of(manifest, source, reader.line_num, named)
    except csv.Error as error:
        where = where_in(manifest, source, reader.line_num)
        yield Rejection(where, "unreadable row", f"close or double the quotes in this row or one above: {error}")


def _read_ljspeech(manifest: Path, source: Path, content: str) -> Iterator[RawClip | Rejection]:
    """LJSpeech names a recording without its ending, in wavs/ or beside the manifest."""
    folder = manifest.parent
    found = [path for place in (folder, folder / "wavs") for path in sorted(place.glob("*")) if is_audio(path)]
    recordings: dict[str, list[str]] = {}
    for path in found:
        recordings.setdefault(path.stem, []).append(path.relative_to(folder).as_posix())
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        columns = line.rstrip("\r").split("|")
        if len(columns) < 2:
            where = where_in(manifest, source, number)
            yield Rejection(where, "unreadable row", "write id|text or id|text|normalised text")
            continue
        name = columns[0].strip()
        text = columns[2] if len(columns) > 2 and columns[2].strip() else columns[1]
        for path in recordings.get(name, [f"wavs/{name}.wav"]):
            yield raw_clip(manifest, source, path, text, {})


def _clip_of(manifest: Path, source: Path, line: int, row: dict) -> RawClip | Rejection:
    try:
        if NEMO_PATH in row:
            begins_s, length_s = seconds(row.get("offset")), seconds(row.get("duration"))
            ends_s = None if length_s is None else round((begins_s or 0.0) + length_s, 3)
        else:
            begins_s, ends_s = seconds(row.get("begins_s")), seconds(row.get("ends_s"))
    except (ValueError, TypeError) as error:
        return Rejection(where_in(manifest, source, line), "unreadable row", f"write its times in seconds: {error}")
    return raw_clip(manifest, source, row["audio_path"], row["text"], row, begins_s, ends_s)


def by_our_names(row: dict) -> dict:
    """A row with our names beside its own."""
    others = _other_names(tuple(row))
    return row | {ours: row[theirs] for ours, theirs in others if row[theirs] is not None} if others else row


@functools.lru_cache(maxsize=16)  # asked again for each row
def _other_names(columns: tuple[str, ...]) -> list[tuple[str, str]]:
    """(our name, a table's own) of the columns that are named otherwise."""
    first = {ours: next((name for name in names if name in columns), ours) for ours, names in COLUMNS.items()}
    return [(ours, theirs) for ours, theirs in first.items() if theirs != ours]


def names_of(header: Iterable[str]) -> list[str]:
    return [name.strip(' "\r\n').lower() for name in header]


def delimiter_of(header: str) -> str | None:
    """The one character that parts a header into columns for recordings and for texts, None where none does."""
    for delimiter in DELIMITERS:
        names = set(names_of(header.split(delimiter)))
        if names & set(COLUMNS["audio_path"]) and names & set(COLUMNS["text"]):
            return delimiter
    return None

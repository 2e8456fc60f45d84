"""Tables with a row for each clip: JSON lines (clips.jsonl, NeMo, audiofolder), CSV and TSV, LJSpeech, Common Voice,
Kaldi. Each reader takes (manifest, the source's folder) and yields a RawClip or a Rejection for each row.

To add a table format: write its reader here, and add it to LAYOUTS in sources.py.
"""

from __future__ import annotations

import codecs
import csv
import functools
import io
import math
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import orjson

from stages.speech.clips import AUDIO_SUFFIXES, RawClip, Rejection
from stages.speech.columns import read_columns
from stages.speech.text import clean

TABLE_SUFFIXES = {".csv", ".tsv", ".jsonl", ".json"}
# The names that tables give to a column, the first that a table has; compared in small letters.
COLUMNS = {
    "audio_path": ("audio_path", "file", "file_name", "audio_filepath", "path"),
    "text": ("text", "sentence", "transcription", "transcript"),
    "language": ("language", "lang", "locale"),
    "speaker": ("speaker", "speaker_id", "client_id"),
}
OPTIONAL_FIELDS = ("language", "speaker", "session", "prompt_id", "recorded_at")
DELIMITERS = ",\t;|"
NEMO_PATH = "audio_filepath"
COMMON_VOICE_MANIFEST, COMMON_VOICE_FOLDER = "validated.tsv", "clips"
KALDI_MANIFEST, KALDI_TO_THE_END = "wav.scp", "-1"
KALDI_FILES = (KALDI_MANIFEST, "text", "utt2spk", "segments")

Item = RawClip | Rejection


def read_jsonl(manifest: Path, source: Path) -> Iterator[Item]:
    """One JSON object a line: `audio_path` (audiofolder: `file_name`, NeMo: `audio_filepath`) and `text`."""
    for line, content in enumerate(manifest.read_bytes().split(b"\n"), 1):
        if not content.strip():
            continue
        try:
            row = orjson.loads(content.removeprefix(codecs.BOM_UTF8))
        except ValueError as error:
            yield unreadable(manifest, source, line, f"fix the JSON: {error}")
            continue
        named = by_our_names(row) if isinstance(row, dict) else {}
        if isinstance(named.get("audio_path"), str) and isinstance(named.get("text"), str):
            yield _clip_of(manifest, source, line, named)
        else:
            remedy = 'write {"audio_path": "...", "text": "..."} with both as strings'
            yield unreadable(manifest, source, line, remedy)


def is_jsonl(manifest: Path) -> bool:
    """Whether the first line of a JSON file of any name is an object with a recording and a text, as in NeMo's."""
    with manifest.open("rb") as file:
        first = file.readline(1_000_000)
    try:
        row = orjson.loads(first.removeprefix(codecs.BOM_UTF8))
    except ValueError:
        return False
    return isinstance(row, dict) and {"audio_path", "text"} <= by_our_names(row).keys()


def read_table(manifest: Path, source: Path) -> Iterator[Item]:
    """`file,text[,speaker,language,...]` with a header, or LJSpeech's `id|text|normalised` with one or without."""
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
        remedy = "begin it with the line file,text (and speaker, language if known), or write LJSpeech's id|text"
        yield unreadable(manifest, source, None, remedy)


def is_table(manifest: Path) -> bool:
    """Whether a CSV or TSV file of any name begins with a header that names recordings and texts."""
    with manifest.open("rb") as file:
        return delimiter_of(_decoded(file.read(100_000), "replace").split("\n", 1)[0]) is not None


def read_common_voice(manifest: Path, source: Path) -> Iterator[Item]:
    """validated.tsv: `path` is a file in clips/, `locale` begins with the language; quotes are plain characters."""
    content = read_text(manifest, source)
    if isinstance(content, Rejection):
        yield content
    elif delimiter_of(content.split("\n", 1)[0]) != "\t":
        remedy = "begin it with Common Voice's line of column names, with path and sentence, separated by tabs"
        yield unreadable(manifest, source, None, remedy)
    else:
        yield from _read_rows(manifest, source, content, "\t", csv.QUOTE_NONE, folder=f"{COMMON_VOICE_FOLDER}/")


def _read_rows(
    manifest: Path, source: Path, content: str, delimiter: str, quoting: int, folder: str = ""
) -> Iterator[Item]:
    lines = io.StringIO(content, newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, skipinitialspace=delimiter != "\t", strict=True)
    try:
        header = names_of(next(reader))
        for cells in reader:
            if not any(cells):
                continue
            named = by_our_names(dict(zip(header, cells, strict=False)))
            if any(cells[len(header) :]) or not {"audio_path", "text"} <= set(named):
                remedy = f"give it the header's {len(header)} columns, quoted if needed"
                yield unreadable(manifest, source, reader.line_num, remedy)
                continue
            if folder:
                language = named.get("locale", "").split("-")[0]
                named |= {"audio_path": folder + named["audio_path"], "language": language}
            yield _clip_of(manifest, source, reader.line_num, named)
    except csv.Error as error:
        remedy = f"close or double the quotes in this row or one above: {error}"
        yield unreadable(manifest, source, reader.line_num, remedy)


def _read_ljspeech(manifest: Path, source: Path, content: str) -> Iterator[Item]:
    """LJSpeech names a recording without its ending, in wavs/ or beside the manifest; a header may name the columns."""
    folder = manifest.parent
    found = [path for place in (folder, folder / "wavs") for path in sorted(place.glob("*")) if is_audio(path)]
    recordings: dict[str, list[str]] = {}
    for path in found:
        recordings.setdefault(path.stem, []).append(path.relative_to(folder).as_posix())
    lines = [(number, line.split("|")) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    rows = [(number, [cell.strip() for cell in cells]) for number, cells in lines]
    first = rows[0][1]
    if first[0] not in recordings and set(names_of(first[1:])) & set(COLUMNS["text"]):
        read = _by_header(rows)
    else:
        read = read_columns(rows, is_first_telling=first[0] in recordings)
    for number, row in read:
        if isinstance(row, str):
            yield unreadable(manifest, source, number, row)
            continue
        for path in recordings.get(row["id"], [f"wavs/{row['id']}.wav"]):
            yield _clip_of(manifest, source, number, row | {"audio_path": path})


def _by_header(rows: list[tuple[int, list[str]]]) -> Iterator[tuple[int, dict | str]]:
    """(line, row or remedy) of a table whose first row names its columns, the first of them being the recording's."""
    header = names_of(rows[0][1])
    for number, cells in rows[1:]:
        row = by_our_names(dict(zip(header, cells, strict=False)))
        if len(cells) > len(header) or "text" not in row:
            yield number, f"give it the header's {len(header)} columns"
        else:
            yield number, {"id": cells[0]} | row


def read_kaldi(scp: Path, source: Path) -> Iterator[Item]:
    """The utterances of `text`, in its order; one without a recording, segment or words is a Rejection.

    wav.scp: recording, path; text: utterance, words; utt2spk and segments if known (kaldi-asr.org/doc/data_prep.html).
    A path is relative to the folder of wav.scp. Kaldi also allows commands there, which are never run.
    """
    folder = scp.parent
    tables: dict[str, dict[str, tuple[int, str]]] = {}
    for name in KALDI_FILES:
        rows = list(_keyed_lines(folder / name, source))
        yield from (row for row in rows if isinstance(row, Rejection))
        tables[name] = {row[1]: (row[0], row[2]) for row in rows if not isinstance(row, Rejection)}
    recordings, texts, speakers, parts = (tables[name] for name in KALDI_FILES)
    if not texts:
        remedy = "write one line for each utterance: ID words"
        yield Rejection(where_in(folder / "text", source), "missing text", remedy)
    paths = {}
    for recording, (line, path) in recordings.items():
        if path.endswith("|"):
            remedy = "commands are never run: write the file's path, of any sound format"
            yield Rejection(where_in(scp, source, line), "shell pipe", remedy)
        else:
            paths[recording] = path
    segments: dict[str, tuple[str, float | None, float | None]] = {name: (name, None, None) for name in recordings}
    has_segments = (folder / "segments").is_file()
    if has_segments:
        segments = {}
        for utterance, (line, value) in parts.items():
            try:
                recording, begins, ends = value.split()
                times = seconds(begins), None if float(ends) == float(KALDI_TO_THE_END) else seconds(ends)
            except ValueError:
                remedy = "write UTTERANCE RECORDING BEGIN END, the times in seconds"
                yield unreadable(folder / "segments", source, line, remedy)
                continue
            if utterance not in texts:
                remedy = f"add a line '{utterance} words' to {source.name}/text"
                yield Rejection(where_in(folder / "segments", source, line), "no transcript", remedy)
            segments[utterance] = (recording, *times)
    for utterance, (line, words) in texts.items():
        where = where_in(folder / "text", source, line)
        if utterance not in segments:
            there = "segments" if has_segments else KALDI_MANIFEST
            yield Rejection(where, "missing audio", f"add {utterance} to {source.name}/{there}, or remove this line")
            continue
        recording, begins_s, ends_s = segments[utterance]
        if recording not in paths:
            yield Rejection(where, "missing audio", f"give {recording} a path in {source.name}/{KALDI_MANIFEST}")
            continue
        row = {"speaker": speakers[utterance][1]} if utterance in speakers else {}
        yield raw_clip(scp, source, paths[recording], words, row, begins_s, ends_s)


def _keyed_lines(path: Path, source: Path) -> Iterator[tuple[int, str, str] | Rejection]:
    """(line, first word, the rest) of each line; a first word that comes twice is a Rejection."""
    content = read_text(path, source) if path.is_file() else ""
    if isinstance(content, Rejection):
        yield content
        return
    seen: set[str] = set()
    for number, line in enumerate(content.split("\n"), 1):
        key, _, value = line.strip().replace("\t", " ").partition(" ")
        if key in seen:
            yield unreadable(path, source, number, f"{key} is in a line above: give each its own name")
        elif key:
            seen.add(key)
            yield number, key, value.strip()


def _clip_of(manifest: Path, source: Path, line: int, row: dict) -> Item:
    try:
        if NEMO_PATH in row:
            begins_s, length_s = seconds(row.get("offset")), seconds(row.get("duration"))
            ends_s = None if length_s is None else round((begins_s or 0.0) + length_s, 3)
        else:
            begins_s, ends_s = seconds(row.get("begins_s")), seconds(row.get("ends_s"))
    except (ValueError, TypeError) as error:
        return unreadable(manifest, source, line, f"write its times in seconds: {error}")
    return raw_clip(manifest, source, row["audio_path"], row["text"], row, begins_s, ends_s)


def by_our_names(row: dict) -> dict:
    """A row with our names beside its own."""
    others = _other_names(tuple(row))
    return row | {ours: row[theirs] for ours, theirs in others if row[theirs] is not None} if others else row


@functools.lru_cache(maxsize=16)  # asked again for each row
def _other_names(columns: tuple[str, ...]) -> list[tuple[str, str]]:
    """(our name, the table's name) of the columns that are named differently."""
    first = {ours: next((name for name in names if name in columns), ours) for ours, names in COLUMNS.items()}
    return [(ours, theirs) for ours, theirs in first.items() if theirs != ours]


def names_of(header: Iterable[str]) -> list[str]:
    return [name.strip(' "\r\n').lower() for name in header]


def delimiter_of(header: str) -> str | None:
    """The character that divides a header into columns, among them recording and text; None if none does."""
    for delimiter in DELIMITERS:
        names = set(names_of(header.split(delimiter)))
        if names & set(COLUMNS["audio_path"]) and names & set(COLUMNS["text"]):
            return delimiter
    return None


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
    return RawClip(name, f"{name}/{audio_path}", text, **optional, begins_s=begins_s, ends_s=ends_s)


def seconds(value: object) -> float | None:
    """A time in a manifest, to the millisecond; None if there is none.

    Raises: ValueError if it is not a number of seconds.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not math.isfinite(time_s := float(value)) or time_s < 0:
        raise ValueError(f"{value!r} is not a time in seconds")
    return round(time_s, 3)


def unreadable(manifest: Path, source: Path, line: int | None, remedy: str) -> Rejection:
    return Rejection(where_in(manifest, source, line), "unreadable row", remedy)


def where_in(manifest: Path, source: Path, line: int | None = None) -> str:
    """A manifest, or one line of it, as rejected.jsonl names it."""
    name = printable(f"{source.name}/{manifest.relative_to(source).as_posix()}")
    return name if line is None else f"{name}:{line}"


@functools.lru_cache(maxsize=16)  # asked again for each row
def _place_of(manifest: Path, source: Path) -> tuple[str, str]:
    """The source's name, and the manifest's folder below it."""
    folder = manifest.parent.relative_to(source).as_posix()
    return source.name, "" if folder == "." else folder


def read_text(path: Path, source: Path) -> str | Rejection:
    """A text file's content, its lines ended by \\n."""
    try:
        return _decoded(path.read_bytes())
    except UnicodeDecodeError as error:
        return unreadable(path, source, None, f"save it as UTF-8: {error.reason}")


def _decoded(content: bytes, errors: str = "strict") -> str:
    """UTF-8, or UTF-16 with a byte order mark, which Excel calls Unicode text."""
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if is_utf16 else "utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def printable(name: str) -> str:
    """A file name that can be written down: bytes that are not UTF-8 are spelled out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()

"""Manifests with a row for each clip: JSON lines (clips.jsonl, NeMo, audiofolder), CSV and TSV, LJSpeech, Common Voice.

A row names its recording relative to the manifest. Rows that cannot be read come back as Rejections.
"""

from __future__ import annotations

import codecs
import csv
import functools
import io
import json
import math
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import orjson

from stages.speech.clips import RawClip, Rejection
from stages.speech.text import clean, normalise

AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64"}
# What telephones, browsers and cameras record: read by FFmpeg.
AUDIO_SUFFIXES |= {".m4a", ".mp4", ".aac", ".webm", ".wma", ".amr", ".3gp", ".mkv", ".mov"}
OPTIONAL_FIELDS = ("language", "speaker", "session", "prompt_id", "recorded_at")
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
# For columns without a name.
LONGEST_NAME = 3  # words
NUMBER = re.compile(r"\d+([.,:]\d+)*( ?(s|sec|ms))?", re.IGNORECASE)  # 3, 1.234, 1,5, 00:00:03.2
NO_NAME = re.compile(r"[a-z]{2}([-_][a-z]{2})?|m|f|male|female", re.IGNORECASE)  # a language or initials, a sex
SPELT_OUT = re.compile(r"[\d%&$€£¥@#+=/*°§]")
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")  # Thai to Han


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
        read = _by_columns(rows, is_first_telling=first[0] in recordings)
    for number, row in read:
        if isinstance(row, str):
            yield Rejection(where_in(manifest, source, number), "unreadable row", row)
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


def _by_columns(rows: list[tuple[int, list[str]]], is_first_telling: bool) -> Iterator[tuple[int | None, dict | str]]:
    """(line or None for the whole table, row or remedy) of a table without a header: id, text, and what may follow.

    is_first_telling: False if the first row may be a header of unknown names, which says nothing about its columns.
    """
    width = max(len(cells) for _, cells in rows)
    telling = [cells + [""] * (width - len(cells)) for _, cells in rows if len(cells) > 1]
    telling = telling if is_first_telling else telling[1:] or telling
    columns = list(zip(*telling, strict=True))
    meanings = {place: meaning_of(columns[1], columns[place]) for place in range(2, width)}
    place_of = {meaning: place for place, meaning in reversed(meanings.items())}  # the first of each
    unclear = [place for place, meaning in meanings.items() if meaning is None]
    speakers = [place for place, meaning in meanings.items() if meaning == "speaker"]
    # Of a column that hardly a row has, these rows are refused alone: most likely a bar in the text.
    often = [place for place in unclear if 10 * sum(map(bool, columns[place])) > len(telling)]
    if refused := often + speakers[1:]:
        yield (
            None,
            f"column {refused[0] + 1} may be a text, a speaker or something else: begin the table with a line that "
            f"names its columns, such as id|text|speaker or id|raw text|text, or remove that column",
        )
        return
    for number, cells in rows:
        values = dict(enumerate(cells))
        written = values.get(place_of.get("text"), "")
        if len(cells) < 2:
            yield number, "write id|text or id|text|normalised text"
        elif strays := [place for place in unclear if values.get(place)]:
            yield number, f"remove the bar before column {strays[0] + 1}, or what follows it: hardly another row has it"
        elif written and _is_stranger(cells[1], written):
            yield number, "its normalised text shares no word with its text: correct it, or leave it empty"
        else:
            speaker = values.get(place_of.get("speaker"))
            yield number, {"id": cells[0], "text": written or cells[1], "speaker": speaker}


def meaning_of(texts: Sequence[str], cells: Sequence[str]) -> str | None:
    """What a column beside the texts holds, decided over all rows: a single cell could be anything.

    Returns: "text" if it is the texts in words (no digits, no abbreviations); "speaker" for a few short names; "unused"
        for paths, for numbers (lengths or speakers: no word is lost), and if it is empty; None if that is not certain,
        and the texts could be the speakers.
    """
    pairs = [(text, cell) for text, cell in zip(texts, cells, strict=True) if cell]
    values = {cell for _, cell in pairs}
    if all(Path(cell).suffix.lower() in AUDIO_SUFFIXES for cell in values):
        return "unused"
    # Longer than names: the speakers are not in the column of the texts, as in id|speaker|text.
    are_sentences = sum(len(text.split()) for text, _ in pairs) > LONGEST_NAME * len(pairs)
    if all(map(NUMBER.fullmatch, values)):
        are_known = are_sentences or not all(map(str.isdigit, values)) or all(text == cell for text, cell in pairs)
        return "unused" if are_known else None
    if are_sentences and 2 * len(values) <= len(pairs) and all(map(_is_name, values)):
        in_text = sum(not set(_words(cell)).isdisjoint(_words(text)) for text, cell in pairs)
        if 10 * in_text <= len(pairs):
            return "speaker"
    return "text" if _are_written_out(pairs) else None


def _is_name(cell: str) -> bool:
    is_short = len(cell.split()) <= LONGEST_NAME and len(cell) <= 40
    return is_short and any(map(str.isalpha, cell)) and not NO_NAME.fullmatch(cell)


def _are_written_out(pairs: list[tuple[str, str]]) -> bool:
    """Whether most words of the texts are in their cells, and what else is in these stands for the others."""
    plain = kept = new = spelt = strangers = 0
    for text, cell in pairs:
        ours, theirs = _words(text), _words(cell)
        if ours == theirs:  # as in most rows of LJSpeech
            plain += len(ours)
            kept += len(ours)
            continue
        no_numbers = [word for word in ours if not re.search(r"\d", word)]
        plain += len(no_numbers)
        kept += (Counter(no_numbers) & Counter(theirs)).total()
        new += (Counter(theirs) - Counter(ours)).total()
        spelt += len(SPELT_OUT.findall(text))
        strangers += _is_stranger(text, cell)
    changed = plain - kept
    return (
        kept >= 0.75 * plain > 0
        and 0.5 * changed <= new <= 4 * (changed + spelt) + 0.05 * plain  # 1455: fourteen hundred and fifty-five
        and 10 * strangers <= len(pairs)
    )


def _is_stranger(text: str, cell: str) -> bool:
    """Whether a text has words, and a cell none of them."""
    plain = [word for word in _words(text) if not re.search(r"\d", word)]
    return bool(plain) and set(plain).isdisjoint(_words(cell))


def _words(text: str) -> list[str]:
    """Compared by: words, and the characters of scripts that leave no space between words."""
    return UNSPACED.sub(r" \g<0> ", normalise(text)).split()


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

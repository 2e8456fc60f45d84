"""Tables with a row for each clip: JSON lines (clips.jsonl, NeMo, audiofolder), CSV and TSV, Common Voice, LJSpeech.

`read` gives a RawClip or a Rejection for each row. To add a form: a function from a file's content to (line, row or
remedy), chosen in `read`, and its pattern in LAYOUTS of sources.py.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import posixpath
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import orjson

from stages.speech.clips import AUDIO_SUFFIXES, RawClip, Rejection
from stages.speech.text import UNSPACED, clean, normalise

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
COMMON_VOICE = {"client_id", "path", "sentence"}  # columns by which it is known
NO_NAME = re.compile(r"[a-z]{2}([-_][a-z]{2})?|m|f|male|female", re.IGNORECASE)  # a language or initials, a sex

Item = RawClip | Rejection
Row = tuple[int | None, dict | str]  # line (None: the whole table), and what is in it, or what to do about it


def read(manifest: Path, source: Path) -> Iterator[Item]:
    """The rows of a table below the source's folder, each a RawClip or a Rejection."""
    if _is_json(manifest):
        rows = _json_rows(manifest.read_bytes())
    elif isinstance(content := read_text(manifest, source), Rejection):
        yield content
        return
    else:
        rows = _table_rows(content)
    folder = manifest.parent.relative_to(source).as_posix()
    for line, row in rows:
        if isinstance(row, str):
            yield unreadable(manifest, source, line, row)
            continue
        try:
            begins_s, ends_s = _times_of(row)
        except (ValueError, TypeError) as error:
            yield unreadable(manifest, source, line, f"write its times in seconds: {error}")
            continue
        path = row["audio_path"].strip()
        yield raw_clip(source, path if folder == "." else posixpath.join(folder, path), row, begins_s, ends_s)


def is_table(path: Path) -> bool:
    """Whether a CSV, TSV or JSON file of any name begins with a line that names recordings and texts."""
    with path.open("rb") as file:
        begin = file.read(1_000_000)
    if _is_json(path):
        return any(isinstance(row, dict) for _, row in _json_rows(begin.split(b"\n", 1)[0]))
    return delimiter_of(_decoded(begin, "replace").split("\n", 1)[0]) is not None


def _is_json(path: Path) -> bool:
    return path.suffix.lower().startswith(".json")


def _json_rows(content: bytes) -> Iterator[Row]:
    """One JSON object a line: `audio_path` (audiofolder: `file_name`, NeMo: `audio_filepath`) and `text`."""
    for line, written in enumerate(content.split(b"\n"), 1):
        if not written.strip():
            continue
        try:
            row = orjson.loads(written.removeprefix(codecs.BOM_UTF8))
        except ValueError as error:
            yield line, f"fix the JSON: {error}"
            continue
        row = by_our_names(row) if isinstance(row, dict) else {}
        is_one = isinstance(row.get("audio_path"), str) and isinstance(row.get("text"), str)
        yield line, row if is_one else 'write {"audio_path": "...", "text": "..."} with both as strings'


def _table_rows(content: str) -> Iterator[Row]:
    """`file,text[,speaker,language,...]` with a header, or LJSpeech's `id|text|normalised` with one or without."""
    first = content.split("\n", 1)[0]
    if delimiter := delimiter_of(first):
        is_plain = delimiter == "\t" and COMMON_VOICE.issubset(names_of(first.split("\t")))
        yield from _rows_below_header(content, delimiter, csv.QUOTE_NONE if is_plain else csv.QUOTE_MINIMAL)
    elif set(names_of(first.split("|")[1:])) & set(COLUMNS["text"]):
        yield from _rows_below_header("audio_path" + content[content.index("|") :], "|", csv.QUOTE_NONE)
    elif "|" in first:
        yield from _rows_without_header(content)
    else:
        yield None, "begin it with the line file,text (and speaker, language if known), or write LJSpeech's id|text"


def _rows_below_header(content: str, delimiter: str, quoting: int) -> Iterator[Row]:
    lines = io.StringIO(content, newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, skipinitialspace=delimiter != "\t", strict=True)
    try:
        header = names_of(next(reader))
        for cells in reader:
            if any(cells):
                row = by_our_names(dict(zip(header, cells, strict=False)))
                is_whole = not any(cells[len(header) :]) and {"audio_path", "text"} <= set(row)
                remedy = f"give it the header's {len(header)} columns, quoted if needed"
                yield reader.line_num, row if is_whole else remedy
    except csv.Error as error:
        yield reader.line_num, f"close or double the quotes in this row or one above: {error}"


def _rows_without_header(content: str) -> Iterator[Row]:
    """LJSpeech: a recording without its ending, its text, and perhaps the text in words, which is then used.

    What further columns hold is decided over all rows: a single cell could be anything.
    """
    lines = [(number, line) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    rows = [(number, [cell.strip() for cell in line.split("|")]) for number, line in lines]
    width = statistics.mode(len(cells) for _, cells in rows)
    columns: dict[str | None, list[int]] = {"text": [], "speaker": [], "unused": [], None: []}
    for column in range(2, width):
        pairs = [(cells[1], cells[column]) for _, cells in rows if len(cells) > column and cells[column]]
        columns[_meaning_of(pairs)].append(column)
    if unclear := columns[None]:
        yield (
            None,
            f"column {unclear[0] + 1} may be a text, a speaker or something else: begin the table with a line that "
            f"names its columns, such as id|text|speaker or id|raw text|text, or remove that column",
        )
        return
    written = columns["text"][0] if columns["text"] else None
    speaker = columns["speaker"][0] if len(columns["speaker"]) == 1 else None
    for number, cells in rows:
        values = dict(enumerate(cells))
        in_words = values.get(written)
        if len(cells) < 2:
            yield number, "write id|text or id|text|normalised text"
        elif len(cells) > width:
            yield number, f"remove the bar before column {width + 1}, or what follows it: most rows have no such column"
        elif in_words and _is_other(cells[1], in_words):
            yield number, "its normalised text shares no word with its text: correct it, or leave it empty"
        else:
            yield number, {"audio_path": cells[0], "text": in_words or cells[1], "speaker": values.get(speaker)}


def _meaning_of(pairs: list[tuple[str, str]]) -> str | None:
    """What a column holds, from its (text, cell) pairs.

    Returns: "text" if it is the texts in words; "speaker" for short names that come again; "unused" for numbers, paths
        and other short cells; None if that is not certain, and the texts could be the names.
    """
    texts, cells = ([_words(one) for one in column] for column in zip(*pairs, strict=True)) if pairs else ([], [])
    plain = [[word for word in text if not _has_digit(word)] for text in texts]
    kept = sum((Counter(text) & Counter(cell)).total() for text, cell in zip(plain, cells, strict=True))
    in_texts, in_cells = sum(map(len, texts)), sum(map(len, cells))
    if kept >= 0.75 * sum(map(len, plain)) > 0 and in_cells <= 2 * in_texts:  # 1455: fourteen hundred and fifty-five
        return "text"
    names = {cell for _, cell in pairs}
    # Texts that come again more often than the cells may be names, or describe the recordings.
    are_sentences = in_texts > 3 * len(pairs) and len({text for text, _ in pairs}) >= len(names)
    if not any(map(str.isalpha, "".join(names))):
        is_said = not are_sentences and all(map(str.isdigit, names))
        return None if is_said and any(text != cell for text, cell in pairs) else "unused"
    if all(Path(name).suffix.lower() in AUDIO_SUFFIXES for name in names):
        return "unused"
    if are_sentences and 2 * in_cells <= in_texts:
        is_speaker = 2 * len(names) <= len(pairs) and not any(map(NO_NAME.fullmatch, names))
        return "speaker" if is_speaker else "unused"
    return None


def _is_other(text: str, cell: str) -> bool:
    """Whether a text has words, and a cell none of them."""
    plain = {word for word in _words(text) if not _has_digit(word)}
    return bool(plain) and plain.isdisjoint(_words(cell))


def _has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


def _words(text: str) -> list[str]:
    """Compared by: words, and the characters of scripts that leave no space between words."""
    return UNSPACED.sub(r" \g<0> ", normalise(text)).split()


def _times_of(row: dict) -> tuple[float | None, float | None]:
    """Raises: ValueError, TypeError."""
    if NEMO_PATH not in row:
        return seconds(row.get("begins_s")), seconds(row.get("ends_s"))
    begins_s, length_s = seconds(row.get("offset")), seconds(row.get("duration"))
    return begins_s, None if length_s is None else round((begins_s or 0.0) + length_s, 3)


def by_our_names(row: dict) -> dict:
    """A row with our names beside its own."""
    named = dict(row)
    for ours, names in COLUMNS.items():
        theirs = next((name for name in names if name in row), ours)
        if theirs != ours and row[theirs] is not None:
            named[ours] = row[theirs]
    return named


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
    source: Path, name: str, row: Mapping, begins_s: float | None = None, ends_s: float | None = None
) -> RawClip:
    """A clip from a row; `name` is the recording's path below the source's folder."""
    optional = {field: clean(str(row[field])) or None for field in OPTIONAL_FIELDS if row.get(field) is not None}
    if "language" in optional:
        optional["language"] = (optional["language"] or "").split("-")[0] or None  # Common Voice: zh-CN
    if begins_s is not None or ends_s is not None:
        begins_s = begins_s or 0.0
    return RawClip(source.name, f"{source.name}/{name}", row["text"], **optional, begins_s=begins_s, ends_s=ends_s)


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

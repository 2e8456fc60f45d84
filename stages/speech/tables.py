"""Tables with a row for each clip: JSON, JSON lines, CSV and TSV of all tools, with a header or without one.

`read` gives each row under our names (columns.py), or what to do about it. To add a form: a function from a file's
content to rows, chosen in `read`.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from stages.speech.clips import Rejection
from stages.speech.columns import COLUMNS, by_our_names, is_other, meaning_of, names_of
from stages.speech.transcripts import LFS_POINTER

TABLE_SUFFIXES = {".csv", ".tsv", ".tab", ".psv", ".list", ".jsonl", ".ndjson", ".json"}
# Sheets and databases: not read, but named, with what to do.
PACKED = {".gz", ".bz2", ".xz", ".zip", ".7z", ".rar", ".tar"}
OTHER_TABLES = {".xls", ".xlsx", ".xlsm", ".ods", ".numbers", ".parquet", ".arrow", ".feather", ".sqlite", *PACKED}
DELIMITERS = ",\t;|"
NEMO_PATH = "audio_filepath"
# Other tools' names for begins_s and ends_s, in seconds if they have a point.
TIMES_OF_OTHERS = (("start", "end"), ("begin", "end"), ("start_time", "end_time"), ("start_s", "end_s"))
TIMES_OF_OTHERS += (("start_sec", "end_sec"), ("onset", "offset"), ("start_ms", "end_ms"))
SEPARATOR = re.compile(r'"?sep=(.)"?[,;\t]*', re.IGNORECASE)  # a first line by which Excel knows the delimiter
WIDEST = 5  # columns without names, among which the recording's is looked for
LONGEST_CELL = 50  # lines: a quotation mark that nobody closes must not be looked for up to the table's end
# Letters and signs that are the same bytes in cp1250, cp1252, cp1254 and cp1257.
WESTERN = re.compile("[A-Za-zäöüßéóÄÖÜÉÓ]+")
WESTERN_SIGNS = "€‚„…‘’“”–—™\xa0§°«»·"

Row = tuple[int, dict | str]  # line, and what is in it, or what to do about it
Cells = tuple[int, list[str]]  # line, and what is between its delimiters
Finds = Callable[[str], bool]  # whether a cell names a recording of the source


class NotATable(Exception):
    """Why a file is not read as a table, to be continued: 'it was not read, because ...'."""


def read(path: Path, finds: Finds, note: Callable[[str], None] = lambda words: None) -> list[Row]:
    """The rows of a table. note: gets what is said about a table whose columns were told by their cells.

    Raises: NotATable.
    """
    suffix = path.suffix.lower()
    if suffix in PACKED:
        raise NotATable("it is packed: unpack it here")
    if suffix in OTHER_TABLES:
        raise NotATable("only text can be read: save it as CSV")
    content = path.read_bytes()
    if content.startswith(LFS_POINTER.encode()):
        raise NotATable("it is a pointer of Git LFS: run 'git lfs pull' where it came from")
    if suffix in (".json", ".jsonl", ".ndjson"):
        return _json_rows(content, finds)
    try:
        text = decoded(content)
    except UnicodeDecodeError as error:
        text = content.decode("utf-8-sig", "surrogateescape")
        broken, others = [], []
        for line in text.splitlines():
            if not line.isascii():
                (broken if any("\udc80" <= char <= "\udcff" for char in line) else others).append(line)
        # A few damaged lines of UTF-8 cost themselves alone (wrong_letters).
        if len(broken) > len(others):
            raise NotATable(f"its encoding is not certain ({error.reason}): save it as CSV in UTF-8") from None
    return list(_table_rows(text.split("\n"), finds, note))


def _json_rows(content: bytes, finds: Finds) -> list[Row]:
    """One object a line, a list of objects, or one object with such a list, or with recordings and their texts."""
    try:
        whole = orjson.loads(decoded(content))
    except (ValueError, UnicodeDecodeError):
        rows: list[Row] = []
        for line, written in enumerate(_lines_of(content), 1):
            if written.strip():
                try:
                    rows.append((line, orjson.loads(written.removeprefix(codecs.BOM_UTF8))))
                except ValueError as error:
                    rows.append((line, f"fix the JSON: {error}"))
        if not any(isinstance(row, dict) for _, row in rows):
            raise NotATable("it is not JSON with an object for each recording") from None
    else:
        if isinstance(whole, dict):
            lists = [value for value in whole.values() if isinstance(value, list) and _has_objects(value)]
            if _is_row(by_our_names(whole)):
                whole = [whole]
            elif len(lists) == 1:
                whole = lists[0]
            elif named := [key for key in whole if finds(key)]:
                whole = [
                    {"audio_path": name, **(value if isinstance(value, dict) else {"text": value})}
                    for name, value in whole.items()
                    if name in named
                ]
        if not isinstance(whole, list):
            raise NotATable("it is not JSON with an object for each recording")
        rows = list(enumerate(whole, 1))
    form = '{"audio_path": "...", "text": "..."}'
    named = [(line, row if isinstance(row, str) else _flat(row) if isinstance(row, dict) else {}) for line, row in rows]
    if not any(isinstance(row, dict) and _is_row(row) for _, row in named):
        raise NotATable(f"none of its objects is like {form}")
    remedy = f"write {form} with both as strings"
    return [(line, row if isinstance(row, str) or _is_row(row) else remedy) for line, row in named]


def _lines_of(content: bytes) -> list[bytes]:
    """Lines in UTF-8; those that cannot be decoded cost themselves alone."""
    try:
        return decoded(content).encode("utf-8", "surrogatepass").split(b"\n")
    except UnicodeDecodeError:
        return content.split(b"\n")


def _has_objects(values: list) -> bool:
    return any(isinstance(value, dict) and _is_row(_flat(value)) for value in values)


def _flat(row: dict) -> dict:
    """A JSON object under our names, also with its path one level down, as `datasets` writes it."""
    row = by_our_names(dict(zip(names_of(tuple(map(str, row))), row.values(), strict=True)))
    sound = row.get("audio_path")
    return row | {"audio_path": sound["path"]} if isinstance(sound, dict) and "path" in sound else row


def _is_row(row: dict) -> bool:
    return isinstance(row.get("audio_path"), str) and isinstance(row.get("text"), str)


def _table_rows(lines: list[str], finds: Finds, note: Callable[[str], None]) -> Iterator[Row]:
    """Rows with a header, or without one as LJSpeech has them."""
    first = next((number for number, line in enumerate(lines) if not _is_empty(line)), len(lines))
    delimiters = DELIMITERS
    if first < len(lines) and (found := SEPARATOR.fullmatch(lines[first].strip("\ufeff "))):
        delimiters = found[1]
        first = next((n for n, line in enumerate(lines[first + 1 :], first + 1) if not _is_empty(line)), len(lines))
    if first == len(lines):
        raise NotATable("it is empty")
    for delimiter in delimiters:
        header = names_of(tuple(_cells(lines[first], delimiter) or ()))
        if len(header) > 1 and set(header) & set(COLUMNS["text"]):
            rows = list(_records(lines, first + 1, delimiter, finds, len(header)))
            audio = _audio_column(header, delimiter, [cells for _, cells in rows if cells], finds)
            if audio is not None and not finds(_cells(lines[first], delimiter)[audio]):
                yield from _rows_below_header(header, audio, rows)
                return
    for delimiter in delimiters:
        rows = [(number, cells or []) for number, cells in _records(lines, first, delimiter, finds)]
        named = Counter(n for _, cells in rows for n, cell in enumerate(cells[:WIDEST]) if finds(cell))
        column, count = max(named.items(), key=lambda one: one[1], default=(0, 0))
        if 2 * count >= len(rows):
            yield from _rows_without_header(_names_first(rows, column), finds, note)
            return
    if "|" in lines[first]:  # LJSpeech, without its recordings
        rows = [(number, cells or []) for number, cells in _records(lines, first, "|", finds)]
        yield from _rows_without_header(rows, finds, note)
        return
    words = [(number, line.split(maxsplit=1)) for number, line in enumerate(lines, 1) if not _is_empty(line)]
    if all(len(pair) == 2 and finds(pair[0]) for _, pair in words):  # LibriSpeech, Kaldi
        yield from ((number, {"audio_path": name, "text": text}) for number, (name, text) in words)
        return
    raise NotATable("its first line must name the columns, file and text")


def _names_first(rows: list[Cells], column: int) -> list[Cells]:
    """Rows with the column that names recordings at the beginning, without a numbering before it."""
    is_number = [all(n >= len(cells) or cells[n].strip().isdigit() for _, cells in rows) for n in range(column)]
    before = [n for n in range(column) if not is_number[n]]
    return [
        (number, [*cells[column : column + 1], *(cells[n] for n in before if n < len(cells)), *cells[column + 1 :]])
        for number, cells in rows
    ]


def _audio_column(header: list[str], delimiter: str, rows: list[list[str]], finds: Finds) -> int | None:
    """The column that names recordings: of those with a known name, else of all, the one that finds most."""
    known = [header.index(name) for name in COLUMNS["audio_path"] if name in header]
    if len(known) == 1:
        return known[0]
    found = {
        column: sum(column < len(cells) and finds(cells[column]) for cells in rows)
        for column in known or [number for number, name in enumerate(header) if name not in COLUMNS["text"]]
    }
    best = max(found, key=found.__getitem__, default=None)
    if known:
        return best
    if best is not None and 2 * found[best] >= len(rows) > 0:
        return best
    return 0 if delimiter == "|" and header[0] not in COLUMNS["text"] else None  # id|text: LJSpeech with a header


def _rows_below_header(header: list[str], audio: int, rows: list[tuple[int, list[str] | None]]) -> Iterator[Row]:
    for line, cells in rows:
        if cells is None:
            yield line, "close or double the quotes in this row"
            continue
        row = by_our_names(dict(zip(header, cells, strict=False)))
        is_whole = not any(cells[len(header) :]) and len(cells) > audio and "text" in row
        if is_whole:
            row["audio_path"] = cells[audio]
        yield line, row if is_whole else f"give it the header's {len(header)} columns, quoted if needed"


def _records(
    lines: list[str], first: int, delimiter: str, finds: Finds, width: int | None = None
) -> Iterator[tuple[int, list[str] | None]]:
    """The cells of each row from a line on, with its last line; None if its quotes cannot be understood.

    Quotation marks enclose a cell, which may then hold delimiters and line ends; or they are part of the text. What
    they mean is decided for each row by itself: a wrong one must never take the following rows with it.
    """

    def fits(cells: list[str] | None) -> bool:
        return cells is not None and (len(cells) == width if width else len(cells) > 1)

    number = first
    while number < len(lines):
        line, begin = lines[number], number
        number += 1
        if _is_empty(line):
            continue
        cells = _cells(line, delimiter)
        is_unclear = False
        if cells is None:  # quoted over several lines?
            for end in range(number, min(number + LONGEST_CELL, len(lines))):
                if fits(plain := _plain(lines[end], delimiter)) and any(map(finds, plain)):
                    break  # a row of its own
                if fits(joined := _cells("\n".join(lines[begin : end + 1]), delimiter)):
                    is_unclear = any(fits(_plain(inside, delimiter)) for inside in lines[number : end + 1])
                    if not is_unclear:
                        cells, number = joined, end + 1
                    break
        if '"' in line and not fits(cells) and not is_unclear:
            forms = [_plain(line, delimiter), _cells(line, delimiter, escapechar="\\"), _cells(line, delimiter, False)]
            cells = next(filter(fits, forms), cells)
        yield number, cells


def _plain(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in line.split(delimiter)]


def _cells(line: str, delimiter: str, strict: bool = True, escapechar: str | None = None) -> list[str] | None:
    """Cells by the rules of CSV; None if the quotes break them."""
    if '"' not in line:
        return [cell if delimiter == "\t" else cell.lstrip(" ") for cell in line.split(delimiter)]
    options = {"skipinitialspace": delimiter != "\t", "strict": strict, "escapechar": escapechar}
    try:
        rows = list(csv.reader(io.StringIO(line, newline="\n"), delimiter=delimiter, **options))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _is_empty(line: str) -> bool:
    return not line.strip(' ,;|\t"\ufeff')


def _rows_without_header(rows: list[Cells], finds: Finds, note: Callable[[str], None]) -> Iterator[Row]:
    """LJSpeech: a recording without its ending, its text, and perhaps the text in words, which is then used.

    What further columns hold is decided over all rows: a single cell could be anything.
    """
    stripped = [(number, [cell.strip() for cell in cells]) for number, cells in rows]
    width = statistics.mode(len(cells) for _, cells in stripped)
    columns: dict[str | None, list[int]] = {"text": [], "speaker": [], "unused": [], None: []}
    for column in range(2, width):
        pairs = [(cells[1], cells[column]) for _, cells in stripped if len(cells) > column and cells[column]]
        columns[meaning_of(pairs)].append(column)
    if unclear := columns[None]:
        raise NotATable(
            f"column {unclear[0] + 1} may be a text, a speaker or something else: begin the table with a line that "
            f"names its columns, such as id|text|speaker or id|raw text|text, or remove that column"
        )
    written = columns["text"][0] if columns["text"] else None
    # A first row that names no recording may be a header of other names.
    is_row = any(map(finds, stripped[0][1][:1]))
    texts = [cells[1] for _, cells in stripped[not is_row :] if len(cells) > 1]
    if texts and written is None and not any(map(str.isalpha, "".join(texts))):
        raise NotATable(
            "its second column holds numbers alone, which may be lengths: begin it with the line file,text if they are "
            "what was said"
        )
    speaker = columns["speaker"][0] if len(columns["speaker"]) == 1 else None
    if width > 2:
        used = {0: "the recording", speaker: "the speaker", 1: "the text", written: "the text in words, which is used"}
        note(", ".join(f"column {number + 1} is {used.get(number, 'not read')}" for number in range(width)))
    for number, cells in stripped:
        values = dict(enumerate(cells))
        in_words = values.get(written)
        if len(cells) < 2:
            yield number, "write id|text or id|text|normalised text"
        elif any(cells[width:]):
            yield number, f"remove the bar before column {width + 1}, or what follows it: most rows have no such column"
        elif in_words and is_other(cells[1], in_words):
            yield number, "its normalised text shares no word with its text: correct it, or leave it empty"
        else:
            yield number, {"audio_path": cells[0], "text": in_words or cells[1], "speaker": values.get(speaker)}


def times_of(row: dict) -> tuple[float | None, float | None]:
    """Raises: ValueError, TypeError."""
    if NEMO_PATH not in row:
        for begin, end in TIMES_OF_OTHERS:
            is_given = row.get(begin) not in (None, "") and row.get(end) not in (None, "")  # 0.0 is a time
            if "begins_s" not in row and "ends_s" not in row and is_given:
                if begin == "start_ms":
                    return seconds(float(row[begin]) / 1000), seconds(float(row[end]) / 1000)
                if not {".", ","} & set(f"{row[begin]}{row[end]}"):
                    raise ValueError(f"{begin} and {end} may be in milliseconds: call them begins_s and ends_s")
                return seconds(row[begin]), seconds(row[end])
        return seconds(row.get("begins_s")), seconds(row.get("ends_s"))
    begins_s, length_s = seconds(row.get("offset")), seconds(row.get("duration"))
    return begins_s, None if length_s is None else round((begins_s or 0.0) + length_s, 3)


def seconds(value: object) -> float | None:
    """A time in a manifest, to the millisecond; None if there is none.

    Raises: ValueError if it is not a number of seconds.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not math.isfinite(time_s := float(str(value).replace(",", "."))) or time_s < 0:
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
        return decoded(path.read_bytes())
    except UnicodeDecodeError as error:
        return unreadable(path, source, None, f"save it as UTF-8: {error.reason}")


def decoded(content: bytes) -> str:
    """UTF-8; UTF-16, which Excel calls Unicode text; cp1252 if no other encoding of Latin letters says the same.

    Raises: UnicodeDecodeError.
    """
    if content.startswith(codecs.BOM_UTF32_LE):
        text = content.decode("utf-32")
    elif content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16")
    elif content[1:2] == b"\0" and content[::2].count(0) * 8 < len(content) < content[1::2].count(0) * 4:
        text = content.decode("utf-16-le")
    elif content[:1] == b"\0" and content[1::2].count(0) * 8 < len(content) < content[::2].count(0) * 4:
        text = content.decode("utf-16-be")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252")
            words = [word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]
            signs = {char for char in text if not char.isascii() and not char.isalpha()}
            is_certain = all(WESTERN.fullmatch(word) and re.search("[A-Za-z]", word) for word in words)
            if not is_certain or not signs <= set(WESTERN_SIGNS):
                raise
    return text.replace("\r\n", "\n").replace("\r", "\n")


def wrong_letters(text: str) -> str | None:
    """Letters that no keyboard writes: of a damaged file, or of one that was read in another encoding before."""
    if text.isascii():
        return None
    for char in text:
        if char == "\ufffd" or unicodedata.category(char) in ("Co", "Cn", "Cs"):
            return f"\\u{ord(char):04x}"
    try:
        once = text.encode("cp1252").decode("utf-8")
    except ValueError:
        return None
    return f"{text[:40]!r}, which was {once[:40]!r}"


def printable(name: str) -> str:
    """A file name that can be written down: bytes that are not UTF-8 are spelled out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

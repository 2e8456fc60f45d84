"""A source's tables without the rows of some recordings, in every layout that is read; other rows byte for byte."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from stages.speech import tables
from stages.speech.clips import RawClip
from stages.speech.sources import names_in

TABLES = (".jsonl", ".json", ".csv", ".tsv")
COMMON_VOICE_CLIP = "clip"  # what clip_durations.tsv calls the path
# What Kaldi's tools write: a line for each recording, utterance or speaker.
KALDI_TABLE = re.compile(r"text|segments|\w+2\w+|\w+\.scp")
KALDI_LAST = ("segments", tables.KALDI_MANIFEST)  # killed before these, the next run can still tell whose the lines are


def clips_beside(source: Path) -> Iterator[RawClip]:
    """What Common Voice's other tables name, which no stage reads: recordings that were refused, or not checked yet."""
    if (source / tables.COMMON_VOICE_MANIFEST).is_file():
        for path in sorted(source.glob("*.tsv")):
            if path.name != tables.COMMON_VOICE_MANIFEST and tables.is_table(path):
                yield from (item for item in tables.read_common_voice(path, source) if isinstance(item, RawClip))


def tables_without(source: Path, gone: set[str]) -> Iterator[tuple[Path, bytes]]:
    """(file, what stays of it) for each table of a source, whether it is read as its manifest or lies beside it.

    `gone`: recordings, as normal paths below the source's folder. Where no row is left, nothing stays.
    """
    if (source / tables.KALDI_MANIFEST).is_file():
        yield from _kaldi_without(source, gone)
    is_common_voice = (source / tables.COMMON_VOICE_MANIFEST).is_file()
    for path in map(source.joinpath, names_in(source)):
        if path.suffix not in TABLES or not path.is_file():
            continue
        content, place = path.read_bytes(), path.parent.relative_to(source)
        first = content.split(b"\n", 1)[0].decode("utf-8-sig", "replace")
        if path.suffix in (".jsonl", ".json"):
            yield path, json_lines_without(content, lambda row, place=place: _recording_of(row, place) in gone)
        elif is_common_voice and path.suffix == ".tsv":
            kept = _table_without(content, "\t", csv.QUOTE_NONE, place / tables.COMMON_VOICE_FOLDER, gone)
            yield path, kept or content[: content.find(b"\n") + 1]  # without validated.tsv the others mean nothing
        elif delimiter := tables.delimiter_of(first):
            yield path, _table_without(content, delimiter, csv.QUOTE_MINIMAL, place, gone)
        elif "|" in first:
            yield path, _ljspeech_without(content, gone)


def json_lines_without(content: bytes, is_gone: Callable[[dict], bool]) -> bytes:
    """JSON lines without some."""
    kept = []
    for line in re.findall(rb"[^\n]*\n|[^\n]+\Z", content):
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except ValueError:
            row = None
        if not (isinstance(row, dict) and is_gone(row)):
            kept.append(line)
    return b"".join(kept)


def _recording_of(row: dict, place: Path) -> str:
    """The recording that a row of a table in the folder `place` names, the folder itself where it names none."""
    named = tables.by_our_names(row)
    return os.path.normpath(place / str(named.get("audio_path", named.get(COMMON_VOICE_CLIP, ""))).strip())


def _table_without(content: bytes, delimiter: str, quoting: int, place: Path, gone: set[str]) -> bytes:
    """A table with a header, whose cells may hold line ends."""
    mark, lines = _lines_of(content)
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, skipinitialspace=delimiter != "\t")
    header = tables.names_of(next(reader, []))
    kept, began = lines[: reader.line_num], reader.line_num
    for cells in reader:
        span, began = lines[began : reader.line_num], reader.line_num
        if _recording_of(dict(zip(header, cells, strict=False)), place) not in gone:
            kept += span
    return _joined(content, mark, lines, kept, header_lines=1)


def _ljspeech_without(content: bytes, gone: set[str]) -> bytes:
    """No header, and the recording without folder and ending before the first bar."""
    names = {Path(path).stem for path in gone}
    mark, lines = _lines_of(content)
    return _joined(content, mark, lines, [line for line in lines if line.split("|")[0].strip() not in names])


def _kaldi_without(source: Path, gone: set[str]) -> Iterator[tuple[Path, bytes]]:
    """Without lines for these recordings, for their utterances, and for speakers who said nothing else."""
    recordings = {key for key, path in _keyed(source / tables.KALDI_MANIFEST) if os.path.normpath(path) in gone}
    utterances = recordings
    if (source / "segments").is_file():
        utterances = {key for key, part in _keyed(source / "segments") if recordings.intersection(part.split()[:1])}
    speakers = _keyed(source / "utt2spk")
    others = {speaker for utterance, speaker in speakers if utterance not in utterances}
    silent = {speaker for utterance, speaker in speakers if utterance in utterances} - others
    named = re.compile(rf"\s({'|'.join(map(re.escape, sorted(utterances)))})(?!\S)") if utterances else None
    names = [path.name for path in source.iterdir() if KALDI_TABLE.fullmatch(path.name) and path.is_file()]
    for name in sorted(names, key=lambda name: (KALDI_LAST.index(name) if name in KALDI_LAST else -1, name)):
        content = (source / name).read_bytes()
        mark, lines = _lines_of(content)
        about_recordings = name.startswith("reco2") or name == tables.KALDI_MANIFEST
        keys = silent if name.startswith("spk2") else recordings if about_recordings else utterances
        kept = [line for line in lines if not keys.intersection(line.split()[:1])]
        if name == "spk2utt" and named:
            kept = [named.sub("", line) for line in kept]
        yield source / name, _joined(content, mark, lines, kept)


def _keyed(path: Path) -> list[tuple[str, str]]:
    """(first word, the rest) of each line of a file of Kaldi's, none where it is not there."""
    lines = _lines_of(path.read_bytes())[1] if path.is_file() else []
    rows = (line.strip().replace("\t", " ").partition(" ") for line in lines)
    return [(key, value.strip()) for key, _, value in rows]


def _lines_of(content: bytes) -> tuple[bytes, list[str]]:
    """The byte order mark, if there is one, and the lines; bytes that are no UTF-8 go through unchanged."""
    text = content.removeprefix(codecs.BOM_UTF8)
    lines = io.StringIO(text.decode("utf-8", "surrogateescape"), newline="")
    return content[: len(content) - len(text)], list(lines)


def _joined(content: bytes, mark: bytes, lines: list[str], kept: list[str], header_lines: int = 0) -> bytes:
    """A table of which these lines are kept; nothing where they are the header's alone."""
    if kept == lines:
        return content
    if not any(line.strip() for line in kept[header_lines:]):
        return b""
    return mark + "".join(kept).encode("utf-8", "surrogateescape")

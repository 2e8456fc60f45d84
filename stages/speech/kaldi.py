"""Kaldi's data folder: wav.scp (recording, path), text (utterance, words), and where known utt2spk and segments.

Format: kaldi-asr.org/doc/data_prep.html. A path is relative to the folder of wav.scp. Kaldi also takes commands there;
here none is ever run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stages.speech.clips import RawClip, Rejection
from stages.speech.tables import raw_clip, read_text, seconds, where_in

MANIFEST = "wav.scp"
TO_THE_END = "-1"


def read(scp: Path, source: Path) -> Iterator[RawClip | Rejection]:
    """The utterances of `text`, in its order; each that lacks a recording, a segment or its words is a Rejection."""
    folder = scp.parent
    tables: dict[str, dict[str, tuple[int, str]]] = {}
    for name in (MANIFEST, "text", "utt2spk", "segments"):
        rows: dict[str, tuple[int, str]] = {}
        for item in _read_rows(folder / name, source):
            if isinstance(item, Rejection):
                yield item
            else:
                line, key, value = item
                rows[key] = (line, value)
        tables[name] = rows
    recordings, texts, speakers = tables[MANIFEST], tables["text"], tables["utt2spk"]
    if not texts:
        yield Rejection(
            where_in(folder / "text", source), "missing text", "write one line for each utterance: ID words"
        )
    paths = {}
    for recording, (line, path) in recordings.items():
        if path.endswith("|"):
            remedy = "a command is never run: write the file's path alone, sound of any format is read"
            yield Rejection(where_in(scp, source, line), "shell pipe", remedy)
        else:
            paths[recording] = path
    segments: dict[str, tuple[str, float | None, float | None]] = {name: (name, None, None) for name in recordings}
    if (folder / "segments").is_file():
        segments = {}
        for utterance, (line, value) in tables["segments"].items():
            where = where_in(folder / "segments", source, line)
            try:
                recording, begins, ends = value.split()
                times = seconds(begins), None if float(ends) == float(TO_THE_END) else seconds(ends)
            except ValueError:
                yield Rejection(where, "unreadable row", "write UTTERANCE RECORDING BEGIN END, the times in seconds")
                continue
            if utterance not in texts:
                yield Rejection(where, "no transcript", f"add a line '{utterance} words' to {source.name}/text")
            segments[utterance] = (recording, *times)
    for utterance, (line, words) in texts.items():
        where = where_in(folder / "text", source, line)
        if utterance not in segments:
            there = "segments" if (folder / "segments").is_file() else MANIFEST
            yield Rejection(where, "missing audio", f"add {utterance} to {source.name}/{there}, or remove this line")
            continue
        recording, begins_s, ends_s = segments[utterance]
        if recording not in paths:
            yield Rejection(where, "missing audio", f"give {recording} a path in {source.name}/{MANIFEST}")
            continue
        row = {"speaker": speakers[utterance][1]} if utterance in speakers else {}
        yield raw_clip(scp, source, paths[recording], words, row, begins_s, ends_s)


def _read_rows(path: Path, source: Path) -> Iterator[tuple[int, str, str] | Rejection]:
    """(line, first word, the rest) of each line; a first word that comes twice is a Rejection."""
    if not path.is_file():
        return
    content = read_text(path, source)
    if isinstance(content, Rejection):
        yield content
        return
    seen: set[str] = set()
    for number, line in enumerate(content.split("\n"), 1):
        key, _, value = line.strip().replace("\t", " ").partition(" ")
        if key in seen:
            remedy = f"{key} stands in a line above: give each its own name"
            yield Rejection(where_in(path, source, number), "unreadable row", remedy)
        elif key:
            seen.add(key)
            yield number, key, value.strip()

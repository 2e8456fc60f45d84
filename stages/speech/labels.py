"""Files with times beside a recording: subtitles, labels of Audacity, Praat and ELAN, what Whisper writes.

`read` gives a part {begins_s, ends_s, text, speaker} for each label, or the text of a file without times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from stages.speech import subtitles
from stages.speech.clips import Rejection
from stages.speech.columns import by_our_names
from stages.speech.subtitles import Part, make_part
from stages.speech.tables import read_text, where_in

TEXT_SUFFIXES = (".txt", ".lab")
# The first of several forms of the same words is taken.
TIMED_SUFFIXES = (*subtitles.SUFFIXES, ".textgrid", ".eaf", ".tsv", ".json")
# Audacity: seconds, a tab or spaces, seconds, the text; a line that begins with \ holds the label's frequencies.
LABEL = re.compile(r"\s*(\d+[.,]?\d*)\t\s*(\d+[.,]?\d*)(?:\t(.*))?|\s*(\d+[.,]\d+) +(\d+[.,]\d+)(?:\s+(.*))?")
WHISPER_TSV = ["start", "end", "text"]  # of whole milliseconds
DAMAGED = "it cannot be read: export it again, or as SRT"


def read(path: Path, source: Path) -> str | list[Part] | Rejection | None:
    """The text of a file, or its parts, or why it cannot be read; None for a table or JSON about something else."""
    suffix = path.suffix.lower()
    if suffix in subtitles.SUFFIXES:
        return list(subtitles.read(path, source))
    if suffix in (".textgrid", ".eaf"):
        return _read_tiers(path, where_in(path, source), _praat if suffix == ".textgrid" else _elan)
    content = read_text(path, source)
    if isinstance(content, Rejection):
        return content if suffix in TEXT_SUFFIXES else None
    if suffix == ".json":
        return _whisper_json(content, where_in(path, source))
    if suffix == ".tsv":
        rows = [line.split("\t") for line in content.split("\n") if line.strip()]
        if not rows or [cell.strip().lower() for cell in rows[0]] != WHISPER_TSV:
            return None
        times = [(row[0], row[1], " ".join(row[2:]), 1000) for row in rows[1:] if len(row) > 1]
        return list(_parts(times, where_in(path, source)))
    lines = [(number, line) for number, line in enumerate(content.split("\n"), 1) if line.strip() and line[0] != "\\"]
    labels = [(number, LABEL.fullmatch(line)) for number, line in lines]
    if not any(label for _, label in labels):
        return content
    return [
        make_part(_seconds(label[1] or label[4]), _seconds(label[2] or label[5]), label[3] or label[6] or "", where)
        if label
        else Rejection(where, "unreadable row", "write a label as begin, end and text, with a tab between them")
        for number, label in labels
        for where in [where_in(path, source, number)]
    ]


def _seconds(written: str) -> float:
    return float(written.replace(",", "."))


def _parts(rows: list[tuple], where: str) -> Iterator[Part]:
    """rows: (begin, end, text, how many of their unit are a second)."""
    for number, (begin, end, text, unit) in enumerate(rows, 1):
        try:
            times = float(begin) / unit, float(end) / unit
        except (ValueError, TypeError):
            yield Rejection(f"{where}:{number}", "unreadable row", "write its times as numbers")
            continue
        yield make_part(*times, text, f"{where}:{number}")


def _whisper_json(content: str, where: str) -> str | list[Part] | None:
    """Of Whisper, faster-whisper and WhisperX (segments, in seconds), or of whisper.cpp (transcription, in ms)."""
    try:
        whole = orjson.loads(content)
    except ValueError:
        return None
    if not isinstance(whole, dict):
        return None
    for key in ("segments", "transcription"):
        listed = whole.get(key)
        rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
        times = []
        for row in rows:
            offsets = row.get("offsets")
            begin, end, unit = row.get("start"), row.get("end"), 1
            if isinstance(offsets, dict):
                begin, end, unit = offsets.get("from"), offsets.get("to"), 1000
            times.append((begin, end, str(row.get("text") or ""), unit))
        if times:
            return list(_parts(times, where))
    text = by_our_names(whole).get("text")
    return text if isinstance(text, str) else None


def _read_tiers(path: Path, where: str, tiers_of: Callable[[Path], dict[str, list]]) -> list[Part] | Rejection:
    try:
        tiers = {name: rows for name, rows in tiers_of(path).items() if rows}
    except Exception as error:  # noqa: BLE001  the libraries raise whatever a damaged file leads to
        return Rejection(where, "unreadable row", f"{DAMAGED} ({type(error).__name__})")
    if len(tiers) > 1:
        names = ", ".join(tiers)
        return Rejection(where, "unreadable row", f"of its tiers {names} keep the one with the sentences")
    return list(_parts([row for rows in tiers.values() for row in rows], where))


def _praat(path: Path) -> dict[str, list]:
    from praatio import textgrid  # imported here: most sources have none
    from praatio.data_classes.interval_tier import IntervalTier

    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    return {
        tier.name: [(one.start, one.end, one.label, 1) for one in tier.entries]
        for tier in grid.tiers
        if isinstance(tier, IntervalTier)
    }


def _elan(path: Path) -> dict[str, list]:
    from pympi import Eaf  # imported here: most sources have none

    eaf = Eaf(str(path))
    return {
        name: [(row[0], row[1], row[2], 1000) for row in sorted(eaf.get_annotation_data_for_tier(name))]
        for name in eaf.get_tier_names()
        if eaf.tiers[name][0]  # with times of its own
    }

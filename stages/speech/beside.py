"""What is said about a recording, by files beside it: of the same name, in its folder or in one for texts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from stages.speech import labels
from stages.speech.clips import RawClip, Rejection
from stages.speech.names import Recordings
from stages.speech.tables import where_in
from stages.speech.text import normalise
from stages.speech.transcripts import transcript_of

BESIDE = (*labels.TEXT_SUFFIXES, *labels.TIMED_SUFFIXES)
TABLES_TOO = (".tsv", ".json")
LANGUAGE = re.compile(r"\.([a-z]{2})(?:[-_][A-Za-z]{2,4})?$")  # en or en-US in talk.en-US.srt


@dataclass
class Said:
    """What a row, or a file beside a recording, says about it: a text, or parts {begins_s, ends_s, text, speaker}."""

    clip: RawClip
    where: str
    parts: list[dict] | None = None
    is_exact: bool = True  # the recording's name is written as it is, with its ending
    problems: list[Rejection] = field(default_factory=list)

    @property
    def words(self) -> str:
        text = self.clip.text if self.parts is None else " ".join(part["text"] for part in self.parts)
        return normalise(transcript_of(text)[0])


def files_beside(folder: Path, recordings: Recordings) -> tuple[dict[Path, list[str]], list[Path]]:
    """{text file or subtitles: recordings that are named like it}, and those that are named like none.

    talk.srt, talk.en.srt or talk.wav.srt is beside talk.wav.
    """
    found: dict[Path, list[str]] = {}
    strays = []
    for name in recordings.names:
        suffix = os.path.splitext(name)[1].lower()
        if suffix not in BESIDE or not (folder / name).is_file():
            continue
        place, file = os.path.split(os.path.splitext(name)[0])
        meant = recordings.find(file, place) or recordings.find(LANGUAGE.sub("", file), place)
        if meant:
            found[folder / name] = meant
        elif suffix not in TABLES_TOO:
            strays.append(folder / name)
    return found, strays


def read_beside(folder: Path, recording: str, path: Path) -> Said | None:
    """What a file says about the recording that it is named like; None for a table, or JSON about something else."""
    clip = RawClip(folder.name, f"{folder.name}/{recording}", "", language=_language_in(path, recording))
    where = where_in(path, folder)
    read = labels.read(path, folder)
    if read is None:
        return None
    if isinstance(read, str):
        return Said(replace(clip, text=read), where)
    if isinstance(read, Rejection):
        return Said(clip, where, [], problems=[read])
    parts = [part for part in read if isinstance(part, dict)]
    problems = [part for part in read if isinstance(part, Rejection)]
    if not read:
        problems.append(Rejection(where, "unreadable row", "it holds no words: remove it, or export it again"))
    return Said(clip, where, parts, problems=problems)


def _language_in(path: Path, recording: str) -> str | None:
    """en in talk.en.srt."""
    found = LANGUAGE.search(path.stem)
    return found[1] if found and not Path(recording).stem.endswith(found[0]) else None

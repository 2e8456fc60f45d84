"""What is to be erased. It is written down before anything goes, so that whoever is killed can go on."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from recorder import runs
from recorder.erasing.traces import pieces_of
from stages.common.files import write_json
from stages.speech.clips import ID_LENGTH
from stages.speech.text import clean

ERASING_FILES = "forget-*.json"  # in data/recorder
PERHAPS = "perhaps"


@dataclass
class Wanted:
    """Who or what is to be erased: a speaker, or the clip with this id."""

    speaker: str | None = None
    clip: str | None = None

    @property
    def name(self) -> str:
        return self.speaker or self.clip or ""

    @property
    def todo_file(self) -> Path:
        return runs.FOLDER / ERASING_FILES.replace("*", digest_of(self.name.encode())[:8])

    def is_row(self, row: dict) -> bool:
        """Whether a row of a clips.jsonl is one of theirs."""
        if self.speaker is not None:
            return clean(str(row.get("speaker") or "")) == self.speaker
        return self.clip in (row.get("id"), Path(str(row.get("audio_path"))).stem)


@dataclass
class Recording:
    """One recording that is to be erased. `place`: raw (data/raw), inbox, or older (in DVC's older versions only)."""

    file: str  # below data/raw
    place: str
    sha256: str
    md5: str
    git_blob: str
    language: str = ""
    duration_s: float | None = None
    since: float = 0.0  # seconds since 1970
    pieces: list[str] = field(default_factory=list)  # hex

    @classmethod
    def of(cls, file: str, place: str, content: bytes, **about: object) -> Recording:
        """The recording with these bytes."""
        return cls(
            file=file,
            place=place,
            sha256=digest_of(content),
            md5=hashlib.md5(content).hexdigest(),
            git_blob=hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
            pieces=[piece.hex() for piece in pieces_of(content)],
            **about,
        )

    @property
    def id(self) -> str:
        return self.sha256[:ID_LENGTH]


@dataclass
class Repository:
    """A repository on the Hub; `why` says how we know of it."""

    kind: str
    repo_id: str
    why: str

    @property
    def is_certain(self) -> bool:
        return not self.why.startswith(PERHAPS)

    @property
    def address(self) -> str:
        from stages.hub.publish import address

        return address(self.repo_id, self.kind)


@dataclass
class Todo:
    """All that has to be known to go on after a kill, when what it was read from is already gone."""

    wanted: Wanted
    recordings: list[Recording] = field(default_factory=list)
    files: list[str] = field(default_factory=list)  # of data/raw, that go
    texts: list[str] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)  # pieces of converted sound, hex
    versioned: bool = False  # whether DVC has ever had any of it
    results: bool = False  # whether the present results were made with it
    repositories: list[Repository] = field(default_factory=list)  # to be deleted on the Hub

    @property
    def is_anything(self) -> bool:
        return bool(self.recordings or self.files or self.texts)

    def join(self, other: Todo) -> None:
        known = {(recording.file, recording.sha256) for recording in self.recordings}
        self.recordings += [one for one in other.recordings if (one.file, one.sha256) not in known]
        for name in ("files", "texts", "prepared"):
            setattr(self, name, list(dict.fromkeys(getattr(self, name) + getattr(other, name))))
        self.versioned |= other.versioned
        self.results |= other.results


def write_todo(todo: Todo) -> None:
    write_json(todo.wanted.todo_file, asdict(todo))
    os.sync()  # a power cut must not find the recordings half gone and the list unwritten


def read_todo(path: Path) -> Todo | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    values["wanted"] = Wanted(**values["wanted"])
    values["recordings"] = [Recording(**one) for one in values["recordings"]]
    values["repositories"] = [Repository(**one) for one in values["repositories"]]
    return Todo(**values)


def digest_of(content: bytes | None) -> str:
    return hashlib.sha256(content).hexdigest() if content is not None else ""

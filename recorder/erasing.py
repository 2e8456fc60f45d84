"""What there is of a speaker or of one recording, and taking it away (recorder/forget.py)."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder import inbox, reading, runs
from stages.common import paths
from stages.common.dvc import DVC_LOCK
from stages.common.files import sha256_of_file, write_json, write_whole
from stages.common.stage import UserError
from stages.speech import prepared
from stages.speech.beside import BESIDE, TABLES_TOO
from stages.speech.clips import ID_LENGTH, RawClip, clip_id
from stages.speech.pairing import is_recording
from stages.speech.sources import locate, rows_of_sources, texts_beside
from stages.speech.text import clean

if TYPE_CHECKING:
    from dvc.repo import Repo

ERASURE_FILES = "forget-*.json"  # in data/recorder
RESULTS = (paths.PREPARED, paths.SPLIT, paths.CHECKPOINTS, paths.EVALUATION, paths.CARD, paths.REVIEW)
EXPERIMENTS = Path(".dvc/tmp/exps")  # their copies of this folder
# Kinds of the content cache that may hold somebody's sound, texts, ids or model, also those of earlier versions.
CACHES = ("prepared", "copies", "duplicates", "pieces", "alignment", "base-transcripts", "base-predictions", "encoded")
CACHES += ("training", "merged", "dataset", "recorder")
PUBLIC_CACHES = ("hub", "phrases")
# What follows a recording's name in those of the texts beside it (stages/speech/sources.py).
ENDINGS = "|".join(re.escape(suffix) for suffix in BESIDE if suffix not in TABLES_TOO)
TRANSCRIPT = re.compile(rf"(\.[a-z]{{2}})?({ENDINGS})", re.IGNORECASE)


@dataclass
class Erasure:
    """All there is of a speaker, or of the recording with an id.

    It is written down before anything is erased: an interrupted erasure resumes from it.
    """

    speaker: str | None
    clip: str | None
    files: list[str] = field(default_factory=list)  # recordings below data/raw, also if only a row is left
    sounds: dict[str, int] = field(default_factory=dict)  # sha256 and bytes, of these and of their converted sound
    ids: list[str] = field(default_factory=list)  # of clips: whole recordings and parts of them
    texts: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.speaker or self.clip or ""

    @property
    def path(self) -> Path:
        return runs.FOLDER / ERASURE_FILES.replace("*", hashlib.sha256(self.name.encode()).hexdigest()[:8])

    def add(self, later: Erasure) -> None:
        """Add what was found later."""
        self.sounds |= later.sounds
        for name in ("files", "ids", "texts"):
            setattr(self, name, [*dict.fromkeys(getattr(self, name) + getattr(later, name))])

    def write(self) -> None:
        write_json(self.path, asdict(self))
        os.sync()  # after a power cut the recordings must not be half gone and the list unwritten


def read_erasure(path: Path) -> Erasure | None:
    return Erasure(**read_dict(path)) if path.exists() else None


# Finding


def find(speaker: str | None, clip: str | None) -> Erasure:
    """All that belongs to a speaker or a clip in data/raw.

    Raises: UserError if others speak in parts of one of the recordings.
    """
    rows = clips_in_raw()
    named = {file_of(row) for row in rows}
    files = {path.relative_to(paths.RAW).as_posix(): path for path in paths.RAW.rglob("*") if path.is_file()}
    files = {name: path for name, path in files.items() if name in named or is_recording(path)}
    digests = {name: sha256_of_file(path) for name, path in files.items()}

    def ids_of(row: RawClip) -> set[str]:
        """Of the recording and of the part of it; none if the recording is missing."""
        digest = digests.get(file_of(row))
        return {clip_id(digest, row.begins_s, row.ends_s), digest[:ID_LENGTH]} if digest else set()

    def is_theirs(row: RawClip) -> bool:
        return row.speaker == speaker if speaker is not None else clip in ids_of(row)

    theirs = {file_of(row) for row in rows if is_theirs(row)}
    theirs |= {name for name, digest in digests.items() if digest[:ID_LENGTH] == clip}
    # The same bytes under another file name are the same recording.
    chosen = {digests[name] for name in theirs & set(digests)}
    theirs |= {name for name, digest in digests.items() if digest in chosen}
    of_others = {file_of(row) for row in rows if not is_theirs(row) and (row.begins_s is not None or row.speaker)}
    for name in sorted(of_others & theirs):
        raise UserError(
            f"{paths.RAW / name}: others than {speaker or clip} may speak in it: correct the rows, or remove the "
            f"recording and its rows yourself, run 'dvc add {paths.RAW}', then this again"
        )
    ids = {clip} if clip else set()
    ids |= {one for row in rows if file_of(row) in theirs for one in ids_of(row)}
    copies = [files[name] for name in theirs & set(files)] + list(filter(None, map(prepared.path_of, ids)))
    return Erasure(
        speaker,
        clip,
        files=sorted(theirs),
        sounds={sha256_of_file(path): path.stat().st_size for path in copies},
        ids=sorted(ids),
        texts=[row.text for row in rows if file_of(row) in theirs],
    )


def clips_in_raw() -> list[RawClip]:
    """All in data/raw that a table names, but for what is outside the table's source."""
    return [clip for clip in rows_of_sources(paths.RAW) if locate(paths.RAW, clip)]


def file_of(clip: RawClip) -> str:
    """A recording's path below data/raw."""
    return os.path.normpath(clip.recorded_file)


def read_dict(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
    except (ValueError, TypeError):
        raise UserError(f"{path} cannot be read: fix it, or remove it if it is not needed any more") from None


# Erasing


def erase(erasure: Erasure) -> None:
    """Remove recordings, rows, what is kept by a name, all results and experiments, and the caches."""
    _erase_from_raw(erasure)
    _erase_by_name(erasure)
    DVC_LOCK.unlink(missing_ok=True)
    unfinished = [path for folder in RESULTS for path in folder.parent.glob(f".{folder.name}-*")]  # of a killed stage
    caches = [paths.cache_root() / kind for kind in CACHES]
    for folder in (*RESULTS, *unfinished, *caches, EXPERIMENTS):
        if folder.exists():
            shutil.rmtree(folder)
    if Path(".git").exists():  # the results of experiments go with DVC's older versions: it could not show them
        list_all = ["git", "for-each-ref", "--format=delete %(refname)", "refs/exps"]
        listed = subprocess.run(list_all, capture_output=True, check=True).stdout
        subprocess.run(["git", "update-ref", "--stdin"], input=listed, check=True)


def _erase_from_raw(erasure: Erasure) -> None:
    """Rows first, then sounds: at no time does a row of ours name a file that is not there."""
    # Since an erasing that was not finished, somebody may have put another recording in the place of one.
    there = {name for name in erasure.files if (paths.RAW / name).is_file()}
    others = {name for name in there if sha256_of_file(paths.RAW / name) not in erasure.sounds}
    erasure.files = [name for name in erasure.files if name not in others]
    for table in (*paths.RAW.rglob(inbox.CLIPS), *paths.RAW.rglob(inbox.CONSENTS)):
        _remove_rows(table, erasure.speaker, set(erasure.files))
    for path, recording in texts_beside(paths.RAW).items():
        if recording in erasure.files:
            path.unlink()
    for sound in (paths.RAW / name for name in erasure.files):
        sound.unlink(missing_ok=True)
        beside = list(sound.parent.glob(f"{glob.escape(sound.stem)}.*"))
        others = [path.stem for path in beside if is_recording(path)]
        for path in beside:
            if _is_transcript(path, sound.stem) and not any(_is_transcript(path, stem) for stem in others):
                path.unlink()
        for folder in sound.parents:
            if paths.RAW in folder.parents:
                with contextlib.suppress(OSError):  # not empty
                    folder.rmdir()


def _is_transcript(path: Path, stem: str) -> bool:
    return TRANSCRIPT.fullmatch(path.name.removeprefix(stem)) is not None


def _remove_rows(table: Path, speaker: str | None, gone: set[str]) -> None:
    """Remove a speaker's rows and those of recordings that are gone; other lines stay byte for byte."""
    kept = bytearray()
    for line in table.read_bytes().splitlines(keepends=True):
        row: dict[str, Any] = {}
        with contextlib.suppress(ValueError, TypeError):  # not JSON, or not an object
            row = dict(json.loads(line.decode("utf-8-sig")))
        name = os.path.normpath(f"{table.parent.relative_to(paths.RAW)}/{row.get('audio_path')}")
        if not (name in gone or (speaker and clean(str(row.get("speaker") or "")) == speaker)):
            kept += line
    if not kept.strip():
        table.unlink()
    elif kept != table.read_bytes():
        partial = runs.FOLDER / ".forget-partial"  # an interrupted write must leave no partial file in data/raw
        write_whole(partial, kept)
        os.replace(partial, table)


def _erase_by_name(erasure: Erasure) -> None:
    """Remove what the page keeps by a speaker's name, and all logs: they name recordings."""
    phrases, pseudonyms = read_dict(reading.OWN_PHRASES), read_dict(paths.PSEUDONYMS)
    for by_name in (phrases, *(known["speakers"] for known in pseudonyms.values())):
        for name in [name for name in by_name if clean(name) == erasure.speaker]:
            del by_name[name]
    for path, content in ((reading.OWN_PHRASES, phrases), (paths.PSEUDONYMS, pseudonyms)):
        if content != read_dict(path):
            write_json(path, content)
    for log in (*runs.FOLDER.rglob("*.txt"), *runs.FOLDER.rglob("*.log"), inbox.LOG):
        log.unlink(missing_ok=True)


def collect_garbage(repository: Repo) -> list[str]:
    """Remove from DVC's cache and remotes all that the present version does not use; returns what went wrong."""
    repository.gc(workspace=True, force=True)
    for left in Path(repository.cache.local.path).rglob("*.tmp"):  # of a dvc that was killed while it copied
        left.unlink()
    problems = []
    for name in repository.config["remote"]:
        try:
            repository.gc(workspace=True, cloud=True, remote=name, force=True)
        except Exception as error:  # noqa: BLE001  each kind of remote has errors of its own, down to a missing package
            words = " ".join(str(error).split()) or type(error).__name__
            problems.append(f"DVC's remote {name} could not be cleared ({words}): make it reachable, or remove it")
    return problems

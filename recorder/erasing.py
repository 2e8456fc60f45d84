"""What there is of a speaker or of one recording, and taking it away (recorder/forget.py)."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from recorder import inbox, reading, runs
from recorder.settings import change_settings
from recorder.traces import Traces, files_below, pieces_of
from stages.common import paths
from stages.common.dvc import DVC_LOCK
from stages.common.files import sha256_of_file, write_json, write_whole
from stages.common.params import PARAMS_FILE, load_params
from stages.common.stage import UserError
from stages.speech import prepared, tables
from stages.speech.clips import AUDIO_SUFFIXES, ID_LENGTH, RawClip, clip_id
from stages.speech.sources import locate, read_sources
from stages.speech.text import clean

if TYPE_CHECKING:
    from dvc.repo import Repo

ERASURE_FILES = "forget-*.json"  # in data/recorder
RESULTS = (paths.PREPARED, paths.SPLIT, paths.CHECKPOINTS, paths.EVALUATION, paths.CARD, paths.REVIEW)
EXPERIMENTS = Path(".dvc/tmp/exps")  # their copies of this folder
# Kinds of the content cache that may hold somebody's sound, texts, ids or model, also those of earlier versions.
CACHES = ("prepared", "copies", "duplicates", "pieces", "alignment", "base-transcripts", "base-predictions", "encoded")
CACHES += ("training", "merged", "dataset", "recorder")
PUBLIC_CACHES = ("hub",)
TEMPORARY = "ownvoice-*"  # what an interrupted push or upload has left in the temporary folder
TRANSCRIPT = re.compile(r"\.txt|(\.[a-z]{2})?\.(srt|vtt)")  # a recording's name without its ending comes before


@dataclass
class Todo:
    """All there is of a speaker, or of the recording with an id.

    It is written down before anything is erased: an interrupted erasure resumes from it.
    """

    speaker: str | None = None
    clip: str | None = None
    files: list[str] = field(default_factory=list)  # recordings below data/raw, also if only a row is left
    waiting: list[str] = field(default_factory=list)  # recordings in the inbox, as they will be named in data/raw
    older: list[str] = field(default_factory=list)  # recordings in DVC's older versions only
    digests: list[str] = field(default_factory=list)  # sha256 of all these
    part_ids: list[str] = field(default_factory=list)  # of clips that are parts of them
    blobs: list[str] = field(default_factory=list)  # git's names for them
    pieces: list[str] = field(default_factory=list)  # of their sound, hex
    texts: list[str] = field(default_factory=list)
    versioned: bool = False  # whether DVC has had any of it
    results: bool = False  # whether the present results may have been made with it
    repositories: list[str] = field(default_factory=list)  # to delete on the Hub: "kind name"

    @property
    def name(self) -> str:
        return self.speaker or self.clip or ""

    @property
    def path(self) -> Path:
        return runs.FOLDER / ERASURE_FILES.replace("*", hashlib.sha256(self.name.encode()).hexdigest()[:8])

    @property
    def ids(self) -> list[str]:
        return [*(digest[:ID_LENGTH] for digest in self.digests), *self.part_ids]

    def add_sound(self, content: bytes) -> None:
        self.digests.append(hashlib.sha256(content).hexdigest())
        self.blobs.append(hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())
        self.pieces += [piece.hex() for piece in pieces_of(content)]

    def join(self, other: Todo) -> None:
        for name, value in vars(other).items():
            if isinstance(value, list):
                setattr(self, name, list(dict.fromkeys([*getattr(self, name), *value])))
        self.versioned |= other.versioned
        self.results |= other.results

    def write(self) -> None:
        write_json(self.path, asdict(self))
        os.sync()  # after a power cut the recordings must not be half gone and the list unwritten


def read_todo(path: Path) -> Todo | None:
    return Todo(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


# Finding


def find(speaker: str | None, clip: str | None, objects: Path) -> Todo:
    """All that belongs to a speaker or a clip in data/raw, in the inbox and in DVC's older versions.

    Raises: UserError if others speak in parts of one of the recordings.
    """
    todo = Todo(speaker, clip)
    rows = clips_in_raw()
    waiting = {f"{one.source}/{one.row['audio_path']}": one for one in inbox.pending() if one.kind == "clip"}
    sounds = {name: change.folder / change.row["audio_path"] for name, change in waiting.items()}
    in_raw = {path.relative_to(paths.RAW).as_posix(): path for path in paths.RAW.rglob("*") if path.is_file()}
    named = {file_of(row) for row in rows}
    sounds |= {name: path for name, path in in_raw.items() if name in named or path.suffix.lower() in AUDIO_SUFFIXES}
    digests = {name: sha256_of_file(path) for name, path in sounds.items()}

    def part_id(row: RawClip) -> str:
        digest = digests.get(file_of(row))
        return clip_id(digest, row.begins_s, row.ends_s) if digest and row.begins_s is not None else ""

    def is_theirs(row: RawClip) -> bool:
        if speaker is not None:
            return row.speaker == speaker
        return clip in (digests.get(file_of(row), "")[:ID_LENGTH], part_id(row))

    theirs = {file_of(row) for row in rows if is_theirs(row)}
    if speaker is not None:
        theirs |= {name for name, change in waiting.items() if clean(change.row.get("speaker") or "") == speaker}
    else:
        theirs |= {name for name, digest in digests.items() if digest.startswith(clip)}
    # The same bytes under another file name are the same recording.
    chosen = {digests[name] for name in theirs & set(digests)}
    theirs |= {name for name, digest in digests.items() if digest in chosen}
    of_others = {file_of(row) for row in rows if not is_theirs(row) and (row.begins_s is not None or row.speaker)}
    if speaker is not None:
        names = {name: clean(change.row.get("speaker") or "") for name, change in waiting.items()}
        of_others |= {name for name, who in names.items() if who not in ("", speaker)}
    for name in sorted(of_others & theirs):
        raise UserError(
            f"{paths.RAW / name}: others than {todo.name} may speak in it: correct the rows, or remove the recording "
            f"and its rows yourself, run 'dvc add {paths.RAW}', then this again"
        )
    todo.files = sorted(theirs & (named | set(in_raw)))
    todo.waiting = sorted(theirs & set(waiting))
    for name in sorted(theirs & set(sounds)):
        todo.add_sound(sounds[name].read_bytes())
    todo.texts = [row.text for row in rows if file_of(row) in theirs]
    todo.part_ids = [part_id(row) for row in rows if file_of(row) in theirs and part_id(row)]
    todo.texts += [waiting[name].row["text"] for name in todo.waiting]
    for sound in filter(None, map(prepared.path_of, todo.ids)):  # as it was converted
        todo.pieces += [piece.hex() for piece in pieces_of(sound.read_bytes())]
    _find_older(todo, objects, kept={*digests.values()} - chosen)
    todo.versioned |= bool(todo.files) or speaker in agreed()
    todo.results = todo.versioned and _are_in_results(todo)
    return todo


def _find_older(todo: Todo, objects: Path, kept: set[str]) -> None:
    """Add texts and recordings that DVC's older versions have: what was corrected or deleted since.

    kept: sha256 of recordings that are others' by now.
    """
    folders = [json.loads(path.read_bytes()) for path in sorted(objects.glob("??/*.dir"))]
    trees = [{entry["relpath"]: entry["md5"] for entry in folder} for folder in folders]
    kept_ids = {digest[:ID_LENGTH] for digest in kept}
    labels = set()  # recordings below data/raw
    entries = {(*os.path.split(name), md5) for tree in trees for name, md5 in tree.items()}
    for folder, md5 in {(folder, md5) for folder, name, md5 in entries if name in ("clips.jsonl", "metadata.jsonl")}:
        for row in rows_of(objects / md5[:2] / md5[2:]):
            sound = os.path.normpath(f"{folder}/{row.get('audio_path', row.get('file_name'))}")
            ids = {row.get("id"), Path(sound).stem}
            is_theirs = todo.clip in ids if todo.clip else clean(str(row.get("speaker") or "")) == todo.speaker
            if is_theirs and kept_ids.isdisjoint(ids):
                todo.versioned = True
                todo.texts.append(str(row.get("text", "")))
                if re.fullmatch(f"[0-9a-f]{{{ID_LENGTH}}}", str(row.get("id"))):
                    todo.part_ids.append(row["id"])  # of a whole recording it is one of `ids` too
                labels.add(row.get("recorded_file", sound))
    known = kept | set(todo.digests)
    for label, md5 in {(label, tree[label]) for tree in trees for label in labels & set(tree)}:
        with contextlib.suppress(FileNotFoundError):  # not on this machine
            content = (objects / md5[:2] / md5[2:]).read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            if digest not in known and digest.startswith(todo.clip or ""):
                known.add(digest)
                todo.older.append(label)
                todo.add_sound(content)


def _are_in_results(todo: Todo) -> bool:
    """Whether the present results may have been made with the recordings: a table names one, or nothing says."""
    if todo.older or not any(paths.PREPARED.glob("*.jsonl")):
        return any(folder.exists() for folder in RESULTS)
    names = Traces({name.encode(): "a name" for name in (*todo.ids, *todo.files)})
    return any(names.are_in(path) for folder in RESULTS for path in folder.glob("*.jsonl"))


def clips_in_raw() -> list[RawClip]:
    """All in data/raw that a table names, also Common Voice's other tables; not what is outside the table's source."""
    clips = read_sources(paths.RAW)[0]
    for validated in paths.RAW.glob(f"*/{tables.COMMON_VOICE_MANIFEST}"):
        for path in sorted(validated.parent.glob("*.tsv")):
            if path != validated and tables.is_table(path):
                clips += [one for one in tables.read_common_voice(path, path.parent) if isinstance(one, RawClip)]
    return [clip for clip in clips if locate(paths.RAW, clip)]


def file_of(clip: RawClip) -> str:
    """A recording's path below data/raw."""
    return os.path.normpath(clip.recorded_file)


def agreed() -> set[str]:
    """Speakers with a consent in data/raw."""
    consents = paths.RAW.glob(f"*/{inbox.CONSENTS}")
    return {clean(str(row["speaker"])) for path in consents for row in rows_of(path) if "speaker" in row}


def speakers() -> list[str]:
    """Everybody with a recording, a consent, phrases of their own or a pseudonym."""
    names = {clip.speaker for clip in clips_in_raw()} | agreed()
    names |= {change.row.get("speaker") for change in inbox.pending()} | set(read_dict(reading.OWN_PHRASES))
    names |= {name for known in read_dict(paths.PSEUDONYMS).values() for name in known["speakers"]}
    return sorted({clean(name) for name in names if name} - {""})


def read_dict(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def rows_of(path: Path) -> list[dict]:
    return [row_of(line) for line in path.read_bytes().split(b"\n")] if path.exists() else []


def row_of(line: bytes) -> dict:
    """A row of JSON lines; an empty one if the line is not a JSON object."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def git(*arguments: str, answer_to: str = "") -> str:
    """What git prints; nothing if it fails, or if this folder is not a git repository."""
    if not Path(".git").exists():
        return ""
    done = subprocess.run(["git", *arguments], input=answer_to, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


# Erasing


def erase(todo: Todo, repository: Repo) -> list[str]:
    """Remove all but what is on the Hub, with DVC locked by `repository`; returns what could not be done."""
    # DVC warns of outputs that are not made yet, and counts objects: nothing for the person who reads this.
    logging.getLogger("dvc").setLevel(logging.ERROR)
    _erase_from_raw(todo)
    _erase_from_inbox(todo)
    _erase_by_name(todo)
    theirs = Traces(dict.fromkeys([*map(bytes.fromhex, todo.pieces), *(one.encode() for one in todo.ids)], "theirs"))
    for folder in Path(tempfile.gettempdir()).glob(TEMPORARY):
        if any(theirs.are_in(path) for path in files_below([folder])):
            shutil.rmtree(folder)
    for sound in (paths.PREPARED / prepared.audio_path(one) for one in todo.ids):  # of a prepare that was killed
        for path in (sound, *sound.parent.glob(f".{sound.name}-*")):
            path.unlink(missing_ok=True)
    if todo.results:
        DVC_LOCK.unlink(missing_ok=True)
        for folder in RESULTS:
            for path in (folder, *folder.parent.glob(f".{folder.name}-*")):
                shutil.rmtree(path, ignore_errors=not path.exists())
    if not todo.versioned:
        return []
    for kind in CACHES:
        _empty(paths.cache_root() / kind)
    repository.add(str(paths.RAW))
    # All experiments: their results go with DVC's older versions, and without these DVC cannot show them.
    for ref in git("for-each-ref", "--format=%(refname)", "refs/exps").split():
        git("update-ref", "-d", ref)
    shutil.rmtree(EXPERIMENTS, ignore_errors=not EXPERIMENTS.exists())
    repository._reset()  # it remembers dvc.lock and data/raw.dvc as they were
    return _collect_garbage(repository)


def _erase_from_raw(todo: Todo) -> None:
    """Rows first, then sounds: at no time does a row of ours name a file that is not there."""
    # Since an erasing that was not finished, somebody may have put another recording in the place of one.
    there = {name for name in todo.files if (paths.RAW / name).is_file()}
    todo.files = [name for name in todo.files if name not in there or sha256_of_file(paths.RAW / name) in todo.digests]
    gone = set(todo.files)
    for table in (*paths.RAW.glob(f"*/{inbox.CLIPS}"), *paths.RAW.glob(f"*/{inbox.CONSENTS}")):
        _remove_rows(table, todo.speaker, gone)
    for sound in (paths.RAW / name for name in todo.files):
        sound.unlink(missing_ok=True)
        beside = list(sound.parent.glob(f"{glob.escape(sound.stem)}.*"))
        if not any(path.suffix.lower() in AUDIO_SUFFIXES for path in beside):
            for path in beside:
                if TRANSCRIPT.fullmatch(path.name.removeprefix(sound.stem)):
                    path.unlink()
        for folder in sound.parents:
            if paths.RAW in folder.parents:
                with contextlib.suppress(OSError):  # not empty
                    folder.rmdir()


def _remove_rows(table: Path, speaker: str | None, gone: set[str]) -> None:
    """Remove a speaker's rows and those of recordings that are gone; other lines stay byte for byte."""
    kept = []
    for line in table.read_bytes().splitlines(keepends=True):
        row = row_of(line)
        name = os.path.normpath(f"{table.parent.name}/{row.get('audio_path')}")
        if not (name in gone or (speaker and clean(str(row.get("speaker") or "")) == speaker)):
            kept.append(line)
    content = b"".join(kept)
    if not content.strip():
        table.unlink()
    elif content != table.read_bytes():
        partial = runs.FOLDER / ".forget-partial"  # an interrupted write must leave no partial file in data/raw
        write_whole(partial, content)
        os.replace(partial, table)


def _erase_from_inbox(todo: Todo) -> None:
    files = {*todo.files, *todo.waiting}
    for change in inbox.pending():
        is_theirs = f"{change.source}/{change.row.get('audio_path')}" in files
        if is_theirs or (todo.speaker and clean(change.row.get("speaker") or "") == todo.speaker):
            gone = inbox.INBOX / f"{inbox.GONE}{change.folder.name}"
            change.folder.rename(gone)
            shutil.rmtree(gone)
    inbox._sweep()


def _erase_by_name(todo: Todo) -> None:
    """Remove what the page keeps by a speaker's name or a recording's id, and logs that name a recording."""
    phrases, pseudonyms = read_dict(reading.OWN_PHRASES), read_dict(paths.PSEUDONYMS)
    for by_name in (phrases, *(known["speakers"] for known in pseudonyms.values())):
        for name in [name for name in by_name if clean(name) == todo.speaker]:
            del by_name[name]
    for path, content in ((reading.OWN_PHRASES, phrases), (paths.PSEUDONYMS, pseudonyms)):
        if content != read_dict(path):
            write_json(path, content)
    if PARAMS_FILE.exists() and set(todo.ids) & set(confirmed := load_params().push.dataset.confirmed):
        change_settings({"push.dataset.confirmed": [one for one in confirmed if one not in todo.ids]})
    names = Traces({name.encode(): "a name" for name in (*todo.ids, *todo.files, *todo.older)})
    for log in [*runs.FOLDER.rglob("*.txt"), *runs.FOLDER.rglob("*.log"), inbox.LOG]:
        if log.is_file() and names.are_in(log):
            log.unlink()


def _empty(folder: Path) -> None:
    """Remove what is in a cache but for lock files: without its file, a lock that a process has open locks nothing."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        elif not path.name.endswith(".lock"):
            path.unlink()


def _collect_garbage(repository: Repo) -> list[str]:
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

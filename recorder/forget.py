"""Erase a speaker, or one recording, from this folder with all copies: `make forget SPEAKER=name` or `CLIP=id`.

    python -m recorder.forget --speaker NAME | --clip ID [--yes] [--hub]

Says first what it has found and what will go, and asks. Then, with DVC, the inbox and the pipeline held still: the
recordings and their rows, all that was made with them, DVC's older versions here and in its remotes, the caches; with
--hub also what was published. Ends by searching for what is left. A list of what is to be done lies in data/recorder
until all of it is: killed at any point, the same command ends right, though the recordings may be gone by then.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import glob
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from tqdm import tqdm

from recorder import inbox, listener, runs
from recorder.locks import is_locked, lock
from recorder.rows import clips_beside, json_lines_without, tables_without
from recorder.traces import Traces, files_below, pieces_of, spellings
from stages.pipeline import paths, raw
from stages.pipeline.files import read_jsonl, sha256_of_file, write_json, write_whole
from stages.pipeline.params import PARAMS_FILE, load_params
from stages.pipeline.stage import UserError, run
from stages.pipeline.wording import counted, lasting
from stages.speech import cuts, prepared
from stages.speech.clips import ID_LENGTH
from stages.speech.raw_clips import AUDIO_SUFFIXES, RawClip
from stages.speech.sources import read_sources
from stages.speech.text import clean

if TYPE_CHECKING:
    from dvc.repo import Repo

ERASING_FILES = "forget-*.json"  # in data/recorder
OWN_PHRASES, PSEUDONYMS = runs.FOLDER / "own_phrases.json", runs.FOLDER / "pseudonyms.json"
RESULTS = (paths.PREPARED, paths.SPLIT, paths.CHECKPOINTS, paths.EVALUATION, paths.CARD)
LOCK_FILE, EXPERIMENTS = Path("dvc.lock"), Path(".dvc/tmp/exps")
# Of the content cache, what holds sound, texts, ids or what was learnt; its entries do not say whose.
CACHED = ("prepared", "copies", "pieces", "base-transcripts", "base-predictions", "encoded", "training", "dataset")
CACHED += ("merged", "recorder")
# What comes with ownvoice holds no recordings, but phrases that people read aloud.
OURS = (".git", ".venv", ".demo", "data/demo", "demo_voxtral", "docs", "recorder", "stages", "templates", "tests")
PUSH_FOLDERS = "ownvoice-push-*"  # in the temporary folder: what a push that was killed has left
PERHAPS = "perhaps"
RECEIPTS = {"push": "model", "dataset": "dataset", "deploy": "space"}
FEATURES = ".ark"  # Kaldi's, beside the recordings
TRANSCRIPT = re.compile(r"\.txt|(\.[a-z]{2})?\.(srt|vtt)")  # behind a recording's name without its ending
PATIENCE_S = 30.0
DYING_S = 60.0  # an unfinished change in the inbox is a dead process's after this; writing one takes an instant
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")


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
        return runs.FOLDER / ERASING_FILES.replace("*", _digest(self.name.encode())[:8])

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


# Finding


def find(wanted: Wanted, objects: Objects) -> Todo:
    """All that belongs to a speaker or a clip, in data/raw, in the inbox and in DVC's older versions."""
    todo = Todo(wanted)
    raw_clips = clips_in_raw()
    clips = {_normal(clip.file): clip for clip in raw_clips}
    pending = [change for change in inbox.pending() if change.kind == "clip"]
    rows = {f"{change.source}/{change.row['audio_path']}": change.row for change in pending}
    sounds = {f"{change.source}/{change.row['audio_path']}": change.folder for change in pending}
    sounds = {name: folder / rows[name]["audio_path"] for name, folder in sounds.items()}
    in_raw = {path.relative_to(paths.RAW).as_posix(): path for path in paths.RAW.rglob("*") if path.is_file()}
    sounds |= {name: path for name, path in in_raw.items() if name in clips or path.suffix.lower() in AUDIO_SUFFIXES}
    digests = {name: sha256_of_file(path) for name, path in sounds.items()}

    def is_theirs(clip: RawClip) -> bool:
        if wanted.speaker is not None:
            return clip.speaker == wanted.speaker
        digest = digests.get(_normal(clip.file), "")
        part = digest and clip.begins_s is not None and cuts.clip_id(digest, clip.begins_s, clip.ends_s)
        return wanted.clip in (digest[:ID_LENGTH], part)

    theirs = {_normal(clip.file) for clip in raw_clips if is_theirs(clip)}
    if wanted.speaker is not None:
        theirs |= {name for name, row in rows.items() if wanted.is_row(row)}
    else:
        theirs |= {name for name, digest in digests.items() if digest.startswith(wanted.clip)}
    # The same bytes under another name, or as another's, are the same recording.
    chosen = {digests[name] for name in theirs if name in digests}
    theirs |= {name for name, digest in digests.items() if digest in chosen}
    _check_alone(theirs, raw_clips, wanted, is_theirs)
    lengths = _lengths()
    for name in sorted(theirs & set(sounds)):
        row = {"recorded_at": None, "language": None} | (vars(clips[name]) if name in clips else rows.get(name, {}))
        todo.recordings.append(
            _recording(
                name,
                "raw" if name in in_raw else "inbox",
                sounds[name].read_bytes(),
                language=row["language"] or "",
                duration_s=lengths.get(digests[name][:ID_LENGTH], lengths.get(name)),
                since=_since(row["recorded_at"], sounds[name]),
            )
        )
    todo.files = sorted(theirs & (set(clips) | set(in_raw)))  # rows whose sound is missing go too
    todo.texts = [clips[name].text for name in theirs & set(clips)] + [
        rows[name]["text"] for name in theirs & set(rows)
    ]
    _find_older(todo, objects, kept=set(digests.values()) - chosen)
    for recording in todo.recordings:
        with contextlib.suppress(UserError):  # where it is damaged; it goes all the same
            flac = prepared.path_of(recording.id)
            todo.prepared += [piece.hex() for piece in pieces_of(prepared.content(flac) if flac else b"")]
    is_older = any(one.place == "older" for one in todo.recordings) or bool(todo.prepared)
    todo.versioned = bool(todo.files) or is_older or wanted.speaker in _agreed()
    if LOCK_FILE.exists():
        todo.results = learned_from(todo, LOCK_FILE.read_text(encoding="utf-8"), objects) or _is_in_results(todo)
    else:
        todo.results = todo.versioned and any(folder.exists() for folder in RESULTS)
    return todo


class Objects:
    """DVC's objects on this machine, by their md5."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, md5: str) -> Path:
        return self.folder / md5[:2] / md5[2:]

    def content(self, md5: str) -> bytes | None:
        with contextlib.suppress(FileNotFoundError):
            return self.path(md5).read_bytes()
        return None

    def prepared(self, tree: dict[str, str], sound: str) -> bytes:
        """Converted sound in a version of data/prepared, by its audio_path; nothing where it is not here or damaged.

        Versions from before the sounds were put together in ZIP files have each by itself.
        """
        if sound in tree:
            return self.content(tree[sound]) or b""
        shard, _, name = sound.rpartition("/")
        with contextlib.suppress(UserError):
            return prepared.content_in(self.path(tree.get(shard, "")), name)
        return b""

    def tree(self, md5: str) -> dict[str, str] | None:
        """{path below the folder: md5} of a folder; None where this machine does not have it."""
        content = self.content(md5)
        return None if content is None else {entry["relpath"]: entry["md5"] for entry in json.loads(content)}

    def trees(self) -> Iterator[dict[str, str]]:
        for path in sorted(self.folder.glob("??/*.dir")):
            yield self.tree(path.parent.name + path.name)


def _is_in_results(todo: Todo) -> bool:
    """Whether a table of the results names one of the recordings, whatever dvc.lock says of them."""
    ids, files = {recording.id for recording in todo.recordings}, {recording.file for recording in todo.recordings}
    tables = [path for folder in RESULTS for path in folder.glob("*.jsonl")]
    rows = (row for path in tables for row in _rows_of(path.read_bytes()))
    return any(row.get("id") in ids or row.get("recorded_file", row.get("file")) in files for row in rows)


def _find_older(todo: Todo, objects: Objects, kept: set[str]) -> None:
    """Add what only older versions have: recordings that were deleted since, texts that were corrected.

    kept: sha256 of recordings that are by now another speaker's, and stay.
    """
    known, converted = {"", *(recording.md5 for recording in todo.recordings)}, set()
    kept_ids = {digest[:ID_LENGTH] for digest in kept}
    labels: set[tuple[str, str]] = set()  # (file below data/raw, id), as prepare noted them
    trees = list(objects.trees())
    rows_of = functools.cache(lambda md5: _rows_of(objects.content(md5)))
    for tree in trees:
        for manifest in (name for name in tree if Path(name).name == inbox.CLIPS):
            for row in filter(todo.wanted.is_row, rows_of(tree[manifest])):
                sound = _normal(str(Path(manifest).parent / str(row.get("audio_path"))))
                if row.get("id") in kept_ids:
                    continue
                if "recorded_file" in row:
                    todo.texts.append(str(row.get("text", "")))
                    labels.add((row["recorded_file"], row["id"]))
                    if row["id"] not in converted:
                        converted.add(row["id"])
                        todo.prepared += [piece.hex() for piece in pieces_of(objects.prepared(tree, sound))]
                    continue
                md5 = tree.get(sound, "")
                content = None if md5 in known else objects.content(md5)
                if _digest(content) in kept:
                    continue
                known.add(md5)
                todo.texts.append(str(row.get("text", "")))
                if content is not None:
                    todo.recordings.append(_older_recording(sound, content, row, objects.path(md5)))
    for tree in trees:
        for label, clip_id in labels:
            md5 = tree.get(label, "")
            content = None if md5 in known else objects.content(md5)
            if _digest(content).startswith(clip_id):
                todo.recordings.append(_older_recording(label, content, {}, objects.path(md5)))
                known.add(md5)
    todo.texts, todo.prepared = list(dict.fromkeys(todo.texts)), list(dict.fromkeys(todo.prepared))


def learned_from(todo: Todo, lock_text: str, objects: Objects) -> bool:
    """Whether results with this dvc.lock were made with any of the recordings; where it cannot be known, yes."""
    if not todo.versioned:
        return False
    ids, md5s = {recording.id for recording in todo.recordings}, {recording.md5 for recording in todo.recordings}
    files = {recording.file for recording in todo.recordings}
    try:
        stages = (YAML(typ="safe").load(lock_text) or {}).get("stages") or {}
    except YAMLError:
        return True
    for stage in stages.values():
        for dependency in stage.get("deps", []):
            path, md5 = Path(dependency["path"]), dependency.get("md5", "")
            if path == paths.RAW:
                tree = objects.tree(md5)
                if tree is None or md5s & set(tree.values()):
                    return True
            elif path.suffix == ".jsonl":
                content = objects.content(md5)
                if content is None:
                    return True
                if any(row.get("id") in ids or row.get("recorded_file") in files for row in _rows_of(content)):
                    return True
    return False


def _check_alone(theirs: set[str], clips: list[RawClip], wanted: Wanted, is_theirs: Callable[[RawClip], bool]) -> None:
    """Refuse, before anything has happened, what would cost others their recordings, or would leave some of theirs.

    Raises: UserError for recordings in whose parts others speak, and for archives of features.
    """
    for clip in clips:
        if clip.begins_s is not None and _normal(clip.file) in theirs and not is_theirs(clip):
            raise UserError(
                f"{paths.RAW / clip.file}: not all of its parts are known to be of {wanted.name}: remove it, or what "
                "they say in it, and the rows yourself, "
                f"run 'dvc add {paths.RAW}', then this again for all older versions"
            )
    for source in sorted({name.split("/")[0] for name in theirs}):
        for archive in sorted((paths.RAW / source).rglob(f"*{FEATURES}")):
            raise UserError(
                f"{archive} holds features of many recordings, out of which this cannot take single ones: remove it, "
                "nothing here reads it, then run this again"
            )


def clips_in_raw() -> list[RawClip]:
    """All that a table in data/raw names, also what no stage reads."""
    sources = [path for path in sorted(paths.RAW.glob("[!.]*")) if path.is_dir()]
    return read_sources(paths.RAW)[0] + [clip for source in sources for clip in clips_beside(source)]


def speakers() -> list[str]:
    """Everybody with a recording, a consent or phrases of their own."""
    names = {clip.speaker for clip in clips_in_raw()} | _agreed()
    names |= {clean(change.row.get("speaker") or "") for change in inbox.pending()}
    names |= {clean(name) for name in _read_names(OWN_PHRASES)}
    names |= {clean(name) for known in _read_names(PSEUDONYMS).values() for name in known["speakers"]}
    return sorted(name for name in names if name)


def _agreed() -> set[str]:
    """Speakers with a consent in data/raw."""
    consents = paths.RAW.glob(f"*/{inbox.CONSENTS}")
    return {clean(str(row.get("speaker"))) for path in consents for row in _rows_of(path.read_bytes())}


def published(speaker: str | None) -> list[Repository]:
    """What the receipts say is on the Hub; then what may be: named in params.yaml, or in an older one in git."""
    found: dict[tuple[str, str], Repository] = {}

    def add(kind: str, repo_id: str | None, why: str) -> None:
        if repo_id:
            found.setdefault((kind, repo_id), Repository(kind, repo_id, why))

    for stage, stage_kind in RECEIPTS.items():
        path = paths.RECEIPTS / f"{stage}.json"
        receipt = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for kind, part in (stage_kind, receipt), ("dataset", receipt.get("dataset") or {}):
            if part.get("published"):
                add(kind, part.get("repo_id") or part.get("space_id"), str(path))
    for repo_id, known in _read_names(PSEUDONYMS).items():
        if speaker in map(clean, known["speakers"]):
            add("dataset", repo_id, str(PSEUDONYMS))
    texts = [(str(path), path.read_text(encoding="utf-8")) for path in [PARAMS_FILE] if path.exists()]
    texts += [(f"{PARAMS_FILE} of {commit[:7]}", text) for commit, text in _versions_in_git(str(PARAMS_FILE))]
    for where, text in texts:
        with contextlib.suppress(YAMLError, AttributeError):  # older ones need not be as ours
            values = YAML(typ="safe").load(text)
            push, deploy = values.get("push") or {}, values.get("deploy") or {}
            dataset = push.get("dataset") or {}
            why = f"{PERHAPS}: {where} names it"
            add("model", push.get("enabled") and push.get("repo_id"), why)
            add("dataset", dataset.get("enabled") and dataset.get("repo_id"), why)
            add("space", deploy.get("enabled") and deploy.get("space_id"), why)
    return list(found.values())


# Saying


def explain(todo: Todo, objects: Objects, repository: Repo, hub: bool) -> None:
    """Print what was found and what will be done."""
    wanted = todo.wanted
    print(f"Recordings of {wanted.speaker}:" if wanted.speaker is not None else f"Recording {wanted.clip}:")
    groups: dict[tuple[str, str], list[Recording]] = {}
    for one in todo.recordings:
        groups.setdefault((one.place, one.file.split("/")[0]), []).append(one)
    for (place, source), group in groups.items():
        words = {"raw": "", "inbox": ", saved but not yet in data/raw", "older": ", in older versions only"}[place]
        known_s = [one.duration_s for one in group if one.duration_s is not None]
        total_s = sum(known_s)
        length = lasting(total_s)
        length += "" if len(known_s) == len(group) else " or more"
        languages = ", ".join(sorted({one.language for one in group if one.language})) or "no language named"
        print(f"  {paths.RAW / source}: {len(group)} ({length}; {languages}){words}")
    if not todo.recordings:
        print("  none with sound; rows, phrases or the note that they agreed")
    if wanted.speaker is not None:
        unnamed = sum(clip.speaker is None for clip in clips_in_raw())
        print("  The note that they agreed goes too, and their own phrases and pseudonym: they hold the name.")
        if PARAMS_FILE.exists() and (sentence := load_params().card.speaker):
            print(f"  params.yaml, card.speaker, stays: {sentence!r}. If it speaks of them, change it.")
        if unnamed:
            others = counted(unnamed, "other recording")
            print(f"  No speaker is named by {others}. If some are theirs: make forget CLIP=id, for each.")
    if todo.versioned:
        _explain_made_with(todo, objects)
        print("Copies that go as well:")
        print(f"  DVC's cache ({objects.folder}): all versions but the present one, also of other speakers and models.")
        for name, remote in repository.config["remote"].items():
            print(f"  DVC's remote {name} ({remote['url']}): everything that the present version does not use.")
        print(f"  The caches in {paths.cache_root()}: converted sound, transcripts, half-finished trainings.")
        if not objects.folder.is_relative_to(repository.root_dir):
            print("  DVC's cache lies outside this folder: other projects that share it lose what only they use.")
    if repositories := published(wanted.speaker) if todo.versioned else []:
        print("On the Hub, where older versions of a repository stay readable until it is deleted:")
        for one in repositories:
            print(f"  {one.kind} {one.repo_id}: {one.address} ({one.why})")
        if not hub:
            print("  They stay. To delete them, add HUB=1 to make forget (--hub), or do it in Settings at the address.")
    print("Out of reach: copies of this folder on other machines, backups, and what others have downloaded.")


def _explain_made_with(todo: Todo, objects: Objects) -> None:
    print("Made with them:")
    made = []
    if todo.results:
        made.append("the present model, its evaluation, report and card: removed; 'make repro' makes new ones without")
    elif any(folder.exists() for folder in RESULTS):
        made.append("not the present model and results: these stay")
    first = min((one.since for one in todo.recordings), default=None)
    for past in reversed(runs.history()):
        if first is not None and datetime.fromisoformat(past.started_at).timestamp() >= first:
            settings = ", ".join(f"{key} {value}" for key, value in past.settings.items() if value is not None)
            made.append(f"training of {past.started_at}, {past.outcome} ({settings})")
    for name, commit in _experiments():
        lock_text = _git("show", f"{commit}:./{LOCK_FILE}")
        with_them = lock_text is None or learned_from(todo, lock_text, objects)
        what = "made with them" if with_them else "made without them, but its results go with DVC's older versions"
        made.append(f"experiment {name} ({commit[:7]}): removed; {what}")
    versions = [commit[:7] for commit, text in _versions_in_git(str(LOCK_FILE)) if learned_from(todo, text, objects)]
    if versions:
        some = ", ".join(versions[:8]) + (" ..." if len(versions) > 8 else "")
        made.append(
            f"{counted(len(versions), 'version')} in git ({some}): the commits stay, they hold hashes; their data goes"
        )
    for line in made:
        print(f"  {line}")


def ask(question: str, expected: str) -> bool:
    """Raises: UserError where nobody is there to answer."""
    try:
        return input(f"{question} ").strip() == expected
    except EOFError:
        raise UserError("nothing was erased: nobody answered. Add YES=1 (--yes) to erase without a question") from None


# Erasing


def erase(todo: Todo, repository: Repo) -> list[str]:
    """Remove all but what is on the Hub; returns what could not be done. DVC is held by `repository`."""
    problems: list[str] = []
    # DVC warns of outputs that are not made yet, and counts objects: nothing for the person who reads this.
    logging.getLogger("dvc").setLevel(logging.ERROR)
    _erase_from_raw(todo)
    _erase_from_inbox(todo)
    _erase_by_name(todo)
    if todo.results:
        LOCK_FILE.unlink(missing_ok=True)
        for folder in RESULTS:
            for path in (folder, *folder.parent.glob(f".{folder.name}-*")):
                _remove(path)
    for kind in CACHED if todo.versioned else ():
        _empty(paths.cache_root() / kind)
    listener._remove_left_folders()
    ids = Traces({recording.id.encode(): "an id" for recording in todo.recordings})
    for folder in Path(tempfile.gettempdir()).glob(PUSH_FOLDERS):
        if any(ids.in_file(path) for path in files_below([folder])):
            shutil.rmtree(folder)
    if todo.versioned:
        repository.add(str(paths.RAW))
        _remove_experiments()
        repository._reset()  # it remembers dvc.lock and data/raw.dvc as they were
        problems += _collect_garbage(repository)
    return problems


def _erase_from_raw(todo: Todo) -> None:
    """Rows first, then sounds: at no time does a row name a file that is not there."""
    speaker = todo.wanted.speaker
    by_source: dict[str, set[str]] = {}
    for name in todo.files:
        source, _, audio_path = _normal(name).partition("/")
        by_source.setdefault(source, set()).add(audio_path)
    for consents in paths.RAW.glob(f"*/{inbox.CONSENTS}"):
        by_source.setdefault(consents.parent.name, set())
    for source, gone in by_source.items():
        folder = paths.RAW / source
        for table, kept in tables_without(folder, gone):
            _replace(table, kept)
        if (consents := folder / inbox.CONSENTS).is_file():
            agreed = json_lines_without(consents.read_bytes(), lambda row: clean(str(row.get("speaker"))) == speaker)
            _replace(consents, agreed)
        for audio_path in gone:
            sound = folder / audio_path
            sound.unlink(missing_ok=True)
            beside = list(sound.parent.glob(f"{glob.escape(sound.stem)}.*"))
            if not any(path.suffix.lower() in AUDIO_SUFFIXES for path in beside):
                for path in beside:
                    if TRANSCRIPT.fullmatch(path.name.removeprefix(sound.stem)):
                        path.unlink()
            for left in [sound.parent, *sound.parent.parents]:
                if left == paths.RAW or paths.RAW not in left.parents:
                    break
                with contextlib.suppress(OSError):  # not empty
                    left.rmdir()


def _replace(path: Path, content: bytes) -> None:
    """Write a file of data/raw whole, or remove it where nothing is left in it; no part file is ever in data/raw."""
    if not content.strip():
        path.unlink()
    elif content != path.read_bytes():
        partial = runs.FOLDER / ".forget-partial"
        write_whole(partial, content)
        os.replace(partial, path)


def _erase_from_inbox(todo: Todo) -> None:
    files, ids = set(todo.files), {recording.id for recording in todo.recordings}
    for change in inbox.pending():
        name = change.row.get("audio_path")
        is_theirs = name is not None and (f"{change.source}/{name}" in files or Path(name).stem in ids)
        if todo.wanted.speaker is not None:
            is_theirs |= clean(change.row.get("speaker") or "") == todo.wanted.speaker
        if is_theirs:
            gone = inbox.INBOX / f"{inbox.GONE}{change.folder.name}"
            change.folder.rename(gone)
            shutil.rmtree(gone)
    inbox._sweep()
    for unfinished in inbox.INBOX.glob(f"{inbox.UNFINISHED}*"):
        if time.time() - unfinished.stat().st_mtime > DYING_S:
            shutil.rmtree(unfinished)


def _erase_by_name(todo: Todo) -> None:
    """What the page keeps by a speaker's name, and lines of logs that name a recording."""
    speaker = todo.wanted.speaker
    phrases, pseudonyms = _read_names(OWN_PHRASES), _read_names(PSEUDONYMS)
    for name in [name for name in phrases if clean(name) == speaker]:
        del phrases[name]
        write_json(OWN_PHRASES, phrases)
    for known in pseudonyms.values():
        for name in [name for name in known["speakers"] if clean(name) == speaker]:
            del known["speakers"][name]
            write_json(PSEUDONYMS, pseudonyms)
    ids = {recording.id for recording in todo.recordings}
    if PARAMS_FILE.exists() and ids & set(confirmed := load_params().push.dataset.confirmed):
        runs.change_settings({"push.dataset.confirmed": [one for one in confirmed if one not in ids]})
    traces = Traces({name.encode(): "a name" for one in todo.recordings for name in (one.id, one.file)})
    logs = [path for path in runs.FOLDER.rglob("*") if path.suffix in (".txt", ".log")]
    for path in (*logs, inbox.MOVER_LOG, inbox.MOVER_PROBLEM):
        if path.is_file() and traces.in_file(path):
            lines = path.read_bytes().splitlines(keepends=True)
            write_whole(path, b"".join(line for line in lines if not traces.in_bytes(line)))


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _empty(folder: Path) -> None:
    """Remove what is in a folder, but for lock files: a process that has one open would then hold it alone."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.suffix != ".lock" and path.name != ".lock":
            path.unlink()


def _remove_experiments() -> None:
    """All of them: their results go with DVC's older versions, and without these DVC cannot show them."""
    for ref in (_git("for-each-ref", "--format=%(refname)", "refs/exps") or "").split():
        _git("update-ref", "-d", ref)
    _remove(EXPERIMENTS)


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


def delete_on_hub(todo: Todo) -> list[str]:
    """Delete the chosen repositories for good; returns what could not be deleted."""
    from stages.hub.client import Refused, api, call

    problems = []
    for one in list(todo.repositories):
        try:
            call(f"deleting {one.repo_id}", api().delete_repo, one.repo_id, repo_type=one.kind)
            print(f"deleted on the Hub: {one.kind} {one.repo_id}")
        except UserError as error:
            if not (isinstance(error, Refused) and error.status == 404):
                problems.append(f"{one.kind} {one.repo_id} on the Hub ({error}); or delete it at {one.address}")
                continue
            # Deleted before, or private to somebody else: the Hub answers the same.
            print(f"not found on the Hub: {one.kind} {one.repo_id}. If {one.address} still shows it, delete it there")
        todo.repositories.remove(one)
        _write_todo(todo)
    return problems


# Searching


def search(todo: Todo, repository: Repo) -> list[str]:
    """What is still there, with what to do about it."""
    kept = "\n".join(clip.text for clip in clips_in_raw())
    kept += "\n" + "\n".join(str(change.row.get("text")) for change in inbox.pending())
    kept += "\n" + json.dumps(_read_names(OWN_PHRASES), ensure_ascii=False)
    wanted: dict[bytes, str] = {}
    for text in todo.texts:
        for one in {text, clean(text)}:
            if one and one not in kept:
                wanted |= dict.fromkeys(spellings(one), "a text")
    if todo.wanted.speaker is not None:
        name = json.dumps(todo.wanted.speaker, ensure_ascii=False)
        wanted |= {f'"speaker": {name}'.encode(): "the name", f"{name}: {{".encode(): "the name"}
    for recording in todo.recordings:
        wanted |= {bytes.fromhex(piece): f"sound of {recording.file}" for piece in recording.pieces}
        wanted |= {recording.id.encode(): "an id", recording.sha256.encode(): "a hash"}
    wanted |= {bytes.fromhex(piece): "converted sound" for piece in todo.prepared}
    traces = Traces(wanted)
    left = []
    folders = [Path(), paths.cache_root(), Path(repository.cache.local.path), *_local_remotes(repository)]
    for pattern in (f"{listener.FOLDER_PREFIX}*", PUSH_FOLDERS):
        folders += Path(tempfile.gettempdir()).glob(pattern)
    left_out = [Path(name) for name in OURS] + [*runs.FOLDER.glob(ERASING_FILES), paths.cache_root() / "phrases"]
    for path in tqdm(list(files_below(folders, left_out)), desc="searching", unit="file", disable=None):
        try:
            if found := traces.in_file(path):
                left.append(f"{_short(path)} holds {found}: remove it, or the part of it")
        except PermissionError:
            left.append(f"{_short(path)} cannot be read: look whether it holds something of them")
        except FileNotFoundError:
            continue  # gone since it was listed
    return left + _left_in_git(todo)


def _left_in_git(todo: Todo) -> list[str]:
    """Recordings that were committed to git by mistake; tables, which may be harmless, are only spoken of."""
    remedy = "rewrite the history (git filter-repo --invert-paths --path ...), also where it was pushed"
    blobs = "\n".join(recording.git_blob for recording in todo.recordings)
    answers = (_git("cat-file", "--batch-check", answer_to=blobs) or "").splitlines()
    left = [f"git has a recording as {line.split()[0][:12]}: {remedy}" for line in answers if " blob " in line]
    folders = [str(folder) for folder in (paths.RAW, inbox.INBOX, *RESULTS)]
    for name in sorted(set((_git("log", "--all", "--format=", "--name-only", "--", *folders) or "").splitlines())):
        if name.endswith((inbox.CLIPS, ".csv", ".jsonl", ".txt", ".html")):
            print(f"git's history has {name}: look whether it names them; if so, {remedy}")
    return left


# From start to end


@contextlib.contextmanager
def at_rest() -> Iterator[Repo]:
    """DVC's repository with everything held still that reads or writes recordings.

    Raises: UserError where something is at work and does not end soon.
    """
    gives_up_at_s = time.monotonic() + PATIENCE_S
    said = ""
    while True:
        with contextlib.ExitStack() as stack:
            busy = ""
            if stack.enter_context(lock(runs.RUN_LOCK)) is None:
                newest = runs.current()
                busy = f"the pipeline (since {newest.started_at})" if newest else "the pipeline"
            elif stack.enter_context(lock(inbox.MOVER_LOCK)) is None:
                busy = "new recordings that move into data/raw"
            elif at_work := [*_experiments_at_work(), *_cache_users_at_work()]:
                busy = at_work[0]
            else:
                try:
                    repository = stack.enter_context(inbox._dvc_at_rest())
                except inbox.Busy as error:
                    busy = str(error)
                else:
                    yield repository
                    return
        if time.monotonic() > gives_up_at_s:
            raise UserError(f"at work: {busy}. Wait for its end, or cancel it on the Train page; then run this again")
        if busy != said:
            print(f"waiting for {busy}", flush=True)
            said = busy
        time.sleep(inbox.PAUSE_S)


def _experiments_at_work() -> list[str]:
    """Processes in experiments' own copies of this folder, which DVC's list here does not name."""
    found = []
    place = EXPERIMENTS.resolve()
    for process in psutil.process_iter(["pid", "cwd"]):
        if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(place):
            found.append(f"an experiment (process {process.info['pid']})")
    for path in EXPERIMENTS.glob("celery/*.json"):
        worker = json.loads(path.read_text(encoding="utf-8"))
        if worker.get("returncode") is None and psutil.pid_exists(worker["pid"]):
            found.append(f"DVC's queue (process {worker['pid']}; 'dvc queue stop')")
    return found


def _cache_users_at_work() -> list[str]:
    """Trainings and data sets in the making, whoever started them."""
    locks = [*(paths.cache_root() / "training").glob("*.lock"), paths.cache_root() / "dataset/.lock"]
    return [f"what holds {path}" for path in locks if is_locked(path)]


def forget(wanted: Wanted, yes: bool, hub: bool) -> str:
    """Raises: UserError for a name that nobody has, for another answer than the name, and where something is left."""
    begun = _read_todo(wanted.todo_file)
    if begun:
        print(f"Going on with what was begun: {wanted.name} is being erased.", flush=True)
        if hub and not begun.repositories:
            begun.repositories = choose_repositories(wanted, yes)
        finish(begun, is_begun=True)
    else:
        finish(propose(wanted, yes, hub))
    for path in sorted(runs.FOLDER.glob(ERASING_FILES)):
        print(f"Not yet ended: make forget for {_read_todo(path).wanted.name}. Run that again, too.")
    return f"{wanted.name} is erased; nothing found"


def propose(wanted: Wanted, yes: bool, hub: bool) -> Todo:
    """Say what there is and what will go, and ask.

    Raises: UserError for a name or an id that nothing has, and for another answer than the name.
    """
    with _repository() as repository:
        objects = Objects(Path(repository.cache.local.path))
        todo = find(wanted, objects)
        if not todo.is_anything and wanted.speaker not in (known := speakers()):
            if wanted.speaker is None:
                raise UserError(
                    f"no recording has the id {wanted.clip}: the Clips page and data/prepared/clips.jsonl name the ids"
                )
            names = ", ".join(known) or "nobody"
            raise UserError(f"no recording, consent or phrase is of {wanted.speaker!r}: known here: {names}")
        explain(todo, objects, repository, hub)
    if not yes and not ask(f"Type {wanted.name} to erase all this, anything else to leave it:", wanted.name):
        raise UserError("nothing was erased: the answer was another one")
    if hub and todo.versioned:
        todo.repositories = choose_repositories(wanted, yes)
    return todo


def choose_repositories(wanted: Wanted, yes: bool) -> list[Repository]:
    """Which repositories to delete on the Hub: asked for each; without questions those that are surely ours."""
    chosen = []
    for one in published(wanted.speaker):
        question = f"Delete {one.kind} {one.repo_id} on the Hub for good? Type its name:"
        if one.is_certain if yes else ask(question, one.repo_id):
            chosen.append(one)
        else:
            print(f"stays on the Hub: {one.kind} {one.repo_id}, {one.address}")
    return chosen


def finish(todo: Todo, is_begun: bool = False) -> None:
    """Erase, then search. Raises: UserError where something is left; the list of what to do then stays."""
    with at_rest() as repository:
        if not is_begun:
            deleted = [change for change in inbox.pending() if change.kind == "delete"]
            there = {inbox._kept(change.source, change.row["audio_path"]) for change in deleted}
            raw.check_complete(removed=sum(path is not None and not path.exists() for path in there))
        todo.join(find(todo.wanted, Objects(Path(repository.cache.local.path))))  # what came since it was asked
        _write_todo(todo)
        problems = erase(todo, repository)
        if todo.repositories:
            problems += delete_on_hub(todo)
        print("searching for what is left", flush=True)
        problems += search(todo, repository)
        names_and_hashes = Path(repository.site_cache_dir)
    shutil.rmtree(names_and_hashes, ignore_errors=True)  # DVC makes its list of files and hashes again
    if problems:
        for problem in problems:
            print(f"still there: {problem}")
        raise UserError(f"not ended, {len(problems)} to be done by hand: see above, then run this again")
    todo.wanted.todo_file.unlink()
    if inbox.waiting():
        inbox.start_moving()
    if todo.versioned and Path(".git").exists():
        print(f"Commit {raw.TRACKED} and {LOCK_FILE}: git still has them as they were. They hold no recordings.")


# Small things


def _repository():
    """DVC's repository, to read from. Raises: UserError where this folder is none."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        return Repo()
    except NotDvcRepoError:
        raise UserError("this folder is no DVC repository: go to the project's folder") from None


def _write_todo(todo: Todo) -> None:
    write_json(todo.wanted.todo_file, asdict(todo))
    os.sync()  # a power cut must not find the recordings half gone and the list unwritten


def _read_todo(path: Path) -> Todo | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    values["wanted"] = Wanted(**values["wanted"])
    values["recordings"] = [Recording(**one) for one in values["recordings"]]
    values["repositories"] = [Repository(**one) for one in values["repositories"]]
    return Todo(**values)


def _digest(content: bytes | None) -> str:
    return hashlib.sha256(content).hexdigest() if content is not None else ""


def _recording(file: str, place: str, content: bytes, **about: object) -> Recording:
    return Recording(
        file=file,
        place=place,
        sha256=_digest(content),
        md5=hashlib.md5(content).hexdigest(),
        git_blob=hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
        pieces=[piece.hex() for piece in pieces_of(content)],
        **about,
    )


def _older_recording(file: str, content: bytes, row: dict, path: Path) -> Recording:
    return _recording(
        file,
        "older",
        content,
        language=str(row.get("language") or ""),
        duration_s=row.get("duration_s"),
        since=_since(row.get("recorded_at"), path),
    )


def _since(recorded_at: str | None, path: Path) -> float:
    """When a recording was made, or at the latest: seconds since 1970."""
    with contextlib.suppress(ValueError, TypeError):
        return datetime.fromisoformat(recorded_at).timestamp()
    return path.stat().st_mtime


def _lengths() -> dict[str, float]:
    """Seconds of recordings, by id (as prepared) and by file (as the page measured them)."""
    lengths = {clip.file: clip.duration_s for clip in inbox.stored_clips() if clip.duration_s is not None}
    prepared = paths.PREPARED / inbox.CLIPS
    return lengths | {row["id"]: row["duration_s"] for row in (read_jsonl(prepared) if prepared.exists() else [])}


def _rows_of(content: bytes | None) -> list[dict]:
    """Rows of JSON lines; lines that are none are left out."""
    rows = []
    for line in (content or b"").split(b"\n"):
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line.decode("utf-8-sig")))
    return [row for row in rows if isinstance(row, dict)]


def _read_names(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _normal(name: str) -> str:
    return os.path.normpath(name.strip())


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _local_remotes(repository: Repo) -> list[Path]:
    """Folders of DVC's remotes that lie on this machine."""
    addresses = [remote["url"] for remote in repository.config["remote"].values()]
    return [
        Path(address.removeprefix("file://")) for address in addresses if "://" not in address.removeprefix("file://")
    ]


def _git(*arguments: str, answer_to: str = "") -> str | None:
    """What git prints; None where it fails, or where this folder is no git repository."""
    if not Path(".git").exists():
        return None
    done = subprocess.run(["git", *arguments], input=answer_to, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def _versions_in_git(name: str) -> list[tuple[str, str]]:
    """(commit, content) of each version of a file in any branch, tag or experiment's base, the newest first."""
    commits = (_git("log", "--branches", "--tags", "--remotes", "HEAD", "--format=%H", "--", name) or "").split()
    contents = ((commit, _git("show", f"{commit}:./{name}")) for commit in commits)
    return [(commit, content) for commit, content in contents if content is not None]


def _experiments() -> list[tuple[str, str]]:
    """(name, commit) of DVC's experiments."""
    lines = (_git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps") or "").splitlines()
    found = [(EXPERIMENT.fullmatch(line.split()[0]), line.split()[1]) for line in lines]
    return [(match[1], commit) for match, commit in found if match]


def main() -> str:
    parser = argparse.ArgumentParser(prog="make forget", description=__doc__.split("\n")[0])
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--speaker", help="everything of this person")
    who.add_argument("--clip", help="one recording, by its id of 16 letters and digits")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--hub", action="store_true", help="delete what was published, too")
    options = parser.parse_args()
    if options.clip is not None and not re.fullmatch(f"[0-9a-f]{{{ID_LENGTH}}}", options.clip):
        raise UserError(f"--clip {options.clip!r} is no id: it has {ID_LENGTH} of the signs 0-9 and a-f")
    speaker = None if options.speaker is None else clean(options.speaker)
    if speaker == "":
        raise UserError("the name is empty: make forget SPEAKER=name")
    return forget(Wanted(speaker, options.clip), options.yes, options.hub)


if __name__ == "__main__":
    run("forget", main, outlives_parent=True)

"""Taking away: recordings and rows, what was made with them, older versions, caches, and what is on the Hub."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from recorder import inbox, reading, runs
from recorder.erasing.finding import RESULTS, normal_path, read_names
from recorder.erasing.rows import json_lines_without, tables_without
from recorder.erasing.todo import Todo, write_todo
from recorder.erasing.traces import Traces, files_below
from recorder.erasing.versions import git
from stages.common import paths
from stages.common.dvc import DVC_LOCK
from stages.common.files import write_json, write_whole
from stages.common.params import PARAMS_FILE, load_params
from stages.common.stage import UserError
from stages.speech.clips import AUDIO_SUFFIXES
from stages.speech.text import clean

if TYPE_CHECKING:
    from dvc.repo import Repo

EXPERIMENTS = Path(".dvc/tmp/exps")  # their copies of this folder
# Of the content cache, what holds sound, texts, ids or what was learnt; its entries do not say whose.
CACHED = ("prepared", "copies", "pieces", "base-transcripts", "base-predictions", "encoded", "training", "dataset")
CACHED += ("merged", "recorder")
PUSH_FOLDERS = "ownvoice-push-*"  # in the temporary folder: what a push that was killed has left
TRANSCRIPT = re.compile(r"\.txt|(\.[a-z]{2})?\.(srt|vtt)")  # behind a recording's name without its ending
DYING_S = 60.0  # an unfinished change in the inbox is a dead process's after this; writing one takes an instant


def erase(todo: Todo, repository: Repo) -> list[str]:
    """Remove all but what is on the Hub; returns what could not be done. DVC is held by `repository`."""
    problems: list[str] = []
    # DVC warns of outputs that are not made yet, and counts objects: nothing for the person who reads this.
    logging.getLogger("dvc").setLevel(logging.ERROR)
    _erase_from_raw(todo)
    _erase_from_inbox(todo)
    _erase_by_name(todo)
    if todo.results:
        DVC_LOCK.unlink(missing_ok=True)
        for folder in RESULTS:
            for path in (folder, *folder.parent.glob(f".{folder.name}-*")):
                _remove(path)
    for kind in CACHED if todo.versioned else ():
        _empty(paths.cache_root() / kind)
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
        source, _, audio_path = normal_path(name).partition("/")
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
    phrases, pseudonyms = read_names(reading.OWN_PHRASES), read_names(paths.PSEUDONYMS)
    for name in [name for name in phrases if clean(name) == speaker]:
        del phrases[name]
        write_json(reading.OWN_PHRASES, phrases)
    for known in pseudonyms.values():
        for name in [name for name in known["speakers"] if clean(name) == speaker]:
            del known["speakers"][name]
            write_json(paths.PSEUDONYMS, pseudonyms)
    ids = {recording.id for recording in todo.recordings}
    if PARAMS_FILE.exists() and ids & set(confirmed := load_params().push.dataset.confirmed):
        runs.change_settings({"push.dataset.confirmed": [one for one in confirmed if one not in ids]})
    traces = Traces({name.encode(): "a name" for one in todo.recordings for name in (one.id, one.file)})
    logs = [path for path in runs.FOLDER.rglob("*") if path.suffix in (".txt", ".log")]
    for path in (*logs, inbox.LOG):
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
    for ref in (git("for-each-ref", "--format=%(refname)", "refs/exps") or "").split():
        git("update-ref", "-d", ref)
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
        write_todo(todo)
    return problems

"""Looking in every file of this folder, the caches and the remotes for what is left of somebody."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from recorder import inbox, reading, runs
from recorder.erasing.finding import RESULTS, clips_in_raw, read_names
from recorder.erasing.removing import PUSH_FOLDERS
from recorder.erasing.todo import ERASING_FILES, Todo
from recorder.erasing.traces import Traces, files_below, spellings
from recorder.erasing.versions import git, local_remotes
from stages.common import paths
from stages.speech.text import clean

if TYPE_CHECKING:
    from dvc.repo import Repo

# What comes with ownvoice holds no recordings, but phrases that people read aloud.
OURS = (".git", ".venv", ".demo", "data/demo", "demo_voxtral", "docs", "recorder", "stages", "templates", "tests")


def search(todo: Todo, repository: Repo) -> list[str]:
    """What is still there, with what to do about it."""
    kept = "\n".join(clip.text for clip in clips_in_raw())
    kept += "\n" + "\n".join(str(change.row.get("text")) for change in inbox.pending())
    kept += "\n" + json.dumps(read_names(reading.OWN_PHRASES), ensure_ascii=False)
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
    folders = [Path(), paths.cache_root(), Path(repository.cache.local.path), *local_remotes(repository)]
    folders += Path(tempfile.gettempdir()).glob(PUSH_FOLDERS)
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
    answers = (git("cat-file", "--batch-check", answer_to=blobs) or "").splitlines()
    left = [f"git has a recording as {line.split()[0][:12]}: {remedy}" for line in answers if " blob " in line]
    folders = [str(folder) for folder in (paths.RAW, inbox.INBOX, *RESULTS)]
    for name in sorted(set((git("log", "--all", "--format=", "--name-only", "--", *folders) or "").splitlines())):
        if name.endswith((inbox.CLIPS, ".csv", ".jsonl", ".txt", ".html")):
            print(f"git's history has {name}: look whether it names them; if so, {remedy}")
    return left


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

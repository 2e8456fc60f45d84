"""What is left of a speaker or of one recording after erasing (recorder/forget.py)."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from recorder import inbox, reading, runs, traces
from recorder.erasing import ERASURE_FILES, PUBLIC_CACHES, TEMPORARY, Todo, clips_in_raw, file_of, git, read_dict
from recorder.traces import Traces, cell_ways, files_below, speaker_ways, text_ways
from stages.common import paths
from stages.speech.text import clean

if TYPE_CHECKING:
    from dvc.repo import Repo

# What comes with ownvoice holds no recordings, but phrases that people read aloud.
OURS = (".git", ".venv", ".demo", "data/demo", "demo_voxtral", "docs", "recorder", "stages", "templates", "tests")


def search(todo: Todo, repository: Repo) -> list[str]:
    """What is still there in this folder, its caches, local remotes and git: file, line if it has lines, and what."""
    remotes = [remote["url"].removeprefix("file://") for remote in repository.config["remote"].values()]
    # data/raw and data may be links to another disk.
    folders = [Path(), paths.RAW.parent, paths.RAW, paths.cache_root(), Path(repository.cache.local.path)]
    folders += [Path(address) for address in remotes if "://" not in address]
    folders += Path(tempfile.gettempdir()).glob(TEMPORARY)
    left_out = [
        *map(Path, OURS),
        *runs.FOLDER.glob(ERASURE_FILES),
        *(paths.cache_root() / kind for kind in PUBLIC_CACHES),
    ]
    wanted, cells = _wanted(todo)
    in_raw = sorted(files_below([paths.RAW]))
    # Alone first: rows that a person is to remove are in DVC's cache, too, until the next time.
    left = list(traces.search(in_raw, Traces(wanted | cells), set(todo.ids)))
    theirs = {paths.RAW.resolve() / file.split("/")[0] for file in todo.files}
    archives = [path for path in in_raw if path.suffix == ".ark" and not theirs.isdisjoint(path.parents)]
    left += [f"{traces.shown(path)} (Kaldi's features of many recordings: nothing reads it)" for path in archives]
    left = left or list(traces.search(files_below(folders, left_out), Traces(wanted), set(todo.ids)))
    answers = git("cat-file", "--batch-check", answer_to="\n".join(todo.blobs)).splitlines()
    remedy = "rewrite git's history (git filter-repo --invert-paths --path ...), also where it was pushed"
    return left + [f"git has a recording as {one[:12]}: {remedy}" for one in answers if " blob " in one]


def _wanted(todo: Todo) -> tuple[dict[bytes, str], dict[bytes, str]]:
    """What to search for anywhere, and in tables of data/raw too; nothing that somebody else's recordings have too."""
    # A row without a recording is nobody else's: a table may have named an erased one without its ending.
    clips = [clip for clip in clips_in_raw() if file_of(clip) not in todo.files]
    others = [clip for clip in clips if (paths.RAW / file_of(clip)).is_file()]
    pending = [str(change.row.get("text")) for change in inbox.pending()]
    said = "\n".join(
        [*(clip.text for clip in others), *pending, json.dumps(read_dict(reading.OWN_PHRASES), ensure_ascii=False)]
    )
    texts = {one for text in todo.texts for one in (text, clean(text)) if one and one not in said}
    wanted = {way: "a text" for text in texts for way in text_ways(text)}
    wanted |= {bytes.fromhex(piece): "sound" for piece in todo.pieces}
    wanted |= {one.encode(): "an id" for one in todo.ids}
    cells: dict[bytes, str] = {}
    if todo.speaker is not None:
        wanted |= dict.fromkeys(speaker_ways(todo.speaker), "the name")
        if todo.speaker not in said:
            cells |= dict.fromkeys(cell_ways(todo.speaker), "the name")
    kept_names = {os.path.basename(file_of(clip)) for clip in others}
    listed = [file for file in todo.files if file.split("/")[0] not in inbox.SOURCES]  # in tables that are not ours
    for name in {os.path.basename(file) for file in listed} - kept_names:
        cells |= dict.fromkeys([*cell_ways(name), f"\n{Path(name).stem}|".encode()], "a row about a recording")
    return wanted, cells

"""What is left of a speaker or of one recording after erasing (recorder/forget.py)."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from recorder import inbox, reading, runs
from recorder.erasing import ERASURE_FILES, PUBLIC_CACHES, Erasure, clips_in_raw, file_of
from stages.common import paths
from stages.common.files import sha256_of_file
from stages.common.stage import UserError
from stages.speech.clips import ID_LENGTH
from stages.speech.names import Recordings
from stages.speech.pairing import is_recording
from stages.speech.text import clean

if TYPE_CHECKING:
    from dvc.repo import Repo

# What comes with ownvoice holds no recordings, but phrases that people read aloud.
OURS = (".git", ".venv", ".demo", "data/demo", "demo_voxtral", "docs", "recorder", "stages", "templates", "tests")
TEMPORARY = "ownvoice-*"  # what an interrupted push or upload has left in the temporary folder
MIN_TEXT_BYTES = 8  # a shorter text is found by chance
# Prints each whole word (-Fwo) of thousands with its line (-n), also in binary files (-a); not what is gone (-s).
GREP = ("grep", "-Fwoasn", "--with-filename", "--null", "--file=-", "--")
FILES_AT_ONCE = 1000  # for grep: all paths of a large cache do not fit on a command line


def search(erasure: Erasure, repository: Repo) -> list[str]:
    """What is still there in this folder, its caches and local remotes: `file:line (what)`, or `file (what)`."""
    remotes = [remote["url"].removeprefix("file://") for remote in repository.config["remote"].values()]
    # data/raw and data may be links to another disk.
    folders = [Path(), paths.RAW.parent, paths.RAW, paths.cache_root(), Path(repository.cache.local.path)]
    folders += [Path(address) for address in remotes if "://" not in address]
    folders += Path(tempfile.gettempdir()).glob(TEMPORARY)
    caches = [paths.cache_root() / kind for kind in PUBLIC_CACHES]
    left_out = [*map(Path, OURS), reading.OWN_PHRASES, *runs.FOLDER.glob(ERASURE_FILES), *caches]
    words, names = _words_and_names(erasure)
    # Alone first: rows that a person is to remove are in DVC's cache, too, until the next time.
    in_raw = files_below([paths.RAW])
    tables = [path for path in in_raw if not is_recording(path)]  # sound has short names by chance
    found = search_files(in_raw, erasure, words) | search_files(tables, erasure, names) | _rows_by_other_names(erasure)
    found = found or search_files(files_below(folders, left_out), erasure, words)
    return [f"{place} ({what})" for place, what in sorted(found.items())]


def _words_and_names(erasure: Erasure) -> tuple[dict[str, str], dict[str, str]]:
    """{words: what they are} to search for anywhere, and names in tables of data/raw; nothing that others have too."""
    # A row without a recording is nobody's: a table may have named an erased one without its ending.
    others = [clip for clip in clips_in_raw() if (paths.RAW / file_of(clip)).is_file()]
    of_others = "\n".join(f"{clip.text}\n{clip.recorded_file}\n{clip.speaker or ''}" for clip in others)
    of_others = "\n".join([of_others, *inbox.consents()])  # Ann Lee's name, which Ann's is a part of
    words = dict.fromkeys(erasure.ids, "an id")
    for text in {*erasure.texts, *map(clean, erasure.texts)}:
        if len(text.encode()) >= MIN_TEXT_BYTES and text not in of_others:
            ways = {*_in_json(text), text, text.replace('"', '""'), html.escape(text)}
            words |= dict.fromkeys((way for way in ways if "\n" not in way), "a text")
    names = {Path(file).name: "a row about a recording" for file in erasure.files}
    if erasure.speaker is not None:
        words |= dict.fromkeys(speaker_ways(erasure.speaker), "the name")
        names |= dict.fromkeys(_in_json(erasure.speaker), "the name")
    for name in [name for name in names if name in of_others]:
        if re.search(rf"\b{re.escape(name)}\b", of_others, re.ASCII):
            del names[name]
    return words, names


def _rows_by_other_names(erasure: Erasure) -> dict[str, str]:
    """{recording as a row names it: what it is} of rows that no longer lead to an erased recording."""
    gone = Recordings(erasure.files, lambda name: True)
    rows = {file_of(clip) for clip in clips_in_raw()}.difference(erasure.files)
    missing = [file for file in rows if not (paths.RAW / file).exists()]
    named = []
    for file in missing:
        source, _, written = file.partition("/")
        if any(name.startswith(f"{source}/") for name in gone.find(written, source)):
            named.append(file)
    return {f"{paths.RAW / file}": "a row about a recording" for file in named}


def speaker_ways(name: str) -> set[str]:
    """A speaker's name as JSON files of ours write it."""
    return {way for one in _in_json(name) for way in (f'"speaker":"{one}"', f'"speaker": "{one}"', f'"{one}": {{')}


def _in_json(text: str) -> set[str]:
    """A text as it is within JSON's quotes: other letters than English ones as they are, or escaped."""
    return {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}


def search_files(files: list[Path], erasure: Erasure, words: Mapping[str, str]) -> dict[str, str]:
    """{`file` or `file:line`: what is there}: copies of the recordings, files named by an id, and lines with words."""
    found = {}
    ids, sizes = set(erasure.ids), set(erasure.sounds.values())
    patterns = os.fsencode("\n".join(word for word in words if "\n" not in word))
    for path in files:
        with contextlib.suppress(OSError):  # gone since it was listed, or not readable
            if not ids.isdisjoint(re.findall(f"[0-9a-f]{{{ID_LENGTH}}}", path.name)):
                found[_shown(path)] = "named by an id"
            elif path.stat().st_size in sizes and sha256_of_file(path) in erasure.sounds:
                found[_shown(path)] = "sound"
        if path.exists() and not os.access(path, os.R_OK):
            found[_shown(path)] = "cannot be read: look into it yourself"
    for first in range(0, len(files), FILES_AT_ONCE):
        command = [*GREP, *map(str, files[first : first + FILES_AT_ONCE])]
        bytes_only = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(command, input=patterns, capture_output=True, env=bytes_only, check=False)
        if done.stderr:
            raise UserError(f"the search failed ({done.stderr.decode(errors='replace').strip()[:200]}): run this again")
        for name, line, word in re.findall(rb"([^\0]+)\0(\d+):([^\n]*)\n", done.stdout):  # a name may have many lines
            place = f"{_shown(Path(os.fsdecode(name)))}:{line.decode()}"
            found.setdefault(place, words[os.fsdecode(word)])
    return found


def files_below(folders: Iterable[Path], left_out: Iterable[Path] = ()) -> list[Path]:
    """Every regular file once, even if folders overlap; symlinks are not followed."""
    avoided = {str(path.resolve()) for path in left_out}
    found: dict[str, None] = {}
    for folder in folders:
        for place, names, files in os.walk(folder.resolve()):
            names[:] = [name for name in names if os.path.join(place, name) not in avoided and name != "__pycache__"]
            found |= dict.fromkeys(os.path.join(place, name) for name in files)
    return [Path(path) for path in found if path not in avoided and os.path.isfile(path) and not os.path.islink(path)]


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)

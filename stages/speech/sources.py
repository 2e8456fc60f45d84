"""What is in data/raw: the clips of all sources (pairing.py), and where their recordings are.

A source is a folder below data/raw.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from stages.common.stage import UserError
from stages.speech.clips import RawClip, Rejection
from stages.speech.pairing import KNOWN_TABLES, Note, Source, is_recording, link_to_folder, open_source
from stages.speech.tables import printable

REPOSITORY = (".git", ".dvc")  # .git is a file in a submodule or worktree


def read_sources(raw: Path, note: Note = lambda words: None) -> tuple[list[RawClip], list[Rejection]]:
    """All clips of all sources, in a fixed order, and what could not be paired.

    note: gets what was found out about tables that do not say it themselves.
    Raises: UserError if a folder is a git or DVC repository of its own.
    """
    clips: list[RawClip] = []
    rejections: list[Rejection] = []
    for entry, source in _each_source(raw, note):
        if source:
            clips += source.clips
            rejections += source.rejections
        elif entry.is_dir():
            rejections.append(link_to_folder(printable(entry.name)))
        elif entry.name in KNOWN_TABLES or is_recording(entry):
            remedy = f"move it into a folder, such as {raw}/recordings/, with its transcript"
            rejections.append(Rejection(printable(entry.name), "in no source folder", remedy))
    return clips, rejections


def rows_of_sources(raw: Path) -> list[RawClip]:
    """All that tables and texts say about recordings, also what is rejected because it is said in two ways."""
    return [row for _, source in _each_source(raw) if source for row in source.rows]


def texts_beside(raw: Path) -> dict[Path, str]:
    """{text file or file with times: the recording below data/raw that it is about}."""
    found = [(entry, source) for entry, source in _each_source(raw) if source]
    return {path: f"{entry.name}/{name}" for entry, source in found for path, name in source.beside.items()}


def read_source(folder: Path) -> tuple[list[RawClip], list[Rejection]]:
    """The clips of one source, and what could not be paired."""
    source = open_source(folder)
    return source.clips, source.rejections


def _each_source(raw: Path, note: Note = lambda words: None) -> Iterator[tuple[Path, Source | None]]:
    """Entries of data/raw; None for one that is not a source."""
    for _ in walk_raw(raw):  # refuses repositories
        pass
    for entry in sorted(raw.iterdir()) if raw.is_dir() else []:
        if not entry.name.startswith("."):
            is_source = entry.is_dir() and not entry.is_symlink()
            yield entry, open_source(entry, note) if is_source else None


def walk_raw(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` for data/raw and the folders below: the files that DVC stores, and more than the readers read.

    DVC skips a folder that holds .dvc, and in one that holds .git only that; a .dvcignore names files to skip.

    Raises: UserError if a folder is a git or DVC repository of its own, or holds a .dvcignore.
    """
    for place, folders, files in os.walk(folder):
        if ".dvcignore" in files:
            raise UserError(f"{printable(place)}/.dvcignore keeps DVC from storing what is read here: remove that file")
        if marks := " and ".join(mark for mark in REPOSITORY if mark in folders or mark in files):
            raise UserError(
                f"{printable(place)} is a repository of its own (it holds {marks}), and DVC does not store all of it: "
                f"move it elsewhere and copy only its recordings and tables back"
            )
        yield place, folders, files


def locate(raw: Path, clip: RawClip) -> Path | None:
    """The recording's file, None if its path leads out of its source's folder (by .., a root or a symlink)."""
    return locate_all(raw, [clip])[0]


def locate_all(raw: Path, clips: Iterable[RawClip]) -> list[Path | None]:
    """`locate` for each clip; resolves each folder once, which saves a third of a second of 10,000 clips."""
    real = functools.cache(os.path.realpath)
    found: list[Path | None] = []
    for clip in clips:
        if "\0" in clip.recorded_file:
            found.append(None)
            continue
        source = real(f"{raw}/{clip.source}")
        folder, name = os.path.split(os.path.join(source, clip.path_in_source))
        path = os.path.join(real(folder), name)
        if name in ("", ".", "..") or os.path.islink(path):
            path = os.path.realpath(path)
            if os.path.islink(path):  # a loop of symlinks, which realpath leaves as it is
                path = ""
        found.append(Path(path) if path.startswith(source + os.sep) else None)
    return found

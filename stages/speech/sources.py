"""What is in data/raw: recordings with their transcripts, paired by name.

A source is a folder below data/raw. Its transcripts are in the first of the LAYOUTS that it has, and in text files and
subtitles named like the recordings. What cannot be paired is returned as a Rejection.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from stages.common.stage import UserError
from stages.speech import subtitles, tables
from stages.speech.clips import AUDIO_SUFFIXES, RawClip, Rejection
from stages.speech.tables import Item, printable, raw_clip, read_text, where_in
from stages.speech.text import normalise

REPOSITORY = (".git", ".dvc")  # .git is a file in a submodule or worktree
# Names of tables, in any folder of a source: only files of one pattern are read, the first that matches in the source's
# own folder, else the first below it. A pattern with a star also needs a first line that names recordings and texts.
LAYOUTS = (
    "clips.jsonl",
    "validated.tsv",
    "metadata.jsonl",
    "metadata.csv",
    "transcripts.csv",
    "*.json",
    "*.jsonl",
    "*.csv",
    "*.tsv",
)
TEXT_SUFFIX = ".txt"
BESIDE = (TEXT_SUFFIX, *subtitles.SUFFIXES)
FOLDERS_OF_SOUND = ("clips", "wav", "wavs")  # below a table that does not name them: Common Voice, Piper, LJSpeech


def read_sources(raw: Path) -> tuple[list[RawClip], list[Rejection]]:
    """All clips of all sources, in a fixed order, and what could not be paired.

    Raises: UserError if a folder is a git or DVC repository of its own.
    """
    clips: list[RawClip] = []
    rejections: list[Rejection] = []
    for _ in walk_raw(raw):  # refuses repositories
        pass
    for entry in sorted(raw.iterdir()) if raw.is_dir() else []:
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and entry.is_dir():
            rejections.append(_link_to_folder(printable(entry.name)))
        elif entry.is_dir():
            found, unpaired = read_source(entry)
            clips += found
            rejections += unpaired
        elif _is_audio(entry) or entry.name in LAYOUTS:
            remedy = f"move it into a folder, such as {raw}/recordings/, with its transcript"
            rejections.append(Rejection(printable(entry.name), "in no source folder", remedy))
    return clips, rejections


def read_source(folder: Path) -> tuple[list[RawClip], list[Rejection]]:
    """The clips of one source, and what could not be paired."""
    items = list(_read_source(folder))
    clips = [item for item in items if isinstance(item, RawClip)]
    return clips, [item for item in items if isinstance(item, Rejection)]


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


def manifests_of(source: Path, names: list[str]) -> list[Path]:
    """A source's tables; empty if its texts are in files named like the recordings. names: of `names_in`."""
    below: list[Path] = []
    for pattern in LAYOUTS:
        found = [source / name for name in names if fnmatch.fnmatchcase(os.path.basename(name), pattern)]
        is_known = tables.is_table if pattern.startswith("*") else bool
        manifests = [path for path in found if path.is_file() and is_known(path)]
        manifests.sort(key=lambda path: len(path.parts))  # of two texts the first counts; deeper ones may be older
        if manifests and manifests[0].parent == source:
            return manifests
        below = below or manifests
    return below


def _read_source(source: Path) -> Iterator[Item]:
    names = names_in(source)
    manifests = manifests_of(source, names)
    items = [item for manifest in manifests for item in tables.read(manifest, source)]
    items = _named_as_on_disk(source, names, items)
    named = {_path_of(item) for item in items}
    beside, strays = _files_beside(source, names)
    items += [_read_text_files(source, recording, beside[recording]) for recording in beside if recording not in named]
    items = [part for item in items for part in _cut_by_subtitles(source, item, beside.get(_path_of(item), []))]
    for item in items:
        if isinstance(item, RawClip) and item.recorded_file != (where := printable(item.recorded_file)):
            yield Rejection(where, "no transcript", "rename it: its name is not UTF-8")
            continue
        is_part = isinstance(item, RawClip) and item.begins_s is not None
        # What was said in one go shares its room, day and microphone.
        yield replace(item, session=item.session or item.path_in_source) if is_part else item
    if not manifests:  # beside a table they may be about something else
        remedy = "put the recording of the same name beside it, or remove it"
        for path in strays:
            yield Rejection(where_in(path, source), "missing audio", remedy)
    # Reject recordings without a transcript by name.
    named = {_path_of(item) for item in items}
    refused = {item.file for item in items if isinstance(item, Rejection)}
    for name in names:
        if name in named or (where := printable(f"{source.name}/{name}")) in refused:
            continue
        path = source / name
        if path.is_symlink() and path.is_dir():
            yield _link_to_folder(where)
        elif not _is_audio(path):
            continue
        elif name != printable(name):
            yield Rejection(where, "no transcript", "rename it: its name is not UTF-8")
        elif manifests:
            yield Rejection(where, "no transcript", f"add a row with its text to {where_in(manifests[0], source)}")
        else:
            yield Rejection(where, "no transcript", f"write what was said into {Path(name).with_suffix('.txt')}")


def _path_of(item: Item) -> str:
    """The recording's path below its source's folder, as names_in gives it; '' for a Rejection."""
    return os.path.normpath(item.path_in_source) if isinstance(item, RawClip) else ""


def _named_as_on_disk(source: Path, names: list[str], items: list[Item]) -> list[Item]:
    """Clips under their files' names if tables differ in capitals or Unicode form, or leave out ending or folder.

    A name stays as it is if it fits no file, several, or one that another name in the same folder fits.
    """
    there = set(names)
    paths = list(map(_path_of, items))
    alike: dict[str, list[str]] = {}
    for name in there.difference(paths):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in AUDIO_SUFFIXES:
            for one in (name, stem):
                alike.setdefault(_alike(one), []).append(name)
                folder, file = os.path.split(one)
                if os.path.basename(folder) in FOLDERS_OF_SOUND:
                    alike.setdefault(_alike(os.path.join(os.path.dirname(folder), file)), []).append(name)
    named = []
    meant = {path: [path] if path in there else alike.get(_alike(path), []) for path in paths if path}
    rows_of = Counter((os.path.dirname(path), *found) for path, found in meant.items())
    for path, item in zip(paths, items, strict=True):
        found = meant.get(path, [])
        is_alone = len(found) == 1 and rows_of[os.path.dirname(path), *found] == 1
        if is_alone and found[0] != item.path_in_source:
            item = replace(item, recorded_file=f"{source.name}/{found[0]}")
        named.append(item)
    return named


def _alike(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _files_beside(source: Path, names: list[str]) -> tuple[dict[str, list[Path]], list[Path]]:
    """{recording: text files and subtitles that are named like it}, and those that are named like none.

    talk.srt, or talk.en.srt, is beside talk.wav.
    """
    files = [name for name in names if name.lower().endswith(BESIDE) and (source / name).is_file()]
    recordings: dict[str, list[str]] = {}
    for name in names if files else []:
        if _is_audio(source / name):
            recordings.setdefault(os.path.splitext(name)[0], []).append(name)
    found: dict[str, list[Path]] = {}
    strays = []
    for name in files:
        stem = os.path.splitext(name)[0]
        beside = recordings.get(stem) or recordings.get(re.sub(r"\.[a-z]{2}$", "", stem), [])
        for recording in beside:
            found.setdefault(recording, []).append(source / name)
        if not beside:
            strays.append(source / name)
    return found, strays


def _read_text_files(source: Path, recording: str, beside: list[Path]) -> Item:
    """A recording with the text beside it, or without one if there are only subtitles."""
    clip = raw_clip(source, recording, {"text": ""})
    texts = [path for path in beside if path.suffix.lower() == TEXT_SUFFIX]
    if len(texts) > 1:
        return _one_too_many(clip, texts)
    text = read_text(texts[0], source) if texts else ""
    if isinstance(text, Rejection):
        return text
    return replace(clip, text=text, language=_language_in(texts[0], clip) if texts else None)


def _cut_by_subtitles(source: Path, item: Item, beside: list[Path]) -> Iterator[Item]:
    """A recording with subtitles beside it as one clip for each cue; a row with times of its own stays."""
    files = [path for path in beside if path.suffix.lower() != TEXT_SUFFIX]
    if not files or isinstance(item, Rejection) or item.begins_s is not None:
        yield item
        return
    if len(files) > 1:
        yield _one_too_many(item, files)
        return
    parts = list(subtitles.read(files[0], source))
    cues = [part for part in parts if isinstance(part, dict)]
    where = where_in(files[0], source)
    if item.text and normalise(item.text) != normalise(" ".join(cue["text"] for cue in cues)):
        remedy = f"its text and {where} differ: make them say the same, or remove one of them"
        yield Rejection(item.recorded_file, "two transcripts", remedy)
        return
    yield from (part for part in parts if isinstance(part, Rejection))
    if not cues:
        yield Rejection(item.recorded_file, "no transcript", f"{where} holds no cue with words")
    for cue in cues:
        cue["speaker"] = item.speaker or cue["speaker"]
        yield replace(item, language=item.language or _language_in(files[0], item), **cue)


def _one_too_many(clip: RawClip, paths: list[Path]) -> Rejection:
    names = ", ".join(path.name for path in paths)
    return Rejection(clip.recorded_file, "two transcripts", f"of {names} keep the one in the language spoken")


def _language_in(path: Path, clip: RawClip) -> str | None:
    """en in talk.en.srt."""
    return path.stem.removeprefix(Path(clip.recorded_file).stem).removeprefix(".") or None


def names_in(source: Path) -> list[str]:
    """Names of all files and folders in a source, relative to it; hidden ones and symlinked folders are left out."""
    names = []
    for folder, folders, files in os.walk(source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        place = os.path.relpath(folder, source)
        shown = [*folders, *(name for name in files if not name.startswith("."))]
        names += shown if place == "." else [f"{place}/{name}" for name in shown]
    # By folder, then by name: no name has a smaller character.
    return sorted(names, key=lambda name: name.replace("/", "\0"))


def _link_to_folder(where: str) -> Rejection:
    return Rejection(where, "link to a folder", "copy the folder itself here: links are not followed")


def _is_audio(path: Path) -> bool:
    """By its ending; also a broken link."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.is_dir()

"""What is in data/raw: recordings with their transcripts, paired by name.

A source is a folder below data/raw. Its transcripts are in the first of the LAYOUTS that it has, and in text files and
subtitles named like the recordings. What cannot be paired is returned as a Rejection.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from stages.common.stage import UserError
from stages.speech import subtitles, tables
from stages.speech.clips import AUDIO_SUFFIXES, RawClip, Rejection
from stages.speech.tables import is_audio, printable, raw_clip, read_text, where_in
from stages.speech.text import normalise

Item = RawClip | Rejection
Walk = Callable[[Path], Iterator[tuple[str, list[str], list[str]]]]  # as os.walk: folder, folders and files in it
REPOSITORY = (".git", ".dvc")  # .git is a file in a submodule or worktree


@dataclass(frozen=True)
class Layout:
    """A format of transcripts: the files by which a source is recognised, and their reader."""

    name: str
    manifests: str  # pattern below the source's folder
    read: Callable[[Path, Path], Iterator[Item]]
    is_one: Callable[[Path], bool] = lambda manifest: True  # for patterns that other files also fit


# To add a format: its reader in tables.py, and a line here. The first one that a source has is used.
LAYOUTS = (
    Layout("JSON lines", "clips.jsonl", tables.read_jsonl),
    Layout("Common Voice", tables.COMMON_VOICE_MANIFEST, tables.read_common_voice),
    Layout("Kaldi", tables.KALDI_MANIFEST, tables.read_kaldi),
    Layout("audiofolder", "**/metadata.jsonl", tables.read_jsonl),
    Layout("audiofolder, table or LJSpeech", "**/metadata.csv", tables.read_table),
    Layout("table or LJSpeech", "transcripts.csv", tables.read_table),
    Layout("NeMo", "*.json", tables.read_jsonl, tables.is_jsonl),
    Layout("NeMo", "*.jsonl", tables.read_jsonl, tables.is_jsonl),
    Layout("table", "*.csv", tables.read_table, tables.is_table),
    Layout("table", "*.tsv", tables.read_table, tables.is_table),
)
# Rejected in data/raw itself, where they belong to no source.
MANIFESTS = ("clips.jsonl", "metadata.csv", "transcripts.csv")


def read_sources(raw: Path) -> tuple[list[RawClip], list[Rejection]]:
    """All clips of all sources, in a fixed order, and what could not be paired.

    Raises: UserError if a folder is a git or DVC repository of its own.
    """
    clips: list[RawClip] = []
    rejections: list[Rejection] = []
    next(walk_raw(raw), None)  # data/raw itself
    for entry in sorted(raw.iterdir()) if raw.is_dir() else []:
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and entry.is_dir():
            rejections.append(_link_to_folder(printable(entry.name)))
        elif entry.is_dir():
            found, unpaired = read_source(entry, walk_raw)
            clips += found
            rejections += unpaired
        elif is_audio(entry) or entry.name in MANIFESTS:
            remedy = f"move it into a folder, such as {raw}/recordings/, with its transcript"
            rejections.append(Rejection(printable(entry.name), "in no source folder", remedy))
    return clips, rejections


def read_source(folder: Path, walk: Walk = os.walk) -> tuple[list[RawClip], list[Rejection]]:
    """The clips of one source, and what could not be paired; `walk`: walk_raw if DVC is to store them."""
    items = list(_read_source(folder, walk))
    clips = [item for item in items if isinstance(item, RawClip)]
    return clips, [item for item in items if isinstance(item, Rejection)]


def walk_raw(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` for data/raw and the folders below.

    DVC skips a folder that holds .dvc, and in one that holds .git only that.

    Raises: UserError if a folder is a git or DVC repository of its own.
    """
    for place, folders, files in os.walk(folder):
        if marks := " and ".join(mark for mark in REPOSITORY if mark in folders or mark in files):
            or_delete = "" if ".dvc" in marks else ", or delete .git in it"  # .dvc may hold what recordings link to
            raise UserError(
                f"{printable(place)} is a repository of its own (it holds {marks}), and DVC does not store all of it: "
                f"move it elsewhere and copy only its recordings and tables back{or_delete}"
            )
        yield place, folders, files


def locate(raw: Path, clip: RawClip) -> Path | None:
    """The recording's file, None if its path leads out of its source's folder (by .., a root or a symlink)."""
    try:
        folder = (raw / clip.source).resolve()
        path = (folder / clip.path_in_source).resolve()
    except (ValueError, RuntimeError, OSError):  # a zero byte, a loop of symlinks, a name too long
        return None
    return path if path.is_relative_to(folder) else None


def locate_all(raw: Path, clips: list[RawClip]) -> list[str | None]:
    """`locate` for each clip, as strings; resolves each folder once, which saves a second of 10,000 clips."""
    folders: dict[tuple[str, str], tuple[Path | None, set[str]]] = {}
    found: list[str | None] = []
    for clip in clips:
        place, name = os.path.split(clip.path_in_source)
        if (clip.source, place) not in folders:
            folder = locate(raw, replace(clip, recorded_file=f"{clip.source}/{place}"))
            folders[clip.source, place] = folder, _names_without_links(folder)
        folder, plain = folders[clip.source, place]
        path = f"{folder}/{name}" if name in plain else locate(raw, clip)
        found.append(path and str(path))
    return found


def _names_without_links(folder: Path | None) -> set[str]:
    """Empty if the folder cannot be listed: `locate` then resolves each path."""
    if folder is None:
        return set()
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_symlink()}
    except OSError:
        return set()


def manifests_of(source: Path) -> tuple[Layout | None, list[Path]]:
    """A source's layout and its manifests; (None, []) if its texts are in files named like the recordings."""
    for layout in LAYOUTS:
        found = (path for path in sorted(source.glob(layout.manifests)) if path.is_file() and _is_shown(path, source))
        if manifests := [path for path in found if layout.is_one(path)]:
            return layout, manifests
    return None, []


def _read_source(source: Path, walk: Walk) -> Iterator[Item]:
    names = names_in(source, walk)
    layout, manifests = manifests_of(source)
    items = [item for manifest in manifests for item in layout.read(manifest, source)]
    items = _named_as_on_disk(source, names, items)
    items += _read_text_files(source, names, {_path_of(item) for item in items}, alone=layout is None)
    items = list(_with_subtitles(source, names, items, alone=layout is None))
    yield from items
    # Reject recordings without a transcript by name.
    named = {_path_of(item) for item in items}
    refused = {item.file for item in items if isinstance(item, Rejection)}
    for name in names:
        if name in named or (where := printable(f"{source.name}/{name}")) in refused:
            continue
        path = source / name
        if path.is_symlink() and path.is_dir():
            yield _link_to_folder(where)
        elif not (is_audio(path) or _is_broken_link(path)):
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
    """Clips under their files' names if tables differ in capitals or Unicode form, or leave the ending out.

    A name stays as it is if it fits no file, several, or one that another row names.
    """
    there = set(names)
    paths = list(map(_path_of, items))
    if all(path in there and path == item.path_in_source for path, item in zip(paths, items, strict=True) if path):
        return items
    alike: dict[str, list[str]] = {}
    for name in there.difference(paths):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in AUDIO_SUFFIXES:
            for one in (name, stem):
                alike.setdefault(_alike(one), []).append(name)
    named = []
    for path, item in zip(paths, items, strict=True):
        found = [path] if path in there else alike.get(_alike(path), [])
        is_other = path and len(found) == 1
        named.append(replace(item, recorded_file=f"{source.name}/{found[0]}") if is_other else item)
    return named


def _alike(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _read_text_files(source: Path, names: list[str], named: set[str], alone: bool) -> Iterator[Item]:
    """A text file holds what is said in the recording of the same name, if no manifest's row (`named`) does.

    alone: there is no manifest, so that a text file without a recording is a mistake.
    """
    texts = [path for name in names if name.endswith(".txt") and (path := source / name).is_file()]
    recordings = _by_stem(source, names) if texts else {}
    for path in texts:
        same_name = recordings.get(path.with_suffix(""), [])
        unnamed = [recording for recording in same_name if recording.relative_to(source).as_posix() not in named]
        if alone and not same_name:
            remedy = "put the recording of the same name beside it, or remove it"
            yield Rejection(where_in(path, source), "missing audio", remedy)
        text = read_text(path, source) if unnamed else ""
        if isinstance(text, Rejection):
            yield text
            continue
        for recording in unnamed:
            yield raw_clip(recording, source, recording.name, text, {})


def _with_subtitles(source: Path, names: list[str], items: Iterable[Item], alone: bool) -> Iterator[Item]:
    """Recordings with subtitles beside them as one clip for each cue.

    Subtitles that differ from a row's text are rejected. alone: there is no manifest.
    """
    named_so = [source / name for name in names if name.lower().endswith(subtitles.SUFFIXES)]
    if not named_so:
        yield from items
        return
    found: dict[str, list[Path]] = {}
    recordings = _by_stem(source, names)
    for path in filter(Path.is_file, named_so):
        # talk.srt, or talk.en.srt
        for stem in (path.with_suffix(""), Path(re.sub(r"\.[a-z]{2}$", "", str(path.with_suffix(""))))):
            if stem in recordings:
                for recording in recordings[stem]:
                    found.setdefault(recording.relative_to(source).as_posix(), []).append(path)
                break
        else:
            if alone:
                remedy = "put the recording of the same name beside it, or remove it"
                yield Rejection(where_in(path, source), "missing audio", remedy)
    for item in items:
        name = _path_of(item)
        if name in found and item.begins_s is None:
            yield from _cut_by(source, found.pop(name), item)
        else:
            found.pop(name, None)  # the row has its own times
            yield item
    for name in sorted(found) if alone else []:
        yield from _cut_by(source, found[name], RawClip(source.name, f"{source.name}/{name}", text=""))


def _cut_by(source: Path, paths: list[Path], clip: RawClip) -> Iterator[Item]:
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        yield Rejection(clip.recorded_file, "subtitles twice", f"of {names} keep the one in the language spoken")
        return
    parts = list(subtitles.read(paths[0], source))
    cues = [part for part in parts if isinstance(part, subtitles.Cue)]
    if clip.text and normalise(clip.text) != normalise(" ".join(cue.text for cue in cues)):
        remedy = f"its text and {where_in(paths[0], source)} differ: make them say the same, or remove one of them"
        yield Rejection(clip.recorded_file, "two transcripts", remedy)
        return
    yield from (part for part in parts if isinstance(part, Rejection))
    if not cues:
        yield Rejection(clip.recorded_file, "no transcript", f"{where_in(paths[0], source)} holds no cue with words")
    code = re.search(r"\.([a-z]{2})$", paths[0].stem)
    for cue in cues:
        yield replace(
            clip,
            text=cue.text,
            begins_s=cue.begins_s,
            ends_s=cue.ends_s,
            speaker=clip.speaker or cue.speaker,
            session=clip.session or clip.path_in_source,
            language=clip.language or (code[1] if code and Path(clip.path_in_source).stem != paths[0].stem else None),
        )


def _by_stem(source: Path, names: list[str]) -> dict[Path, list[Path]]:
    recordings: dict[Path, list[Path]] = {}
    for path in map(source.joinpath, names):
        if is_audio(path):
            recordings.setdefault(path.with_suffix(""), []).append(path)
    return recordings


def names_in(source: Path, walk: Walk = os.walk) -> list[str]:
    """Names of all files and folders in a source, relative to it; hidden ones and symlinked folders are left out."""
    names = []
    for folder, folders, files in walk(source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        place = os.path.relpath(folder, source)
        shown = [*folders, *(name for name in files if not name.startswith("."))]
        names += shown if place == "." else [f"{place}/{name}" for name in shown]
    return sorted(
        names, key=lambda name: name.replace("/", "\0")
    )  # by folder, then by name: no name has a smaller character


def _link_to_folder(where: str) -> Rejection:
    return Rejection(where, "link to a folder", "copy the folder itself here: links are not followed")


def _is_shown(path: Path, source: Path) -> bool:
    return not any(part.startswith(".") for part in path.relative_to(source).parts)


def _is_broken_link(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES and path.is_symlink() and not path.exists()

"""Which recording a table or text means: people and tools write a file's name in many ways.

Unicode form, capitals, slashes, invisible marks, endings, folders of sound and the beginning of a path on another
machine make no difference, as long as only one file can be meant.
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

# Endings of sound, the second line what telephones, browsers and cameras write. Any other ending may be one's, too:
# content decides (audio.is_sound); these are taken for recordings unseen, and left out in names.
AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64"}
AUDIO_SUFFIXES |= {".m4a", ".mp4", ".aac", ".webm", ".wma", ".amr", ".3gp", ".mkv", ".mov"}
# Folders of sound or of texts alone: left out in names, or in one of two paths (Common Voice, LJSpeech, Piper, VCTK).
OF_ONE_KIND = re.compile(
    r"(audios?|clips|flac|mp3|recordings|sounds|wavs?)[-_]?\d*k?|labels?|texts?|transcripts?|transcriptions?|txt"
)
DRIVE = re.compile(r"[a-z]+:/+|/")  # a root, a drive of Windows, file:


@functools.lru_cache(maxsize=200_000)  # each name is looked up several times
def alike(path: str) -> str:
    """A path as it is compared: the same for all spellings of it."""
    if not (path.isascii() and path.isprintable()):
        path = unicodedata.normalize("NFC", path)
        shown = (" " if char.isspace() else char for char in path if unicodedata.category(char) not in ("Cc", "Cf"))
        path = unicodedata.normalize("NFC", "".join(shown).casefold())
    parts = (" ".join(part.split()).replace(" .", ".") for part in path.lower().replace("\\", "/").split("/"))
    return posixpath.normpath("/".join(parts))


def is_named_as_sound(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES


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


class Recordings:
    """The files of a source by their names.

    names: of all its files and folders. is_recording: whether one of them is sound; asked for unusual endings alone.
    """

    def __init__(self, names: Iterable[str], is_recording: Callable[[str], bool]) -> None:
        self.names = list(names)
        self.there = set(self.names)
        self.is_recording = is_recording

    @functools.cached_property
    def _keys(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Files by their paths, and by their paths without endings; also without folders of one kind."""
        by_path: dict[str, list[str]] = defaultdict(list)
        by_stem: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            path = alike(name)
            for place in {path, _without_folders_of_one_kind(path)}:
                by_path[place].append(name)
                for stem in {place, os.path.splitext(place)[0], *_without_endings(place)}:
                    by_stem[stem].append(name)
        return by_path, by_stem

    def find(self, written: str, folder: str = "") -> list[str]:
        """The files that a name in a table in `folder` can mean: none, one, or several that it fits as well."""
        if not folder and written in self.there:  # as most are
            return [written]
        path = posixpath.normpath(posixpath.join(folder, written))
        if path in self.there and not path.startswith(("..", "/")):
            return [path]
        key = alike(written.strip("'\"“”"))
        for place in self._places(key, alike(folder) if folder else ""):
            if place.startswith("..") or place in ("", "."):
                continue
            if found := self._at(place):
                spelled = [name for name in found if os.path.basename(name).startswith(os.path.basename(written))]
                return spelled if len(found) > 1 and len(spelled) == 1 else found
        return []

    def _places(self, key: str, folder: str) -> Iterator[str]:
        """Where a name may lead to: from its table's folder, from those above, and without its first folders."""
        is_elsewhere = (root := DRIVE.match(key)) is not None
        parts = key[root.end() :].split("/") if root else key.split("/")
        if not is_elsewhere:
            yield posixpath.normpath(posixpath.join(folder, key))
            if ".." in parts:  # it says exactly where
                return
        above = [folder, *(str(one) for one in PurePosixPath(folder).parents)] if folder else [""]
        if len(parts) == 1 and not is_elsewhere:
            # A table with recordings below it is about these.
            above = above[: next((n for n, one in enumerate(above, 1) if self._folders_below(one)), None)]
        for first in range(len(parts) if is_elsewhere else max(len(parts) - 1, 1)):
            for place in above:
                yield posixpath.normpath(posixpath.join(place, *parts[first:]))
        if len(parts) == 1 and len(only := self._folders_below(above[-1])) == 1:
            yield posixpath.join(only[0], parts[0])

    def _at(self, place: str) -> list[str]:
        """Files at a place: of the same name, else beside folders of one kind, else of other endings."""
        inside = _without_folders_of_one_kind(place)
        for found in (self._exactly(place), self._keys[0].get(inside, [])):
            if found:
                return list(dict.fromkeys(found))
        stems = [place, inside, *_without_endings(place), *_without_endings(inside)]
        found = dict.fromkeys(name for stem in stems for name in self._keys[1].get(stem, []))
        return [name for name in found if self.is_recording(name)]

    def _exactly(self, place: str) -> list[str]:
        return [name for name in self._keys[0].get(place, []) if alike(name) == place]

    @functools.cached_property
    def _folders(self) -> list[str]:
        return sorted({os.path.dirname(alike(name)) for name in self.names if is_named_as_sound(name)})

    def _folders_below(self, folder: str) -> list[str]:
        """Folders with recordings, at and below a folder."""
        return [one for one in self._folders if folder in ("", ".") or f"{one}/".startswith(f"{folder}/")]


def _without_folders_of_one_kind(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return "/".join([*(part for part in folder.split("/") if part and not OF_ONE_KIND.fullmatch(part)), name])


def _without_endings(path: str) -> list[str]:
    """A path without its ending of sound, and without the one before it (a.wav.wav)."""
    found = []
    while is_named_as_sound(path):
        path = os.path.splitext(path)[0]
        found.append(path)
    return found

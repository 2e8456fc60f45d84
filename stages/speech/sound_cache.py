"""The sound in data/prepared, audio/ab/ID.flac: made once for each recording, and put in place from the cache.

`.cache/prepared` has an entry for each recording, or part of one: figures and sound. An index holds what the last run
in this folder knew: the hash of each recorded file, the figures of each part, and which files in data/prepared are as
they were written. A file counts as known as long as its inode, size and times are the same. So one more clip costs one
clip's work. Without the index, all files are read again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from stages.common import paths
from stages.common.cache import ContentCache
from stages.common.code import code_hash
from stages.common.files import sha256_of_file, write_whole
from stages.common.params import PrepareParams
from stages.common.pool import Failed, run_each
from stages.common.stage import UserError
from stages.speech import prepared
from stages.speech.clips import digest
from stages.speech.conversion import Converted, Part, Stored, convert, made_by, sound_in, state_of

KEPT_UNUSED_S = 30 * 24 * 3600  # entries of other settings, or of recordings that are gone


class SoundCache:
    """The sounds of recordings, as converted with these settings."""

    def __init__(self, params: PrepareParams) -> None:
        self.params = params
        self.made_by = made_by(params)
        self.cache = ContentCache("prepared")
        self.cache.folder = self.cache.folder.absolute()  # workers on other machines have another working folder
        index = json.loads(self.cache.read(self._index_key) or '{"files": {}, "parts": {}, "written": {}}')
        self.old_files, self.old_parts, self.old_written = index["files"], index["parts"], index["written"]
        self.files: dict[str, list] = {}  # path: [signature, sha256]
        self.parts: dict[str, dict] = {}  # sha256: fields of Converted
        self.written: dict[str, list] = {}  # path in data/prepared: [signature, sha256 of the part]

    @property
    def _index_key(self) -> dict:
        # The folder, because temporary experiments share the cache.
        return {"index of": self.made_by, "written by": code_hash(__name__), "folder": os.getcwd()}

    def _key(self, sha256: str) -> dict:
        return {"sha256": sha256, **self.made_by}

    def convert_all(self, parts: Sequence[Part]) -> list[Converted]:
        """The figures of each part, or why it cannot be used; with a progress bar."""
        found = [self._known(part) for part in parts]
        missing = [number for number, one in enumerate(found) if one is None]
        for number, result in zip(missing, self._convert([parts[number] for number in missing]), strict=True):
            found[number] = result
        return found

    def _known(self, part: Part) -> Converted | None:
        """What the last run knew of a part; None if its recording has changed since, or cannot be read."""
        try:
            recorded_sha256 = self._known_sha256(part.location)
        except OSError:
            return None  # `convert` says why
        known = self.old_parts.get(sha256 := digest(recorded_sha256, part.begins_s, part.ends_s))
        if known is None or (known["figures"] and not self.cache.has(self._key(sha256))):
            return None
        self.parts[sha256] = known
        return Converted(**known)

    def _known_sha256(self, location: Path | Stored) -> str:
        """Of the whole recording; "" if that is not known. Raises: OSError."""
        if not isinstance(location, Path):
            return location.sha256()
        path = str(location)
        if path not in self.files:
            state = state_of(path)  # taken before it is read
            known_state, sha256 = self.old_files.get(path, (None, ""))
            self.files[path] = [state, sha256 if known_state == state else ""]
        return self.files[path][1]

    def _convert(self, parts: Sequence[Part]) -> Iterator[Converted]:
        if not parts:
            return
        from tqdm import tqdm  # imported here: most runs convert nothing

        work = functools.partial(convert, params=self.params, cache=self.cache, wanted=self.made_by)
        workers = self.params.workers or os.cpu_count() or 1
        results = run_each(work, parts, workers, self.params.max_seconds_per_file, self.params.dask_scheduler)
        for part, result in zip(parts, tqdm(results, total=len(parts), desc="prepare", unit="clip"), strict=True):
            if isinstance(result, Failed):
                yield Converted(reason="unreadable audio", remedy=f"{result.why}: save it as WAV or FLAC")
                continue
            if result.sha256:
                self.parts[result.sha256] = vars(result)
                if file := self.files.get(str(part.location)):
                    file[1] = result.recorded_sha256
            yield result

    def has_changed(self) -> bool:
        """Whether a recording has changed since it was read, not in its times alone."""
        for path, (state, recorded_sha256) in self.files.items():
            try:
                if state_of(path) != state and sha256_of_file(Path(path)) != recorded_sha256:
                    return True
            except OSError:
                return True
        return False

    def put_in_place(self, sounds: Mapping[str, tuple[Part, str]]) -> None:
        """Write the sound of each (part, sha256) under its path, unless it is there already.

        A sound that is broken or missing in the cache is made again. Raises: UserError if its recording has changed.
        """
        for path, (part, sha256) in sounds.items():
            if not self._put_in_place(path, sha256):
                list(self._convert([part]))
                if not self._put_in_place(path, sha256):
                    raise UserError(f"{part.location} changed while it was read: run it again")

    def _put_in_place(self, path: str, sha256: str) -> bool:
        known = self.old_written.get(path)
        with contextlib.suppress(FileNotFoundError):
            if known and known[1] == sha256 and known[0] == state_of(path):
                self.written[path] = known
                return True
        entry = self.cache.read(self._key(sha256))
        if entry is None:
            self.cache.remove(self._key(sha256))
            return False
        file, sound = Path(path), sound_in(entry)
        if not file.is_file():
            write_whole(file, sound)
        elif file.read_bytes() != sound:
            prepared.MANIFEST.unlink(missing_ok=True)  # it has the figures of the sound that is replaced
            write_whole(file, sound)
        self.written[path] = [state_of(path), sha256]
        return True

    def remember(self) -> None:
        """Write the index for the next run, and remove what has not been used for long."""
        files = {path: known for path, known in self.files.items() if known[1]}
        index = {"files": files, "parts": self.parts, "written": self.written}
        if (files, self.parts, self.written) != (self.old_files, self.old_parts, self.old_written):
            self.cache.write(self._index_key, json.dumps(index).encode())
            self.cache.remove_unused(KEPT_UNUSED_S)


def remove_stale(kept: Collection[str]) -> None:
    """Remove everything in data/prepared but these files."""
    for folder, _, names in os.walk(paths.PREPARED, topdown=False):
        for path in (os.path.join(folder, name) for name in names):
            if path not in kept:
                os.unlink(path)
        with contextlib.suppress(OSError):  # it is not empty
            os.rmdir(folder)

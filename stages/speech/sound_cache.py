"""Converted recordings, kept outside DVC's outs, so that a new clip costs one clip's work.

Below `.cache/prepared`: an entry for each recording that was just converted (written by the processes that convert);
`packs/`, the ZIP files into which they go at the end of a run, and of which data/prepared/audio has copies; and an
index in SQLite, which knows what every recording's bytes were when it was last looked at, what was measured in it, and
which pack has its sound. A row of it holds a whole folder, or a whole pack, as JSON: ten thousand rows take longer to
read than to parse.

A recording is known by path, device, inode, size, time of change of content and of status. DVC trusts the same but
the device and the time of change of status, which no program can set. A pack is checked in the same way. Whatever is
broken or gone is made again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sqlite3
import stat
import tempfile
import time
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson

from stages.common.cache import ContentCache, fingerprint
from stages.common.files import sha256_of_file
from stages.common.stage import UserError
from stages.speech import prepared
from stages.speech.clips import ID_LENGTH

KEPT_UNUSED_S = 30 * 24 * 3600  # packs of other settings, or of clips that are gone
USE_NOTED_AFTER_S = 24 * 3600
NOTED_AT_ONCE = 16  # packs; each note waits for the disk
LEFT_BY_A_KILL_S = 24 * 3600
FILES_KEPT = 4  # what is known of a folder's files, as a multiple of those that there are
INDEX = "index-2.sqlite"  # another name for other tables: runs of an older commit go on with theirs
# What is small stands before what is large, and the time of use is noted once a day: SQLite writes rows as a whole.
# Nor are large rows without a rowid: it would read all of a row to compare its key.
TABLES = """
create table if not exists folders (folder text primary key, files blob not null, seal integer not null);
create table if not exists sounds (made_by text, sha256 text, figures blob not null, seal integer not null,
                                   primary key (made_by, sha256)) without rowid;
create table if not exists packs (pack text primary key, made_by text not null, state text not null,
                                  used_at real not null, figures blob not null, seal integer not null);
"""


Measured = Sequence  # of two: figures, or {reason, remedy} where there are none; and fingerprint


class Damaged(Exception):
    """A converted sound turned out to be broken or gone; the cache no longer counts on it."""


class SoundCache:
    """Figures and sounds of recordings, by their sha256, as converted in the way that `made_by` describes."""

    def __init__(self, made_by: dict) -> None:
        self.made_by = made_by
        self.name = fingerprint(made_by)
        self.loose = ContentCache("prepared")
        self.loose.folder = self.loose.folder.absolute()  # processes on other machines have other working folders
        self.packs = self.loose.folder / "packs"
        self.packs.mkdir(parents=True, exist_ok=True)
        self.database = _open(self.loose.folder / INDEX)
        self.measured: dict[str, Measured] = {}  # by sha256
        self.pack_of: dict[str, str] = {}  # sha256 -> pack
        self.states: dict[str, str] = {}  # pack -> what its file looked like
        self.whole: dict[str, bool] = {}
        self.archives: dict[str, zipfile.ZipFile] = {}

    def close(self) -> None:
        for archive in self.archives.values():
            archive.close()
        self.database.close()

    def key(self, sha256: str) -> dict:
        """Everything that a converted recording depends on."""
        return {"sha256": sha256, **self.made_by}

    def digests(self, files: list[str], workers: int) -> list[str | OSError]:
        """The sha256 of each file, or why it cannot be read; only what is not known yet is read."""
        found: list[str | OSError] = list(map(_signature, files))
        folders: dict[str, dict[str, int]] = defaultdict(dict)
        for number, name in enumerate(map(_name, files)):
            folders[name.rpartition(os.sep)[0]][name] = number
        known = {folder: self._known_in(folder) for folder in folders}
        unknown: dict[int, tuple[str, str, str]] = {}
        for folder, numbers in folders.items():
            for name, number in numbers.items():
                was, digest = known[folder].get(name, (None, ""))
                if was == found[number]:
                    found[number] = digest
                elif isinstance(found[number], str):
                    unknown[number] = folder, name, found[number]
        with ThreadPoolExecutor(workers) as threads:  # hashing leaves Python's lock
            read = threads.map(_sha256_or_error, [files[number] for number in unknown])
            for (number, (folder, name, signature)), digest in zip(unknown.items(), read, strict=True):
                found[number] = digest
                if isinstance(digest, str):
                    known[folder][name] = signature, digest
        changed = {folder for folder, _, _ in unknown.values()}
        self._note_folders({folder: known[folder] for folder in changed}, folders)
        return found

    def _known_in(self, folder: str) -> dict[str, tuple[str, str]]:
        """{file: (signature, sha256)}"""
        row = self.database.execute("select files, seal from folders where folder = ?", [folder]).fetchone()
        return orjson.loads(row[0]) if row and row[1] == _seal(folder, row[0]) else {}

    def _note_folders(self, changed: dict[str, dict[str, tuple[str, str]]], used: dict[str, dict[str, int]]) -> None:
        """What is known in folders where that has changed; `used` names files in them. What is gone is forgotten."""
        if not changed:
            return
        rows = []
        for folder, known in changed.items():
            if len(known) > FILES_KEPT * len(used[folder]) + 1000:
                known = {name: pair for name, pair in known.items() if name in used[folder] or _exists(name)}
            content = orjson.dumps(known)
            rows.append((folder, content, _seal(folder, content)))
        folders = self.database.execute("select folder from folders").fetchall()
        gone = [(folder,) for (folder,) in folders if not _exists(folder)]  # as those of experiments that have ended
        with self._transaction():
            self.database.executemany("delete from folders where folder = ?", gone)
            self.database.executemany("insert or replace into folders values (?, ?, ?)", rows)

    def figures(self) -> dict[str, Measured]:
        """What was measured in all that was converted in this way and whose sound is still there, by sha256."""
        self.measured, self.pack_of, self.states = {}, {}, {}
        rows = self.database.execute("select sha256, figures, seal from sounds where made_by = ?", [self.name])
        for digest, content, seal in rows:
            if seal == _seal(self.name + digest, content):
                measured = orjson.loads(content)
                if "reason" in measured[0] or self.loose.has(self.key(digest)):
                    self.measured[digest] = measured
        rows = self.database.execute("select pack, figures, seal, state from packs where made_by = ?", [self.name])
        for pack, content, seal, state in rows:
            if seal == _seal(pack, content):
                self.states[pack] = state
                if self._is_whole(pack):
                    members = orjson.loads(content)
                    self.measured |= members
                    self.pack_of |= dict.fromkeys(members, pack)
        return self.measured

    def add(self, measured: dict[str, Measured]) -> None:
        """Note what was measured in recordings whose entries have just been written, or why they cannot be used."""
        contents = {digest: orjson.dumps(one) for digest, one in measured.items()}
        rows = [(self.name, digest, one, _seal(self.name + digest, one)) for digest, one in contents.items()]
        with self._transaction():
            self.database.executemany("insert or replace into sounds values (?, ?, ?, ?)", rows)
        self.measured |= measured

    def sound(self, digest: str) -> bytes:
        """The FLAC file of a recording in `figures`, or that was added since. Raises: Damaged."""
        if pack := self.pack_of.get(digest):
            try:
                if pack not in self.archives:
                    self.archives[pack] = zipfile.ZipFile(self._path(pack))
                return self.archives[pack].read(f"{digest[:ID_LENGTH]}.flac")
            except (OSError, KeyError, zipfile.BadZipFile) as error:
                self._forget_pack(pack)
                raise Damaged from error
        entry = self.loose.read(self.key(digest))
        if entry is None:
            self.loose.remove(self.key(digest))
            raise Damaged
        return entry.partition(b"\n")[2]

    def write_shards(self, digests: Iterable[str], folder: Path, last: Path) -> dict[str, str]:
        """Put the sounds of these recordings, in ZIP files by the beginning of their ids, into `folder`: {id: file}.

        last: what this wrote in the run before, and what is removed afterwards. A file that is as it was becomes the
        same file under `folder`, so that DVC need not read it again.

        Raises: Damaged where a sound is no longer what it was.
        """
        folder.mkdir(parents=True)
        by_id = {digest[:ID_LENGTH]: digest for digest in digests}
        used, new, file_of = set(), {}, {}
        written: set[str] = set()
        for name, ids in prepared.shards(by_id).items():
            members = [by_id[clip_id] for clip_id in ids]
            pack = hashlib.sha256("\n".join([self.name, *members]).encode()).hexdigest()
            if not self._is_whole(pack):
                self._write_pack(pack, ids, by_id)
                new[pack] = members
                written.update(members)
                if len(new) == NOTED_AT_ONCE:
                    self._note_packs(new)
                    new = {}
            try:
                _place(self._path(pack), folder / name, last / name)
            except FileNotFoundError as error:  # another run replaced it
                self._forget_pack(pack)
                raise Damaged from error
            used.add(pack)
            file_of |= dict.fromkeys(ids, name)
        self._note_packs(new)
        self._remove_unused(used, written)
        return file_of

    def _write_pack(self, pack: str, ids: list[str], by_id: dict[str, str]) -> None:
        descriptor, partial = tempfile.mkstemp(prefix=".", dir=self.packs)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                prepared.write_shard(file, ids, lambda clip_id: self.sound(by_id[clip_id]))
            os.chmod(partial, 0o644)
            os.replace(partial, self._path(pack))
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise

    def _note_packs(self, new: dict[str, list[str]]) -> None:
        """From now on, these recordings' sounds are in these packs, {pack: sha256 of recordings}."""
        if not new:
            return
        with ThreadPoolExecutor(len(new)) as threads:  # the disk takes them together
            list(threads.map(_wait_for_disk, map(self._path, new)))
        rows, now = [], time.time()
        for pack, digests in new.items():
            content = orjson.dumps({digest: self.measured[digest] for digest in digests})
            self.states[pack] = _state(self._path(pack))
            rows.append((pack, self.name, self.states[pack], now, content, _seal(pack, content)))
        packed = [digest for digests in new.values() for digest in digests]
        with self._transaction():
            self.database.executemany("insert or replace into packs values (?, ?, ?, ?, ?, ?)", rows)
            self.database.executemany(
                "delete from sounds where made_by = ? and sha256 = ?", [(self.name, digest) for digest in packed]
            )
        self.whole |= dict.fromkeys(new, True)
        for pack, digests in new.items():
            self.pack_of |= dict.fromkeys(digests, pack)
        for digest in packed:
            self.loose.remove(self.key(digest))

    def _is_whole(self, pack: str) -> bool:
        """Whether a pack is as it was written; one that was touched since is read from beginning to end."""
        if pack not in self.whole:
            try:
                state = _state(self._path(pack))
                known = self.states.get(pack)
                self.whole[pack] = known is not None and (known == state or self._is_readable(pack, state))
            except FileNotFoundError:
                self.whole[pack] = False
        return self.whole[pack]

    def _is_readable(self, pack: str, state: str) -> bool:
        try:
            with zipfile.ZipFile(self._path(pack)) as archive:
                if archive.testzip() is not None:
                    return False
        except zipfile.BadZipFile:
            return False
        with self._transaction():
            self.database.execute("update packs set state = ? where pack = ?", [state, pack])
        return True

    def _forget_pack(self, pack: str) -> None:
        self.whole.clear()  # others are looked at again, too
        if archive := self.archives.pop(pack, None):
            archive.close()
        with self._transaction():
            self.database.execute("delete from packs where pack = ?", [pack])

    def _remove_unused(self, used: set[str], written: set[str]) -> None:
        """Packs that this run has replaced, that nobody used for long, or that a killed run left half-written.

        written: the recordings in its new packs. What only lies in others of its packs, another folder may still use.
        """
        now = time.time()
        with self._transaction():
            self.database.execute(
                "update packs set used_at = ? where used_at < ? and pack in (select value from json_each(?))",
                [now, now - USE_NOTED_AFTER_S, orjson.dumps(list(used)).decode()],
            )
            self.database.execute("delete from packs where used_at < ?", [now - KEPT_UNUSED_S])
            others = [pack for pack in self.states if pack not in used]
            replaced = [pack for pack in others if written and self._is_within(pack, written)]
            self.database.executemany("delete from packs where pack = ?", [(pack,) for pack in replaced])
        for pack in replaced:
            self._path(pack).unlink(missing_ok=True)
        known = {self._path(pack).name for (pack,) in self.database.execute("select pack from packs")}
        for path in self.packs.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.name not in known and now - path.stat().st_mtime > LEFT_BY_A_KILL_S:
                    path.unlink()

    def _is_within(self, pack: str, digests: set[str]) -> bool:
        row = self.database.execute("select figures from packs where pack = ?", [pack]).fetchone()
        return row is not None and digests.issuperset(orjson.loads(row[0]))

    def _path(self, pack: str) -> Path:
        return self.packs / f"{pack}.zip"

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Raises: OSError where the disk is full, as for any other file."""
        try:
            with self.database:
                yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.loose.folder)) from None


def _open(path: Path) -> sqlite3.Connection:
    """The index, made anew where it is damaged.

    Raises: UserError where another run holds it for too long.
    """
    for _ in range(2):
        database = sqlite3.connect(path, timeout=60)
        try:
            # What a power cut breaks is found, by this check or a row's seal, and made again: no waiting for the disk.
            database.execute("pragma synchronous = off")
            if database.execute("pragma quick_check").fetchone() == ("ok",):
                database.executescript(TABLES)
                return database
            raise sqlite3.DatabaseError
        except sqlite3.OperationalError as error:
            database.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
            raise UserError(f"{path} cannot be used ({error}): wait for the other run, or remove the file") from None
        except sqlite3.DatabaseError:
            database.close()
            path.unlink()
    raise UserError(f"{path} cannot be made: remove {path.parent}, it is made again")


def _name(path: str) -> str:
    """A path as JSON can hold it, whatever its bytes."""
    return path if path.isascii() else os.fsencode(path).decode("latin-1")


def _exists(name: str) -> bool:
    return os.path.exists(name if name.isascii() else name.encode("latin-1"))


def _signature(path: str) -> str | OSError:
    try:
        state = os.stat(path)
    except OSError as error:
        return error
    if not stat.S_ISREG(state.st_mode):  # reading a named pipe would wait for ever
        return OSError(errno.EINVAL, "it is a folder or a pipe, name a file")
    return f"{state.st_dev}:{state.st_ino}:{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}"


def _seal(key: str, content: bytes) -> int:
    """For a row of the index: SQLite finds damage to its own structure, not to what is in it."""
    return zlib.crc32(content, zlib.crc32(os.fsencode(key)))


def _place(pack: Path, path: Path, before: Path) -> None:
    """A pack's content as `path`: the file that the last run put there where that is a copy of it, else a new copy.

    Not a second name of the pack: DVC takes files with two names for links of its own, and copies them anew each time.
    """
    if _is_copy(before, pack):
        try:
            os.link(before, path)
            return
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                raise
    shutil.copy2(pack, path)


def _is_copy(path: Path, pack: Path) -> bool:
    """Whether a file has the length and, to the nanosecond, the time of a pack: as copied, and not written since."""
    try:
        state = os.lstat(path)
    except FileNotFoundError:
        return False
    original = os.stat(pack)
    is_same = (state.st_size, state.st_mtime_ns) == (original.st_size, original.st_mtime_ns)
    return is_same and stat.S_ISREG(state.st_mode)


def _wait_for_disk(path: Path) -> None:
    """Wait until a file is: the index must not know of content that a power cut loses."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _state(path: Path) -> str:
    state = os.stat(path)
    return f"{state.st_ino}:{state.st_size}:{state.st_mtime_ns}"


def _sha256_or_error(path: str) -> str | OSError:
    try:
        return sha256_of_file(Path(path))
    except OSError as error:
        return error

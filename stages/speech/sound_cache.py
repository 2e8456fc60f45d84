"""Converted recordings, kept outside DVC's outs, so that a new clip costs one clip's work.

Below `.cache/prepared`: an entry for each recording that was just converted (written by the processes that convert);
`packs/`, the ZIP files of data/prepared/audio, into which they go at the end of a run; and `index.sqlite`, which knows
what every recording's bytes were when it was last looked at, what was measured in it, and which pack has its sound.

A recording is known by device, inode, size, time of change of content and of status, and path. DVC trusts the same but
the device and the time of change of status, which no program can set. A pack is checked in the same way. Whatever is
broken or gone is made again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stages.pipeline.cache import ContentCache, fingerprint
from stages.pipeline.files import sha256_of_file
from stages.pipeline.stage import UserError
from stages.speech import prepared
from stages.speech.clips import ID_LENGTH

KEPT_UNUSED_S = 30 * 24 * 3600  # packs of other settings, or of clips that are gone
NOTED_AT_ONCE = 16  # packs; each note waits for the disk
LEFT_BY_A_KILL_S = 24 * 3600
FILES_KEPT = 4  # what is known of files, as a multiple of those that there are: experiments have copies
TABLES = """
create table if not exists files (signature text primary key, sha256 text not null, seal integer not null);
create table if not exists sounds (made_by text, sha256 text, figures text not null, seal integer not null,
                                   pack text,
                                   primary key (made_by, sha256)) without rowid;
create index if not exists sounds_by_pack on sounds (pack);
create table if not exists packs (pack text primary key, state text not null, used_at real not null) without rowid;
"""


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
        self.database = _open(self.loose.folder / "index.sqlite")
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
        rows = self.database.execute("select signature, sha256, seal from files")
        known = {signature: digest for signature, digest, seal in rows if seal == _seal(signature, digest)}
        signatures = [_signature(path) for path in files]
        unknown = {
            signature: path
            for signature, path in zip(signatures, files, strict=True)
            if isinstance(signature, str) and signature not in known
        }
        with ThreadPoolExecutor(workers) as threads:  # hashing leaves Python's lock
            found = dict(zip(unknown, threads.map(_sha256_or_error, unknown.values()), strict=True))
        rows = [(key, digest, _seal(key, digest)) for key, digest in found.items() if isinstance(digest, str)]
        if rows:
            most = FILES_KEPT * len(files) + 1000
            with self._transaction():
                self.database.executemany("insert or replace into files values (?, ?, ?)", rows)
                self.database.execute("delete from files where rowid <= (select max(rowid) from files) - ?", [most])
        known |= found
        return [signature if isinstance(signature, OSError) else known[signature] for signature in signatures]

    def figures(self) -> dict[str, str]:
        """{sha256: figures, as JSON} of all that was converted in this way and whose sound is still there."""
        rows = self.database.execute("select sha256, figures, seal, pack from sounds where made_by = ?", [self.name])
        return {
            digest: figures
            for digest, figures, seal, pack in rows
            if seal == _seal(self.name, digest, figures)
            and (self._is_whole(pack) if pack else "reason" in figures or self.loose.has(self.key(digest)))
        }

    def add(self, figures: dict[str, dict]) -> None:
        """Note what was measured in recordings whose entries have just been written."""
        texts = {digest: json.dumps(values) for digest, values in figures.items()}
        rows = [(self.name, digest, text, _seal(self.name, digest, text)) for digest, text in texts.items()]
        with self._transaction():
            self.database.executemany("insert or replace into sounds values (?, ?, ?, ?, null)", rows)

    def sound(self, digest: str) -> bytes:
        """The FLAC file of a converted recording. Raises: Damaged."""
        row = self.database.execute(
            "select pack from sounds where made_by = ? and sha256 = ?", [self.name, digest]
        ).fetchone()
        if row and row[0]:
            try:
                if row[0] not in self.archives:
                    self.archives[row[0]] = zipfile.ZipFile(self._path(row[0]))
                return self.archives[row[0]].read(f"{digest[:ID_LENGTH]}.flac")
            except (OSError, KeyError, zipfile.BadZipFile) as error:
                self._forget_pack(row[0])
                raise Damaged from error
        entry = self.loose.read(self.key(digest))
        if entry is None:
            self.loose.remove(self.key(digest))
            raise Damaged
        return entry.partition(b"\n")[2]

    def write_shards(self, digests: Iterable[str], folder: Path) -> None:
        """Put the sounds of these recordings, in ZIP files by the beginning of their ids, into `folder`.

        A file that is as it was is a second name (or a copy) of the same file here, so that DVC need not read it again.

        Raises: Damaged where a sound is no longer what it was.
        """
        folder.mkdir(parents=True)
        by_id = {digest[:ID_LENGTH]: digest for digest in digests}
        used, new = [], {}
        for name, ids in prepared.shards(by_id).items():
            members = [by_id[clip_id] for clip_id in ids]
            pack = hashlib.sha256("\n".join([self.name, *members]).encode()).hexdigest()
            if not self._is_whole(pack):
                self._write_pack(pack, ids, by_id)
                new[pack] = members
                if len(new) == NOTED_AT_ONCE:
                    self._note_packs(new)
                    new = {}
            used.append(pack)
            try:
                os.link(self._path(pack), folder / name)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                    raise
                shutil.copy2(self._path(pack), folder / name)
        self._note_packs(new)
        self._remove_unused(used)

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
        packs = [(pack, _state(self._path(pack)), time.time()) for pack in new]
        sounds = [(pack, self.name, digest) for pack, digests in new.items() for digest in digests]
        with self._transaction():
            self.database.executemany("insert or replace into packs values (?, ?, ?)", packs)
            self.database.executemany("update sounds set pack = ? where made_by = ? and sha256 = ?", sounds)
        self.whole |= dict.fromkeys(new, True)
        for _, _, digest in sounds:
            self.loose.remove(self.key(digest))

    def _is_whole(self, pack: str) -> bool:
        """Whether a pack is as it was written; one that was touched since is read from beginning to end."""
        if pack not in self.whole:
            row = self.database.execute("select state from packs where pack = ?", [pack]).fetchone()
            try:
                state = _state(self._path(pack))
                self.whole[pack] = row is not None and (row[0] == state or self._is_readable(pack, state))
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
        self.whole[pack] = False
        with self._transaction():
            self.database.execute("delete from packs where pack = ?", [pack])

    def _remove_unused(self, used: list[str]) -> None:
        """Packs that a newer one has replaced, that nobody used for long, or that a killed run left half-written."""
        now = time.time()
        with self._transaction():
            self.database.executemany("update packs set used_at = ? where pack = ?", [(now, pack) for pack in used])
            old = "select pack from packs where used_at < ?"
            self.database.execute(f"delete from sounds where pack in ({old})", [now - KEPT_UNUSED_S])
            gone = self.database.execute(
                "select pack from packs where not exists (select 1 from sounds where sounds.pack = packs.pack)"
            ).fetchall()
            self.database.executemany("delete from packs where pack = ?", gone)
        for (pack,) in gone:
            if pack.isalnum():  # as it was written
                self._path(pack).unlink(missing_ok=True)
        known = {self._path(pack).name for (pack,) in self.database.execute("select pack from packs")}
        for path in self.packs.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.name not in known and now - path.stat().st_mtime > LEFT_BY_A_KILL_S:
                    path.unlink()

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


def _signature(path: str) -> str | OSError:
    try:
        state = os.stat(path)
    except OSError as error:
        return error
    if not stat.S_ISREG(state.st_mode):  # reading a named pipe would wait for ever
        return OSError(errno.EINVAL, "it is a folder or a pipe, name a file")
    times = f"{state.st_mtime_ns}:{state.st_ctime_ns}"
    return f"{state.st_dev}:{state.st_ino}:{state.st_size}:{times}:{os.fsencode(path).hex()}"


def _seal(*fields: str) -> int:
    """For a row of the index: SQLite finds damage to its own structure, not to what is in it."""
    return zlib.crc32("\0".join(fields).encode())


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

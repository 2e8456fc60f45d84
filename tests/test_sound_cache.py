"""What is known of recordings from earlier runs: nothing forgotten that is still there, nothing kept that is gone."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from stages.speech import sound_cache
from stages.speech.sound_cache import INDEX, Damaged, SoundCache

MADE_BY = {"code": "of this test"}


@pytest.fixture
def cache(workspace):
    with contextlib.closing(SoundCache(MADE_BY)) as cache:
        yield cache


@pytest.fixture
def read(monkeypatch):
    """Names of the files that were read to be hashed."""
    names = []
    original = sound_cache.sha256_of_file
    monkeypatch.setattr(sound_cache, "sha256_of_file", lambda path: names.append(path.name) or original(path))
    return names


def write_files(folder: Path, count: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.wav" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(b"%d" % number)
    return list(map(str, paths))


def folders_known(workspace: Path) -> dict[str, bytes]:
    with contextlib.closing(sqlite3.connect(workspace / ".cache/prepared" / INDEX)) as index:
        return dict(index.execute("select folder, files from folders"))


def add(cache: SoundCache, digests: list[str]) -> None:
    """As if these had been converted."""
    known = cache.figures()
    new = [digest for digest in digests if digest not in known]
    for digest in new:
        cache.loose.write(cache.key(digest), b"{}\n" + digest.encode())
    cache.add({digest: ({"duration_s": 1.0}, "A") for digest in new})


def place(digests: list[str], folder: Path) -> dict[str, int]:
    """One run's shards in `folder`, and their inodes."""
    with contextlib.closing(SoundCache(MADE_BY)) as cache:
        add(cache, digests)
        cache.write_shards(digests, folder / "new", folder / "audio")
    shutil.rmtree(folder / "audio", ignore_errors=True)
    (folder / "new").rename(folder / "audio")
    return {path.name: path.stat().st_ino for path in (folder / "audio").iterdir()}


def test_each_file_is_read_once_also_where_only_some_of_a_folder_are_asked_for(workspace, cache, read):
    files = write_files(workspace / "data/raw/phone", 1200)
    first = cache.digests(files, 2)
    new = write_files(workspace / "data/raw/phone", 1201)[1200:]
    assert len(read) == 1200
    read.clear()
    # Written again, so each is another file by its times; asked for by one name, the others are not forgotten.
    assert cache.digests(new, 2) and read == ["1200.wav"]
    read.clear()
    assert cache.digests(files[:600], 2) == first[:600] and len(read) == 600
    read.clear()
    assert cache.digests(files[:600] + new, 2)[:600] == first[:600] and read == []


def test_files_that_are_gone_are_forgotten(workspace, cache):
    folder = workspace / "data/raw/phone"
    files = write_files(folder, 1200)
    cache.digests(files, 2)
    for path in files[1:]:
        os.unlink(path)
    other = folder / "other.wav"
    other.write_bytes(b"other")
    cache.digests([str(other)], 2)
    assert folders_known(workspace)[str(folder)].count(b".wav") == 2


def test_folders_that_are_gone_are_forgotten(workspace, cache):
    kept, gone = workspace / "data/raw/phone", workspace / "data/raw/\u5f55\u97f3 \udcff"
    cache.digests(write_files(gone, 1) + write_files(kept, 1), 2)
    assert len(folders_known(workspace)) == 2
    shutil.rmtree(gone)
    cache.digests(write_files(kept, 2), 2)
    assert list(folders_known(workspace)) == [str(kept)]


def test_two_folders_with_different_clips_leave_each_other_their_packs(workspace, cache):
    digests = [f"{number * 37 % 256:02x}{number:062x}" for number in range(60)]
    few, many = workspace / "few", workspace / "many"
    place(digests[:40], few)
    place(digests, many)
    before = place(digests[:40], few), place(digests, many)
    packs = {path.name: path.stat().st_ino for path in cache.packs.iterdir()}
    assert (place(digests[:40], few), place(digests, many)) == before
    assert {path.name: path.stat().st_ino for path in cache.packs.iterdir()} == packs


def test_packs_that_another_run_removes_meanwhile_are_made_again(workspace, cache):
    digests = [f"{number:x}{number:063x}" for number in range(5)]
    place(digests, workspace / "one")
    add(cache, digests)
    for path in cache.packs.iterdir():
        path.unlink()  # after this run has looked at them
    with pytest.raises(Damaged):
        cache.write_shards(digests, workspace / "two", workspace / "none")
    shutil.rmtree(workspace / "two")
    add(cache, digests)
    cache.write_shards(digests, workspace / "two", workspace / "none")
    assert {path.name for path in (workspace / "two").iterdir()} == {f"{number}.zip" for number in range(5)}

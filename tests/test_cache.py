"""The content cache: a broken entry is made again, a wrong hit cannot be, and experiments share one cache."""

import os
from pathlib import Path

import pytest

from stages.common import paths
from stages.common.cache import ContentCache, fingerprint

KEY = {"sha256": "abc", "trim_silence": False, "version": 1}


@pytest.fixture
def cache(tmp_path, monkeypatch) -> ContentCache:
    monkeypatch.setenv("OWNVOICE_CACHE", str(tmp_path / "cache"))
    return ContentCache("prepared")


def only_file(cache: ContentCache) -> Path:
    (path,) = (path for path in cache.folder.rglob("*") if path.is_file())
    return path


def test_entry_comes_back_as_written_and_a_damaged_one_reads_as_none_and_is_made_again(cache):
    assert cache.read(KEY) is None
    for content in (b"", os.urandom(1000)):
        cache.write(KEY, content)
        assert cache.read(KEY) == content
    path = only_file(cache)
    whole = path.read_bytes()
    damaged = [whole[:kept] for kept in (0, 1, 31, 32, 33, 1031)]
    for position in (0, 31, 32, 500, -1):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        damaged.append(bytes(flipped))
    for entry in damaged:
        path.write_bytes(entry)
        assert cache.read(KEY) is None
    cache.write(KEY, content)
    assert only_file(cache) == path and cache.read(KEY) == content


def test_different_keys_never_share_an_entry(cache):
    keys = [{"trim": value} for value in (True, False, None, "true", 0, 1, "1", "")]
    # Pieces that are the same when put behind each other, and nesting.
    keys += [{"a": "bc"}, {"ab": "c"}, {"a": "b", "c": ""}, {"a": {"b": "c"}}, {"a": ["b", "c"]}, {}, {"a": 'b","c":"'}]
    for number, key in enumerate(keys):
        cache.write(key, str(number).encode())
    assert [cache.read(key) for key in keys] == [str(number).encode() for number in range(len(keys))]
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("variables", "root"),
    [
        ({}, ".cache"),
        ({"DVC_ROOT": "/repository"}, "/repository/.cache"),
        ({"OWNVOICE_CACHE": "/elsewhere", "DVC_ROOT": "/repository"}, "/elsewhere"),
        ({"OWNVOICE_CACHE": "", "DVC_ROOT": "/repository"}, "/repository/.cache"),
    ],
)
def test_environment_decides_where_the_cache_lies(monkeypatch, variables, root):
    for name in ("OWNVOICE_CACHE", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert paths.cache_root() == Path(root)
    assert ContentCache("prepared").folder == Path(root, "prepared")


def test_entries_that_nobody_looked_for_are_removed_and_the_others_stay(cache):
    keys = [{"sha256": name} for name in ("old", "old but looked for", "new")]
    for key in keys:
        cache.write(key, b"x")
    for key in keys[:2]:
        os.utime(cache._path(key), (1, 1))
    assert cache.has(keys[1]) and not cache.has({"sha256": "never written"})
    cache.remove_unused(after_s=3600)
    assert [cache.read(key) for key in keys] == [None, b"x", b"x"]
    cache.remove(keys[1])
    cache.remove(keys[1])  # gone already
    assert cache.read(keys[1]) is None

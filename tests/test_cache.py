"""The content cache: a broken entry is made again, a wrong hit cannot be, and experiments share one cache."""

import itertools
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


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 1000])
def test_content_comes_back_as_it_was_written(cache, content):
    assert cache.read(KEY) is None
    cache.write(KEY, content)
    assert cache.read(KEY) == content


@pytest.mark.parametrize("kept", [0, 1, 31, 32, 33, 1031])
def test_truncated_entry_reads_as_none_and_is_made_again(cache, kept):
    content = os.urandom(1000)
    cache.write(KEY, content)
    path = only_file(cache)
    os.truncate(path, kept)
    assert cache.read(KEY) is None
    cache.write(KEY, content)
    assert only_file(cache) == path
    assert cache.read(KEY) == content


@pytest.mark.parametrize("position", [0, 31, 32, 500, -1])
def test_entry_with_a_flipped_bit_reads_as_none(cache, position):
    cache.write(KEY, bytes(1000))
    entry = bytearray(only_file(cache).read_bytes())
    entry[position] ^= 1
    only_file(cache).write_bytes(entry)
    assert cache.read(KEY) is None


def test_different_keys_never_share_an_entry(cache):
    keys = [
        {"sha256": digest, "trim_silence": trim, "version": version}
        for digest, trim, version in itertools.product(["a", "b", ""], [True, False, None, "true"], [0, 1, "1"])
    ]
    # Pieces that are the same when put behind each other, and nesting.
    keys += [{"a": "bc"}, {"ab": "c"}, {"a": "b", "c": ""}, {"a": {"b": "c"}}, {"a": ["b", "c"]}, {}, {"a": 'b","c":"'}]
    for number, key in enumerate(keys):
        cache.write(key, str(number).encode())
    assert [cache.read(key) for key in keys] == [str(number).encode() for number in range(len(keys))]


def test_order_of_a_keys_parts_does_not_matter(cache):
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    cache.write({"a": 1, "b": 2}, b"same")
    assert cache.read({"b": 2, "a": 1}) == b"same"


def test_kinds_of_entries_are_kept_apart(cache):
    cache.write(KEY, b"sound")
    assert ContentCache("predictions").read(KEY) is None


def test_key_that_no_json_can_hold_is_an_error(cache):
    with pytest.raises(TypeError):
        cache.write({"path": Path("a")}, b"x")


def test_writing_leaves_no_temporary_file(cache):
    cache.write(KEY, b"one")
    cache.write(KEY, b"two")
    assert len(only_file(cache).name) == 64
    assert cache.read(KEY) == b"two"


@pytest.mark.parametrize(
    ("variables", "root"),
    [
        ({}, ".cache"),
        ({"DVC_ROOT": "/repository"}, "/repository/.cache"),
        ({"OWNVOICE_CACHE": "/elsewhere"}, "/elsewhere"),
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


def test_file_that_another_run_renames_or_removes_meanwhile_does_not_stop_the_removing(cache, monkeypatch):
    cache.write({"sha256": "old"}, b"x")
    path = cache._path({"sha256": "old"})

    class Clock:
        @staticmethod
        def time() -> float:  # asked for between the listing and the look at the file
            path.unlink()
            return 0.0

    monkeypatch.setattr("stages.common.cache.time", Clock)
    cache.remove_unused(after_s=3600)
    assert not path.exists()

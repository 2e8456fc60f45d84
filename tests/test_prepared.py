"""Prepared sound in ZIP files: found by id, damage told in one line, bytes that follow from the clips alone."""

import io
import os
import random
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stages.common.stage import UserError
from stages.speech import prepared
from tests.workspaces import ROOT

IDS = sorted(f"{random.Random(number).getrandbits(64):016x}" for number in range(300))
SHARD = Path("data/prepared/audio/3.zip")


def sound_of(clip_id: str) -> bytes:
    return random.Random(clip_id).randbytes(random.Random(clip_id).randrange(2000))


@pytest.fixture
def shard(workspace) -> Path:
    SHARD.parent.mkdir(parents=True)
    with SHARD.open("wb") as file:
        prepared.write_shard(file, [clip_id for clip_id in IDS if clip_id[0] == "3"], sound_of)
    return SHARD


@pytest.mark.parametrize(("clips", "files"), [(1, 1), (10, 10), (4096, 16), (4097, 256), (50_000, 256), (65_537, 4096)])
def test_number_of_files_follows_from_the_number_of_clips(clips, files):
    ids = [f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" for number in range(clips)]  # spread evenly
    found = prepared.shards(reversed(ids))
    assert len(found) == files
    assert list(found) == sorted(found) and sorted(ids) == [one for part in found.values() for one in part]
    assert all(one.startswith(name.removesuffix(".zip")) for name, part in found.items() for one in part)


def test_every_sound_comes_back_by_its_path_and_by_its_id(shard):
    ids = [clip_id for clip_id in IDS if clip_id[0] == "3"]
    assert len(ids) > 10
    for clip_id in ids:
        path = shard / f"{clip_id}.flac"
        assert prepared.content(path) == sound_of(clip_id)
        assert prepared.size_of(path) == len(sound_of(clip_id))
        assert prepared.path_of(clip_id) == path
    assert prepared.path_of(next(clip_id for clip_id in IDS if clip_id[0] == "4")) is None


def test_any_archive_tool_reads_it_and_the_bytes_do_not_depend_on_when_it_was_written(shard, monkeypatch):
    ids = [clip_id for clip_id in IDS if clip_id[0] == "3"]
    with zipfile.ZipFile(shard) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            f"{one}.flac": sound_of(one) for one in ids
        }
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    monkeypatch.setattr("time.time", lambda: 2e9)
    again = io.BytesIO()
    prepared.write_shard(again, ids, sound_of)
    assert again.getvalue() == shard.read_bytes()


def test_file_that_took_another_ones_place_is_read_anew(shard):
    path = prepared.path_of(next(clip_id for clip_id in IDS if clip_id[0] == "3"))
    assert prepared.content(path)
    with Path("new.zip").open("wb") as file:
        prepared.write_shard(file, [path.stem], lambda _: b"other")
    os.replace("new.zip", shard)
    assert prepared.content(path) == b"other"


def test_damaged_or_missing_sound_is_one_line(shard):
    path = prepared.path_of(next(clip_id for clip_id in IDS if clip_id[0] == "3"))
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{re.escape(str(shard))} is damaged: remove it"):
        prepared.content(path)
    shard.write_bytes(content[:-50])
    with pytest.raises(UserError, match="is damaged: remove it"):
        prepared.content(path)
    for missing in (shard / "0000000000000000.flac", SHARD.with_name("4.zip") / path.name):
        with pytest.raises(UserError, match=r"is missing: run 'dvc repro prepare'$|is damaged"):
            prepared.content(missing)


def test_one_clip_is_copied_out_by_its_id(shard):
    clip_id = next(clip_id for clip_id in IDS if clip_id[0] == "3")
    command = [sys.executable, "-m", "stages.speech.prepared"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, clip_id], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(f"{clip_id}.flac").read_bytes() == sound_of(clip_id)
    for wrong in ("", "../../x", "f" * 16):
        done = subprocess.run([*command, wrong], env=environment, capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.startswith("listen: no clip has the id")
        assert done.stderr.count("\n") == 1

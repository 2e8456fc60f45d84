"""What prepare knows from earlier runs: a new clip costs its own work, and nothing broken or stale is used."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages import prepare
from stages.common.files import read_jsonl
from stages.common.params import load_params
from stages.common.pool import run_each
from stages.common.stage import UserError
from stages.speech import audio, conversion, sound_cache
from stages.speech.clips import read_clips
from stages.speech.conversion import Part
from stages.speech.prepared import MANIFEST
from stages.speech.sound_cache import SoundCache
from tests.test_prepare import content_of

PREPARED = Path("data/prepared")


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Names of the recordings that prepare reads and converts from now on."""
    names: list[str] = []

    def watched(work, parts, *options):
        names.extend(part.location.name for part in parts)
        return run_each(work, parts, *options)

    monkeypatch.setattr(sound_cache, "run_each", watched)
    return names


@pytest.fixture
def prepared(workspace, record, transcribe) -> list[Path]:
    """Five recordings, prepared."""
    recordings = [record(f"phone/{number}.wav", hertz=300 + number) for number in range(5)]
    transcribe("phone", {path.name: f"text {path.stem}" for path in recordings})
    prepare.main()
    return recordings


def entries() -> list[Path]:
    """The sounds in the cache, without the index."""
    return [path for path in Path(".cache/prepared").glob("*/*") if b"fLaC" in path.read_bytes()]


def index() -> Path:
    (path,) = set(Path(".cache/prepared").glob("*/*")) - set(entries())
    return path


def states() -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in PREPARED.glob("audio/*/*")}


def test_new_clip_costs_its_own_work_and_the_other_files_stay_as_they_are(prepared, record, transcribe, read):
    """DVC knows a file by its inode and time, and copies anew one that has a second name."""
    before = states()
    new = record("phone/new.wav", hertz=400)
    transcribe("phone", {path.name: f"text {path.stem}" for path in [*prepared, new]})
    prepare.main()
    after = states()
    assert (read, len(after)) == (["new.wav"], 6) and before.items() < after.items()
    assert {path.stat().st_nlink for path in after} == {1}
    read.clear()
    prepare.main()
    assert (read, states()) == ([], after)
    index().unlink()  # all is read again
    prepare.main()
    assert (sorted(read), states()) == (sorted(path.name for path in [*prepared, new]), after)


def test_output_depends_on_its_clips_alone_not_on_what_was_there_before(prepared, workspace, transcribe, monkeypatch):
    for count in (3, 4, 5):
        transcribe("phone", {path.name: "text" for path in prepared[:count]})
        prepare.main()
        assert len(states()) == count
    grown = content_of(PREPARED)
    (PREPARED / "audio/3.zip").write_bytes(b"of an older version")
    (PREPARED / "audio/.left-by-a-kill").touch()
    monkeypatch.setenv("OWNVOICE_CACHE", str(workspace / "other-cache"))
    prepare.main()
    assert content_of(PREPARED) == grown
    assert all(list(folder.iterdir()) for folder in PREPARED.glob("audio/*"))


def test_changed_text_or_limits_decode_nothing_again(workspace, record, transcribe, set_param, read):
    record("phone/a.wav")
    record("phone/long.wav", duration_s=15)
    transcribe("phone", {"a.wav": "one", "long.wav": "long"})
    prepare.main()
    read.clear()
    transcribe("phone", {"a.wav": "two", "long.wav": "long"})
    for limit, texts in ((10.0, ["two"]), (20.0, ["two", "long"])):
        set_param("prepare.max_duration_s", limit)
        prepare.main()
        assert [clip.text for clip in read_clips(MANIFEST)] == texts
    assert read == []


def test_unreadable_recording_is_not_read_again_and_its_reason_stays(prepared, read):
    prepared[0].write_bytes(b"no sound at all")
    for names in (["0.wav"], []):
        prepare.main()
        (row,) = read_jsonl(PREPARED / "rejected.jsonl")
        assert (row["file"], row["reason"], read) == ("phone/0.wav", "unreadable audio", names)
        read.clear()


def test_recording_with_other_bytes_under_the_same_name_size_and_time_is_another_clip(prepared, record):
    path, other = prepared[0], record("other.wav", hertz=600)
    state, content = path.stat(), other.read_bytes()
    with path.open("r+b") as file:  # in place: the same inode
        file.write(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    prepare.main()
    assert read_clips(MANIFEST)[0].id == hashlib.sha256(content).hexdigest()[:16]


def break_by_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [break_by_a_bit, Path.unlink])
@pytest.mark.parametrize("files", [entries, lambda: [index()], lambda: [*entries(), index()]])
def test_broken_or_lost_cache_is_made_again(prepared, damage: Callable, files: Callable):
    before = content_of(PREPARED)
    for path in files():
        damage(path)
    prepare.main()
    assert content_of(PREPARED) == before
    # Nor is what is broken put in place later.
    for path in PREPARED.glob("audio/*/*"):
        path.unlink()
    prepare.main()
    assert content_of(PREPARED) == before


@pytest.mark.parametrize("change", [break_by_a_bit, Path.unlink])
def test_file_of_data_prepared_that_was_changed_is_put_back(prepared, read, change: Callable):
    before = content_of(PREPARED)
    for path in PREPARED.glob("*/*/*"):
        change(path)
    MANIFEST.write_text("")
    prepare.main()
    assert (content_of(PREPARED), read) == (before, [])


def test_manifest_is_gone_while_sounds_that_it_describes_are_replaced(prepared, set_param, monkeypatch):
    """Killed in between, it would have the figures of other sounds."""
    write = sound_cache.write_whole

    def killed(path: Path, content: bytes) -> None:
        write(path, content)
        raise KeyboardInterrupt

    sound, _ = soundfile.read(prepared[0])
    soundfile.write(prepared[0], np.stack([sound, -0.5 * sound], axis=1), 16_000)
    prepare.main()
    assert MANIFEST.exists()
    set_param("prepare.channels", "mix")
    monkeypatch.setattr(sound_cache, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare.main()
    assert not MANIFEST.exists()


def test_what_nobody_used_for_a_month_is_removed_and_the_rest_stays(prepared, transcribe, read):
    transcribe("phone", {path.name: "text" for path in prepared[:4]})
    for path in entries():
        os.utime(path, (1, 1))
    prepare.main()
    sounds = {path.read_bytes()[path.read_bytes().index(b"fLaC") :] for path in entries()}
    assert sounds == {path.read_bytes() for path in PREPARED.glob("audio/*/*")} and len(sounds) == 4
    found = json.loads(index().read_bytes()[32:])
    assert {name: len(rows) for name, rows in found.items()} == {"files": 4, "parts": 4, "written": 4}


def test_index_of_another_version_is_not_read(prepared, read, monkeypatch):
    monkeypatch.setattr(sound_cache, "code_hash", lambda _: "another version")
    prepare.main()
    assert len(read) == 5


def change_text(raw: Path) -> None:
    (raw / "phone/clips.jsonl").write_text((raw / "phone/clips.jsonl").read_text().replace("text 0", "other words"))


def change_sound(raw: Path) -> None:
    (raw / "phone/0.wav").write_bytes((raw / "phone/0.wav").read_bytes()[:-2] + b"ab")


def add_recording(raw: Path) -> None:
    shutil.copytree(raw / "phone", raw / "new")


@pytest.mark.parametrize("change", [change_text, change_sound, add_recording])
def test_recordings_that_change_while_they_are_read_end_the_run_and_the_next_one_has_them(
    prepared, workspace, monkeypatch, change: Callable
):
    """DVC hashes data/raw after the stage, and would never run it for what came meanwhile."""
    before = content_of(PREPARED)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "report", lambda *_: change(workspace / "data/raw"))
        with pytest.raises(UserError, match="changed while it was read"):
            prepare.main()
    prepare.main()
    assert content_of(PREPARED) != before


def test_recording_that_is_written_over_while_it_is_read_leaves_nothing_in_the_cache(prepared, record, monkeypatch):
    """Else another sound would have the hash of what was there before."""
    path, other = prepared[0], record("other.wav", hertz=600)
    decode = audio.decode

    def decode_later(*arguments):
        path.write_bytes(other.read_bytes())  # in place: the same inode
        return decode(*arguments)

    params = load_params().prepare
    shutil.rmtree(".cache")
    cache = SoundCache(params)
    monkeypatch.setattr(audio, "decode", decode_later)
    with pytest.raises(UserError, match="changed while it was read"):
        conversion.convert(Part(path), params, cache.cache, cache.made_by)
    assert entries() == []

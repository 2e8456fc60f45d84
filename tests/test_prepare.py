"""The prepare stage: what becomes a clip, what is rejected and why, and what the content cache saves."""

import contextlib
import hashlib
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import pytest
import soundfile
from distributed import LocalCluster

from stages import prepare
from stages.common import pool
from stages.common.files import read_json, read_jsonl
from stages.common.pool import run_each
from stages.common.stage import UserError
from stages.speech import audio, conversion, prepared
from stages.speech.clips import read_clips
from tests.workspaces import ROOT

PREPARED = Path("data/prepared")


@pytest.fixture
def transcribe(workspace):
    """`transcribe("phone", {"a.wav": "one"})` writes a source's clips.jsonl; a value may be a whole row."""

    def write(source: str, texts: dict[str, str | dict]) -> None:
        folder = workspace / "data/raw" / source
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            {"audio_path": name, **(text if isinstance(text, dict) else {"text": text})} for name, text in texts.items()
        ]
        (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return write


def content_of(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found
    return found


def test_every_reason_is_written_with_file_and_remedy_and_counted_on_the_screen(
    workspace, record, transcribe, run_stage
):
    raw = workspace / "data/raw"
    record("phone/good.wav")
    record("phone/twin.wav")  # the same bytes as good.wav
    record("phone/blip.wav", duration_s=0.05)
    record("phone/blip2.wav", duration_s=0.06)
    record("phone/speech.wav", duration_s=30.5)
    record("phone/quiet.wav", peak=0.0005)  # -66 dBFS
    record("phone/loud.wav", peak=4.0)
    record("phone/mute.wav", hertz=441)
    record("phone/command.wav", hertz=442)
    record("phone/martian.wav", hertz=443)
    record("phone/unlisted.wav", hertz=444)
    record("loose.wav")
    (raw / "phone/broken.wav").write_bytes(b"no sound at all")
    names = ["good", "twin", "blip", "blip2", "speech", "quiet", "loud", "broken", "absent"]
    transcribe(
        "phone",
        {f"{name}.wav": f"text of {name}" for name in names}
        | {
            "mute.wav": " ?! ",
            "command.wav": "stop [AUD\u200bIO] now",
            "martian.wav": {"text": "klaatu", "language": "xx"},
            "../loose.wav": "outside",
        },
    )
    with (raw / "phone/clips.jsonl").open("a") as manifest:
        manifest.write('{"audio_path": "x.wav"\n')

    result = run_stage("prepare")

    assert result.returncode == 0, result.stderr
    expected = {
        "loose.wav": "in no source folder",
        "phone/unlisted.wav": "no transcript",
        "phone/clips.jsonl:14": "unreadable row",
        "phone/../loose.wav": "path leaves its folder",
        "phone/mute.wav": "empty text",
        "phone/command.wav": "control string in text",
        "phone/martian.wav": "unknown language",
        "phone/absent.wav": "missing audio",
        "phone/broken.wav": "unreadable audio",
        "phone/blip.wav": "too short",
        "phone/blip2.wav": "too short",
        "phone/speech.wav": "too long",
        "phone/quiet.wav": "silence",
        "phone/loud.wav": "heavy clipping",
        "phone/twin.wav": "same recording twice",
    }
    rows = read_jsonl(workspace / PREPARED / "rejected.jsonl")
    assert {row["file"]: row["reason"] for row in rows} == expected
    assert len(rows) == len(expected)
    remedies = {row["file"]: row["remedy"] for row in rows}
    for file, words in {
        "loose.wav": "move it into a folder",
        "phone/unlisted.wav": "add a row with its text to phone/clips.jsonl",
        "phone/clips.jsonl:14": "mend the JSON",
        "phone/../loose.wav": "without ..",
        "phone/mute.wav": "write down what was said",
        "phone/command.wav": "remove [AUDIO]",
        "phone/martian.wav": "'xx' is no ISO 639-1 code",
        "phone/absent.wav": "put the file back",
        "phone/broken.wav": "save it as WAV or FLAC",
        "phone/blip.wav": "0.05 s is below prepare.min_duration_s 0.1",
        "phone/speech.wav": "30.5 s is above prepare.max_duration_s 30",
        "phone/quiet.wav": "check the microphone",
        "phone/loud.wav": "turn the microphone down",
        "phone/twin.wav": "same bytes as phone/good.wav",
    }.items():
        assert words in remedies[file]
    counts = {reason: list(expected.values()).count(reason) for reason in expected.values()}
    on_screen = dict(re.findall(r"^prepare: (\d+ rejected, [^:]+): e\.g\. (\S+): .+$", result.stdout, re.MULTILINE))
    assert set(on_screen) == {f"{count} rejected, {reason}" for reason, count in counts.items()}
    summary = read_json(workspace / PREPARED / "summary.json")
    assert (summary["clips"], summary["rejected"], summary["rejected_by_reason"]) == (1, 15, counts)
    assert [clip.recorded_file for clip in read_clips(workspace / PREPARED / "clips.jsonl")] == ["phone/good.wav"]
    assert re.search(r"^prepare: 1 clip, 0\.02 minutes, 15 rejected -> data/prepared", result.stdout, re.MULTILINE)
    assert result.errors == []


def test_nothing_usable_is_one_line_and_exit_code_1_and_leaves_nothing(workspace, record, transcribe, run_stage):
    record("phone/a.wav", duration_s=0.05)
    record("phone/b.wav", duration_s=0.06)
    record("phone/c.wav")
    transcribe("phone", {"a.wav": "one", "b.wav": "two"})
    result = run_stage("prepare")
    assert result.returncode == 1
    assert result.errors == ["prepare: no usable clip in data/raw, all 3 rejected: 2 too short, 1 no transcript"]
    assert [path.name for path in (workspace / "data").iterdir()] == ["raw"]


@pytest.mark.parametrize("make", [lambda: None, lambda: Path("data/raw").mkdir(parents=True)])
def test_empty_raw_folder_is_one_line_that_says_what_to_put_there(workspace, run_stage, make):
    make()
    result = run_stage("prepare")
    assert result.returncode == 1
    assert len(result.errors) == 1
    assert result.errors[0].startswith("prepare: data/raw holds no recordings: put a folder with audio files")
    assert not (workspace / PREPARED).exists()


def test_unknown_default_language_is_a_mistake_in_params(workspace, record, transcribe, set_param):
    record("phone/a.wav")
    transcribe("phone", {"a.wav": "one"})
    set_param("prepare.language", "english")
    with pytest.raises(UserError, match=r"^params\.yaml: prepare\.language 'english' is no ISO 639-1 code"):
        prepare.main()


def test_clip_is_16_khz_mono_flac_named_by_the_hash_of_its_recording(workspace, record, transcribe):
    stereo = np.stack([np.linspace(-0.5, 0.5, 96_000), np.linspace(-0.4, 0.4, 96_000)], axis=1)
    path = record("phone/a.wav")
    soundfile.write(path, stereo, 48_000)
    transcribe("phone", {"a.wav": {"text": " Cafe\u0301,\u00a0please ", "session": "monday", "prompt_id": "p1"}})
    prepare.main()
    identity = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    shard = f"audio/{identity[0]}.zip"
    assert {name for name in content_of(PREPARED) if name.startswith("audio")} == {shard}
    with zipfile.ZipFile(PREPARED / shard) as archive:
        assert archive.namelist() == [f"{identity}.flac"]
        info = soundfile.info(io.BytesIO(archive.read(f"{identity}.flac")))
    assert (info.format, info.samplerate, info.channels, info.frames) == ("FLAC", 16_000, 1, 32_000)
    (clip,) = read_clips(PREPARED / "clips.jsonl")
    assert (clip.id, clip.audio_path, clip.duration_s) == (identity, f"{shard}/{identity}.flac", 2.0)
    assert (clip.text, clip.language, clip.source, clip.recorded_file) == (
        "Caf\u00e9, please",
        "en",
        "phone",
        "phone/a.wav",
    )
    assert (clip.session, clip.prompt_id, clip.speaker) == ("monday", "p1", None)


def test_language_in_capitals_does_not_become_another_language(workspace, record, transcribe):
    # The code goes into the prompt as it stands (`lang:en`), and the summary counts it.
    record("phone/a.wav")
    record("phone/b.wav", hertz=500)
    transcribe("phone", {"a.wav": {"text": "one", "language": "en"}, "b.wav": {"text": "two", "language": "EN"}})
    prepare.main()
    assert set(read_json(PREPARED / "summary.json")["languages"]) == {"en"}


def test_summary_counts_clips_by_language_and_source(workspace, record, transcribe):
    for number, source in enumerate(["phone", "phone", "desk"]):
        record(f"{source}/{number}.wav", hertz=300 + number, duration_s=6)
    transcribe("phone", {"0.wav": {"text": "eins", "language": "de"}, "1.wav": "two"})
    transcribe("desk", {"2.wav": "three"})
    prepare.main()
    assert read_json(PREPARED / "summary.json") == {
        "clips": 3,
        "minutes": 0.3,
        "languages": {"en": 2, "de": 1},
        "sources": {"desk": 1, "phone": 2},
        "hub_sources": [],
        "rejected": 0,
        "rejected_by_reason": {},
        "to_review_by_reason": {"few words": 3, "telephone sound": 3, "noise": 3},  # a tone has no pause
    }


def test_raw_folder_is_never_changed(workspace, record, transcribe):
    record("phone/a.wav")
    record("phone/short.wav", duration_s=0.01)
    transcribe("phone", {"a.wav": "one", "short.wav": "two"})
    before = content_of(workspace / "data/raw")
    prepare.main()
    assert content_of(workspace / "data/raw") == before


@pytest.fixture
def converted(monkeypatch) -> list[str]:
    """Names of the recordings that prepare converts from now on."""
    names: list[str] = []

    def watched(work, items, *options):
        items = list(items)
        names.extend(Path(part.location).name for part in items)
        return run_each(work, items, *options)

    monkeypatch.setattr(conversion, "run_each", watched)
    return names


def test_one_new_clip_costs_one_clips_work_and_leaves_the_other_files_as_they_are(
    workspace, record, transcribe, converted
):
    old = [record(f"phone/{number}.wav", hertz=300 + number) for number in range(40)]
    transcribe("phone", {path.name: f"text {path.stem}" for path in old})
    prepare.main()
    files = {path.name: path.stat() for path in (PREPARED / "audio").iterdir()}
    sounds = sounds_of_all()
    converted.clear()
    new = record("phone/new.wav", hertz=400)
    transcribe("phone", {path.name: f"text {path.stem}" for path in [*old, new]})
    prepare.main()
    assert converted == ["new.wav"]
    (clip,) = (clip for clip in read_clips(PREPARED / "clips.jsonl") if clip.recorded_file == "phone/new.wav")
    after = {path.name: path.stat() for path in (PREPARED / "audio").iterdir()}
    changed = {name for name, state in after.items() if name not in files or state.st_ino != files[name].st_ino}
    assert changed == {f"{clip.id[0]}.zip"} and len(after) > 10
    assert sounds_of_all().items() - sounds.items() == {(clip.id, prepared.content(PREPARED / clip.audio_path))}


def sounds_of_all() -> dict[str, bytes]:
    return {clip.id: prepared.content(PREPARED / clip.audio_path) for clip in read_clips(PREPARED / "clips.jsonl")}


def test_output_depends_on_its_clips_alone_not_on_what_was_there_before(workspace, record, transcribe, monkeypatch):
    paths = [record(f"phone/{number}.wav", hertz=300 + number) for number in range(20)]
    for count in (20, 12, 17, 20):
        transcribe("phone", {path.name: "text" for path in paths[:count]})
        prepare.main()
    grown = content_of(PREPARED)
    monkeypatch.setenv("OWNVOICE_CACHE", str(workspace / "other-cache"))
    prepare.main()
    assert content_of(PREPARED) == grown


def test_changed_text_or_limits_decode_nothing_again(workspace, record, transcribe, set_param, converted):
    record("phone/a.wav")
    record("phone/long.wav", duration_s=15)
    transcribe("phone", {"a.wav": "one", "long.wav": "long"})
    prepare.main()
    for limit, texts in ((10.0, ["two"]), (20.0, ["two", "long"])):
        converted.clear()
        transcribe("phone", {"a.wav": "two", "long.wav": "long"})
        set_param("prepare.max_duration_s", limit)
        prepare.main()
        assert converted == []
        assert [clip.text for clip in read_clips(PREPARED / "clips.jsonl")] == texts


def test_unreadable_recording_is_not_read_again_and_its_reason_stays(workspace, record, transcribe, converted):
    record("phone/a.wav")
    (workspace / "data/raw/phone/b.wav").write_bytes(b"no sound at all")
    transcribe("phone", {"a.wav": "one", "b.wav": "two"})
    prepare.main()
    rows = read_jsonl(PREPARED / "rejected.jsonl")
    assert [(row["file"], row["reason"]) for row in rows] == [("phone/b.wav", "unreadable audio")]
    converted.clear()
    prepare.main()
    assert (converted, read_jsonl(PREPARED / "rejected.jsonl")) == ([], rows)


def test_recording_with_other_bytes_under_the_same_name_size_and_time_is_another_clip(workspace, record, transcribe):
    path = record("phone/a.wav", hertz=300)
    transcribe("phone", {"a.wav": "one"})
    prepare.main()
    (before,) = read_clips(PREPARED / "clips.jsonl")
    state = path.stat()
    other = record("phone/other.wav", hertz=600)
    content = other.read_bytes()
    other.unlink()
    with path.open("r+b") as file:  # in place: the same inode
        file.write(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    prepare.main()
    (after,) = read_clips(PREPARED / "clips.jsonl")
    assert after.id == hashlib.sha256(content).hexdigest()[:16] != before.id


def break_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def break_by_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def break_unnoticed(path: Path) -> None:
    """As a disk would: neither size nor time tells."""
    state = path.stat()
    break_by_a_bit(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize("damage", [break_by_cutting, break_by_a_bit, Path.unlink])
@pytest.mark.parametrize("what", ["packs/*.zip", "index-2.sqlite"])
def test_broken_or_lost_cache_is_made_again(workspace, record, transcribe, damage, what):
    record("phone/a.wav")
    transcribe("phone", {"a.wav": "one"})
    prepare.main()
    before = content_of(PREPARED)
    (path,) = (workspace / ".cache/prepared").glob(what)
    if what == "index-2.sqlite" and damage is break_by_a_bit:
        path.write_bytes(b"no database" * 1000)
    else:
        damage(path)
    prepare.main()
    assert content_of(PREPARED) == before


@pytest.mark.parametrize(
    ("table", "column", "content", "broken"),
    [
        ("folders", "files", rb'"\w{6}(\w{58})"', rb'"abcdef\1"'),
        ("packs", "figures", rb'"duration_s":1.0', rb'"duration_s":5.0'),
        ("sounds", "figures", rb'"level_dbfs":-100.0', rb'"level_dbfs":-10.0'),
    ],
)
def test_row_of_the_index_that_broke_unnoticed_is_made_again(
    workspace, record, transcribe, table, column, content, broken
):
    record("phone/a.wav")
    record("phone/silent.wav", peak=0.0)
    transcribe("phone", {"a.wav": "one", "silent.wav": "two"})
    prepare.main()
    before = content_of(PREPARED)
    with contextlib.closing(sqlite3.connect(workspace / ".cache/prepared/index-2.sqlite")) as index, index:
        [(row,)] = index.execute(f"select {column} from {table}")
        changed = re.sub(content, broken, row)
        assert changed != row and index.execute(f"update {table} set {column} = ?", [changed]).rowcount == 1
    prepare.main()
    assert content_of(PREPARED) == before


def test_sound_that_broke_unnoticed_is_found_when_it_is_copied_and_made_again(workspace, record, transcribe):
    first = [record(f"phone/{number}.wav", hertz=300 + number) for number in range(40)]
    transcribe("phone", {path.name: "text" for path in first})
    prepare.main()
    sounds = sounds_of_all()
    for path in (workspace / ".cache/prepared/packs").iterdir():
        break_unnoticed(path)
    new = [record(f"phone/new{number}.wav", hertz=400 + number) for number in range(40)]  # into each of the files
    transcribe("phone", {path.name: "text" for path in [*first, *new]})
    prepare.main()
    grown = sounds_of_all()
    assert {clip_id: grown[clip_id] for clip_id in sounds} == sounds and len(grown) == 80


def test_packs_that_newer_ones_have_replaced_are_removed(workspace, record, transcribe):
    paths = []
    for number in range(5):
        paths.append(record(f"phone/{number}.wav", hertz=300 + number))
        transcribe("phone", {path.name: "text" for path in paths})
        prepare.main()
    packs = {path.read_bytes() for path in (workspace / ".cache/prepared/packs").iterdir()}
    assert packs == {path.read_bytes() for path in (PREPARED / "audio").iterdir()}
    assert [path for path in (workspace / ".cache/prepared").glob("??/*")] == []


def test_files_of_clips_that_were_there_stay_the_same_files_with_one_name(workspace, record, transcribe):
    """DVC knows a file by its inode and time, and copies anew what has a second name."""
    paths = [record(f"phone/{number}.wav", hertz=300 + number) for number in range(6)]
    transcribe("phone", {path.name: "text" for path in paths[:5]})
    prepare.main()
    before = {path.name: path.stat() for path in PREPARED.glob("audio/*")}
    transcribe("phone", {path.name: "text" for path in paths})
    prepare.main()
    after = {path.name: path.stat() for path in PREPARED.glob("audio/*")}
    written = Path(read_clips(PREPARED / "clips.jsonl")[-1].audio_path).parent.name
    same = before.keys() - {written}
    assert same and after.keys() == same | {written}
    for name in same:
        assert (after[name].st_ino, after[name].st_mtime_ns) == (before[name].st_ino, before[name].st_mtime_ns)
    assert {state.st_nlink for state in after.values()} == {1}


@pytest.mark.parametrize("change", [break_by_a_bit, break_by_cutting, Path.unlink])
def test_file_of_clips_that_was_changed_is_put_back(workspace, record, transcribe, change):
    record("phone/a.wav")
    transcribe("phone", {"a.wav": "one"})
    prepare.main()
    before = content_of(PREPARED)
    (path,) = PREPARED.glob("audio/*")
    change(path)
    prepare.main()
    assert content_of(PREPARED) == before


def test_trimmed_and_untrimmed_clips_never_share_a_cache_entry(workspace, record, transcribe, set_param):
    path = record("phone/a.wav")
    sound, _ = soundfile.read(path)
    soundfile.write(path, np.concatenate([np.zeros(16_000), sound, np.zeros(16_000)]), 16_000)
    transcribe("phone", {"a.wav": "one"})
    durations = []
    for trim in (False, True, False):
        set_param("prepare.trim_silence", trim)
        prepare.main()
        durations += [clip.duration_s for clip in read_clips(PREPARED / "clips.jsonl")]
    # 1 s of tone with 0.1 s on both sides, cut at frames of 512 samples
    assert durations == [3.0, pytest.approx(1.2, abs=2 * 512 / audio.SAMPLE_RATE_HZ), 3.0]


def test_workers_and_dask_give_the_same_bytes_as_one_process(workspace, record, transcribe, set_param, monkeypatch):
    # More than the eight clips that a worker takes at once.
    for number in range(40):
        record(f"phone/{number}.wav", hertz=300 + number, duration_s=0.3, rate_hz=22_050)
    (workspace / "data/raw/phone/broken.wav").write_bytes(b"no sound")
    transcribe("phone", {f"{name}.wav": f"text {name}" for name in ["broken", *reversed(range(40))]})
    results = []
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        for workers, scheduler in ((1, None), (2, None), (1, cluster.scheduler_address)):
            monkeypatch.setenv("OWNVOICE_CACHE", str(workspace / f"cache-{len(results)}"))
            set_param("prepare.workers", workers)
            set_param("prepare.dask_scheduler", scheduler)
            prepare.main()
            results.append(content_of(PREPARED))
    assert results[0] == results[1] == results[2]
    assert len(read_clips(PREPARED / "clips.jsonl")) == 40


def test_dask_scheduler_that_does_not_answer_is_one_line(workspace, record, transcribe, set_param, monkeypatch):
    record("phone/a.wav")
    transcribe("phone", {"a.wav": "one"})
    set_param("prepare.dask_scheduler", "tcp://127.0.0.1:9")
    monkeypatch.setattr(pool, "DASK_ANSWERS_WITHIN_S", 1)
    with pytest.raises(UserError, match=r"^prepare\.dask_scheduler: no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        prepare.main()


@pytest.mark.parametrize(
    ("deed", "remedy"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed, or was ended for its memory"),
        ("time.sleep(600)", "it took longer than 3 s"),
        ("bytearray(8 << 30)", "cut it into shorter recordings"),
    ],
)
def test_recording_that_kills_hangs_or_fills_its_process_costs_itself_alone(
    workspace, record, transcribe, set_param, monkeypatch, deed, remedy
):
    for number in range(30):
        record(f"phone/{number}.wav", hertz=300 + number, duration_s=0.3)
    hostile = record("phone/hostile.wav", hertz=900).read_bytes()
    transcribe("phone", {f"{name}.wav": "text" for name in [*range(15), "hostile", *range(15, 30)]})
    set_param("prepare.max_seconds_per_file", 3.0)
    decode = audio.decode

    def decode_or_die(recorded: BinaryIO):
        recorded.seek(0)
        if recorded.read() == hostile:
            exec(f"import os, signal, time; {deed}")
        return decode(recorded)

    monkeypatch.setattr(audio, "decode", decode_or_die)  # processes are forked, and have it too
    prepare.main()
    rows = read_jsonl(PREPARED / "rejected.jsonl")
    assert [row["file"] for row in rows] == ["phone/hostile.wav"] and remedy in rows[0]["remedy"]
    clips = [clip.recorded_file for clip in read_clips(PREPARED / "clips.jsonl")]
    assert clips == [f"phone/{number}.wav" for number in range(30)]


def test_clips_keep_the_order_of_their_manifest(workspace, record, transcribe):
    names = [f"rec_{number}.wav" for number in (2, 10, 1)]
    for number, name in enumerate(names):
        record(f"phone/{name}", hertz=300 + number)
    transcribe("phone", dict.fromkeys(names, "text"))
    prepare.main()
    assert [clip.recorded_file for clip in read_clips(PREPARED / "clips.jsonl")] == [f"phone/{name}" for name in names]


def test_recording_of_a_telephone_becomes_a_clip(workspace, record, transcribe):
    spoken, _ = soundfile.read(record("desk/a.wav", duration_s=2), dtype="float32")
    (workspace / "data/raw/phone").mkdir()
    with av.open(str(workspace / "data/raw/phone/memo.m4a"), "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(spoken[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    transcribe("phone", {"memo.m4a": "hello"})
    transcribe("desk", {"a.wav": "hello"})
    prepare.main()
    clip, original = sorted(read_clips(PREPARED / "clips.jsonl"), key=lambda clip: clip.source, reverse=True)
    assert (clip.recorded_file, original.recorded_file) == ("phone/memo.m4a", "desk/a.wav")
    assert clip.duration_s == pytest.approx(original.duration_s, abs=0.15)
    assert clip.level_dbfs == pytest.approx(original.level_dbfs, abs=0.5)
    assert soundfile.info(io.BytesIO(prepared.content(PREPARED / clip.audio_path))).samplerate == 16_000


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_recording_without_a_single_sample_is_refused(workspace, record, transcribe, rate_hz):
    soundfile.write(record("phone/empty.wav"), np.zeros(0), rate_hz)
    record("phone/a.wav")
    transcribe("phone", {"a.wav": "one", "empty.wav": "two"})
    prepare.main()
    rows = read_jsonl(PREPARED / "rejected.jsonl")
    assert [(row["file"], row["reason"]) for row in rows] == [("phone/empty.wav", "unreadable audio")]
    assert rows[0]["remedy"].startswith("there is no sound in this file")


def test_recording_with_samples_that_are_no_numbers_is_rejected(workspace, record, transcribe):
    sound = np.full(16_000, 0.1, dtype=np.float32)
    sound[100] = np.nan
    soundfile.write(record("phone/nan.wav"), sound, 16_000, subtype="FLOAT")
    record("phone/a.wav")
    transcribe("phone", {"a.wav": "one", "nan.wav": "two"})
    prepare.main()
    assert [clip.recorded_file for clip in read_clips(PREPARED / "clips.jsonl")] == ["phone/a.wav"]
    assert [row["file"] for row in read_jsonl(PREPARED / "rejected.jsonl")] == ["phone/nan.wav"]


def test_half_a_surrogate_pair_in_one_text_does_not_stop_the_others(workspace, record, transcribe):
    record("phone/a.wav")
    record("phone/b.wav", hertz=500)
    transcribe("phone", {"a.wav": "one", "b.wav": "two \ud83d"})
    prepare.main()
    assert "phone/a.wav" in [clip.recorded_file for clip in read_clips(PREPARED / "clips.jsonl")]


def test_long_recording_with_a_text_in_lines_is_rejected_and_make_align_named(workspace, record, set_param):
    set_param("prepare.max_duration_s", 2.0)
    record("tv/talk.wav", duration_s=3.0).with_suffix(".txt").write_text("one two\nthree four\n")
    record("tv/short.wav").with_suffix(".txt").write_text("one\ntwo\n")
    prepare.main()
    assert [clip.text for clip in read_clips(PREPARED / "clips.jsonl")] == ["one two"]
    (rejected,) = read_jsonl(PREPARED / "rejected.jsonl")
    assert (rejected["file"], rejected["reason"]) == ("tv/talk.wav", "too long")
    assert "make align" in rejected["remedy"]


def test_prepare_loads_no_torch(workspace, record, transcribe):
    record("phone/a.wav")
    transcribe("phone", {"a.wav": "one"})
    code = "import sys; from stages import prepare; prepare.main(); print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split()[-1] == "False"

"""The prepare stage: what becomes a clip, what is rejected and why, and what the content cache saves."""

import hashlib
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile
from distributed import LocalCluster

from stages import prepare
from stages.common import pool
from stages.common.files import read_json, read_jsonl
from stages.common.stage import UserError
from stages.speech import audio
from stages.speech.clips import read_clips

PREPARED = Path("data/prepared")


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
    for number, name in enumerate(("mute", "command", "martian", "unlisted")):
        record(f"phone/{name}.wav", hertz=441 + number)
    record("loose.wav")
    (raw / "phone/broken.wav").write_bytes(b"no sound at all")
    soundfile.write(raw / "phone/nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    soundfile.write(raw / "phone/empty.wav", np.zeros(0), 44_100)
    recorded = content_of(raw)
    names = ["good", "twin", "blip", "blip2", "speech", "quiet", "loud", "broken", "nan", "empty", "absent"]
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
        manifest.write('{"audio_path": "x.wav", "text": "\\ud83d"}\n')  # half a surrogate pair

    result = run_stage("prepare")

    assert result.returncode == 0, result.stderr
    expected = {
        "loose.wav": "in no source folder",
        "phone/unlisted.wav": "no transcript",
        "phone/clips.jsonl:16": "unreadable row",
        "phone/../loose.wav": "path leaves its folder",
        "phone/mute.wav": "empty text",
        "phone/command.wav": "control string in text",
        "phone/martian.wav": "unknown language",
        "phone/absent.wav": "missing audio",
        "phone/broken.wav": "unreadable audio",
        "phone/nan.wav": "unreadable audio",
        "phone/empty.wav": "unreadable audio",
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
    assert all(remedies.values())
    assert "prepare.min_duration_s" in remedies["phone/blip.wav"]
    assert "make align" in remedies["phone/speech.wav"] and "same bytes as phone/good.wav" in remedies["phone/twin.wav"]
    counts = {reason: list(expected.values()).count(reason) for reason in expected.values()}
    on_screen = dict(re.findall(r"^prepare: (\d+ rejected, [^:]+): e\.g\. (\S+): .+$", result.stdout, re.MULTILINE))
    assert set(on_screen) == {f"{count} rejected, {reason}" for reason, count in counts.items()}
    summary = read_json(workspace / PREPARED / "summary.json")
    assert (summary["clips"], summary["rejected"], summary["rejected_by_reason"]) == (1, 17, counts)
    assert [clip.recorded_file for clip in read_clips(workspace / PREPARED / "metadata.jsonl")] == ["phone/good.wav"]
    assert result.errors == []
    assert recorded.items() <= content_of(raw).items(), "a recording was changed"


def test_nothing_usable_is_one_line_and_exit_code_1_and_the_list_of_why(workspace, record, transcribe, run_stage):
    result = run_stage("prepare")
    assert (result.returncode, len(result.errors)) == (1, 1)
    assert result.errors[0].startswith("prepare: data/raw holds no recordings: put a folder with audio files")
    record("phone/a.wav", duration_s=0.05)
    record("phone/b.wav", duration_s=0.06)
    record("phone/c.wav")
    transcribe("phone", {"a.wav": "one", "b.wav": "two"})
    result = run_stage("prepare")
    assert result.returncode == 1
    (line,) = result.errors
    assert line.startswith(
        "prepare: no usable clip in data/raw, all 3 rejected: 2 too short, 1 no transcript; see data"
    )
    assert list(content_of(workspace / PREPARED)) == ["rejected.jsonl"]
    rejected = read_jsonl(workspace / PREPARED / "rejected.jsonl")
    assert {row["file"] for row in rejected} == {"phone/a.wav", "phone/b.wav", "phone/c.wav"}


def test_unknown_default_language_is_a_mistake_in_params(record, set_param):
    record("phone/a.wav").with_suffix(".txt").write_text("one")
    set_param("prepare.language", "english")
    with pytest.raises(UserError, match=r"^params\.yaml: prepare\.language 'english'"):
        prepare.main()


def test_clip_is_16_khz_mono_flac_named_by_the_hash_of_its_recording(workspace, record, transcribe):
    tone = np.sin(2 * np.pi * 440 * np.arange(96_000) / 48_000)
    stereo = np.stack([0.5 * tone, 0.4 * tone], axis=1)
    path = record("phone/a.wav")
    soundfile.write(path, stereo, 48_000)
    transcribe("phone", {"a.wav": {"text": " Cafe\u0301,\u00a0please ", "session": "monday", "prompt_id": "p1"}})
    prepare.main()
    identity = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    path = f"audio/{identity[:2]}/{identity}.flac"
    assert {name for name in content_of(PREPARED) if name.startswith("audio")} == {path}
    info = soundfile.info(PREPARED / path)
    assert (info.format, info.samplerate, info.channels, info.frames) == ("FLAC", 16_000, 1, 32_000)
    (clip,) = read_clips(PREPARED / "metadata.jsonl")
    assert (clip.id, clip.audio_path, clip.duration_s) == (identity, path, 2.0)
    assert (clip.text, clip.source, clip.recorded_file) == ("Caf\u00e9, please", "phone", "phone/a.wav")
    assert (clip.session, clip.prompt_id, clip.speaker) == ("monday", "p1", None)


def test_summary_counts_clips_by_language_and_source(workspace, record, transcribe):
    for number, source in enumerate(["phone", "phone", "desk"]):
        record(f"{source}/{number}.wav", hertz=300 + number, duration_s=6)
    transcribe("phone", {"0.wav": {"text": "eins", "language": "de"}, "1.wav": {"text": "two", "language": "EN"}})
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


def test_workers_and_dask_give_the_same_bytes_as_one_process(workspace, record, transcribe, set_param, monkeypatch):
    for number in range(20):
        record(f"phone/{number}.wav", hertz=300 + number, duration_s=0.3, rate_hz=22_050)
    (workspace / "data/raw/phone/broken.wav").write_bytes(b"no sound")
    transcribe("phone", {f"{name}.wav": f"text {name}" for name in ["broken", *reversed(range(20))]})
    results = []
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        for workers, scheduler in ((1, None), (2, None), (1, cluster.scheduler_address)):
            monkeypatch.setenv("OWNVOICE_CACHE", str(workspace / f"cache-{len(results)}"))
            set_param("prepare.workers", workers)
            set_param("prepare.dask_scheduler", scheduler)
            prepare.main()
            results.append(content_of(PREPARED))
    assert results[0] == results[1] == results[2]
    assert len(read_clips(PREPARED / "metadata.jsonl")) == 20
    monkeypatch.setattr(pool, "DASK_ANSWERS_WITHIN_S", 1)
    monkeypatch.setenv("OWNVOICE_CACHE", str(workspace / "cache"))
    set_param("prepare.dask_scheduler", "tcp://127.0.0.1:9")
    with pytest.raises(UserError, match=r"^prepare\.dask_scheduler: no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        prepare.main()


# That it hangs: tests/test_pool.py.
@pytest.mark.parametrize(
    ("deed", "remedy"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed, or was ended for its memory"),
        ("bytearray(8 << 30)", "cut it into shorter recordings"),
    ],
)
def test_recording_that_kills_or_fills_its_process_costs_itself_alone(
    workspace, record, transcribe, monkeypatch, deed, remedy
):
    for number in range(10):
        record(f"phone/{number}.wav", hertz=300 + number, duration_s=0.3)
    hostile = record("phone/hostile.wav", hertz=900).read_bytes()
    transcribe("phone", {f"{name}.wav": "text" for name in [*range(5), "hostile", *range(5, 10)]})
    decode = audio.decode

    def decode_or_die(recorded: BinaryIO, *times):
        recorded.seek(0)
        if recorded.read() == hostile:
            exec(f"import os, signal; {deed}")
        return decode(recorded, *times)

    monkeypatch.setattr(audio, "decode", decode_or_die)  # processes are forked, and have it too
    prepare.main()
    rows = read_jsonl(PREPARED / "rejected.jsonl")
    assert [row["file"] for row in rows] == ["phone/hostile.wav"] and remedy in rows[0]["remedy"]
    clips = [clip.recorded_file for clip in read_clips(PREPARED / "metadata.jsonl")]
    assert clips == [f"phone/{number}.wav" for number in range(10)]

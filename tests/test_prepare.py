"""The prepare stage: what becomes a clip, what is rejected and why, and what the content cache saves."""

import hashlib
import json
import re
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from stages import prepare
from stages.pipeline.cache import ContentCache
from stages.pipeline.files import read_json, read_jsonl
from stages.pipeline.params import load_params
from stages.pipeline.stage import UserError
from stages.speech import audio
from stages.speech.clips import read_clips

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


def cache_key(path: Path) -> dict:
    return prepare.cache_key(hashlib.sha256(path.read_bytes()).hexdigest(), load_params().prepare)


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
    assert re.search(r"^prepare: 1 clips, 0\.02 minutes, 15 rejected -> data/prepared", result.stdout, re.MULTILINE)
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
    stereo = np.stack([np.full(96_000, 0.1), np.linspace(-0.5, 0.5, 96_000)], axis=1)
    path = record("phone/a.wav")
    soundfile.write(path, stereo, 48_000)
    transcribe("phone", {"a.wav": {"text": " Cafe\u0301,\u00a0please ", "session": "monday", "prompt_id": "p1"}})
    prepare.main()
    identity = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert {name for name in content_of(PREPARED) if name.startswith("audio")} == {f"audio/{identity}.flac"}
    info = soundfile.info(PREPARED / f"audio/{identity}.flac")
    assert (info.format, info.samplerate, info.channels, info.frames) == ("FLAC", 16_000, 1, 32_000)
    (clip,) = read_clips(PREPARED / "clips.jsonl")
    assert (clip.id, clip.audio_path, clip.duration_s) == (identity, f"audio/{identity}.flac", 2.0)
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
        "to_look_through_by_reason": {"few words": 3, "telephone sound": 3, "noise": 3},  # a tone has no pause
    }


def test_raw_folder_is_never_changed(workspace, record, transcribe):
    record("phone/a.wav")
    record("phone/short.wav", duration_s=0.01)
    transcribe("phone", {"a.wav": "one", "short.wav": "two"})
    before = content_of(workspace / "data/raw")
    prepare.main()
    assert content_of(workspace / "data/raw") == before


def test_second_run_with_one_new_clip_takes_the_old_ones_from_the_cache(workspace, record, transcribe):
    old = [record(f"phone/{number}.wav", hertz=300 + number) for number in range(5)]
    transcribe("phone", {path.name: f"text {path.stem}" for path in old})
    prepare.main()
    # What is in the cache is made recognisable: decoding a recording again would give one second.
    for path in old:
        cache, key = ContentCache("prepared"), cache_key(path)
        header, _, flac = cache.read(key).partition(b"\n")
        assert json.loads(header)["duration_s"] == 1.0
        cache.write(key, json.dumps({**json.loads(header), "duration_s": 7.0}).encode() + b"\n" + flac)
    record("phone/new.wav", hertz=400)
    transcribe("phone", {f"{name}.wav": f"text {name}" for name in [*range(5), "new"]})
    prepare.main()
    durations = {clip.recorded_file: clip.duration_s for clip in read_clips(PREPARED / "clips.jsonl")}
    assert durations == {"phone/new.wav": 1.0, **{f"phone/{number}.wav": 7.0 for number in range(5)}}


def test_changed_text_or_limits_decode_nothing_again(workspace, record, transcribe, set_param):
    record("phone/a.wav")
    transcribe("phone", {"a.wav": "one"})
    prepare.main()
    entries = content_of(workspace / ".cache")
    transcribe("phone", {"a.wav": "two"})
    set_param("prepare.max_duration_s", 20.0)
    prepare.main()
    assert [clip.text for clip in read_clips(PREPARED / "clips.jsonl")] == ["two"]
    assert content_of(workspace / ".cache") == entries


def test_broken_cache_entry_is_made_again(workspace, record, transcribe):
    record("phone/a.wav")
    transcribe("phone", {"a.wav": "one"})
    prepare.main()
    prepared, entries = content_of(PREPARED), content_of(workspace / ".cache")
    assert len(entries) == 1
    for name, entry in entries.items():
        (workspace / ".cache" / name).write_bytes(entry[:-100])
    prepare.main()
    assert content_of(PREPARED) == prepared
    assert content_of(workspace / ".cache") == entries


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


def test_two_workers_give_the_same_bytes_as_one(workspace, record, transcribe, set_param, monkeypatch):
    # More than the eight clips that a worker takes at once.
    for number in range(20):
        record(f"phone/{number}.wav", hertz=300 + number, duration_s=0.3, rate_hz=22_050)
    transcribe("phone", {f"{number}.wav": f"text {number}" for number in reversed(range(20))})
    results = []
    for workers in (1, 2):
        monkeypatch.setenv("OWNVOICE_CACHE", str(workspace / f"cache-{workers}"))
        set_param("prepare.workers", workers)
        prepare.main()
        results.append((content_of(PREPARED), content_of(workspace / f"cache-{workers}")))
    assert results[0] == results[1]
    assert len(results[0][0]) == 20 + 4


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
    assert soundfile.info(PREPARED / clip.audio_path).samplerate == 16_000


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_recording_without_a_single_sample_is_too_short(workspace, record, transcribe, rate_hz):
    soundfile.write(record("phone/empty.wav"), np.zeros(0), rate_hz)
    record("phone/a.wav")
    transcribe("phone", {"a.wav": "one", "empty.wav": "two"})
    prepare.main()
    rows = read_jsonl(PREPARED / "rejected.jsonl")
    assert [(row["file"], row["reason"]) for row in rows] == [("phone/empty.wav", "too short")]


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

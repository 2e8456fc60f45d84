"""Files that are damaged, lie, or have strange names: no crash, no hang, nothing outside the folder, each explained."""

import json
import os

import pytest

from stages.common.files import read_jsonl
from stages.speech.audio import SAMPLE_RATE_HZ, read_prepared
from tests.benchmarks import hostile
from tests.sounds import encode, speech_like

NAMES = [
    "two\nlines.wav",
    "tab\tand \"quotes\" and 'more'.wav",
    "-rf.wav",
    "$(touch outside).wav",
    "%s%n.wav",
    "no ending",
]
NAMES += ["with spaces.wav", "a" * 240 + ".wav", "录音.wav", "हिन्दी.wav", "العربية.wav", "\u202egnidrocer.wav", "🎙️.wav"]


def test_each_original_is_accepted_while_it_is_whole_and_its_damages_are_the_same_each_time():
    files = hostile.originals()
    assert [hostile.judge(content) for content in files] == ["accepted"] * len(files)
    made = [hostile.make(number, files) for number in range(200)]
    assert made == [hostile.make(number, files) for number in range(200)]
    assert sum(content == files[number % len(files)] for number, content in enumerate(made)) < 10


# Of the 10,000 of `python -m tests.benchmarks.hostile`.
@pytest.mark.parametrize("damaged", [60, pytest.param(300, marks=pytest.mark.kill)])
def test_damaged_files_are_decoded_to_sane_sound_or_refused_in_words(damaged):
    verdicts, failures, peak_bytes = hostile.run(damaged)
    assert failures == []
    assert verdicts.total() == damaged
    assert verdicts["accepted"] > damaged / 10 and verdicts["refused"] > damaged / 10
    assert peak_bytes < 1e9


def test_prepare_names_each_hostile_file_once_and_writes_nothing_outside(workspace, run_stage):
    raw = workspace / "data/raw"
    source = raw / "phone"
    source.mkdir(parents=True)
    whole = encode(speech_like(1, 16_000), 16_000, "WAV")
    expected = {}

    def put(name: str, content: bytes, reason: str) -> None:
        (source / name).write_bytes(content)
        expected[name] = reason

    for number, name in enumerate(NAMES):
        put(name, encode((0.9 - number / 100) * speech_like(1, 16_000), 16_000, "WAV"), "")
    files = hostile.originals()
    for number in range(30):
        put(f"damaged-{number}.wav", hostile.make(number, files), "whatever")
    (workspace / "secret.wav").write_bytes(whole)
    (source / "link.wav").symlink_to(workspace / "secret.wav")
    (source / "circle.wav").symlink_to(source / "circle.wav")
    (source / "inside.wav").symlink_to(source / NAMES[0])
    (source / "folder.wav").mkdir()
    os.mkfifo(source / "pipe.wav")
    expected |= {
        "link.wav": "path leaves its folder",
        "circle.wav": "path leaves its folder",
        "inside.wav": "same recording twice",
        "folder.wav": "unreadable audio",
        "pipe.wav": "unreadable audio",
        "../../../secret.wav": "path leaves its folder",
        "/etc/hostname": "path leaves its folder",
        "zero\0byte.wav": "path leaves its folder",
        "b" * 300 + ".wav": "unreadable audio",
    }
    rows = [json.dumps({"audio_path": name, "text": f"text {number}"}) for number, name in enumerate(expected)]
    (source / "clips.jsonl").write_text("\n".join(rows) + "\n")
    before = {path: path.read_bytes() for path in raw.rglob("*") if path.is_file()}

    result = run_stage("prepare")

    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert {path: path.read_bytes() for path in raw.rglob("*") if path.is_file()} == before
    assert {path.name for path in workspace.iterdir()} <= {"data", "params.yaml", "templates", ".cache", "secret.wav"}
    accepted = [row["recorded_file"] for row in read_jsonl(workspace / "data/prepared/metadata.jsonl")]
    rejected = {row["file"]: row for row in read_jsonl(workspace / "data/prepared/rejected.jsonl")}
    assert sorted([*accepted, *rejected]) == sorted(f"phone/{name}" for name in expected)
    for name, reason in expected.items():
        if reason == "whatever":
            assert f"phone/{name}" in accepted or rejected[f"phone/{name}"]["remedy"]
        elif reason:
            assert rejected[f"phone/{name}"]["reason"] == reason, name
        else:
            assert f"phone/{name}" in accepted, (name, rejected.get(f"phone/{name}"))
    for row in read_jsonl(workspace / "data/prepared/metadata.jsonl"):
        samples = read_prepared(workspace / "data/prepared" / row["file_name"])
        assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(row["duration_s"], abs=0.001)

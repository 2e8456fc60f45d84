"""Files that are damaged, lie, or have strange names: no crash, no hang, nothing outside the folder, each explained."""

import os

from stages.common.files import read_jsonl
from tests.benchmarks import hostile, hostile_tables
from tests.sounds import encode, speech_like

NAMES = [
    "two\nlines.wav",
    "tab\tand \"quotes\" and 'more'.wav",
    "-rf.wav",
    "$(touch outside).wav",
    "%s%n.wav",
    "no ending",
    "a" * 240 + ".wav",
    *("录音.wav", "हिन्दी.wav", "العربية.wav", "\u202egnidrocer.wav", "🎙️.wav"),
]


def test_each_original_is_accepted_while_it_is_whole():
    """Catches: damages that are refused only because nobody can read the file."""
    assert {hostile.judge(content) for content in hostile.originals()} == {"accepted"}


# The first of the 10,000 of `python -m tests.benchmarks.hostile`.
def test_damaged_files_are_decoded_to_sane_sound_or_refused_in_words():
    verdicts, failures, peak_bytes = hostile.run(60)
    assert failures == []
    assert verdicts.total() == 60
    assert verdicts["accepted"] > 6 and verdicts["refused"] > 6
    assert peak_bytes < 1e9


# The first of the 2,000 of `python -m tests.benchmarks.hostile_tables`.
def test_damaged_table_gives_no_recording_the_text_of_another():
    verdicts, failures = hostile_tables.run(60)
    assert failures == []
    assert verdicts["all read"] > 10 and verdicts["some read"] > 6 and verdicts["none read"] > 6


def test_prepare_names_each_strange_file_once_and_writes_nothing_outside(workspace, transcribe, run_stage):
    raw = workspace / "data/raw"
    (raw / "phone/folder.wav").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        content = encode((0.9 - number / 100) * speech_like(1, 16_000), 16_000, "WAV")
        (raw / "phone" / name).write_bytes(content)
    os.mkfifo(raw / "phone/pipe.wav")
    (workspace / "secret.wav").write_bytes(content)
    (raw / "phone/link.wav").symlink_to(workspace / "secret.wav")
    reasons = dict.fromkeys(["folder.wav", "pipe.wav", "b" * 300 + ".wav"], "unreadable audio")
    outside = ["link.wav", "../../../secret.wav", "/etc/hostname", "zero\0byte.wav"]
    reasons |= dict.fromkeys(outside, "path leaves its folder")
    transcribe("phone", {name: f"text {number}" for number, name in enumerate([*NAMES, *reasons])})
    before = {path: path.read_bytes() for path in raw.rglob("*") if path.is_file()}

    result = run_stage("prepare")

    assert result.returncode == 0, result.stderr
    assert {path: path.read_bytes() for path in raw.rglob("*") if path.is_file()} == before
    assert {path.name for path in workspace.iterdir()} <= {"data", "params.yaml", "templates", ".cache", "secret.wav"}
    accepted = [row["recorded_file"] for row in read_jsonl(workspace / "data/prepared/metadata.jsonl")]
    assert sorted(accepted) == sorted(f"phone/{name}" for name in NAMES)
    rejected = [(row["file"], row["reason"]) for row in read_jsonl(workspace / "data/prepared/rejected.jsonl")]
    assert sorted(rejected) == sorted((f"phone/{name}", reason) for name, reason in reasons.items())

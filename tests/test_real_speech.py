"""Real human recordings, where they lie beside the checkout (they are not part of the project)."""

import csv
import io
import shutil

import pytest

from stages.speech import prepared
from stages.speech.text import normalise
from tests.workspaces import SPEECH, add_digits, make_workspace, read_json, read_rows, run_stages, sound_info

pytestmark = pytest.mark.skipif(
    not SPEECH.is_dir(), reason=f"no recordings of real people in {SPEECH.name}/ beside the checkout"
)


@pytest.mark.slow
def test_a_real_speaker_is_understood_after_a_hundred_clips(tmp_path):
    workspace = make_workspace(tmp_path, split__group_by="clip", train__max_clips=100)
    add_digits(workspace, "theo")  # nicolas differs between kinds of CPU: 4 or 8 wrong words of 67
    run_stages(workspace, "prepare", "split", "train", "evaluate", "card")
    metrics = read_json(workspace / "data/evaluation/metrics.json")
    assert read_json(workspace / "data/checkpoints/training.json")["train_clips"] == 100
    assert metrics["tuned"]["clips"] >= 50
    assert metrics["tuned"]["wer"] <= 0.10
    assert metrics["tuned"]["wer"] <= metrics["base"]["wer"] / 2


def test_sentences_recorded_twice_never_stand_in_two_parts(tmp_path):
    workspace = make_workspace(tmp_path)
    shutil.copytree(SPEECH / "kathleen", workspace / "data/raw/kathleen")
    run_stages(workspace, "prepare", "split")
    clips = read_rows(workspace / "data/prepared/metadata.jsonl")
    assert len(clips) == 150
    sounds = [prepared.content(workspace / "data/prepared" / clip["file_name"]) for clip in clips]
    assert {sound_info(io.BytesIO(sound)) for sound in sounds} == {(16_000, 1)}
    texts = {
        part: {normalise(row["text"]) for row in read_rows(workspace / f"data/split/{part}.jsonl")}
        for part in ("train", "validation", "test")
    }
    assert all(texts.values())
    assert not texts["train"] & texts["test"] and not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    with (SPEECH / "kathleen/transcripts.csv").open() as file:
        text_of = {row["file"]: normalise(row["text"]) for row in csv.DictReader(file)}
    for clip in clips:
        assert normalise(clip["text"]) == text_of[clip["recorded_file"].removeprefix("kathleen/")]

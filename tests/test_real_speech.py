"""Real human recordings, where they lie beside the checkout (they are not part of the project)."""

import pytest

from tests.workspaces import SPEECH, add_digits, make_workspace, read_json, run_stages

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

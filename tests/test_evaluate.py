"""The evaluation's own rules; that its figures are right end to end is in test_demo.py and test_real_speech.py."""

from pathlib import Path

import pytest

from stages.evaluate import metrics_of, prediction_rows
from stages.pipeline.params import load_params
from stages.speech.clips import Clip
from tests.workspaces import add_demo_clips, make_workspace, read_json, read_rows, run_stage, run_stages, set_params

PARAMS = load_params(Path("data/demo/params.yaml")).evaluate


def clip(text: str, duration_s: float = 2.0) -> Clip:
    return Clip("0" * 16, "audio/0.flac", text, "en", "s", "s/0.wav", duration_s, -3, -20, 30, 0)


def test_metrics_count_normalised_and_written_errors_apart():
    clips = [clip("Turn on the light."), clip("One, two!", 4.0)]
    predictions = [{"text": "turn on light", "seconds": 0.5}, {"text": "one two two", "seconds": 1.0}]
    metrics, scores = metrics_of(clips, predictions, PARAMS)
    assert (metrics["deletions"], metrics["insertions"], metrics["substitutions"]) == (1, 1, 0)
    assert metrics["wer"] == pytest.approx(2 / 6, abs=1e-5)
    # As written, also: Turn/turn, light./light, One,/one, two!/two.
    assert metrics["wer_as_written"] == pytest.approx(6 / 6, abs=1e-5)
    assert metrics["rtfx"] == pytest.approx(6.0 / 1.5)
    assert metrics["wer_low"] <= metrics["wer"] <= metrics["wer_high"]
    rows = list(prediction_rows("base", clips, predictions, scores))
    assert [row["wer"] for row in rows] == [0.25, 0.5]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Path:
    workspace = make_workspace(tmp_path_factory.mktemp("evaluate"), train__epochs=1, train__max_clips=8)
    add_demo_clips(workspace, 60)
    run_stages(workspace, "prepare", "split", "train", "evaluate")
    return workspace


def test_base_predictions_are_reused_and_make_the_same_figures(evaluated):
    first = read_json(evaluated / "data/evaluation/metrics.json")
    set_params(evaluated, evaluate__listed_clips=2)
    result = run_stage(evaluated, "evaluate")
    clips = first["base"]["clips"]
    assert f"evaluate: {clips} transcripts of the base model from the cache" in result.stdout
    second = read_json(evaluated / "data/evaluation/metrics.json")
    assert second["base"] == first["base"]
    first["tuned"].pop("rtfx"), second["tuned"].pop("rtfx")
    assert second["tuned"] == first["tuned"]


def test_every_test_clip_has_a_row_for_each_model(evaluated):
    rows = read_rows(evaluated / "data/evaluation/predictions.jsonl")
    ids = [row["id"] for row in read_rows(evaluated / "data/split/test.jsonl")]
    assert [row["id"] for row in rows if row["model"] == "base"] == ids
    assert [row["id"] for row in rows if row["model"] == "tuned"] == ids


def test_report_needs_no_network(evaluated):
    report = (evaluated / "data/evaluation/report.html").read_text()
    assert "http" not in report and "<script" not in report
    for row in read_rows(evaluated / "data/evaluation/predictions.jsonl")[:3]:
        assert row["model"] == "base"
    assert "Hardest recordings" in report


def test_checkpoint_of_another_base_is_refused(evaluated):
    weights = evaluated / "data/demo/voxtral-tiny/generation_config.json"
    before = weights.read_text()
    weights.write_text(before + " ")
    result = run_stage(evaluated, "evaluate")
    weights.write_text(before)
    assert result.returncode == 1
    assert (
        result.stderr.strip()
        .splitlines()[-1]
        .startswith("evaluate: data/checkpoints/best was trained from another base")
    )
    assert (evaluated / "data/evaluation/metrics.json").exists(), "an error must not take the last result away"

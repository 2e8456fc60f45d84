"""The evaluation's own rules; that its figures are right end to end is in test_demo.py and test_real_speech.py."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import soundfile
from ruamel.yaml import YAML

from stages.evaluate import metrics_of, prediction_rows
from tests.workspaces import DEMO_CLIPS, copy_project, read_json, read_rows, run_stage, run_stages, set_params


def test_metrics_count_normalised_and_written_errors_apart(make_clip):
    clips = [make_clip("Turn on the light."), make_clip("Stop, now!", duration_s=4.0)]
    predictions = [{"text": "turn on light", "seconds": 0.5}, {"text": "stop now now", "seconds": 1.0}]
    metrics, scores = metrics_of(clips, predictions, units=["a", "b"])
    assert (metrics["deletions"], metrics["insertions"], metrics["substitutions"]) == (1, 1, 0)
    assert metrics["wer"] == pytest.approx(2 / 6, abs=1e-5)
    # As written, also: Turn/turn, light./light, Stop,/stop, now!/now.
    assert metrics["wer_as_written"] == pytest.approx(6 / 6, abs=1e-5)
    assert metrics["rtfx"] == pytest.approx(6.0 / 1.5)
    assert metrics["wer_low"] <= metrics["wer"] <= metrics["wer_high"]
    rows = list(prediction_rows("base", clips, predictions, scores))
    assert [row["wer"] for row in rows] == [0.25, 0.5]


@pytest.fixture(scope="module")
def evaluated(trained_project, tmp_path_factory) -> Path:
    """The trained project, evaluated again with a keyword, two listed clips and ten clips of other people."""
    workspace = copy_project(trained_project, tmp_path_factory.mktemp("evaluate") / "project")
    rows = read_rows(workspace / "data/evaluation/predictions.jsonl")
    keyword = next(word for row in rows for word in row["reference"].split() if len(word) > 4)
    others = workspace / "others"
    others.mkdir()
    clips = read_rows(DEMO_CLIPS / "clips.jsonl")[58:70]  # two of them are in data/raw
    for row in clips:
        shutil.copy(DEMO_CLIPS / row["audio_path"], others)
    (others / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in clips))
    set_params(workspace, evaluate__listed_clips=2, evaluate__keywords=[keyword], evaluate__other_speakers="others")
    run_stages(workspace, "prepare", "split")
    result = run_stage(workspace, "evaluate")
    assert result.returncode == 0, result.stderr[-3000:]
    (workspace / "screen.txt").write_text(result.stdout)
    return workspace


def test_base_predictions_are_reused_and_other_people_change_none_of_the_persons_figures(trained_project, evaluated):
    """Catches: a base that is transcribed again each time, figures that move, and other people's clips among them."""
    first, second = (read_json(folder / "data/evaluation/metrics.json") for folder in (trained_project, evaluated))
    known = f"evaluate: {first['base']['clips']} transcripts of the base model from the cache"
    assert known in (evaluated / "screen.txt").read_text()
    others = second.pop("other_speakers")
    first["tuned"].pop("rtfx"), second["tuned"].pop("rtfx")
    assert second == first
    rows = read_rows(evaluated / "data/evaluation/predictions.jsonl")
    ids = [row["id"] for row in read_rows(evaluated / "data/split/test.jsonl")]
    for model in ("base", "tuned"):
        assert [row["id"] for row in rows if row["model"] == model] == ids

    rejected = read_rows(evaluated / "data/prepared/rejected.jsonl")
    assert [row["reason"] for row in rejected] == ["same recording twice"] * 2
    assert all(row["file"].startswith("other_speakers/others") for row in rejected)
    rows = read_rows(evaluated / "data/evaluation/other_speakers.jsonl")
    theirs = {row["id"] for row in rows}
    assert len(theirs) == 10 and len(rows) == 20
    assert not theirs & {row["id"] for row in read_rows(evaluated / "data/prepared/metadata.jsonl")}
    for model in ("base", "tuned"):
        wrong = [row["substitutions"] + row["deletions"] + row["insertions"] for row in rows if row["model"] == model]
        assert others[model]["wer"] == pytest.approx(sum(wrong) / others[model]["reference_words"], abs=1e-5)
    assert "on 10 recordings of other people" in (evaluated / "data/evaluation/report.html").read_text()


def test_report_stands_alone_with_its_sounds(evaluated):
    """Catches: a report that asks the network for something, or whose sounds do not play elsewhere."""
    report = (evaluated / "data/evaluation/report.html").read_text()
    assert "http" not in report and "<script" not in report and "<link" not in report
    assert not re.findall(r'(?:src|href)="(?!data:)', report)
    sounds = re.findall(r'src="data:audio/flac;base64,([^"]+)"', report)
    assert len(sounds) == 2 * 2
    for sound in sounds:
        samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        assert rate_hz == 16_000 and len(samples) > 1000


def test_details_say_what_goes_wrong(evaluated):
    """Catches: words counted for another model, or a keyword that the report leaves out."""
    rows = read_rows(evaluated / "data/evaluation/predictions.jsonl")
    details = read_json(evaluated / "data/evaluation/details.json")
    for model in ("base", "tuned"):
        wrong = sum(row["substitutions"] + row["deletions"] for row in rows if row["model"] == model)
        assert 0 < sum(row["wrong"] for row in details["misheard"][model]) <= wrong
        [found] = details["keywords"][model]
        word = found["keyword"]
        assert found["said"] == sum(row["reference"].split().count(word) for row in rows if row["model"] == model) > 0
    assert {row["kind"] for row in details["groups"]} >= {"length"}
    assert details["caveats"][0].startswith(f"{len(rows) // 2} different test phrases are few: they can hardly ")
    assert word in (evaluated / "data/evaluation/report.html").read_text().split("Words that matter")[1]


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("nowhere", "evaluate.other_speakers nowhere is not a folder"),
        ("empty", "no usable clip in evaluate.other_speakers empty that is not in data/raw"),
    ],
)
def test_missing_speech_of_others_is_one_line_and_changes_nothing(evaluated, folder, words):
    (evaluated / "empty").mkdir(exist_ok=True)
    before = (evaluated / "data/prepared/metadata.jsonl").read_bytes()
    set_params(evaluated, evaluate__other_speakers=folder)
    result = run_stage(evaluated, "prepare")
    assert result.returncode == 1 and words in result.stderr and "Traceback" not in result.stderr
    assert (evaluated / "data/prepared/metadata.jsonl").read_bytes() == before


def test_every_plot_finds_its_columns(evaluated):
    plots = YAML(typ="safe").load(evaluated / "dvc.yaml")["plots"]
    for plot in plots:
        ((name, settings),) = plot.items()
        files = settings["y"] if isinstance(settings["y"], dict) else {name: settings["y"]}
        for file, columns in files.items():
            header, *rows = (evaluated / file).read_text().splitlines()
            assert rows, file
            assert {settings["x"], *([columns] if isinstance(columns, str) else columns)} <= set(header.split(","))


def test_checkpoint_of_another_base_is_refused(evaluated):
    weights = evaluated / "data/demo/voxtral-tiny/generation_config.json"
    before = weights.read_text()
    weights.write_text(before + " ")
    result = run_stage(evaluated, "evaluate")
    weights.write_text(before)
    assert result.returncode == 1
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("evaluate: data/checkpoints/best was trained from another base")
    assert (evaluated / "data/evaluation/metrics.json").exists(), "an error must not take the last result away"

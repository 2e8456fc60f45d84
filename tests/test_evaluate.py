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

from stages.common.params import load_params
from stages.evaluate import metrics_of, prediction_rows
from tests.workspaces import (
    DEMO_CLIPS,
    copy_project,
    read_json,
    read_rows,
    run_stage,
    run_stages,
    set_params,
)

PARAMS = load_params(Path("params.yaml")).evaluate


def test_metrics_count_normalised_and_written_errors_apart(make_clip):
    clips = [make_clip("Turn on the light."), make_clip("Stop, now!", duration_s=4.0)]
    predictions = [{"text": "turn on light", "seconds": 0.5}, {"text": "stop now now", "seconds": 1.0}]
    metrics, scores = metrics_of(clips, predictions, PARAMS)
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
    return copy_project(trained_project, tmp_path_factory.mktemp("evaluate") / "project")


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
    rows = read_rows(evaluated / "data/evaluation/predictions.jsonl")
    ids = [row["id"] for row in read_rows(evaluated / "data/split/test.jsonl")]
    assert [row["id"] for row in rows if row["model"] == "base"] == ids
    assert [row["id"] for row in rows if row["model"] == "tuned"] == ids


def test_report_stands_alone_with_its_sounds(evaluated):
    report = (evaluated / "data/evaluation/report.html").read_text()
    assert "http" not in report and "<script" not in report and "<link" not in report
    assert not re.findall(r'(?:src|href)="(?!data:)', report)
    sounds = re.findall(r'src="data:audio/flac;base64,([^"]+)"', report)
    assert len(sounds) == 2 * load_params(evaluated / "params.yaml").evaluate.listed_clips >= 4
    for sound in sounds:
        samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        assert rate_hz == 16_000 and len(samples) > 1000
    levels = [int(level) for level in re.findall(r"<h(\d)", report)]
    assert levels[0] == 1 and set(levels[1:]) == {2}
    assert report.count("<table>") == report.count("<caption>") >= 5


def test_details_say_what_goes_wrong(evaluated):
    rows = read_rows(evaluated / "data/evaluation/predictions.jsonl")
    word = next(word for row in rows for word in row["reference"].split() if len(word) > 4)
    set_params(evaluated, evaluate__keywords=[word])
    run_stages(evaluated, "evaluate")
    set_params(evaluated, evaluate__keywords=[])
    details = read_json(evaluated / "data/evaluation/details.json")
    for model in ("base", "tuned"):
        wrong = sum(row["substitutions"] + row["deletions"] for row in rows if row["model"] == model)
        assert 0 < sum(row["wrong"] for row in details["misheard"][model]) <= wrong
        [found] = details["keywords"][model]
        assert found["said"] == sum(row["reference"].split().count(word) for row in rows if row["model"] == model) > 0
    assert {row["kind"] for row in details["groups"]} >= {"length"}
    clips = len(rows) // 2
    assert details["caveats"][0].startswith(
        f"{clips} test recordings are few: they can hardly show a change of less than "
    )
    assert word in (evaluated / "data/evaluation/report.html").read_text().split("Words that matter")[1]


def add_other_speakers(workspace: Path, first: int, last: int) -> Path:
    """Demo clips of these numbers as speech that is none of data/raw."""
    folder = workspace / "others"
    folder.mkdir()
    rows = read_rows(DEMO_CLIPS / "clips.jsonl")[first:last]
    for row in rows:
        shutil.copy(DEMO_CLIPS / row["audio_path"], folder / row["audio_path"])
    (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_speech_of_others_is_measured_and_changes_none_of_the_persons_figures(evaluated):
    own = read_json(evaluated / "data/evaluation/metrics.json")
    add_other_speakers(evaluated, 58, 70)  # two of them are in data/raw
    set_params(evaluated, evaluate__other_speakers="others")
    run_stages(evaluated, "prepare", "split", "evaluate")
    rejected = read_rows(evaluated / "data/prepared/rejected.jsonl")
    assert [(row["file"][:21], row["reason"]) for row in rejected] == [
        ("other_speakers/others", "same recording twice")
    ] * 2
    metrics = read_json(evaluated / "data/evaluation/metrics.json")
    set_params(evaluated, evaluate__other_speakers=None)
    rows = read_rows(evaluated / "data/evaluation/other_speakers.jsonl")
    ids = {row["id"] for row in read_rows(evaluated / "data/prepared/other_speakers.jsonl")}
    assert len(ids) == 10 and {row["id"] for row in rows} == ids and len(rows) == 20
    assert not ids & {row["id"] for row in read_rows(evaluated / "data/prepared/metadata.jsonl")}
    assert not ids & {row["id"] for row in read_rows(evaluated / "data/evaluation/predictions.jsonl")}
    others = metrics.pop("other_speakers")
    for figures in (own, metrics):
        figures["base"].pop("rtfx"), figures["tuned"].pop("rtfx")
    assert metrics == own
    for model in ("base", "tuned"):
        wrong = [row["substitutions"] + row["deletions"] + row["insertions"] for row in rows if row["model"] == model]
        assert others[model]["wer"] == pytest.approx(sum(wrong) / others[model]["reference_words"], abs=1e-5)
    assert "on 10 recordings of other people" in (evaluated / "data/evaluation/report.html").read_text()


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
    set_params(evaluated, evaluate__other_speakers=None)
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

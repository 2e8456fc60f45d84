"""`make demo` end to end: the whole pipeline, through DVC, on the embedded model and clips."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from stages.commands.demo import make_workspace
from stages.common.params import load_params
from tests.workspaces import ROOT, dvc, environment, read_json, read_rows, set_params


def digests(folder: Path) -> dict[str, str]:
    """Every file below `folder` outside .demo, and its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and ".demo" not in path.parts and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the project in which the demo has run, with a user's own settings and recordings beside it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("stages", "templates", "data/demo", "demo_voxtral"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copy(ROOT / "params.yaml", folder)
    set_params(folder, train__tracking__space_id="me/figures", evaluate__other_speakers="others", push__dry_run=True)
    (folder / "data/raw/mine").mkdir(parents=True)
    (folder / "data/raw/mine/1.wav").write_bytes(b"the user's recording")
    before = digests(folder)
    result = subprocess.run(
        [sys.executable, "-m", "stages.commands.demo"],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert digests(folder) == before
    (folder / ".demo/screen.txt").write_text(result.stdout)
    return folder


@pytest.fixture(scope="module")
def demo(checkout) -> Path:
    """The demo's workspace; from here on without publishing, since the demo's Hub has gone."""
    set_params(checkout / ".demo", push__enabled=False, deploy__enabled=False)
    return checkout / ".demo"


def test_demo_publishes_model_and_page_on_this_machine(checkout):
    pushed, deployed = (read_json(checkout / f".demo/data/receipts/{stage}.json") for stage in ("push", "deploy"))
    assert pushed["url"].startswith("http://127.0.0.1:") and deployed["url"].startswith("http://127.0.0.1:")
    assert pushed["private"] and {"README.md", "adapter_model.safetensors", "merged/model.safetensors"} <= {
        entry["path"] for entry in pushed["files"]
    }
    screen = (checkout / ".demo/screen.txt").read_text()
    assert f"{len(pushed['files'])} files as local/demo-voice" in screen


def test_demo_learns_a_voice_that_the_base_does_not_understand(demo):
    metrics = read_json(demo / "data/evaluation/metrics.json")
    assert metrics["base"]["wer"] >= 0.40
    assert metrics["tuned"]["wer"] <= 0.10
    assert metrics["improvement"]["low"] > 0.5
    screen = (demo / "screen.txt").read_text()
    assert f"before   {metrics['base']['wer']:.1%}" in screen
    for path in (".demo/data/evaluation/report.html", ".demo/data/card/README.md"):
        assert path in screen and (demo.parent / path).exists()


def test_nothing_is_heard_in_training_that_is_tested(demo):
    texts = {
        part: {row["text"] for row in read_rows(demo / f"data/split/{part}.jsonl")}
        for part in ("train", "validation", "test")
    }
    assert len(texts["train"] | texts["validation"] | texts["test"]) == sum(map(len, texts.values())) == 120


def test_card_is_valid_and_says_both_figures(demo):
    card = ModelCard.load(demo / "data/card/README.md")
    metrics = read_json(demo / "data/evaluation/metrics.json")
    values = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert values["WER (base model)"] == round(100 * metrics["base"]["wer"], 2)
    assert values["WER (this model)"] == round(100 * metrics["tuned"]["wer"], 2)


def test_metrics_and_curve_are_known_to_dvc(demo):
    assert "tuned.wer" in dvc(demo, "metrics", "show", "--md").stdout
    dvc(demo, "plots", "show", "--json")
    curve = (demo / "data/checkpoints/curve.csv").read_text().splitlines()
    assert curve[0].split(",")[:3] == ["step", "epoch", "train_loss"]
    training = read_json(demo / "data/checkpoints/training.json")
    assert len(curve) - 1 == round(training["epochs_run"])
    assert training["clips_per_s"] > 0 and training["trainable_parameters"] > 0


def test_second_repro_runs_nothing_but_push_and_deploy(demo):
    screen = dvc(demo, "repro").stdout
    running = [line.split("'")[1] for line in screen.splitlines() if line.startswith("Running stage")]
    assert running == ["push", "deploy"]


def test_changed_setting_runs_only_what_depends_on_it(demo):
    set_params(demo, evaluate__listed_clips=3)
    screen = dvc(demo, "repro").stdout
    running = [line.split("'")[1] for line in screen.splitlines() if line.startswith("Running stage")]
    assert running[0] == "evaluate" and "train" not in running


def test_demo_workspace_starts_from_nothing(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/leftover").write_text("of an earlier demo")
    make_workspace(ROOT, tmp_path / "old")
    assert not (tmp_path / "old/leftover").exists()
    assert len(list((tmp_path / "old/data/raw/demo").glob("*.opus"))) == 120
    params = load_params(tmp_path / "old/params.yaml")
    assert (params.model.name, params.train.epochs, params.train.seed) == ("data/demo/voxtral-tiny", 10, 0)

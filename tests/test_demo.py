"""`make demo` end to end: the whole pipeline, through DVC, on the embedded model and clips."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workspaces import ROOT, dvc, environment, read_json, set_params


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
    (folder / ".demo").mkdir()
    (folder / ".demo/leftover").write_text("of an earlier demo")
    before = digests(folder)
    result = subprocess.run(
        [sys.executable, "-m", "stages.commands.demo"],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert digests(folder) == before
    assert not (folder / ".demo/leftover").exists()
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
    """Catches: a demo that shows nothing, or figures on the screen that are not those of the evaluation."""
    metrics = read_json(demo / "data/evaluation/metrics.json")
    assert metrics["base"]["wer"] >= 0.40
    assert metrics["tuned"]["wer"] <= 0.10
    assert metrics["improvement"]["low"] > 0.5
    screen = (demo / "screen.txt").read_text()
    assert f"before   {metrics['base']['wer']:.1%}" in screen
    for path in (".demo/data/evaluation/report.html", ".demo/data/card/README.md"):
        assert path in screen and (demo.parent / path).exists()


def test_dvc_shows_the_figures_and_runs_only_what_a_setting_changes(demo):
    """Catches: results that DVC does not know, and a training that runs again for nothing."""
    assert "tuned.wer" in dvc(demo, "metrics", "show", "--md").stdout
    dvc(demo, "plots", "show", "--json")
    curve = (demo / "data/checkpoints/curve.csv").read_text().splitlines()
    training = read_json(demo / "data/checkpoints/training.json")
    assert len(curve) - 1 == round(training["epochs_run"])
    assert ran(demo) == ["push", "deploy"]
    set_params(demo, evaluate__listed_clips=3)
    assert ran(demo)[0] == "evaluate"


def ran(workspace: Path) -> list[str]:
    """The stages that `dvc repro` runs."""
    screen = dvc(workspace, "repro").stdout
    return [line.split("'")[1] for line in screen.splitlines() if line.startswith("Running stage")]

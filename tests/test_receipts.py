"""push and deploy: nothing leaves this machine unasked, and a receipt says why."""

import subprocess
import sys
import time

import pytest

from stages.common.files import read_json
from stages.hub.receipts import reason_to_stay

STAGES = ["push", "deploy"]


@pytest.mark.parametrize("stage", STAGES)
def test_disabled_stage_writes_a_receipt_with_the_reason(workspace, run_stage, stage):
    result = run_stage(stage)
    assert (result.returncode, result.errors) == (0, [])
    assert result.stdout.startswith(f"{stage}: nothing published: {stage}.enabled is false (")
    receipt = read_json(workspace / f"data/receipts/{stage}.json")
    assert receipt == {"published": False, "reason": f"{stage}.enabled is false"}


@pytest.mark.parametrize("stage", STAGES)
def test_experiment_publishes_nothing_even_when_enabled(workspace, run_stage, set_param, stage):
    set_param(f"{stage}.enabled", True)
    result = run_stage(stage, DVC_EXP_NAME="shy-newt")
    assert (result.returncode, result.errors) == (0, [])
    receipt = read_json(workspace / f"data/receipts/{stage}.json")
    assert receipt == {"published": False, "reason": "experiments publish nothing (shy-newt)"}


@pytest.mark.parametrize(("stage", "name"), [("push", "push.repo_id"), ("deploy", "deploy.space_id")])
def test_enabled_stage_without_a_name_says_in_one_line_which_to_set(workspace, run_stage, set_param, stage, name):
    run_stage(stage)
    set_param(f"{stage}.enabled", True)
    result = run_stage(stage)
    assert result.returncode == 1
    assert len(result.errors) == 1
    assert result.errors[0].startswith(f"{stage}: params.yaml: {stage}.enabled is true, but {name} names no")
    assert list((workspace / "data/receipts").iterdir()) == [], "the receipt of a former run stayed"


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_writes_its_own_receipt_alone(workspace, run_stage, stage):
    run_stage(stage)
    assert [path.name for path in (workspace / "data/receipts").iterdir()] == [f"{stage}.json"]


@pytest.mark.parametrize("stage", STAGES)
def test_receipt_is_the_same_each_time(workspace, run_stage, stage):
    # DVC compares it: the stage after it, and `dvc status`, would see a change that is none.
    run_stage(stage)
    first = (workspace / f"data/receipts/{stage}.json").read_bytes()
    run_stage(stage)
    assert (workspace / f"data/receipts/{stage}.json").read_bytes() == first


@pytest.mark.parametrize(
    ("enabled", "experiment", "reason"),
    [
        (False, None, "push.enabled is false"),
        (False, "shy-newt", "push.enabled is false"),
        (True, "shy-newt", "experiments publish nothing (shy-newt)"),
        (True, None, None),
        (True, "", None),
    ],
)
def test_stage_goes_ahead_only_when_enabled_and_outside_of_experiments(monkeypatch, enabled, experiment, reason):
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    if experiment is not None:
        monkeypatch.setenv("DVC_EXP_NAME", experiment)
    assert reason_to_stay(enabled, "push") == reason


@pytest.mark.parametrize("stage", STAGES)
def test_stage_starts_without_heavy_packages(repository, stage):
    code = f"import sys, stages.{stage}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert "pydantic" in loaded
    assert loaded & {"torch", "transformers", "soundfile", "librosa", "mistral_common", "numpy", "datasets"} == set()
    # The Hub's client takes a quarter of a second, and most runs publish nothing.
    assert "huggingface_hub" not in loaded


@pytest.mark.parametrize("stage", STAGES)
def test_disabled_stage_ends_in_under_a_second(workspace, run_stage, stage):
    began_s = time.monotonic()
    run_stage(stage)
    assert time.monotonic() - began_s < 1

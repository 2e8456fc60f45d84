"""push and deploy: nothing leaves this machine unasked, and a receipt says why."""

import os
import subprocess
import sys

import pytest

from stages.common.files import read_json

STAGES = ["push", "deploy"]


@pytest.mark.parametrize("stage", STAGES)
def test_disabled_stage_writes_the_same_receipt_each_time_in_under_a_second(workspace, run_stage, stage):
    """DVC compares receipts: a time in one would be a change."""
    for _ in range(2):
        before = os.times()
        result = run_stage(stage)
        after = os.times()
        assert (result.returncode, result.errors) == (0, [])
        assert sum(after[2:4]) - sum(before[2:4]) < 1, "seconds of a processor"
        assert [path.name for path in (workspace / "data/receipts").iterdir()] == [f"{stage}.json"]
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
    assert len(result.errors) == 1 and name in result.errors[0]
    assert list((workspace / "data/receipts").iterdir()) == [], "the receipt of a former run stayed"


@pytest.mark.parametrize("stage", STAGES)
def test_stage_starts_without_heavy_packages(repository, stage):
    code = f"import sys, stages.{stage}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert "pydantic" in loaded
    assert loaded & {"torch", "transformers", "soundfile", "librosa", "mistral_common", "numpy", "datasets"} == set()
    # The Hub's client takes a quarter of a second, and most runs publish nothing.
    assert "huggingface_hub" not in loaded

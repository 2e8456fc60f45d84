"""push and deploy: nothing leaves this machine unasked, and a receipt says why."""

import os
import subprocess
import sys

import pytest

from stages.common.files import read_json

STAGES = ["push", "deploy"]


@pytest.mark.parametrize(("stage", "name"), [("push", "push.repo_id"), ("deploy", "deploy.space_id")])
def test_stage_that_may_not_publish_says_why_and_takes_less_than_a_second(workspace, run_stage, set_param, stage, name):
    """A time in a receipt, which DVC would take for a change; an experiment that publishes; a receipt that stays."""
    file = workspace / f"data/receipts/{stage}.json"
    for reason in (f"{stage}.enabled is false", "experiments publish nothing (shy-newt)"):
        before = os.times()
        result = run_stage(stage, **({} if "enabled" in reason else {"DVC_EXP_NAME": "shy-newt"}))
        after = os.times()
        assert (result.returncode, result.errors) == (0, [])
        assert sum(after[2:4]) - sum(before[2:4]) < 1, "seconds of a processor"
        assert read_json(file) == {"published": False, "reason": reason}
        set_param(f"{stage}.enabled", True)
    result = run_stage(stage)
    assert (result.returncode, len(result.errors)) == (1, 1) and name in result.errors[0]
    assert not file.exists(), "the receipt of a former run stayed"


@pytest.mark.parametrize("stage", STAGES)
def test_stage_starts_without_heavy_packages(repository, stage):
    code = f"import sys, stages.{stage}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert "pydantic" in loaded
    assert loaded & {"torch", "transformers", "soundfile", "librosa", "mistral_common", "numpy", "datasets"} == set()
    # The Hub's client takes a quarter of a second, and most runs publish nothing.
    assert "huggingface_hub" not in loaded

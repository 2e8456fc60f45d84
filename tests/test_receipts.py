"""push and deploy: nothing leaves this machine unasked, and a receipt says why."""

import os
import subprocess
import sys

import pytest

from stages.common.files import read_json


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


@pytest.mark.parametrize("stage", ["push", "deploy", "prepare"])
def test_stage_that_asks_no_hub_loads_no_client_and_no_heavy_package(repository, stage):
    code = f"import sys, stages.{stage}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert "pydantic" in loaded
    heavy = {"torch", "transformers", "librosa", "mistral_common", "datasets", "huggingface_hub", "stages.hub.sources"}
    assert loaded & heavy == set()

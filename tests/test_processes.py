"""Several processes: two on this machine (gloo) train and evaluate as one does, with the same clips in each update."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.workspaces import (
    add_demo_clips,
    environment,
    make_workspace,
    read_json,
    read_rows,
    run_stage,
    run_stages,
    set_params,
)

pytestmark = pytest.mark.slow
# As `accelerate config` writes it.
TWO_PROCESSES = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_machines: 1
num_processes: 2
machine_rank: 0
main_process_port: 0
use_cpu: false
mixed_precision: 'no'
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    workspace = make_workspace(
        tmp_path_factory.mktemp("processes"),
        model__dtype="float32", train__epochs=2, train__max_clips=32, train__clips_per_update=8,
    )  # fmt: skip
    lora = {"r": 8, "alpha": 16, "dropout": 0.0, "scope": ["projector", "decoder"]}
    set_params(workspace, train__lora=lora)
    add_demo_clips(workspace, 60)
    (workspace / "two.yaml").write_text(TWO_PROCESSES)
    run_stages(workspace, "prepare", "split")
    return workspace


def run_alone_and_together(workspace: Path, *stages: str) -> list[dict]:
    """Results of one process with batches of 8, and of two with batches of 4; each from an empty cache."""
    results = []
    for launcher, batch_size in (("none", 8), ("two.yaml", 4)):
        set_params(workspace, train__launcher=launcher, train__batch_size=batch_size)
        shutil.rmtree(workspace / ".cache", ignore_errors=True)
        for stage in stages:
            result = run_stage(workspace, stage, OMP_NUM_THREADS="1")
            assert result.returncode == 0, result.stderr[-3000:]
            assert len([line for line in result.stdout.splitlines() if line.startswith(f"{stage}: ")]) <= 6, (
                "one process prints"
            )
        results.append(
            {
                "training": read_json(workspace / "data/checkpoints/training.json"),
                "curve": (workspace / "data/checkpoints/curve.csv").read_text().splitlines(),
                "weights": load_file(workspace / "data/checkpoints/best/adapter_model.safetensors"),
            }
        )
    set_params(workspace, train__launcher="none", train__batch_size=8)
    return results


def test_two_processes_train_and_evaluate_as_one(workspace):
    alone, together = run_alone_and_together(workspace, "train")
    assert (alone["training"]["processes"], together["training"]["processes"]) == (1, 2)
    for name in ("steps", "best_step", "best_validation_wer", "trainable_parameters"):
        assert alone["training"][name] == together["training"][name], name
    assert len(alone["curve"]) == len(together["curve"]) == 3
    for one, two in zip(alone["curve"][1:], together["curve"][1:], strict=True):
        # Sums in another order: the last digits differ.
        assert [float(value) for value in two.split(",")] == pytest.approx(
            [float(value) for value in one.split(",")], rel=1e-3
        )
    assert alone["weights"].keys() == together["weights"].keys()
    for name, tensor in alone["weights"].items():
        assert (tensor - together["weights"][name]).abs().max() < 1e-3 * tensor.abs().max().clamp(min=1e-2), name

    run_stages(workspace, "evaluate")
    expected = read_rows(workspace / "data/evaluation/predictions.jsonl")
    shutil.rmtree(workspace / ".cache/base-predictions")
    shutil.rmtree(workspace / ".cache/encoded")
    set_params(workspace, train__launcher="two.yaml")
    run_stages(workspace, "evaluate")
    set_params(workspace, train__launcher="none")
    assert read_rows(workspace / "data/evaluation/predictions.jsonl") == expected
    assert {row["model"] for row in expected} == {"base", "tuned"}


def test_steps_added_up_are_one_large_step(workspace):
    """Accumulation changes the memory, not the learning: no rate to adjust."""
    curves = []
    for batch_size in (8, 2, "auto"):
        set_params(workspace, train__batch_size=batch_size)
        shutil.rmtree(workspace / ".cache/training", ignore_errors=True)
        run_stages(workspace, "train")
        settings = read_json(workspace / "data/checkpoints/training.json")["settings"]
        assert settings["clips_per_update"] == 8 and settings["batch_size"] in (batch_size, 8)
        lines = (workspace / "data/checkpoints/curve.csv").read_text().splitlines()
        curves.append([float(value) for line in lines[1:] for value in line.split(",")])
    set_params(workspace, train__batch_size=8)
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)
    assert curves[2] == pytest.approx(curves[0], rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train__launcher": "four.yaml"}, "train.launcher four.yaml: no such file"),
        ({"train__launcher": "ddp"}, "train.launcher is ddp, but this machine has no GPU"),
        ({"train__batch_size": 3}, "train.clips_per_update 8 is not a multiple of train.batch_size 3 times 1"),
        ({"train__batch_size": "auto", "train__clips_per_update": None}, "train.batch_size auto needs a number as"),
    ],
)
def test_impossible_setting_is_one_line(workspace, settings, words):
    set_params(workspace, **settings)
    result = run_stage(workspace, "train", CUDA_VISIBLE_DEVICES="")
    set_params(workspace, train__launcher="none", train__batch_size=8, train__clips_per_update=8)
    assert result.returncode == 1
    assert words in result.stderr.splitlines()[-1]


def test_launched_processes_die_with_their_parent(workspace):
    """A killed DVC must not leave trainers behind: the launcher takes the stage's own place."""
    code = (
        "import os, sys; from stages.voxtral import processes;"
        "os.execv = lambda path, command: print(os.getpid(), *command[1:4], flush=True);"
        "print(os.getpid()); processes.launch('train', 'two.yaml')"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, cwd=workspace, env=environment(workspace), capture_output=True, text=True, check=True
    )
    first, second = result.stdout.splitlines()
    assert second == f"{first} -m accelerate.commands.launch --config_file=two.yaml"

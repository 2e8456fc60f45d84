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


def train(workspace: Path, **settings: object) -> tuple[dict, list[float], dict]:
    """Train from an empty cache: training.json, all values of curve.csv, weights."""
    set_params(workspace, **settings)
    shutil.rmtree(workspace / ".cache", ignore_errors=True)
    result = run_stage(workspace, "train", OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr[-3000:]
    assert len([line for line in result.stdout.splitlines() if line.startswith("train: ")]) <= 6, "one process prints"
    set_params(workspace, train__launcher="none", train__batch_size=8)
    _, *lines = (workspace / "data/checkpoints/curve.csv").read_text().splitlines()
    return (
        read_json(workspace / "data/checkpoints/training.json"),
        [float(value) for line in lines for value in line.split(",")],
        load_file(workspace / "data/checkpoints/best/adapter_model.safetensors"),
    )


@pytest.fixture(scope="module")
def alone(workspace) -> tuple[dict, list[float], dict]:
    """One process, with batches of 8."""
    return train(workspace)


def test_two_processes_train_and_evaluate_as_one(workspace, alone):
    training, curve, weights = alone
    two_training, two_curve, two_weights = train(workspace, train__launcher="two.yaml", train__batch_size=4)
    assert (training["processes"], two_training["processes"]) == (1, 2)
    for name in ("steps", "best_step", "best_validation_wer", "trainable_parameters"):
        assert training[name] == two_training[name], name
    assert two_curve == pytest.approx(curve, rel=1e-3)  # sums in another order: the last digits differ
    assert weights.keys() == two_weights.keys()
    for name, tensor in weights.items():
        assert (tensor - two_weights[name]).abs().max() < 1e-3 * tensor.abs().max().clamp(min=1e-2), name

    run_stages(workspace, "evaluate")
    expected = read_rows(workspace / "data/evaluation/predictions.jsonl")
    shutil.rmtree(workspace / ".cache/base-predictions")
    set_params(workspace, train__launcher="two.yaml")
    run_stages(workspace, "evaluate")
    set_params(workspace, train__launcher="none")
    assert read_rows(workspace / "data/evaluation/predictions.jsonl") == expected
    assert {row["model"] for row in expected} == {"base", "tuned"}


@pytest.mark.parametrize("batch_size", [2, "auto"])
def test_steps_added_up_are_one_large_step(workspace, alone, batch_size):
    """Accumulation changes the memory, not the learning: no rate to adjust."""
    training, curve, _ = train(workspace, train__batch_size=batch_size)
    assert training["settings"]["clips_per_update"] == 8 and training["settings"]["batch_size"] in (2, 8)
    assert curve == pytest.approx(alone[1], rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train__launcher": "four.yaml"}, "train.launcher four.yaml: no such file"),
        ({"train__launcher": "ddp"}, "train.launcher is ddp, but this machine has no GPU"),
        ({"train__batch_size": 3}, "train.clips_per_update 8 is not a multiple of train.batch_size 3 times 1"),
    ],
)
def test_impossible_setting_is_one_line(workspace, settings, words):
    set_params(workspace, **settings)
    result = run_stage(workspace, "train", CUDA_VISIBLE_DEVICES="")
    set_params(workspace, train__launcher="none", train__batch_size=8)
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
    screen = subprocess.check_output(command, cwd=workspace, env=environment(workspace), text=True)
    first, second = screen.splitlines()
    assert second == f"{first} -m accelerate.commands.launch --config_file=two.yaml"

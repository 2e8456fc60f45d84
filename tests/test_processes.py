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
SHARDED = (
    TWO_PROCESSES.replace("MULTI_GPU", "FSDP")
    + """
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_state_dict_type: FULL_STATE_DICT
"""
)
# accelerate 1.15 applies FSDP to accelerators only (AcceleratorState.__init__), though torch shards on a CPU as well.
FSDP_ON_A_CPU = """
import os
if os.environ.get("ACCELERATE_USE_FSDP") == "true":
    from accelerate import state
    original = state.AcceleratorState.__init__
    def with_cpu(self, *arguments, fsdp_plugin=None, **keywords):
        original(self, *arguments, fsdp_plugin=fsdp_plugin, **keywords)
        if fsdp_plugin and self.distributed_type == "MULTI_CPU":
            self.distributed_type = state.DistributedType.FSDP
            state.PartialState._shared_state["distributed_type"] = self.distributed_type
            self.fsdp_plugin = fsdp_plugin
    state.AcceleratorState.__init__ = with_cpu
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
    (workspace / "sharded.yaml").write_text(SHARDED)
    (workspace / "on_a_cpu").mkdir()
    (workspace / "on_a_cpu/sitecustomize.py").write_text(FSDP_ON_A_CPU)  # Python runs it at each start
    run_stages(workspace, "prepare", "split")
    return workspace


def train(workspace: Path, **settings: object) -> tuple[dict, list[float], dict]:
    """Train from an empty cache: training.json, all values of curve.csv, weights."""
    set_params(workspace, **settings)
    shutil.rmtree(workspace / ".cache", ignore_errors=True)
    result = run_stage(workspace, "train", OMP_NUM_THREADS="1", PYTHONPATH="on_a_cpu")
    assert result.returncode == 0, result.stderr[-3000:]
    assert len([line for line in result.stdout.splitlines() if line.startswith("train: ")]) <= 6, "one process prints"
    set_params(workspace, train__launcher="none", train__batch_size=8, train__mode="lora")
    _, *lines = (workspace / "data/checkpoints/curve.csv").read_text().splitlines()
    [weights] = (workspace / "data/checkpoints/best").glob("*.safetensors")
    return (
        read_json(workspace / "data/checkpoints/training.json"),
        [float(value) for line in lines for value in line.split(",")],
        load_file(weights),
    )


def assert_same(one: tuple[dict, list[float], dict], two: tuple[dict, list[float], dict]) -> None:
    """The same training in one process and in two; sums in another order: the last digits differ."""
    (training, curve, weights), (two_training, two_curve, two_weights) = one, two
    assert (training["processes"], two_training["processes"]) == (1, 2)
    for name in ("steps", "best_step", "best_validation_wer", "trainable_parameters"):
        assert training[name] == two_training[name], name
    assert two_curve == pytest.approx(curve, rel=1e-3)
    assert weights.keys() == two_weights.keys()
    for name, tensor in weights.items():
        assert (tensor - two_weights[name]).abs().max() < 1e-3 * tensor.abs().max().clamp(min=1e-2), name


@pytest.fixture(scope="module")
def alone(workspace) -> tuple[dict, list[float], dict]:
    """One process, with batches of 8."""
    return train(workspace)


@pytest.mark.parametrize(("launcher", "batch_size"), [("two.yaml", 4), ("sharded.yaml", "auto")])
def test_two_processes_train_and_evaluate_as_one(workspace, alone, launcher, batch_size):
    """FSDP: the second process has no weights until they are sharded, so that it cannot train by DDP instead. It has
    fewer batches of validation clips than the first, and its transcripts end at other tokens: none may wait forever.
    """
    assert len(read_rows(workspace / "data/split/validation.jsonl")) == 5
    assert_same(alone, train(workspace, train__launcher=launcher, train__batch_size=batch_size))

    run_stages(workspace, "evaluate")
    expected = read_rows(workspace / "data/evaluation/predictions.jsonl")
    shutil.rmtree(workspace / ".cache/base-predictions")
    set_params(workspace, train__launcher=launcher)
    run_stages(workspace, "evaluate")
    set_params(workspace, train__launcher="none")
    assert read_rows(workspace / "data/evaluation/predictions.jsonl") == expected
    assert {row["model"] for row in expected} == {"base", "tuned"}


def test_sharded_model_is_trained_whole_as_in_one_process(workspace):
    full = {"train__mode": "full", "train__epochs": 1, "train__max_clips": 16}
    one = train(workspace, **full)
    two = train(workspace, **full, train__launcher="sharded.yaml", train__batch_size=4)
    set_params(workspace, train__epochs=2, train__max_clips=32)
    assert_same(one, two)


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

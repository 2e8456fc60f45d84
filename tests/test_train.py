"""The train stage: what it learns from, and what survives a crash. Everything here really trains the tiny model."""

import csv
import functools
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from stages import evaluate, train
from stages.common.params import load_params
from stages.hub.release import difference
from stages.speech.clips import Clip
from stages.train import choose_clips, run_fingerprint
from stages.voxtral import models, precision, verify
from stages.voxtral.loading import load_model, read_config
from stages.voxtral.memory import empty_model, evaluation_bytes, weight_bytes
from tests.recordings import processes_in, wait_until
from tests.tiny_model import SOURCE
from tests.workspaces import (
    add_demo_clips,
    content_of,
    dvc,
    environment,
    init_dvc,
    make_workspace,
    read_json,
    read_rows,
    run_stage,
    run_stages,
    set_params,
)  # fmt: skip


def test_smaller_training_sets_lie_within_larger_ones_of_the_same_seed(make_clip, params):
    clips = [make_clip("one two", id=f"{number:016x}") for number in range(200)]

    def chosen(count: int, seed: int = 0) -> set[str]:
        settings = params.train.model_copy(update={"max_clips": count, "seed": seed})
        return {clip.id for clip in choose_clips(clips, settings)}

    assert [len(chosen(count)) for count in (10, 50, 200)] == [10, 50, 200]
    assert chosen(10) < chosen(50) < chosen(200)
    assert chosen(10) != chosen(10, seed=1)


def test_name_of_a_training_changes_with_everything_that_decides_its_result(demo_clips, params, tmp_path, monkeypatch):
    """A training with another name starts afresh; one with the same name is resumed, or its result is taken."""

    def name(clips: list[Clip] = demo_clips, model: str = "auto", **settings: object) -> str:
        changed = {"train": params.train.model_copy(update=settings)}
        changed["model"] = params.model.model_copy(update={"dtype": model})
        return run_fingerprint(SOURCE, params.model_copy(update=changed), clips[:8], clips[8:12])

    first = name()
    other_sound = tmp_path / "sound.flac"
    soundfile.write(other_sound, np.zeros(16_000), 16_000)
    assert name(tracking=None, launcher="ddp") == first
    changes = [{"learning_rate": 0.0005}, {"seed": 1}, {"max_clips": 7}, {"model": "float32"}]
    changes += [{"clips": [replace(demo_clips[0], **{field: value}), *demo_clips[1:]]} for field, value in
                {"text": "other words", "audio_path": str(other_sound), "language": "de"}.items()]  # fmt: skip
    names = {first, *(name(**change) for change in changes)}
    monkeypatch.setattr("stages.train.code_hash", lambda *_: "other code")
    assert len({*names, name()}) == len(changes) + 2


@pytest.fixture(scope="module")
def short_run(tmp_path_factory) -> Path:
    """A workspace with 60 prepared and split clips, whose training takes a few seconds: three epochs of 4 updates."""
    workspace = make_workspace(
        tmp_path_factory.mktemp("train"),
        train__epochs=3, train__max_clips=32, train__batch_size=8,
    )  # fmt: skip
    add_demo_clips(workspace, 60)
    run_stages(workspace, "prepare", "split")
    return workspace


@pytest.fixture
def changed(short_run):
    """`changed(train__epochs=1)` changes settings of short_run for one test."""
    before = (short_run / "params.yaml").read_text()
    yield functools.partial(set_params, short_run)
    (short_run / "params.yaml").write_text(before)


def start(workspace: Path, *command: str) -> subprocess.Popen:
    """Start a training that finds no checkpoint of an earlier one; returns when it has saved its first."""
    shutil.rmtree(workspace / ".cache/training", ignore_errors=True)
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=workspace, env=environment(workspace),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    saved = ".cache/training/*/checkpoint-*/complete"
    wait_until(lambda: process.poll() is not None or any(workspace.glob(saved)), 240)
    assert process.poll() is None, "training ended before its first checkpoint"
    return process


def lora(*scope: str, dropout: float = 0.0) -> dict:
    return {"r": 16, "alpha": 32, "dropout": dropout, "scope": list(scope)}


AUGMENTED = {"train__augment": "light"}  # the second and third of three epochs hear variants
CACHED = {"train__lora": lora("projector", "decoder", dropout=0.1), "train__batch_size": "auto"}


@pytest.mark.parametrize(
    "settings", [AUGMENTED, pytest.param(CACHED, marks=pytest.mark.slow)], ids=["encoder trained", "cached"]
)
def test_killed_training_resumes_from_its_last_checkpoint_and_gives_the_same_model(short_run, changed, settings):
    changed(train__clips_per_update=8, **settings)
    run_stages(short_run, "train")
    whole = read_json(short_run / "data/checkpoints/training.json")
    whole_weights = load_file(short_run / "data/checkpoints/best/adapter_model.safetensors")
    whole_curve = (short_run / "data/checkpoints/curve.csv").read_text()
    assert whole["resumed_from_step"] is None

    process = start(short_run, "stages.train")
    process.kill()
    process.wait()

    run_stages(short_run, "train")
    resumed = read_json(short_run / "data/checkpoints/training.json")
    assert resumed["resumed_from_step"] >= 4
    assert resumed["settings"] == whole["settings"]
    assert (resumed["steps"], resumed["best_step"]) == (whole["steps"], whole["best_step"])
    assert (short_run / "data/checkpoints/curve.csv").read_text() == whole_curve
    weights = load_file(short_run / "data/checkpoints/best/adapter_model.safetensors")
    assert all(weights[name].equal(tensor) for name, tensor in whole_weights.items())


@pytest.mark.slow
def test_only_a_change_that_decides_the_result_trains_again(short_run, tmp_path):
    """A night of training must survive a typo in a comment, and no change of code may give a stale result."""
    workspace = tmp_path / "workspace"
    shutil.copytree(short_run, workspace, ignore=shutil.ignore_patterns("checkpoints", "training"))
    set_params(workspace, train__epochs=1, train__max_clips=8)
    init_dvc(workspace)
    dvc(workspace, "add", "--quiet", "data/raw")
    results = workspace / "data/checkpoints"

    def repro_after(file: str, old: str, new: str) -> tuple[bool, int]:
        """Whether DVC runs train after a change of code, and how many trainings there have been."""
        path = workspace / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        printed = dvc(workspace, "repro", "train").stdout
        return "Running stage 'train'" in printed, len(list(workspace.glob(".cache/training/*/result")))

    assert repro_after("stages/voxtral/training.py", "import math", "import math") == (True, 1)
    first = content_of(results)
    assert repro_after("stages/voxtral/training.py", "import math", "import math  # for e") == (True, 1)
    assert content_of(results) == first
    assert repro_after("stages/common/plurals.py", "hours", "h") == (False, 1)
    assert repro_after(
        "stages/voxtral/training.py", "LORA_LEARNING_RATE_TIMES_WIDTH = 0.3", "LORA_LEARNING_RATE_TIMES_WIDTH = 0.2"
    ) == (True, 2)
    assert content_of(results) != first


@pytest.mark.slow
def test_same_training_twice_at_once_is_refused(short_run):
    process = start(short_run, "stages.train")
    try:
        process.send_signal(signal.SIGSTOP)  # so that it cannot end before the second one looks
        second = run_stage(short_run, "train")
    finally:
        process.kill()
        process.wait()
    assert second.returncode == 1
    assert second.stderr.strip().splitlines()[-1].startswith("train: the same training is already running")


@pytest.mark.slow
def test_killed_dvc_leaves_no_orphan_and_the_next_repro_resumes(short_run):
    init_dvc(short_run)
    dvc(short_run, "add", "--quiet", "data/raw")
    process = start(short_run, "dvc", "repro", "train")
    assert processes_in(short_run, "stages.train"), "no training process found while it trains"
    process.kill()
    process.wait()
    wait_until(lambda: not processes_in(short_run, "stages.train"))
    dvc(short_run, "repro", "train")
    assert read_json(short_run / "data/checkpoints/training.json")["resumed_from_step"] >= 4


@pytest.mark.slow
def test_full_fine_tuning_trains_every_weight_and_loads_again_and_names_no_path_of_this_machine(short_run, changed):
    """Results may be published: the model's folder, elsewhere on this machine, must be in none of them."""
    model = (short_run / "data/demo/voxtral-tiny").resolve()
    changed(model__name=str(model), model__dtype="bfloat16", train__mode="full", train__epochs=1)
    run_stages(short_run, "train", "evaluate", "card")
    training = read_json(short_run / "data/checkpoints/training.json")
    # The encoder's positions are the only weights that stay: 200 positions of width 160.
    assert training["parameters"] == 2_468_000
    assert training["trainable_parameters"] == 2_468_000 - 200 * 160
    best = short_run / "data/checkpoints/best"
    assert {weights.dtype for weights in load_file(best / "model.safetensors").values()} == {torch.bfloat16}
    assert "use_cache" not in read_json(best / "config.json")
    assert "Full fine-tuning" in (short_run / "data/card/README.md").read_text()
    written = [
        path for name in ("checkpoints", "evaluation", "card") for path in (short_run / "data" / name).rglob("*")
    ]
    texts = [path for path in written if path.suffix in (".json", ".jsonl", ".md", ".html", ".csv")]
    assert len(texts) >= 7
    assert not [path.name for path in texts if str(short_run) in path.read_text()]


@pytest.mark.slow
def test_base_in_four_bits_learns_and_is_measured_beside_the_whole_one(short_run, changed):
    changed(train__mode="qlora", train__lora=lora("projector", "decoder"), train__optimizer="adamw_8bit")
    run_stages(short_run, "train", "evaluate", "card")
    training = read_json(short_run / "data/checkpoints/training.json")
    with (short_run / "data/checkpoints/curve.csv").open() as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.9 * losses[0]
    assert training["settings"]["quantisation"] == "4 bits (NF4)"
    assert training["adapted_layers"] == {"projector": 2, "decoder": 14}
    metrics = read_json(short_run / "data/evaluation/metrics.json")
    assert metrics["base_quantised"]["clips"] == metrics["base"]["clips"]
    rows = read_rows(short_run / "data/evaluation/predictions.jsonl")
    heard = {model: [row["hypothesis"] for row in rows if row["model"] == model] for model in metrics if model in
             ("base", "base_quantised", "tuned")}  # fmt: skip
    assert len(heard) == 3 and heard["base"] != heard["base_quantised"]
    assert "The base was held in 4 bits (NF4) while training" in (short_run / "data/card/README.md").read_text()


@pytest.mark.slow
def test_small_card_trains_evaluates_and_checks_without_ever_holding_a_whole_decoder(short_run, changed, monkeypatch):
    """Catches: a qlora training that can be neither evaluated nor published on the card that it was made on."""
    changed(train__mode="qlora", train__lora=lora("projector", "decoder"), train__epochs=1)
    monkeypatch.chdir(short_run)
    config = read_config(load_params(short_run / "params.yaml").model)
    small = evaluation_bytes(config, torch.float32, True, 16)
    monkeypatch.setattr(precision, "total_memory_bytes", lambda: small)
    decoders = []

    def load_and_count(*arguments):
        model = load_model(*arguments)
        decoders.append(sum(weight.nbytes for weight in model.model.language_model.layers.parameters()))
        return model

    monkeypatch.setattr(models, "load_model", load_and_count)
    train.main()
    evaluate.main()
    metrics = read_json(short_run / "data/evaluation/metrics.json")
    assert metrics["precision"] == {"dtype": "float32", "quantisation": "4 bits (NF4)"}
    assert "base_quantised" not in metrics
    [clip, *_] = read_json(short_run / "data/evaluation/evaluated.json")["clips"]
    best, reply = short_run / "data/checkpoints/best", short_run / "reply.json"
    asked = {"models": [str(best)], "clips": {clip["id"]: clip["tokens"]}, "merge_into": None, "reply": str(reply)}
    (short_run / "request.json").write_text(json.dumps(asked))
    monkeypatch.setattr(sys, "argv", ["verify", str(short_run / "request.json")])
    verify.main()
    [made] = read_json(reply)
    clip["text"] = made[clip["id"]]["text"]
    assert difference(made[clip["id"]], clip, "float32") is None
    whole = weight_bytes(empty_model(config, torch.float32))["decoder"]
    assert len(decoders) == 3 and max(decoders) < whole / 4, (decoders, whole)


def test_training_that_diverges_says_so_and_leaves_nothing(short_run, changed):
    shutil.rmtree(short_run / "data/checkpoints", ignore_errors=True)
    changed(train__learning_rate=1e30)
    result = run_stage(short_run, "train")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("train: training diverged at step")
    assert not (short_run / "data/checkpoints").exists()

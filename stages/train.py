"""Teach the model one person's voice, in data/checkpoints.

    python -m stages.train          (or `dvc repro train`)

Reads data/split/{train,validation}.jsonl and the sound in data/prepared. Writes best/ (adapter or full model, with
processor), training.json (resolved settings, versions, speed), validation.json (for `dvc exp show`), curve.csv (for
`dvc plots show`). Interrupted training resumes from the last checkpoint and gives the same model; finished training is
not repeated unless settings, data, code or versions change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from stages.common import paths
from stages.common.cache import fingerprint
from stages.common.code import code_hash
from stages.common.files import read_json, write_json
from stages.common.params import Params, TrainParams, load_params
from stages.common.plurals import counted
from stages.common.stage import announce, run
from stages.speech import prepared
from stages.speech.clips import Clip, read_clips
from stages.voxtral import adapters, encoder_cache, last_layer, plan, processes, schedule, scratch, training
from stages.voxtral.collation import Collator
from stages.voxtral.loading import (
    FOUR_BITS,
    ModelSource,
    device_name,
    enough_memory,
    find_model,
    resolve_dtype,
    training_dtype,
)
from stages.voxtral.models import is_adapter, open_model, save_whole
from stages.voxtral.tracking import Tracker

PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "mistral-common", "numpy", "soxr")
MEMORY_REMEDY = (
    "'make check' lists settings that fit, without other programs on the GPU (see nvidia-smi). If train.batch_size is "
    "auto, run it again: it then takes half as many clips at once, if it took more than one; else make it auto. Or set "
    "train.gradient_checkpointing to true, or remove encoder from train.lora.scope"
)


def choose_clips(clips: list[Clip], params: TrainParams) -> list[Clip]:
    """At most `max_clips`, drawn by a seeded hash of their ids: a smaller set is always part of a larger one."""
    if params.max_clips is None:
        return clips
    order = sorted(clips, key=lambda clip: hashlib.sha256(f"{params.seed} {clip.id}".encode()).digest())
    return order[: params.max_clips]


def run_fingerprint(
    source: ModelSource, params: Params, train_clips: Sequence[Clip], validation_clips: Sequence[Clip]
) -> str:
    """Names everything that a training's result depends on."""
    clips = [
        [clip.id, prepared.sha256(paths.PREPARED / clip.audio_path), clip.text, clip.language, clip.duration_s, part]
        for part, of_part in (("train", train_clips), ("validation", validation_clips))
        for clip in of_part
    ]
    return fingerprint(
        {
            "model": source.identity,
            "model_name": [source.name, source.revision],  # written into the adapter
            "dtype": params.model.dtype,
            "device": device_name(),
            "training_dtype": str(training_dtype(params.model.dtype)),
            "train": params.train.model_dump(exclude={"tracking", "launcher"}),
            "processes": [processes.world_size(), processes.uses_fsdp()],
            "clips": clips,
            "code": code_hash("stages.train"),
            "versions": {package: version(package) for package in PACKAGES},
        }
    )[:16]


def open_trainee(source: ModelSource, params: Params) -> tuple[torch.nn.Module, Collator, dict[str, int]]:
    """The model, trainable where it will be trained, its Collator, and how many layers of each part have adapters."""
    train, layers = params.train, {}
    where = processes.device_before_sharding() if processes.uses_fsdp() else None
    if train.mode == "full":
        # Full precision weights under mixed precision: updates of a millionth would vanish in bfloat16.
        model, collator = open_model(source, torch.float32, where=where)
        # Fixed sinusoids by design; the library freezes them, but loading weights thaws them again.
        model.model.audio_tower.embed_positions.requires_grad_(False)
    else:
        dtype = resolve_dtype(params.model.dtype)
        model, collator = open_model(source, dtype, four_bit=train.mode == "qlora", where=where)
        layers = adapters.matched_layers(model, train.lora.scope)
        model = adapters.add_lora(model, train.lora)
    processes.allocate_trained_weights(model)
    return model.train(), collator, layers


def train_model(
    params: Params, source: ModelSource, train_clips: list[Clip], validation_clips: list[Clip], folder: Path
) -> None:
    """Train, or resume a training, and keep its result in `folder`, the training's own in the cache."""
    # The model, with what saves time.
    torch.manual_seed(params.train.seed)
    model, collator, adapted_layers = open_trainee(source, params)
    parameters = adapters.base_model(model).num_parameters()  # of weights in 4 bits, too, the true number
    collator.check_lengths([*train_clips, *validation_clips])
    stopwatch = training.Stopwatch()
    last_layer.only_kept_positions(model)
    if encoder_cache.is_frozen(model) and params.train.augment == "off":
        clips = [*train_clips, *validation_clips]
        collator = encoder_cache.take_encoder_out(model, collator, clips, source.identity)

    # The settings, with numbers in place of auto.
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    layers = ", ".join(f"{count} in the {part}" for part, count in adapted_layers.items()) or "all"
    dtype = training_dtype(params.model.dtype)
    learning_rate = training.resolve_learning_rate(params.train, model.config.text_config.hidden_size)
    print(f"train: {trainable:,} trainable parameters, layers: {layers}; learning rate {learning_rate:.2e}", flush=True)
    batch_size = training.resolve_batch_size(model, collator, train_clips, params.train, dtype, folder)
    update = params.train.clips_per_update or batch_size * processes.world_size()
    resolved = {"learning_rate": learning_rate, "batch_size": batch_size, "clips_per_update": update}
    train = params.train.model_copy(update=resolved)
    settings = {
        **train.model_dump(),
        "training_dtype": str(dtype).removeprefix("torch."),
        "quantisation": FOUR_BITS if train.mode == "qlora" else None,
        "model": {
            "name": source.name,
            "revision": source.revision,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
    }

    # The training, from its last checkpoint if there is one.
    callbacks = [stopwatch]
    if processes.is_main():
        callbacks.append(Tracker(train.tracking, os.environ.get("DVC_EXP_NAME", folder.name), settings))
    trainer = training.build_trainer(model, collator, train_clips, validation_clips, train, dtype, folder, callbacks)
    checkpoint = scratch.last_checkpoint(folder)
    resumed_from_step = scratch.step_of(checkpoint) if checkpoint else None
    if checkpoint:
        print(f"train: resumes from step {resumed_from_step}", flush=True)
    training.fit(trainer, checkpoint)
    if processes.is_main():
        facts = {
            "settings": settings,
            "train_clips": len(train_clips),
            "train_minutes": round(sum(clip.duration_s for clip in train_clips) / 60, 2),
            "validation_clips": len(validation_clips),
            "adapted_layers": adapted_layers,
            "parameters": parameters,
            "trainable_parameters": trainable,
            "resumed_from_step": resumed_from_step,
        }
        with scratch.new_result(folder) as result:
            dtype = resolve_dtype(params.model.dtype)
            save_best(folder / f"checkpoint-{trainer.state.best_global_step}", source, dtype, collator, result / "best")
            write_results(result, trainer.state, source, collator, facts)


def write_results(
    result: Path, state: training.TrainerState, source: ModelSource, collator: Collator, facts: dict
) -> None:
    """Write what data/checkpoints has beside the model into `result`."""
    training.write_curve(result / "curve.csv", state.log_history)
    best = next(
        entry for entry in state.log_history if entry.get("step") == state.best_global_step and "eval_wer" in entry
    )
    seconds = state.stateful_callbacks["Stopwatch"]["args"]["seconds"]
    # A metric of DVC's, to compare experiments by, so that the test part stays unseen.
    validation = {"wer": best["eval_wer"], "loss": best["eval_loss"], "epoch": best["epoch"]}
    write_json(
        result / "validation.json", validation | {name: facts[name] for name in ("train_clips", "train_minutes")}
    )
    write_json(
        result / "training.json",
        {
            **facts,
            "versions": {package: version(package) for package in PACKAGES},
            "base_model": source.name,
            "base_model_identity": source.identity,
            "window": {"samples": collator.sizes.window_samples, "frames": collator.sizes.window_frames},
            "device": device_name(),
            "processes": processes.world_size(),
            "epochs_run": state.epoch,
            "steps": state.global_step,
            "best_step": state.best_global_step,
            "stopped_early": state.global_step < state.max_steps,
            "caveats": schedule.caveats(state.global_step, state.max_steps, best["step"], best["eval_wer"]),
            "best_epoch": best["epoch"],
            "best_validation_wer": best["eval_wer"],
            "seconds": round(seconds, 1),
            "clips_per_s": round(state.epoch * facts["train_clips"] / seconds, 2),
            "peak_memory_bytes": training.peak_memory_bytes(),
        },
    )


def save_best(checkpoint: Path, source: ModelSource, dtype: torch.dtype, collator: Collator, folder: Path) -> None:
    """A checkpoint's model, a whole one in the `dtype` that it is evaluated in, and the processor."""
    collator.processor.save_pretrained(folder)
    if is_adapter(checkpoint):
        for name in (adapters.ADAPTER_CONFIG, adapters.ADAPTER_WEIGHTS):
            shutil.copy(checkpoint / name, folder)
        adapters.complete(folder, source.name, source.revision)
    else:
        save_whole(checkpoint, source, dtype, folder)


def main() -> str:
    params = load_params()
    processes.launch("train", params.train.launcher)
    announce("train", model=params.model.name, **params.train.model_dump())
    train_clips = choose_clips(read_clips(paths.SPLIT / "train.jsonl"), params.train)
    validation_clips = read_clips(paths.SPLIT / "validation.jsonl")
    plan.check_batches(params.train)
    plan.check_training(params)
    source = find_model(params.model)
    run_name = run_fingerprint(source, params, train_clips, validation_clips)
    with scratch.scratch_folder(run_name) as folder:
        if scratch.has_result(folder):
            print("train: already trained with these settings, clips and code: result taken from the cache", flush=True)
        else:
            with enough_memory(MEMORY_REMEDY):
                train_model(params, source, train_clips, validation_clips, folder)
        if not processes.is_main():
            return "done"
        scratch.copy_result(folder, paths.CHECKPOINTS)
    facts = read_json(paths.CHECKPOINTS / "training.json")
    ended = f"{counted(facts['epochs_run'], 'epoch')}{', stopped early' if facts['stopped_early'] else ''}"
    summary = (
        f"{counted(facts['train_clips'], 'clip')}, {ended}, best validation WER "
        f"{facts['best_validation_wer']:.1%} at epoch {facts['best_epoch']:g} -> {paths.CHECKPOINTS}"
    )
    return ". ".join([summary, *facts["caveats"]])


if __name__ == "__main__":
    run("train", main)

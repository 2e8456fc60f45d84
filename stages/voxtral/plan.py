"""Whether a training can run as it is set, before anything is downloaded: batches, memory, disk, settings that fit.

GB are 10^9 bytes. A card sold with 24 GB has 24 GiB, 25.8 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import VoxtralConfig

from stages.common.params import Params, TrainParams
from stages.common.plurals import counted
from stages.common.stage import UserError
from stages.voxtral import processes
from stages.voxtral.adapters import SCOPES
from stages.voxtral.loading import (
    device,
    device_name,
    read_config,
    resolve_dtype,
    total_memory_bytes,
    training_dtype,
)
from stages.voxtral.memory import (
    POSITIONS_PER_S,
    Kept,
    Need,
    empty_model,
    kept_of_windows,
    largest_divisor,
    training_need,
    weight_bytes,
)
from stages.voxtral.training import KEPT_CHECKPOINTS

ALL_PARTS = list(SCOPES)
WITHOUT_ENCODER = [part for part in SCOPES if part != "encoder"]
# Ways to train, the one that adapts most first; full is not among those that are recommended.
WAYS = [
    {"mode": "lora", "scope": ALL_PARTS, "gradient_checkpointing": False, "optimizer": "adamw"},
    {"mode": "lora", "scope": ALL_PARTS, "gradient_checkpointing": True, "optimizer": "adamw"},
    {"mode": "lora", "scope": WITHOUT_ENCODER, "gradient_checkpointing": False, "optimizer": "adamw"},
    {"mode": "lora", "scope": WITHOUT_ENCODER, "gradient_checkpointing": True, "optimizer": "adamw"},
    {"mode": "qlora", "scope": WITHOUT_ENCODER, "gradient_checkpointing": False, "optimizer": "adamw"},
    {"mode": "qlora", "scope": WITHOUT_ENCODER, "gradient_checkpointing": True, "optimizer": "adamw"},
    {"mode": "full", "scope": ALL_PARTS, "gradient_checkpointing": True, "optimizer": "adamw_8bit"},
]
PLENTY = 100  # times the weights: memory that needs no counting


@dataclass(frozen=True)
class Row:
    """A way to train, what it takes, and how many of an update's clips fit at once (0: it does not fit)."""

    settings: str
    need: Need
    batch: int
    way: dict


def way_of(train: TrainParams) -> dict:
    return {
        "mode": train.mode,
        "scope": ALL_PARTS if train.mode == "full" else train.lora.scope,
        "gradient_checkpointing": train.gradient_checkpointing,
        "optimizer": train.optimizer,
    }


def rows(
    config: VoxtralConfig, train: TrainParams, ways: Sequence[dict], dtype: torch.dtype, bfloat16: bool, memory: int
) -> list[Row]:
    """What each way takes with this much memory."""
    found = []
    kept: dict[tuple, list[Kept]] = {}  # the slowest to count
    most = (train.clips_per_update or 8) // processes.world_size()
    for way in ways:
        scope = way["scope"]
        changes = {name: value for name, value in way.items() if name != "scope"}
        changed = train.model_copy(update={**changes, "lora": train.lora.model_copy(update={"scope": scope})})
        same = (way["mode"] == "full", *scope)
        kept[same] = kept.get(same) or kept_of_windows(config, changed, dtype, bfloat16)
        need = training_need(config, changed, dtype, bfloat16, kept[same])
        fitting = need.fitting(memory)
        words = [f"mode {way['mode']}"]
        words += [f"lora.scope [{', '.join(scope)}]"] if way["mode"] != "full" else []
        words += ["gradient_checkpointing true"] if way["gradient_checkpointing"] else []
        words += [f"optimizer {way['optimizer']}"] if way["optimizer"] != "adamw" else []
        found.append(Row(", ".join(words), need, largest_divisor(max(most, 1), fitting) if fitting else 0, way))
    return found


def recommended(found: Sequence[Row]) -> Row | None:
    """The first that fits, but not full: it needs more clips than a person has."""
    return next((row for row in found if row.batch and row.way["mode"] != "full"), None)


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def describe(need: Need, batch: int, config: VoxtralConfig) -> str:
    """The need in one sentence."""
    window_s = config.audio_config.max_source_positions / POSITIONS_PER_S
    return (
        f"about {gigabytes(need.with_batch(batch))} of memory for {counted(batch, 'clip')} at once, with room to spare "
        f"(counted: weights {gigabytes(sum(need.weights.values()))}, gradients and optimizer "
        f"{gigabytes(need.gradients + need.optimizer)}, {gigabytes(need.clip)} for each clip of {window_s:g} s)"
    )


def place() -> str:
    return "this machine" if device().type == "cpu" else f"the GPU ({device_name()})"


def batch_of(train: TrainParams, row: Row) -> int:
    return max(row.batch, 1) if train.batch_size == "auto" else train.batch_size


def check_batches(params: TrainParams) -> None:
    """Raises: UserError if weights in 4 bits would be sharded, or if `train.clips_per_update` is not a multiple of what
    all devices take at once.
    """
    if processes.uses_fsdp() and params.mode == "qlora":
        raise UserError("params.yaml: FSDP (train.launcher) cannot shard train.mode qlora: use ddp, or mode lora")
    at_once = processes.world_size() * (1 if params.batch_size == "auto" else params.batch_size)
    if params.clips_per_update and params.clips_per_update % at_once:
        raise UserError(
            f"params.yaml: train.clips_per_update {params.clips_per_update} is not a multiple of train.batch_size "
            f"{params.batch_size} times {counted(processes.world_size(), 'device')}: change one of them"
        )


def check_training(params: Params) -> None:
    """Print what the training needs and what is there; the weights need not be on this machine.

    Raises: UserError if weights, gradients and optimizer alone exceed a GPU's memory.
    """
    config = read_config(params.model)
    memory, dtype = total_memory_bytes(), resolve_dtype(params.model.dtype)
    weights = sum(weight_bytes(empty_model(config, dtype)).values())
    if processes.uses_fsdp() or weights * PLENTY < memory:
        _say(f"train: {gigabytes(weights)} of weights; {place()} has {gigabytes(memory)} of memory")
        return
    bfloat16 = training_dtype(params.model.dtype) != torch.float32  # float16 takes as many bytes
    [row] = rows(config, params.train, [way_of(params.train)], dtype, bfloat16, memory)
    batch = batch_of(params.train, row)
    _say(f"train: needs {describe(row.need, batch, config)}; {place()} has {gigabytes(memory)}")
    if device().type == "cpu":
        _say("train: on a CPU, training a model of this size is not practical: use a GPU")
    if row.need.with_batch(batch) <= memory:
        return
    best = recommended(rows(config, params.train, WAYS, dtype, bfloat16, memory))
    remedy = f"under train, these settings fit: {best.settings}, batch_size auto" if best else "no setting fits"
    if device().type != "cpu" and row.need.certain > memory:
        raise UserError(
            f"weights, gradients and optimizer alone take {gigabytes(row.need.certain)}, {place()} has "
            f"{gigabytes(memory)}: {remedy} ('make check' shows more)"
        )
    _say(f"train: that may be too much; {remedy} ('make check' shows more)")


def _say(line: str) -> None:
    if processes.is_main():
        print(line, flush=True)


def disk_bytes(config: VoxtralConfig, need: Need, windows: int, dtype: torch.dtype, download: bool) -> dict[str, int]:
    """The most that a run writes, by what it is. windows: of all clips to train on and to validate with."""
    audio = config.audio_config
    published = torch.bfloat16.itemsize * sum(weight.numel() for weight in empty_model(config, dtype).parameters())
    full = not need.weights["adapters"]
    saved = sum(need.weights.values()) if full else need.weights["adapters"]
    window = audio.max_source_positions * audio.hidden_size * dtype.itemsize
    return {
        "the model from the Hub": published if download else 0,
        "encoder outputs": windows * window if need.encoder_taken_out else 0,
        "checkpoints": (KEPT_CHECKPOINTS + 1) * (saved + need.optimizer) + saved,  # the result beside them
        "the result": 2 * saved,  # in data and in DVC's cache
    }

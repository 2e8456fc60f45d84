"""Say whether training and evaluation fit on this machine, and which settings do.

    make check                  on this machine
    make check MEMORY=24        as on a GPU with 24 GB (24 GiB, as cards are sold) that computes in bfloat16

Counted from the model's configuration: of a Hub model only config.json is downloaded, a few kB. Writes nothing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import torch
from huggingface_hub.constants import HF_HUB_CACHE

from stages.common import paths
from stages.common.params import Params, load_params
from stages.common.plurals import counted
from stages.common.stage import number_option, run
from stages.speech.clips import read_clips
from stages.voxtral import plan
from stages.voxtral.loading import device, read_config, resolve_dtype, total_memory_bytes, training_dtype
from stages.voxtral.memory import POSITIONS_PER_S, Need, empty_model, evaluation_bytes
from stages.voxtral.plan import gigabytes

GIB = 1024**3


def windows_in_split(window_s: float) -> int | None:
    """Started windows of all clips to train on and to validate with; None before the split."""
    files = [paths.SPLIT / name for name in ("train.jsonl", "validation.jsonl")]
    if not all(file.exists() for file in files):
        return None
    return sum(int(-(-clip.duration_s // window_s)) for file in files for clip in read_clips(file))


def free_bytes(folder: Path) -> int:
    """On the disk where the folder is or will be."""
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def disk_lines(params: Params, need: Need, dtype: torch.dtype) -> list[str]:
    """What a run writes, and what is free where it goes."""
    config = read_config(params.model)
    windows = windows_in_split(config.audio_config.max_source_positions / POSITIONS_PER_S)
    in_folder = Path(params.model.name).is_dir()
    parts = plan.disk_bytes(config, need, windows or 0, dtype, download=not in_folder)
    lines = [
        f"disk     {gigabytes(sum(parts.values()))} at most: "
        + ", ".join(f"{name} {gigabytes(size)}" for name, size in parts.items() if size)
    ]
    if windows is None and need.encoder_taken_out:
        one = plan.disk_bytes(config, need, 1, dtype, download=False)["encoder outputs"]
        lines.append(f"         and {gigabytes(one)} of encoder outputs for each clip (no recordings are split yet)")
    places = {"the Hub's cache": Path(HF_HUB_CACHE), "the cache": paths.cache_root(), "data": Path("data")}
    free = ", ".join(f"{gigabytes(free_bytes(folder))} for {name} ({folder})" for name, folder in places.items())
    return [*lines, f"         free: {free}"]


def fits(needed: int, memory: int) -> str:
    return "fits" if needed <= memory else "DOES NOT FIT"


def report(params: Params, card_gib: float) -> list[str]:
    """All lines. card_gib: memory of the GPU that is asked about; 0: this machine."""
    config = read_config(params.model)
    train, named = params.train, params.model.dtype
    if card_gib:
        memory, bfloat16 = round(card_gib * GIB), named != "float32"
        dtype = torch.bfloat16 if named == "auto" else resolve_dtype(named)
        where = f"a GPU of {card_gib:g} GB"
    else:
        memory, dtype = total_memory_bytes(), resolve_dtype(named)
        bfloat16 = training_dtype(named) != torch.float32  # float16 takes as many bytes
        where = plan.place()
    weights = sum(weight.numel() for weight in empty_model(config, dtype).parameters())
    precision = str(dtype).removeprefix("torch.")
    row, *found = plan.rows(config, train, [plan.way_of(train), *plan.WAYS], dtype, bfloat16, memory)
    batch = plan.batch_of(train, row)
    evaluation = {
        "": evaluation_bytes(config, dtype, False, params.evaluate.batch_size),
        " in 4 bits": evaluation_bytes(config, dtype, True, params.evaluate.batch_size),
    }
    lines = [
        f"model    {params.model.name}: {weights / 1e9:.2f} billion weights, loaded in {precision}",
        f"here     {where}: {gigabytes(memory)} of memory; computes in {'bfloat16' if bfloat16 else 'float32'}; "
        f"the machine itself has {gigabytes(psutil.virtual_memory().total)}",
        f"train    {row.settings}: {plan.describe(row.need, batch, config)}: "
        f"{fits(row.need.with_batch(batch), memory)}",
    ]
    lines += [
        f"evaluate {counted(params.evaluate.batch_size, 'clip')} at once{how}: about {gigabytes(needed)}: "
        f"{fits(needed, memory)}"
        for how, needed in evaluation.items()
    ]
    lines += disk_lines(params, row.need, dtype)
    lines += ["", f"Settings under train, and how many clips at once fit into {gigabytes(memory)}:", ""]
    lines += [
        "| settings | certain | each clip | needs for 1 clip | for 8 | clips at once | disk |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in found:
        disk = sum(plan.disk_bytes(config, way.need, 0, dtype, download=True).values())
        figures = [way.need.certain, way.need.clip, way.need.with_batch(1), way.need.with_batch(8)]
        cells = [way.settings, *map(gigabytes, figures), str(way.batch or "none"), gigabytes(disk)]
        lines.append(f"| {' | '.join(cells)} |")
    best = plan.recommended(found)
    advice = f"Recommended: {best.settings}, batch_size auto" if best else "None of these settings fits."
    lines += ["", advice]
    if device().type == "cpu" and not card_gib and weights * dtype.itemsize * plan.PLENTY >= memory:
        lines += ["On a CPU, training a model of this size is not practical: use a GPU."]
    return lines


def main() -> str:
    params = load_params()
    card_gib = number_option("MEMORY", 0)
    for line in report(params, card_gib):
        print(line, flush=True)
    return "memory and disk are estimates from the model's configuration; nothing was downloaded but that"


if __name__ == "__main__":
    run("check", main)

"""The whole pipeline on a model of the real size with random weights: seconds, memory and disk of each stage.

    python -m tests.benchmarks.rehearsal --size 3b            (a GPU, or a patient CPU with 16 GB)
    python -m tests.benchmarks.rehearsal --size 3b --light    (any CPU with 16 GB, half an hour on two cores)

The stages are the real ones, each a process of its own in a temporary workspace, on the demo's first clips, with
adapters on all parts and one update of the weights. --light replaces the products with large matrices by ones over a
few columns, and attention by that to a few positions: the same shapes, and the same tensors kept for the backward
pass, for a hundredth of the work. Seconds then mean nothing, memory and disk what they mean otherwise, but for what the
library of matrix products takes by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from tests.memory import peak_bytes
from tests.workspaces import ROOT, add_demo_clips, environment, make_workspace, set_params

SIZES = ("tiny", "middle", "3b")
BUILD = "build"  # not a stage: makes the model, in a process of its own so that its memory is not counted here
STAGES = ("prepare", "split", "train", "evaluate", "card")
WITH_MODEL = (BUILD, "train", "evaluate")
LEAST_BYTES = {"tiny": 0, "middle": 0, "3b": 16e9}
COLUMNS_MULTIPLIED = 8
LARGE = 2**16  # numbers in a matrix that --light does not multiply whole
VALUES_OF_A_PAGE = 2048  # 4096 bytes of bfloat16
PEAKS = Path("peaks.json")


def lighten() -> None:
    """Replace attention, and products with large matrices that are not trained, in this process."""
    import torch

    functional = torch.nn.functional
    read: set[int] = set()
    whole, convolution, attention = functional.linear, functional.conv1d, functional.scaled_dot_product_attention

    class Part(torch.autograd.Function):
        """The shape of x @ weight.T, from the first columns alone; keeps what the whole product keeps: the weight."""

        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(weight)
            if weight.data_ptr() not in read:  # weights are mapped from their file: memory only once read
                weight.view(-1)[::VALUES_OF_A_PAGE].sum()
                read.add(weight.data_ptr())
            product = x[..., :COLUMNS_MULTIPLIED].float() @ weight[:, :COLUMNS_MULTIPLIED].float().T
            return product.to(x.dtype)  # in bfloat16, a CPU without instructions for it takes 15 times as long

        @staticmethod
        def backward(ctx, gradient):
            (weight,) = ctx.saved_tensors
            product = gradient[..., :COLUMNS_MULTIPLIED].float() @ weight[:COLUMNS_MULTIPLIED].float()
            return product.to(gradient.dtype), None

    def linear(x, weight, bias=None):
        if weight.requires_grad or weight.numel() < LARGE:
            return whole(x, weight, bias)
        if torch.is_autocast_enabled("cpu"):
            x, weight = (one.to(torch.get_autocast_dtype("cpu")) for one in (x, weight))
        product = Part.apply(x, weight)
        return product if bias is None else product + bias.to(product.dtype)

    def attend(query, key, value, *_, scale=None, enable_gqa=False, **__):
        first = (one[..., :COLUMNS_MULTIPLIED, :] for one in (key, value))
        return attention(query, *first, scale=scale, enable_gqa=enable_gqa)

    def convolve(x, weight, bias=None, *rest):
        # Whole, but in float32: in bfloat16 a CPU without instructions for it takes minutes.
        return convolution(x.float(), weight.float(), None if bias is None else bias.float(), *rest).to(x.dtype)

    functional.conv1d = convolve
    functional.linear, functional.scaled_dot_product_attention = linear, attend


def run_here(stage: str, size: str, light: bool) -> None:
    """Run one stage in this process, and write down its peak memory."""
    if light and stage in WITH_MODEL:
        lighten()
        for weights in Path("data/model").glob("*.safetensors"):  # in a row: page by page a disk takes minutes
            with weights.open("rb") as file:
                while file.read(2**24):
                    pass
    try:
        if stage == BUILD:
            from tests.benchmarks.models import make_model

            make_model(size, Path("data/model"))
        else:
            sys.argv = [stage]
            runpy.run_module(f"stages.{stage}", run_name="__main__", alter_sys=True)
    finally:
        peaks = {"memory": peak_bytes()}
        if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
            peaks["GPU memory"] = sys.modules["torch"].cuda.max_memory_reserved()
        PEAKS.write_text(json.dumps(peaks))


def used_bytes(folder: Path) -> int:
    """What a folder takes on the disk; a file that vanishes meanwhile takes nothing."""
    found = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                found += os.lstat(os.path.join(path, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return found


def run_stage(workspace: Path, stage: str, size: str, light: bool) -> dict[str, float]:
    """Seconds, and bytes of memory and disk at most."""
    command = [sys.executable, "-m", "tests.benchmarks.rehearsal", "--stage", stage, "--size", size]
    variables = environment(workspace, PYTHONPATH=str(ROOT), OWNVOICE_CACHE=str(workspace / ".cache"))
    disk = [used_bytes(workspace)]
    began_s = time.monotonic()
    child = subprocess.Popen([*command, *(["--light"] if light else [])], cwd=workspace, env=variables)
    ended = threading.Event()

    def watch_disk() -> None:
        while not ended.wait(0.5):
            disk.append(used_bytes(workspace))

    watcher = threading.Thread(target=watch_disk)
    watcher.start()
    code = child.wait()
    seconds = time.monotonic() - began_s
    ended.set()
    watcher.join()
    if code:
        raise SystemExit(f"{stage} failed, see above")
    peaks = json.loads((workspace / PEAKS).read_text())
    return {"seconds": seconds, **peaks, "disk": max(*disk, used_bytes(workspace))}


def rehearse(size: str, light: bool, clips: int, workspace: Path) -> list[tuple[str, dict[str, float]]]:
    make_workspace(
        workspace, model__name="data/model", model__dtype="bfloat16", split__test_fraction=0.1,
        split__validation_fraction=0.2, train__epochs=1, train__max_clips=1, train__batch_size=1,
        train__lora__scope=["encoder", "projector", "decoder"], evaluate__batch_size=1, card__title="Rehearsal",
    )  # fmt: skip
    set_params(workspace, prepare__workers=1)
    add_demo_clips(workspace, clips)
    return [(stage, run_stage(workspace, stage, size, light)) for stage in (BUILD, *STAGES)]


def check_memory(size: str) -> None:
    """Raises: SystemExit on a CPU that has too little memory for a model of this size."""
    import torch

    total = psutil.virtual_memory().total
    if total < LEAST_BYTES[size] and not torch.cuda.is_available():
        raise SystemExit(f"size {size} needs {LEAST_BYTES[size] / 1e9:.0f} GB of memory, found {total / 1e9:.1f} GB")


def table_of(rows: list[tuple[str, dict[str, float]]]) -> str:
    """Markdown: a row for each stage."""
    names = ["memory", *(["GPU memory"] if "GPU memory" in rows[0][1] else []), "disk"]
    lines = [f"| stage | seconds | {' | '.join(f'{name}, GB' for name in names)} |", "|---|---|" + "---|" * len(names)]
    for stage, figures in rows:
        gigabytes = [f"{figures[name] / 1e9:.1f}" if name in figures else "" for name in names]
        lines.append(f"| {stage} | {figures['seconds']:.0f} | {' | '.join(gigabytes)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--light", action="store_true", help="on a CPU: a hundredth of the work")
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--stage", choices=(BUILD, *STAGES), help="run only this one, here")
    arguments = parser.parse_args()
    if arguments.stage:
        run_here(arguments.stage, arguments.size, arguments.light)
        return
    check_memory(arguments.size)
    with tempfile.TemporaryDirectory(prefix="ownvoice-rehearsal-") as folder:
        rows = rehearse(arguments.size, arguments.light, arguments.clips, Path(folder) / "workspace")
    how = (
        "light: products of large matrices over a few columns, so seconds mean nothing" if arguments.light else "whole"
    )
    print(f"\n{arguments.size}, {how}; {arguments.clips} clips, one update\n\n{table_of(rows)}")


if __name__ == "__main__":
    main()

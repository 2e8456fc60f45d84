"""Training beside other programs: clips/s on an idle machine and with one busy loop on each core, by GOMP_SPINCOUNT.

    python -m tests.benchmarks.busy [--spins 1000 2000 300000] [--rounds 3]        (about five minutes on two cores)

300000 is libgomp's own setting. Every other setting is compared with it; the weights must be the same.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.workspaces import add_demo_clips, make_workspace, read_json, run_stages, set_params

EPOCHS = {"idle": 6, "busy": 1}


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def train(workspace: Path, state: str, spins: int) -> tuple[float, str]:
    """Clips/s of one training, and a hash of its weights."""
    set_params(workspace, train__epochs=EPOCHS[state])
    shutil.rmtree(workspace / ".cache/training", ignore_errors=True)
    os.environ["GOMP_SPINCOUNT"] = str(spins)
    with busy_loops(os.cpu_count() if state == "busy" else 0):
        run_stages(workspace, "train")
    weights = (workspace / "data/checkpoints/best/adapter_model.safetensors").read_bytes()
    return read_json(workspace / "data/checkpoints/training.json")["clips_per_s"], hashlib.sha256(weights).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spins", type=int, nargs="+", default=[1000, 2000, 300_000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    speeds: dict[tuple[str, int], list[float]] = {}
    weights: dict[str, set[str]] = {"idle": set(), "busy": set()}
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder) / "workspace")
        add_demo_clips(workspace, 120)
        run_stages(workspace, "prepare", "split")
        for _ in range(options.rounds):  # in turn: the machine's own speed changes
            for state in EPOCHS:
                for spins in options.spins:
                    clips_per_s, digest = train(workspace, state, spins)
                    speeds.setdefault((state, spins), []).append(clips_per_s)
                    weights[state].add(digest)
                    print(f"{state} GOMP_SPINCOUNT={spins}: {clips_per_s:.1f} clips/s", flush=True)
    print("\n| GOMP_SPINCOUNT | idle, clips/s | busy, clips/s | busy/idle |\n|---|---|---|---|")
    for spins in options.spins:
        idle, busy = (statistics.median(speeds[state, spins]) for state in EPOCHS)
        print(f"| {spins} | {idle:.1f} | {busy:.1f} | {busy / idle:.0%} |")
    same = all(len(digests) == 1 for digests in weights.values())
    print(f"\nmedians of {options.rounds}; weights {'the same' if same else 'DIFFER'} whatever the setting")


if __name__ == "__main__":
    main()

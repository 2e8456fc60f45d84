"""What prepare costs as clips grow: the first run, one more clip, one more clip with DVC, and memory.

    python -m tests.benchmarks.growth [--clips 1000 10000]

Clips are half a second of made-up sound: what grows with their number counts here, not their decoding.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from tests.workspaces import dvc, environment, init_dvc, make_workspace

ROUNDS = 3  # of one more clip; the median counts
SECONDS, RATE_HZ = 0.5, 16_000
COLUMNS = (
    "first prepare, s",
    "one more clip, s",
    "its work, CPU s",
    "`dvc repro prepare` with one more clip, s",
    "its work, CPU s",
    "split, s",
    "peak memory of a process, MB",
)
# In a small process: Linux begins the peak of a new one with that of the process that started it.
MEASURE = """
import resource, subprocess, sys, time
began_s = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - began_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)
"""


def write_clips(folder: Path, first: int, count: int) -> None:
    """Clips number `first` and following, and their rows."""
    folder.mkdir(parents=True, exist_ok=True)
    time_s = np.arange(int(SECONDS * RATE_HZ)) / RATE_HZ
    with (folder / "clips.jsonl").open("a") as rows:
        for number in range(first, first + count):
            noise = np.random.default_rng(number).normal(0, 0.02, len(time_s))
            voice = 0.2 * np.sin(2 * np.pi * (100 + number % 200) * time_s) * np.sin(2 * np.pi * 3 * time_s) ** 2
            soundfile.write(folder / f"{number:06d}.wav", voice + noise, RATE_HZ)
            row = {"audio_path": f"{number:06d}.wav", "text": f"Sentence {number}."}
            rows.write(json.dumps({**row, "speaker": "Ann", "session": f"day {number // 100}"}) + "\n")


def run(workspace: Path, *command: str) -> np.ndarray:
    """[seconds, seconds of work on all cores, MB of the largest process] of `python -m COMMAND`."""
    variables = environment(workspace)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # with compiled modules, as on nearly every machine
    whole = [sys.executable, "-c", MEASURE, sys.executable, "-m", *command]
    done = subprocess.run(whole, cwd=workspace, env=variables, capture_output=True, text=True, check=True)
    return np.array(done.stdout.splitlines()[-1].split(), dtype=float)


def measure(clips: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder) / "growth")
        os.environ["DVC_SITE_CACHE_DIR"] = str(Path(folder) / "site")
        recordings = workspace / "data/raw/made-up"
        write_clips(recordings, 0, clips)
        init_dvc(workspace)
        dvc(workspace, "add", "--quiet", "data/raw")
        first_s, _, first_mb = run(workspace, "stages.prepare")
        dvc(workspace, "repro", "--quiet", "split")
        own, repro, splitting = [], [], []
        for number in range(clips, clips + 2 * ROUNDS, 2):
            write_clips(recordings, number, 1)
            own.append(run(workspace, "stages.prepare"))
            splitting.append(run(workspace, "stages.split"))
            write_clips(recordings, number + 1, 1)
            repro.append(run(workspace, "dvc", "repro", "--quiet", "prepare"))
    (own_s, own_cpu_s, own_mb), (repro_s, repro_cpu_s, _) = np.median(own, axis=0), np.median(repro, axis=0)
    split_s = np.median(splitting, axis=0)[0]
    return [first_s, own_s, own_cpu_s, repro_s, repro_cpu_s, split_s, max(first_mb, own_mb)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 10_000])
    options = parser.parse_args()
    print("| clips | " + " | ".join(COLUMNS) + " |\n|---" + "|---" * len(COLUMNS) + "|")
    for clips in options.clips:
        cells = [f"{value:.0f}" if value >= 100 else f"{value:.1f}" for value in measure(clips)]
        print(f"| {clips:,} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

"""What prepare costs as clips grow: the first run, one more clip, one more clip with DVC, and memory.

    python -m tests.benchmarks.growth [--clips 100 1000 10000 50000]

Clips are half a second of made-up sound, WAV, 16 kHz: what grows with their number counts here, not their decoding
(tests.benchmarks.prepare). 50,000 need 5 GB in the temporary folder for a while. Prints a table.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile

from tests.workspaces import dvc, environment, make_workspace

SIZES = (100, 1000, 10_000, 50_000)
ROUNDS = 3  # of one more clip; the median counts
SECONDS, RATE_HZ = 0.5, 16_000
COLUMNS = {
    "first_s": "first prepare, s",
    "clips_per_s": "clips/s",
    "one_more_s": "one more clip, s",
    "one_more_cpu_s": "its work, CPU s",
    "repro_s": "`dvc repro prepare` with one more clip, s",
    "repro_cpu_s": "its work, CPU s",
    "split_s": "split, s",
    "peak_mb": "peak memory of a process, MB",
}


def write_clips(folder: Path, first: int, count: int) -> None:
    """Clips number `first` and following, and their rows."""
    folder.mkdir(parents=True, exist_ok=True)
    time_s = np.arange(int(SECONDS * RATE_HZ)) / RATE_HZ
    with (folder / "clips.jsonl").open("a") as rows:
        for number in range(first, first + count):
            noise = np.random.default_rng(number).normal(0, 0.02, len(time_s))
            voice = 0.2 * np.sin(2 * np.pi * (100 + number % 200) * time_s) * np.sin(2 * np.pi * 3 * time_s) ** 2
            sound = io.BytesIO()
            soundfile.write(sound, voice + noise, RATE_HZ, format="WAV")
            (folder / f"{number:06d}.wav").write_bytes(sound.getvalue())
            row = {"audio_path": f"{number:06d}.wav", "text": f"Sentence {number}."}
            rows.write(json.dumps({**row, "speaker": "Ann", "session": f"day {number // 100}"}) + "\n")


def cpu_seconds() -> float:
    """Of all processes that were started from here and have ended, with their children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def usual_environment(workspace: Path) -> dict[str, str]:
    """With the compiled files that Python keeps beside modules, as on nearly every machine."""
    return {name: value for name, value in environment(workspace).items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_timed(workspace: Path, stage: str) -> tuple[float, float]:
    """(seconds from start to end, seconds of work on all cores)."""
    began_s, began_cpu_s = time.perf_counter(), cpu_seconds()
    result = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"], cwd=workspace, env=usual_environment(workspace), capture_output=True
    )
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    return time.perf_counter() - began_s, cpu_seconds() - began_cpu_s


def run_watched(workspace: Path, stage: str) -> tuple[float, float]:
    """(seconds from start to end, MB that the largest process had at most); looking at processes costs a little."""
    began_s = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=workspace,
        env=usual_environment(workspace),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    peak = 0
    watched = psutil.Process(process.pid)

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            try:
                for one in [watched, *watched.children(recursive=True)]:
                    peak = max(peak, one.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
            time.sleep(0.1)

    thread = threading.Thread(target=watch)
    thread.start()
    _, errors = process.communicate()
    seconds = time.perf_counter() - began_s
    thread.join()
    assert process.returncode == 0, errors.decode()[-2000:]
    return seconds, peak / 1e6


def measure(clips: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder) / "growth")
        os.environ["DVC_SITE_CACHE_DIR"] = str(Path(folder) / "site")
        recordings = workspace / "data/raw/made-up"
        write_clips(recordings, 0, clips)
        dvc(workspace, "init", "--no-scm", "--quiet")
        for setting in ("core.analytics", "core.check_update"):  # as in .dvc/config
            dvc(workspace, "config", setting, "false")
        dvc(workspace, "add", "--quiet", "data/raw")
        first_s, peak_mb = run_watched(workspace, "prepare")
        dvc(workspace, "repro", "--quiet", "split")
        own, repro, splitting = [], [], []
        for number in range(ROUNDS):
            write_clips(recordings, clips + 2 * number, 1)
            own.append(run_timed(workspace, "prepare"))
            splitting.append(run_timed(workspace, "split")[0])
            write_clips(recordings, clips + 2 * number + 1, 1)
            began_s, began_cpu_s = time.perf_counter(), cpu_seconds()
            dvc(workspace, "repro", "--quiet", "prepare")
            repro.append((time.perf_counter() - began_s, cpu_seconds() - began_cpu_s))
        write_clips(recordings, clips + 2 * ROUNDS, 1)
        one_more_peak_mb = run_watched(workspace, "prepare")[1]
    return {
        "first_s": first_s,
        "clips_per_s": clips / first_s,
        "one_more_s": float(np.median([seconds for seconds, _ in own])),
        "one_more_cpu_s": float(np.median([cpu_s for _, cpu_s in own])),
        "repro_s": float(np.median([seconds for seconds, _ in repro])),
        "repro_cpu_s": float(np.median([cpu_s for _, cpu_s in repro])),
        "split_s": float(np.median(splitting)),
        "peak_mb": max(peak_mb, one_more_peak_mb),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    found = {}
    print("| clips | " + " | ".join(COLUMNS.values()) + " |\n|---" + "|---" * len(COLUMNS) + "|")
    for clips in options.clips:
        found[clips] = measure(clips)
        cells = [f"{value:.0f}" if value >= 100 else f"{value:.1f}" for value in found[clips].values()]
        print(f"| {clips:,} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

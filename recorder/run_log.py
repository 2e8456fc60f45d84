"""What the log of a `dvc repro` says: each stage's state, the training's curve, the bar, the reason of a failure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Each stage's state (waiting, running, done, skipped or failed), and the training's curve of epoch, wer, loss."""

    stages: dict[str, str]
    curve: list[dict[str, float]]
    fraction: float | None = None  # of the running stage
    left: str = ""  # the running stage's time left by its bar, such as 1:02:03
    error: str = ""

    @property
    def current(self) -> str | None:
        return next((stage for stage, state in self.stages.items() if state == "running"), None)


def read_progress(log: str, stages: Sequence[str]) -> Progress:
    """Reads the log as far as it is written."""
    states = dict.fromkeys(stages, "waiting")
    running = None
    curve: list[dict[str, float]] = []
    fraction, left = None, ""
    error = ""
    # The bar of a killed stage has no end of line.
    lines = re.split(r"[\r\n]+|(?<=\])(?=ERROR: )", log)
    stage_began = 0
    for number, line in enumerate(lines):
        if started := re.match(r"Running stage '(.+)':", line):
            running, stage_began = _moved_on(states, running, started[1]), number
            fraction, left = None, ""
        elif skipped := re.match(r"Stage '(.+)' didn't change, skipping|Stage '(.+)' is cached", line):
            name = skipped[1] or skipped[2]
            running = _moved_on(states, running, None)
            if name in states:
                states[name] = "skipped"
        elif validated := re.match(r"train: epoch (\S+) +validation WER (\S+)% +loss (\S+)", line):
            curve.append({"epoch": float(validated[1]), "wer": float(validated[2]) / 100, "loss": float(validated[3])})
        elif bar := re.match(r"[\w ]+: +(\d+)%\|.*?\[\S+<([\d:]+|\?),", line):
            fraction, left = int(bar[1]) / 100, bar[2].strip("?")
        elif line.startswith("ERROR: ") and not error:
            error = _reason(line.removeprefix("ERROR: ").strip(), lines[stage_began:number], running)
            if running in states:
                states[running] = "failed"
    return Progress(states, curve, fraction, left, error)


def finished(progress: Progress) -> Progress:
    """The progress after a run without errors: the last stage is done too."""
    stages = {stage: "done" if state == "running" else state for stage, state in progress.stages.items()}
    return Progress(stages, progress.curve)


def _moved_on(states: dict[str, str], running: str | None, to: str | None) -> str | None:
    """Mark the stage that ran as done, because the next one starts."""
    if running in states:
        states[running] = "done"
    if to in states:
        states[to] = "running"
    return to


def _reason(error: str, said: Sequence[str], stage: str | None) -> str:
    """The last line that the failed stage itself printed, or else DVC's own words."""
    if error.endswith("exited with -9"):
        return f"{stage} was killed, often because the memory was full; it resumes when started again."
    if not error.endswith("exited with 1"):
        return error
    lines = [line for line in said if line.strip()]
    if not any(line.startswith("Traceback") for line in lines):
        lines = [line for line in lines if line.startswith(f"{stage}: ") and "%|" not in line]
    return lines[-1].strip() if lines else error

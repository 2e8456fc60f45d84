"""The pipeline run from the page: started, watched, cancelled, remembered; and `make repro` in the terminal.

    python -m recorder.runs         (what `make repro` does)

A run belongs to a supervisor process of its own, which outlives the page and its server. It holds a lock while it is
at work, moves the inbox into data/raw, runs `dvc repro`, and writes what happened into data/recorder/runs/ID/: run.json
and log.txt. Whoever wants to know how a run is doing reads those; nobody needs to have started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, RoundTripRepresenter
from ruamel.yaml.error import YAMLError

from recorder import inbox
from stages.commands import pull
from stages.common import paths
from stages.common.files import write_json, write_whole
from stages.common.locks import is_locked, lock
from stages.common.params import PARAMS_FILE, load_params
from stages.common.stage import UserError, run

FOLDER = Path("data/recorder")
RUNS, RUN_LOCK = FOLDER / "runs", FOLDER / "run.lock"
DVC_FILE = Path("dvc.yaml")
CANCELLED = "cancelled"  # marks a run that a person stopped
POLL_S = 0.25
PATIENCE_S = 5.0  # of a cancelled run to end before it is told again
SHOWN_SETTINGS = (
    "model.name",
    "model.revision",
    "train.mode",
    "train.epochs",
    "train.batch_size",
    "train.learning_rate",
    "train.lora.r",
    "train.lora.scope",
)


@dataclass(frozen=True)
class Run:
    """One run of the pipeline. `outcome`: running, done, failed, cancelled or interrupted (killed with the machine)."""

    id: str
    started_at: str
    started_by: str
    settings: dict[str, Any]
    clips: int
    outcome: str
    why: str
    ended_at: str | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    wer_base: float | None = None
    wer_tuned: float | None = None
    waits_for: str | None = None

    @property
    def log_path(self) -> Path:
        return RUNS / self.id / "log.txt"

    @property
    def log(self) -> str:
        """What the run has printed so far."""
        try:
            return self.log_path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""


@dataclass(frozen=True)
class Progress:
    """What a log tells: each stage's state (waiting, running, done, skipped, failed), training's curve and bar."""

    stages: dict[str, str]
    curve: list[dict[str, float]]
    fraction: float | None = None  # of the running stage
    seconds_left: float | None = None  # of the running stage
    error: str = ""

    @property
    def current(self) -> str | None:
        return next((stage for stage, state in self.stages.items() if state == "running"), None)


def history() -> list[Run]:
    """All runs, the newest first."""
    return list(_newest_first())


def _newest_first() -> Iterator[Run]:
    live = is_locked(RUN_LOCK)
    for number, path in enumerate(sorted(RUNS.glob("*/run.json"), reverse=True)):
        row = json.loads(path.read_text(encoding="utf-8"))
        if row["outcome"] == "running" and not (live and number == 0):
            row |= {"outcome": "interrupted", "why": "It was killed, or the machine was switched off. Start it again."}
        yield Run(**{name: row[name] for name in Run.__dataclass_fields__ if name in row})


def current() -> Run | None:
    """The run that is at work, None where none is."""
    newest = next(_newest_first(), None)
    return newest if newest and newest.outcome == "running" else None


def start(started_by: str) -> None:
    """Start the pipeline in a process of its own.

    Raises: UserError where it runs already, or where params.yaml cannot be used.
    """
    load_params()
    if is_locked(RUN_LOCK):
        raise UserError("The training is already running. It is shown below.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "supervisor.log").open("ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "recorder.runs", started_by],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    threading.Thread(target=supervisor.wait, daemon=True).start()  # leaves no dead entry in the list of processes
    # The page shows the run at once: give the supervisor the moment that it needs to say that it is there.
    gives_up_at_s = time.monotonic() + 5
    while current() is None and supervisor.poll() is None and time.monotonic() < gives_up_at_s:
        time.sleep(0.05)


def cancel(run_id: str) -> None:
    """Stop a run as Ctrl-C would: training goes on from its last checkpoint the next time."""
    folder = RUNS / run_id
    newest = current()
    if newest is None or newest.id != run_id:  # it has ended, and its process id may be another's by now
        return
    write_whole(folder / CANCELLED, b"")
    if pid := json.loads((folder / "run.json").read_text(encoding="utf-8")).get("dvc_pid"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGINT)


def is_due() -> bool:
    """Whether enough has been recorded since the last run for `recorder.train_after_clips` to start one."""
    wanted = load_params().recorder.train_after_clips
    if wanted is None or is_locked(RUN_LOCK):
        return False
    newest = next(_newest_first(), None)
    return len(inbox.stored_clips()) - (newest.clips if newest else 0) >= wanted


def stage_names() -> list[str]:
    """The stages of dvc.yaml in their order. Raises: UserError where it cannot be read."""
    try:
        return list(YAML(typ="safe").load(DVC_FILE)["stages"])
    except (FileNotFoundError, YAMLError, KeyError, TypeError):
        raise UserError(f"{DVC_FILE} is missing or damaged: restore it with 'git checkout {DVC_FILE}'") from None


def read_progress(log: str, stages: Sequence[str]) -> Progress:
    """What a log of `dvc repro` says about each stage."""
    states = dict.fromkeys(stages, "waiting")
    running = None
    curve: list[dict[str, float]] = []
    fraction = seconds_left = None
    error = ""
    # A stage that is killed leaves its bar without an end of line.
    lines = re.split(r"[\r\n]+|(?<=\])(?=ERROR: )", log)
    stage_began = 0
    for number, line in enumerate(lines):
        if started := re.match(r"Running stage '(.+)':", line):
            running, stage_began = _moved_on(states, running, started[1]), number
            fraction = seconds_left = None
        elif skipped := re.match(r"Stage '(.+)' didn't change, skipping|Stage '(.+)' is cached", line):
            name = skipped[1] or skipped[2]
            running = _moved_on(states, running, None)
            if name in states:
                states[name] = "skipped"
        elif validated := re.match(r"train: epoch (\S+) +validation WER (\S+)% +loss (\S+)", line):
            curve.append({"epoch": float(validated[1]), "wer": float(validated[2]) / 100, "loss": float(validated[3])})
        elif bar := re.match(r"[\w ]+: +(\d+)%\|.*?\[\S+<([\d:]+|\?),", line):
            fraction, seconds_left = int(bar[1]) / 100, _seconds(bar[2])
        elif line.startswith("ERROR: ") and not error:
            error = _reason(line.removeprefix("ERROR: ").strip(), lines[stage_began:number], running)
            if running in states:
                states[running] = "failed"
    return Progress(states, curve, fraction, seconds_left, error)


def finished(progress: Progress) -> Progress:
    """The same after a run that ended well: the stage that ran last is done."""
    stages = {stage: "done" if state == "running" else state for stage, state in progress.stages.items()}
    return Progress(stages, progress.curve)


def seconds_left(progress: Progress, past: Sequence[Run]) -> float | None:
    """Time to the end: of the running stage by its own bar, of the others by how long they took the last time."""
    known: dict[str, float] = {}
    for run_ in reversed(past):
        known |= run_.stage_seconds
    left = progress.seconds_left
    if progress.current and left is None:
        left = known.get(progress.current)
    if left is None:
        return None
    return left + sum(known.get(stage, 0.0) for stage, state in progress.stages.items() if state == "waiting")


def read_settings(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The settings that a run is remembered with, by their dotted keys."""
    values = load_params(path).model_dump()
    return {key: _at(values, key) for key in SHOWN_SETTINGS}


def change_settings(changes: Mapping[str, Any], path: Path = PARAMS_FILE) -> None:
    """Write dotted keys into params.yaml, with its comments kept.

    Raises: UserError where the schema refuses a value; the file is then as before.
    """
    yaml = YAML()
    yaml.Representer = _AsWritten
    yaml.preserve_quotes = True
    yaml.width = 10_000
    values = yaml.load(path)
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = _at(values, ".".join(sections))
        if name not in section:
            raise UserError(f"{path}: {key} is no key of ours")
        # True equals 1 to Python, not to the schema; other equal values stay as they are written.
        if section[name] != value or isinstance(section[name], bool) != isinstance(value, bool):
            if isinstance(value, list):
                section[name][:] = value  # keeps the list on its line
            else:
                section[name] = value
    text = StringIO()
    yaml.dump(values, text)
    trial = path.with_name(f".{path.name}.trial")
    try:
        trial.write_text(text.getvalue(), encoding="utf-8")
        load_params(trial)
    except UserError as error:
        raise UserError(str(error).replace(str(trial), str(path))) from None
    finally:
        trial.unlink(missing_ok=True)
    write_whole(path, text.getvalue().encode())


def supervise(started_by: str, to_screen: bool = False) -> str:
    """Run the pipeline to its end, and again while enough was recorded meanwhile.

    Raises: UserError where a run is at work already, where recordings are missing, or where the pipeline failed.
    """
    with lock(RUN_LOCK) as held:
        if held is None:
            newest = current()
            since = f" since {newest.started_at}" if newest else ""
            raise UserError(f"the pipeline already runs{since}: wait for it, or cancel it on the Train page")
        summary = _Supervisor(started_by, to_screen, held).run()
    while started_by != "make" and is_due():
        with lock(RUN_LOCK) as held:
            if held is None:
                break
            summary = _Supervisor("new recordings", to_screen, held).run()
    return summary


class _AsWritten(RoundTripRepresenter):
    """Writes params.yaml as people do: `null`, where the library leaves nothing."""


_AsWritten.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


class _Supervisor:
    """One run, from its entry in the history to its outcome."""

    def __init__(self, started_by: str, to_screen: bool, lock_descriptor: int) -> None:
        now = datetime.now().astimezone()
        self.folder = RUNS / now.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")  # sorts by time, also in October
        self.log_path = self.folder / "log.txt"
        self.to_screen = to_screen
        self.lock_descriptor = lock_descriptor
        self.row = {
            "id": self.folder.name,
            "started_at": now.isoformat(timespec="seconds"),
            "started_by": started_by,
            "settings": read_settings(),
            "clips": len(inbox.stored_clips()),
            "outcome": "running",
            "why": "",
            "stage_seconds": {},
        }
        self.folder.mkdir(parents=True)
        self.log_path.touch()
        self.note()

    def note(self, **changes: Any) -> None:
        self.row |= changes
        write_json(self.folder / "run.json", self.row)

    @property
    def is_cancelled(self) -> bool:
        return (self.folder / CANCELLED).exists()

    @property
    def is_over(self) -> bool:
        return self.row["outcome"] != "running"

    def run(self) -> str:
        """To the end; returns the summary line. Raises: UserError where it failed and a terminal shows it."""
        # `make repro` is stopped with Ctrl-C, which reaches this process alone: dvc has a process group of its own.
        signal.signal(signal.SIGINT, lambda *_: cancel(self.row["id"]))
        try:
            while not self.is_over:
                self.bring_in()
                if self.is_cancelled:
                    self.end("cancelled", "Stopped before it began.")
                else:
                    pull.check_complete()
                    self.repro()
        except UserError as error:
            self.end("failed", str(error))
        except BaseException as error:
            self.end("failed", f"{type(error).__name__}: {error}")
            raise
        if self.row["outcome"] == "done":
            return f"wrong words {self.row['wer_base']:.1%} before, {self.row['wer_tuned']:.1%} after"
        if self.to_screen and self.row["why"] in self.log_path.read_text(encoding="utf-8", errors="replace"):
            raise UserError(f"it failed: the reason stands above, and in {self.log_path}")
        if self.to_screen:
            raise UserError(self.row["why"])
        return f"{self.row['outcome']}: {self.row['why']}"

    def bring_in(self) -> None:
        """Move the inbox into data/raw, and wait for any other DVC command: ours would fail beside it."""
        while not self.is_cancelled:
            try:
                inbox.bring_in()
                break
            except inbox.Busy as error:
                busy = str(error)
            if self.row.get("waits_for") != busy:
                self.note(waits_for=busy)
                print(f"waiting for {busy}", flush=True)
            time.sleep(POLL_S)
        self.note(waits_for=None)

    def repro(self) -> None:
        """Run dvc and note how it ends; where another command came in its way, nothing: to be tried again."""
        stages = stage_names()
        # dvc calls `python`: it must be this one, also where no environment was activated.
        search_path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = {**os.environ, "PATH": search_path, "PYTHONUNBUFFERED": "1"}
        began_at_s: dict[str, float] = {}
        shown = 0
        with self.log_path.open("wb") as log:
            dvc = subprocess.Popen(
                [sys.executable, "-m", "dvc", "--wait-for-lock", "repro"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                process_group=0,
                pass_fds=[self.lock_descriptor],  # killed without us, dvc still keeps others from starting
            )
        self.note(dvc_pid=dvc.pid)
        while True:
            ended = dvc.poll() is not None
            if self.is_cancelled and not ended:
                try:
                    dvc.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    cancel(self.row["id"])  # again: the first may have come before dvc could hear it
                ended = dvc.poll() is not None
            text = self.log_path.read_bytes()
            if self.to_screen:
                sys.stdout.buffer.write(text[shown:])
                sys.stdout.buffer.flush()
                shown = len(text)
            progress = read_progress(text.decode(errors="replace"), stages)
            self.time_stages(progress, began_at_s, ended)
            if ended:
                break
            time.sleep(POLL_S)
        if dvc.returncode == 0:
            metrics = json.loads((paths.EVALUATION / "metrics.json").read_text(encoding="utf-8"))
            self.end("done", "", wer_base=metrics["base"]["wer"], wer_tuned=metrics["tuned"]["wer"])
        elif self.is_cancelled:
            self.end("cancelled", "Stopped by hand. Training goes on from its last checkpoint when started again.")
        elif "it is being blocked by" not in progress.error:
            self.end("failed", progress.error or f"dvc ended with exit code {dvc.returncode}: see the log.")

    def time_stages(self, progress: Progress, began_at_s: dict[str, float], ended: bool) -> None:
        """Write down how long each stage took, for the next time's estimate."""
        now_s = time.monotonic()
        if progress.current:
            began_at_s.setdefault(progress.current, now_s)
        for stage, began_s in began_at_s.items():
            over = ended or stage != progress.current
            if over and stage not in self.row["stage_seconds"]:
                self.note(stage_seconds={**self.row["stage_seconds"], stage: round(now_s - began_s, 1)})

    def end(self, outcome: str, why: str, **figures: float) -> None:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self.note(outcome=outcome, why=why, ended_at=now, **figures)


def _moved_on(states: dict[str, str], running: str | None, to: str | None) -> str | None:
    """The stage that ran is done when the next one starts."""
    if running in states:
        states[running] = "done"
    if to in states:
        states[to] = "running"
    return to


def _reason(error: str, said: Sequence[str], stage: str | None) -> str:
    """What went wrong: the last line that a failed stage says itself, else DVC's own words."""
    if error.endswith("exited with -9"):
        return f"{stage} was killed, often because the memory did not suffice; started again, it goes on from there."
    if not error.endswith("exited with 1"):
        return error
    lines = [line for line in said if line.strip()]
    if not any(line.startswith("Traceback") for line in lines):
        lines = [line for line in lines if line.startswith(f"{stage}: ") and "%|" not in line]
    return lines[-1].strip() if lines else error


def _seconds(clock: str) -> float | None:
    """`1:02:03` as seconds, None for a question mark."""
    if clock == "?":
        return None
    total = 0
    for part in clock.split(":"):
        total = 60 * total + int(part)
    return float(total)


def _at(values: Mapping, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def main() -> str:
    started_by = sys.argv[1] if len(sys.argv) > 1 else "make"
    return supervise(started_by, to_screen=started_by == "make")


if __name__ == "__main__":
    run("repro", main, outlives_parent=True)

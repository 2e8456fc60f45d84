"""Runs of the pipeline: started by the page or by `make repro`, watched, cancelled, remembered.

    python -m recorder.runs         (what `make repro` does)

A run is a supervisor process of its own, which outlives the page and its server. While it runs it holds a lock. It
moves the inbox into data/raw, runs `dvc repro`, and writes data/recorder/runs/ID/: run.json and log.txt. The page reads
these files, whoever has started the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from recorder import inbox
from recorder.run_log import read_progress
from recorder.settings import shown_settings
from stages.commands import pull
from stages.common import paths
from stages.common.dvc import Busy, dvc_command, dvc_environment
from stages.common.files import write_json, write_whole
from stages.common.locks import is_locked, lock
from stages.common.params import load_params
from stages.common.stage import UserError, run

FOLDER = Path("data/recorder")
RUNS, RUN_LOCK = FOLDER / "runs", FOLDER / "run.lock"
DVC_FILE = Path("dvc.yaml")
CANCELLED = "cancelled"  # a file that marks a run as stopped by a person
POLL_S = 0.25
PATIENCE_S = 5.0  # how long a cancelled run may take until it gets a second signal


@dataclass(frozen=True)
class Run:
    """One run of the pipeline. `outcome`: running, done, failed, cancelled or interrupted (the process was killed)."""

    id: str
    started_at: str
    started_by: str
    settings: dict[str, Any]
    clips: int
    outcome: str
    why: str
    ended_at: str | None = None
    wer_base: float | None = None
    wer_tuned: float | None = None
    waits_for: str | None = None

    @property
    def log(self) -> str:
        """What the run has printed so far."""
        return (RUNS / self.id / "log.txt").read_text(encoding="utf-8", errors="replace")


def history() -> list[Run]:
    """All runs, the newest first."""
    found = []
    is_running = is_locked(RUN_LOCK)
    for path in sorted(RUNS.glob("*/run.json"), reverse=True):
        row = json.loads(path.read_text(encoding="utf-8"))
        if row["outcome"] == "running" and (found or not is_running):  # only the newest can be
            row |= {"outcome": "interrupted", "why": "It was killed, or the machine was switched off. Start it again."}
        found.append(Run(**{name: row[name] for name in Run.__dataclass_fields__ if name in row}))
    return found


def newest() -> Run | None:
    """The run that was started last."""
    return next(iter(history()), None)


def current() -> Run | None:
    """The run that is running, None if none is."""
    last = newest()
    return last if last and last.outcome == "running" else None


def start(started_by: str) -> None:
    """Start the pipeline in a process of its own.

    Raises: UserError if it is already running or params.yaml is invalid.
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
    # The page shows the run at once: wait until the supervisor has noted it.
    gives_up_at_s = time.monotonic() + 5
    while current() is None and supervisor.poll() is None and time.monotonic() < gives_up_at_s:
        time.sleep(0.05)


def cancel(run_id: str) -> None:
    """Stop a run as Ctrl-C would: the next training resumes from the last checkpoint."""
    folder = RUNS / run_id
    running = current()
    if running is None or running.id != run_id:  # it has ended, and its process id may be another's by now
        return
    write_whole(folder / CANCELLED, b"")
    if pid := json.loads((folder / "run.json").read_text(encoding="utf-8")).get("dvc_pid"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGINT)


def is_due() -> bool:
    """Whether `recorder.train_after_clips` new recordings have been saved since the last run."""
    wanted = load_params().recorder.train_after_clips
    if wanted is None or is_locked(RUN_LOCK):
        return False
    last = newest()
    return len(inbox.stored_clips()) - (last.clips if last else 0) >= wanted


def stage_names() -> list[str]:
    """The stages of dvc.yaml in their order. Raises: UserError if the file is missing or damaged."""
    try:
        return list(YAML(typ="safe").load(DVC_FILE)["stages"])
    except (FileNotFoundError, YAMLError, KeyError, TypeError):
        raise UserError(f"{DVC_FILE} is missing or damaged: restore it with 'git checkout {DVC_FILE}'") from None


def supervise(started_by: str, to_screen: bool = False) -> str:
    """Run the pipeline to its end, and again while a run of the page is followed by enough new recordings.

    Raises: UserError if a run is running already, recordings are missing, or the pipeline fails.
    """
    try:
        while True:
            with lock(RUN_LOCK) as held:
                if held is None:
                    running = current()
                    since = f" since {running.started_at}" if running else ""
                    raise UserError(f"the pipeline is already running{since}: wait, or cancel it on the Train page")
                summary = _Supervisor(started_by, to_screen, held).run()
            if started_by == "make" or not is_due():
                return summary
            started_by = "new recordings"
    finally:
        if inbox.waiting():  # saved during the run
            with contextlib.suppress(Busy, UserError):
                inbox.bring_in()


class _Supervisor:
    """One run, from its entry in the history to its outcome."""

    def __init__(self, started_by: str, to_screen: bool, lock_descriptor: int) -> None:
        now = datetime.now().astimezone()
        self.folder = RUNS / now.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")  # sorts by time, whatever the zone
        self.log_path = self.folder / "log.txt"
        self.to_screen = to_screen
        self.lock_descriptor = lock_descriptor
        self.row = {
            "id": self.folder.name,
            "started_at": now.isoformat(timespec="seconds"),
            "started_by": started_by,
            "settings": shown_settings(),
            "clips": len(inbox.stored_clips()),
            "outcome": "running",
            "why": "",
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

    def run(self) -> str:
        """Returns the summary line. Raises: UserError if the run fails and was started in a terminal."""
        # Ctrl-C in a terminal reaches this process alone, because dvc has a process group of its own.
        signal.signal(signal.SIGINT, lambda *_: cancel(self.row["id"]))
        try:
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
        if self.to_screen:
            raise UserError(self.row["why"])
        return f"{self.row['outcome']}: {self.row['why']}"

    def bring_in(self) -> None:
        """Move the inbox into data/raw, after any other dvc command has ended: ours would fail beside it."""
        while not self.is_cancelled:
            try:
                inbox.bring_in()
                break
            except Busy as error:
                busy = str(error)
            if self.row.get("waits_for") != busy:
                self.note(waits_for=busy)
                print(f"waiting for {busy}", flush=True)
            time.sleep(POLL_S)
        self.note(waits_for=None)

    def repro(self) -> None:
        """Run dvc to its end, follow its log, and note the outcome."""
        stages = stage_names()
        with self.log_path.open("wb") as log:
            dvc = subprocess.Popen(
                dvc_command("--wait-for-lock", "repro"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**dvc_environment(), "PYTHONUNBUFFERED": "1"},
                process_group=0,
                pass_fds=[self.lock_descriptor],  # if this process is killed, dvc keeps the lock
            )
        self.note(dvc_pid=dvc.pid)
        with self.log_path.open("rb") as printed:
            ended = False
            while not ended:
                time.sleep(POLL_S)
                ended = dvc.poll() is not None
                if self.is_cancelled and not ended:
                    try:
                        dvc.wait(PATIENCE_S)
                    except subprocess.TimeoutExpired:
                        cancel(self.row["id"])  # again: the first signal may have come before dvc could handle it
                    ended = dvc.poll() is not None
                if self.to_screen:
                    sys.stdout.buffer.write(printed.read())
                    sys.stdout.buffer.flush()
        if dvc.returncode == 0:
            metrics = json.loads((paths.EVALUATION / "metrics.json").read_text(encoding="utf-8"))
            self.end("done", "", wer_base=metrics["base"]["wer"], wer_tuned=metrics["tuned"]["wer"])
        elif self.is_cancelled:
            self.end("cancelled", "Stopped by hand. The next training resumes from the last checkpoint.")
        else:
            error = read_progress(self.log_path.read_text(encoding="utf-8", errors="replace"), stages).error
            self.end("failed", error or f"dvc ended with exit code {dvc.returncode}: see the log.")

    def end(self, outcome: str, why: str, **figures: float) -> None:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self.note(outcome=outcome, why=why, ended_at=now, **figures)


def main() -> str:
    started_by = sys.argv[1] if len(sys.argv) > 1 else "make"
    return supervise(started_by, to_screen=started_by == "make")


if __name__ == "__main__":
    run("repro", main, outlives_parent=True)

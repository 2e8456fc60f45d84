"""The processes beside the page that move the inbox into data/raw (`python -m recorder.inbox`), one at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from recorder import inbox
from stages.common.dvc import running_commands
from stages.common.stage import UserError

LOOK_AGAIN_S = 1.0
_mover: subprocess.Popen | None = None  # the process that this one started last
_watcher: threading.Thread | None = None
_starting = threading.RLock()  # two open pages are two threads of one server


def start_moving() -> None:
    """Move the inbox in a process beside the page: at once, or when a running stage or the last such process ends."""
    global _watcher
    with _starting:
        _start_mover()
        if _watcher is None:
            _watcher = threading.Thread(target=_watch, daemon=True)
            _watcher.start()


def _start_mover() -> None:
    global _mover
    if (_mover and _mover.poll() is None) or _is_running():
        return
    inbox.INBOX.mkdir(parents=True, exist_ok=True)
    with inbox.LOG.open("wb") as log:
        _mover = subprocess.Popen(
            [sys.executable, "-m", "recorder.inbox"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _is_running() -> bool:
    try:
        return bool(running_commands())
    except UserError:  # DVC's list is damaged: the mover says so
        return False


def _watch() -> None:
    """Start the next mover until nothing is waiting or one has failed: a change may come while one ends."""
    global _watcher
    while True:
        # A killed process that nobody waits for stays in the list of processes, and DVC would take it for running.
        if mover := _mover:
            mover.wait()
        with _starting:
            if mover is _mover and (problem() or not inbox.waiting()):
                _watcher = None
                return
        time.sleep(LOOK_AGAIN_S)
        with _starting:
            if not problem():
                _start_mover()


def problem() -> str | None:
    """Why the process that `start_moving` started last has failed; None if it has not, or if nothing is waiting."""
    if _mover is None or not _mover.poll() or not inbox.waiting():
        return None
    lines = inbox.LOG.read_text(encoding="utf-8", errors="replace").splitlines() or ["it was killed"]
    return lines[-1].removeprefix("inbox: ")

"""The processes beside the page that move the inbox into data/raw (`python -m recorder.inbox`), one at a time."""

from __future__ import annotations

import subprocess
import sys
import threading

from recorder import inbox

_mover: subprocess.Popen | None = None  # the process that this one started last
_watcher: threading.Thread | None = None  # waits for it
_starting = threading.Lock()  # two open pages are two threads of one server


def start_moving() -> None:
    """Move the inbox in a process beside the page, as soon as no dvc command runs."""
    global _mover, _watcher
    with _starting:
        if _watcher is None:
            _mover = _start()
            _watcher = threading.Thread(target=_watch, daemon=True)
            _watcher.start()


def _start() -> subprocess.Popen:
    inbox.INBOX.mkdir(parents=True, exist_ok=True)
    with inbox.LOG.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "recorder.inbox"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _watch() -> None:
    """Start the next process until nothing is waiting or one has failed: a change may come while one ends."""
    global _mover, _watcher
    while True:
        # A killed process that nobody waits for stays in the list of processes, and DVC would take it for running.
        _mover.wait()
        with _starting:
            if _mover.returncode or not inbox.waiting():
                _watcher = None
                return
            _mover = _start()


def problem() -> str | None:
    """Why the process that `start_moving` started last has failed; None if it has not, or if nothing is waiting."""
    if _mover is None or not _mover.poll() or not inbox.waiting():
        return None
    lines = inbox.LOG.read_text(encoding="utf-8", errors="replace").splitlines() or ["it was killed"]
    return lines[-1].removeprefix("inbox: ")

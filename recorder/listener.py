"""The process behind "Try it": it loads the models once, transcribes what it is sent, and ends when idle.

It is a pebble pool of one process, so that the page imports no torch and survives a crash; recorder/base_and_tuned.py
runs in it. After a crash the next question loads the models anew. No sound is written to a file.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.common import paths
from stages.common.params import load_params
from stages.common.stage import UserError

if TYPE_CHECKING:
    from pebble import ProcessPool

IDLE_S = 600.0
TIMEOUT_S = 1800.0  # 30 s of sound, twice through a 3B model on a few slow cores, with loading before it


@dataclass(frozen=True)
class Answer:
    """What the base model and the tuned one heard, the seconds that both took together, and the base model's name."""

    base: str
    tuned: str | None  # None: nothing has been trained yet
    seconds: float
    model: str


class Listener:
    """One process for all of a server's sessions, started when it is needed. Threads may share it."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self.idle_s = idle_s
        self._lock = threading.RLock()  # of all below
        self._pool: ProcessPool | None = None
        self._models: tuple = ()  # of the pool, see _models_on_disk
        self._asked: list[Future[Answer]] = []
        self._timer = threading.Timer(idle_s, self._stop_if_idle)

    @property
    def is_running(self) -> bool:
        """Whether the process is there, with models in memory or on their way."""
        pool = self._pool
        return pool is not None and pool.active

    def transcribe(self, content: bytes, language: str | None, timeout_s: float = TIMEOUT_S) -> Answer:
        """What both models hear in a sound file. Loads them first if they are not in memory, or no longer the newest.

        Args:
            language: ISO 639-1 code; None lets the model find out.
            timeout_s: from the moment in which earlier questions are answered.

        Raises: UserError with what to do if there is no answer.
        """
        try:
            return self._ask(content, language, timeout_s).result()
        except UserError:
            raise
        except TimeoutError:
            raise UserError("This took too long and was stopped. Try a shorter recording.") from None
        except CancelledError:
            raise UserError("The model was stopped before it answered. Try again.") from None
        except Exception as error:  # noqa: BLE001 (whatever ended the process, or is a fault of ours in it)
            if getattr(error, "exitcode", None) == -signal.SIGKILL:
                raise UserError(
                    "The model was ended from outside, most likely because the memory ran out. Close other programs, "
                    "or wait until the training has ended, and try again."
                ) from None
            with log_path().open("a") as log:
                traceback.print_exception(error, file=log)
            raise UserError(f"The model ended unexpectedly. Try again; the reason is in {log_path()}.") from None

    def stop(self) -> None:
        """End the process and free its memory now; who waits for an answer gets a UserError."""
        with self._lock:
            self._timer.cancel()
            for answer in self._asked:
                answer.cancel()
            if self._pool:
                self._pool.stop()
                self._pool.join()
            self._pool, self._asked = None, []

    def _ask(self, content: bytes, language: str | None, timeout_s: float) -> Future[Answer]:
        from pebble import ProcessPool

        with self._lock:
            models = _models_on_disk()
            if not self.is_running or self._models != models:
                self.stop()  # its memory is free before the next one loads
                log_path().parent.mkdir(parents=True, exist_ok=True)
                # Spawned, not forked: the page's server has threads.
                self._pool = ProcessPool(1, initializer=_begin, context=multiprocessing.get_context("spawn"))
                self._models = models
            answer = self._pool.schedule(_hear, args=(content, language), timeout=timeout_s)
            self._asked = [one for one in self._asked if not one.done()] + [answer]
            self._start_timer()
            return answer

    def _start_timer(self) -> None:
        self._timer.cancel()
        self._timer = threading.Timer(self.idle_s, self._stop_if_idle)
        self._timer.daemon = True
        self._timer.start()

    def _stop_if_idle(self) -> None:
        with self._lock:
            if all(answer.done() for answer in self._asked):
                self.stop()
            else:
                self._start_timer()


def log_path() -> Path:
    """The file for everything that libraries print in the process."""
    return paths.cache_root() / "recorder" / "listener.log"


def _models_on_disk() -> tuple:
    """Changes whenever other models are to be loaded."""
    try:
        status = (paths.CHECKPOINTS / "training.json").stat()
    except FileNotFoundError:
        return None, load_params().model
    return (status.st_ino, status.st_mtime_ns, status.st_size), load_params().model


# These run in the process.


def _begin() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with log_path().open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())


def _end_with_parent() -> None:
    """However the page's server ends. (Linux's own signal would come as soon as the thread that started this ends.)"""
    multiprocessing.parent_process().join()
    os._exit(1)


def _hear(content: bytes, language: str | None) -> Answer:
    from recorder import base_and_tuned  # torch: in this process only

    return Answer(**base_and_tuned.transcribe_both(base_and_tuned.models(), content, language))

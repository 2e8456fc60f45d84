"""The process behind "Try it": it loads the models once, transcribes what it is sent, and ends when idle.

It is a pebble pool of one process, so that the page imports no torch and survives a crash; recorder/listening.py runs
in it. After a crash the next question starts another process. No sound is written to a file.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
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
TIMEOUT_S = 600.0  # 30 s of sound, twice through a 3B model on a few slow cores, with loading before it
LOG_BYTES = 1_000_000  # a longer log is begun anew


class ListenerError(UserError):
    """Why there is no transcript, in plain words with what to do."""


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
        self._lock = threading.Lock()  # of all below
        self._pool: ProcessPool | None = None
        self._models: tuple = ()  # of the pool, see _models_on_disk
        self._asked: list[Future[Answer]] = []
        self._has_answered = False
        self._timer = threading.Timer(idle_s, self._end_if_idle)

    @property
    def is_loaded(self) -> bool:
        """Whether models are in memory, so that an answer takes seconds."""
        pool = self._pool
        return self._has_answered and pool is not None and pool.active

    def transcribe(self, content: bytes, language: str | None, timeout_s: float = TIMEOUT_S) -> Answer:
        """What both models hear in a sound file. Loads them first if they are not in memory, or no longer the newest.

        language: ISO 639-1 code; None lets the model find out.
        Raises: ListenerError if there is no answer within `timeout_s`.
        """
        gives_up_at_s = time.monotonic() + timeout_s
        while True:
            models = _models_on_disk()
            answer = self._wait_for(self._ask(models, content, language), gives_up_at_s)
            if models == _models_on_disk():  # else a training has ended meanwhile
                return answer

    def stop(self) -> None:
        """End the process and free its memory now; who waits for an answer gets a ListenerError."""
        with self._lock:
            self._end()

    def _ask(self, models: tuple, content: bytes, language: str | None) -> Future[Answer]:
        from pebble import ProcessPool

        with self._lock:
            if self._pool is None or not self._pool.active or self._models != models:
                self._end()  # its memory is free before the next one loads
                # Spawned, not forked: the page's server has threads.
                self._pool = ProcessPool(1, initializer=_begin, context=multiprocessing.get_context("spawn"))
                self._models = models
            answer = self._pool.schedule(_hear, args=(content, language))
            self._asked = [one for one in self._asked if not one.done()] + [answer]
            self._start_timer()
            return answer

    def _wait_for(self, answer: Future[Answer], gives_up_at_s: float) -> Answer:
        try:
            heard = answer.result(max(gives_up_at_s - time.monotonic(), 0))
        except TimeoutError:
            if not self._has_answered:
                raise ListenerError("The model is still being loaded. Try again in a minute.") from None
            # None if it was answered at the last moment.
            if next((one for one in self._asked if not one.done()), None) is not answer:
                answer.cancel()
                raise ListenerError("The model is still busy with another recording. Try again in a moment.") from None
            self.stop()
            raise ListenerError("This took too long and was stopped. Try a shorter recording.") from None
        except CancelledError:
            raise ListenerError("The model was stopped before it answered. Try again.") from None
        except UserError as error:
            raise ListenerError(str(error)) from None
        except Exception as error:  # noqa: BLE001 (whatever ended the process, or is a fault of ours in it)
            self.stop()
            if getattr(error, "exitcode", None) == -signal.SIGKILL:
                raise ListenerError(
                    "The model was ended from outside, most likely because the memory ran out. Close other programs, "
                    "or wait until the training has ended, and try again."
                ) from None
            with log_path().open("a") as log:
                traceback.print_exception(error, file=log)
            raise ListenerError(f"The model ended unexpectedly. Try again; the reason is in {log_path()}.") from None
        self._has_answered = True
        return heard

    def _end(self) -> None:
        self._timer.cancel()
        for answer in self._asked:
            answer.cancel()
        if self._pool:
            self._pool.stop()
            self._pool.join()
        self._pool, self._asked, self._has_answered = None, [], False

    def _start_timer(self) -> None:
        self._timer.cancel()
        self._timer = threading.Timer(self.idle_s, self._end_if_idle)
        self._timer.daemon = True
        self._timer.start()

    def _end_if_idle(self) -> None:
        with self._lock:
            if all(answer.done() for answer in self._asked):
                self._end()
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
    warnings.simplefilter("ignore", FutureWarning)  # of libraries to each other; exact versions are pinned
    log = log_path()
    log.parent.mkdir(parents=True, exist_ok=True)
    is_long = log.exists() and log.stat().st_size > LOG_BYTES
    with log.open("wb" if is_long else "ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())


def _end_with_parent() -> None:
    """However the page's server ends. (Linux's own signal would come as soon as the thread that started this ends.)"""
    multiprocessing.parent_process().join()
    os._exit(1)


def _hear(content: bytes, language: str | None) -> Answer:
    from recorder import listening  # torch: in this process only

    return Answer(**listening.transcribe_both(listening.models(), content, language))

"""The process behind "Try it": it loads the models once, transcribes what it is sent, and lets the memory go when idle.

    python -m recorder.listener FOLDER IDLE_S       (started by Listener)

Listener is the page's half and imports no torch; recorder/listening.py is the half in the process. They speak in JSON
lines, the page on the process's stdin and the process on its stdout:

    -> {"ready": true, "model": "mistralai/...", "tuned": "LoRA adapter", "identity": "..."}     when it has loaded
    <- {"audio": "FOLDER/recording", "language": "de"}
    -> {"base": "...", "tuned": "...", "seconds": 1.2}        tuned is null where nothing has been trained yet
    -> {"error": "one plain line"}                            instead of any of these

The process ends at the end of its input, so with the page's server however that ends, and after IDLE_S seconds without
a request. Sounds lie in FOLDER, which whichever half ends last removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stages.common import paths
from stages.common.params import load_params
from stages.common.stage import UserError

IDLE_S = 600.0
TIMEOUT_S = 600.0  # 30 s of sound, twice through a 3B model on a few slow cores, with loading before it
FOLDER_PREFIX = "ownvoice-listener-"
LOG_BYTES = 1_000_000  # a longer log is begun anew
KILLED = -9


class ListenerError(UserError):
    """Why there is no transcript, in plain words with what to do."""


@dataclass(frozen=True)
class Loaded:
    """What a process has in memory: the base model's name, what tuned it, and a name for this very pair of models."""

    model: str
    tuned: str | None  # "LoRA adapter", "full fine-tuning"; None: nothing has been trained yet
    identity: str


@dataclass(frozen=True)
class Answer:
    """What the base model and the tuned one heard, and the seconds that both took together."""

    base: str
    tuned: str | None
    seconds: float
    model: str


class Listener:
    """One process for all of a server's sessions, started when it is needed; safe to use from several threads."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self.idle_s = idle_s
        self._process: _Process | None = None
        self._turn = threading.Lock()  # one request after the other
        self._change = threading.Lock()  # of self._process

    @property
    def state(self) -> Literal["off", "loading", "ready"]:
        process = self._process
        if process is None or process.ended:
            return "off"
        return "ready" if process.loaded else "loading"

    @property
    def failure(self) -> str | None:
        """Why the last process could not load or ended, in plain words; None where all went well."""
        process = self._process
        return process.failure if process else None

    @property
    def loaded(self) -> Loaded | None:
        process = self._process
        return process.loaded if process and not process.ended else None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process and not process.ended else None

    def start(self) -> None:
        """Begin to load, unless that is done or has just failed (transcribe tries again); returns at once.

        Raises: ListenerError where params.yaml cannot be read or no process can be started.
        """
        if not self._turn.acquire(blocking=False):
            return  # a request is under way, and has started one
        try:
            failed = self._process if self.failure else None
            if failed is None or failed.models != _models_on_disk():
                self._current()
        finally:
            self._turn.release()

    def transcribe(self, content: bytes, language: str | None, timeout_s: float = TIMEOUT_S) -> Answer:
        """What both models hear in a sound file; loads them first where they are not, or no longer the newest.

        language: ISO 639-1 code; None lets the model find out.
        Raises: ListenerError where there is no answer, or none within `timeout_s`.
        """
        gives_up_at_s = time.monotonic() + timeout_s
        if not self._turn.acquire(timeout=timeout_s):
            raise ListenerError("The model is still busy with another recording. Try again in a moment.")
        try:
            while True:
                process = self._current()
                if not process.settled.wait(gives_up_at_s - time.monotonic()):
                    raise ListenerError("The model is still being loaded. Try again in a minute.")
                if process.models != _models_on_disk():
                    continue  # a training ended while it loaded: it may hold parts of both
                answer = process.ask(content, language, gives_up_at_s) if process.loaded else None
                if answer is None and process.went_idle:
                    continue  # just before the request
                if answer is None:
                    raise ListenerError(process.failure or "The model was stopped before it answered. Try again.")
                if "error" in answer:
                    raise ListenerError(answer["error"])
                return Answer(**answer, model=process.loaded.model)
        finally:
            self._turn.release()

    def stop(self) -> None:
        """End the process and free its memory now; a request under way gets a ListenerError."""
        with self._change:
            if self._process:
                self._process.stop()

    def _current(self) -> _Process:
        """The process with the models that are on the disk now, started where there is none."""
        models = _models_on_disk()
        with self._change:
            if self._process and not self._process.ended and self._process.models == models:
                return self._process
            if self._process:
                self._process.stop()  # its memory is free before the next one loads
            try:
                self._process = _Process(models, self.idle_s)
            except OSError as error:
                raise ListenerError(
                    f"The model could not be started: {error.strerror}. Make room and try again."
                ) from None
            return self._process


class _Process:
    """One process with the models in `models` (see _models_on_disk), and the folder for what it is sent."""

    def __init__(self, models: tuple, idle_s: float) -> None:
        self.models = models
        self.loaded: Loaded | None = None
        self.failure: str | None = None
        self.settled = threading.Event()  # loaded, or ended before that
        self.ended = False
        self._stopped = False
        self._answers: queue.Queue[dict | None] = queue.Queue()
        _remove_left_folders()
        self._folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        self._folder_use = threading.Lock()
        # Locked as long as either half lives: the process inherits the open folder, and the lock with it.
        self._folder_lock = os.open(self._folder, os.O_RDONLY)
        fcntl.flock(self._folder_lock, fcntl.LOCK_EX)
        try:
            self._process = self._start(idle_s)
        except BaseException:
            self._remove_folder()
            raise
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def went_idle(self) -> bool:
        return self.ended and self._process.returncode == 0 and not self._stopped

    def ask(self, content: bytes, language: str | None, gives_up_at_s: float) -> dict | None:
        """The process's answer; None where it ended without one.

        Raises: ListenerError where there is no answer in time; the process is then ended.
        """
        sound = self._folder / "recording"
        request = json.dumps({"audio": str(sound), "language": language}).encode() + b"\n"
        try:
            with self._folder_use:
                if self.ended:
                    return None
                sound.write_bytes(content)
            with contextlib.suppress(BrokenPipeError):  # it has just ended: None follows
                self._process.stdin.write(request)
            return self._answers.get(timeout=max(gives_up_at_s - time.monotonic(), 0))
        except queue.Empty:
            self.stop()
            raise ListenerError("This took too long and was stopped. Try a shorter recording.") from None
        except OSError as error:
            words = f"The recording could not be handed to the model: {error.strerror}. Make room and try again."
            raise ListenerError(words) from None
        finally:
            sound.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the process, and wait until it is gone."""
        self._stopped = True
        self._process.kill()
        self._reader.join()

    def _start(self, idle_s: float) -> subprocess.Popen:
        log = log_path()
        log.parent.mkdir(parents=True, exist_ok=True)
        begun = log.exists() and log.stat().st_size < LOG_BYTES
        with log.open("ab" if begun else "wb") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", "recorder.listener", str(self._folder), str(idle_s)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=[self._folder_lock],
                start_new_session=True,  # Ctrl-C in the server's terminal is not for it
            )

    def _read(self) -> None:
        """Take the process's lines until it ends, then clear up after it; runs in a thread."""
        for line in self._process.stdout:
            if not line.endswith(b"\n"):
                break  # killed while it wrote
            answer = json.loads(line)
            if answer.pop("ready", False):
                self.loaded = Loaded(**answer)
                self.settled.set()
            elif self.loaded is None:
                self.failure = answer["error"]
            else:
                self._answers.put(answer)
        returncode = self._process.wait()
        if returncode != 0 and not self._stopped and self.failure is None:
            self.failure = (
                "The model was ended from outside, most likely because the memory ran out. Close other programs, or "
                "wait until the training has ended, and try again."
                if returncode == KILLED
                else f"The model ended unexpectedly. Try again; the reason stands in {log_path()}."
            )
        with self._folder_use:
            self.ended = True
            self._remove_folder()
        self._process.stdin.close()
        self._process.stdout.close()
        self.settled.set()
        self._answers.put(None)

    def _remove_folder(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._folder_lock)


def log_path() -> Path:
    """Where everything goes that libraries print in the process."""
    return paths.cache_root() / "recorder" / "listener.log"


def _models_on_disk() -> tuple:
    """Changes whenever other models are to be loaded."""
    try:
        status = (paths.CHECKPOINTS / "training.json").stat()
    except FileNotFoundError:
        checkpoint = None
    else:
        checkpoint = (status.st_ino, status.st_mtime_ns, status.st_size)
    try:
        return checkpoint, load_params().model
    except UserError as error:
        raise ListenerError(str(error)) from None


def _remove_left_folders() -> None:
    """Remove sounds whose two halves were both killed, by an empty battery or for want of memory."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, or another person's
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(descriptor)


def _main() -> None:
    """The process: keeps the pipes for the protocol alone, then loads the models."""
    folder, idle_s = Path(sys.argv[1]), float(sys.argv[2])
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what libraries print goes to the log

    from recorder import listening  # torch: in this process only, and after the pipes are safe

    listening.serve(requests, answers, folder, idle_s)


if __name__ == "__main__":
    _main()

"""Changes that the page makes to data/raw: written into data/inbox first, moved into data/raw when DVC allows.

    python -m recorder.inbox        (moves what waits; the page starts it by itself)

A stage hashes what it read only after it has ended. A recording that lands in data/raw meanwhile would count as
processed and never be, so nothing is written there while DVC is at work, whoever started it. Until then a change waits
in a folder of its own below data/inbox, whole and on the disk before the page says "saved". Moving means: with DVC's
own lock held and no stage running, apply all waiting changes in their order, `dvc add data/raw`, remove them from the
inbox. Killed at any point, the next moving does the same again and ends with the same result.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from recorder.locks import is_locked, lock
from recorder.takes import Take
from stages.pipeline import paths, raw
from stages.pipeline.files import write_jsonl
from stages.pipeline.stage import UserError, run
from stages.speech.sources import RawClip, locate
from stages.speech.text import clean

INBOX = paths.RAW.parent / "inbox"
SOURCES = ("recorded", "uploaded")
CLIPS, CONSENTS = "clips.jsonl", "consents.jsonl"
CHANGE = "change.json"
DVC_STAGES_AT_WORK = Path(".dvc/tmp/rwlock")
MOVER_LOCK, MOVER_LOG = INBOX / ".mover.lock", INBOX / ".mover.log"
PAUSE_S = 0.5
LEFT_BY_A_KILL_S = 24 * 3600


class Busy(Exception):
    """DVC is at work: its text says which process, if known."""


@dataclass(frozen=True)
class StoredClip:
    """A clip as data/raw will have it once all waiting changes are in."""

    source: str
    audio_path: str
    text: str
    language: str | None = None
    speaker: str | None = None
    session: str | None = None
    prompt_id: str | None = None
    recorded_at: str | None = None
    duration_s: float | None = None
    level_dbfs: float | None = None
    snr_db: float | None = None

    @property
    def id(self) -> str:
        return Path(self.audio_path).stem

    @property
    def file(self) -> str:
        """The recording's path below data/raw."""
        return f"{self.source}/{self.audio_path}"


@dataclass(frozen=True)
class Change:
    """One entry of the inbox: kind clip (with a sound file), text, delete or consent."""

    folder: Path
    kind: str
    source: str
    row: dict


def save_clip(
    take: Take,
    *,
    text: str,
    language: str,
    speaker: str | None,
    source: str = SOURCES[0],
    prompt_id: str | None = None,
) -> tuple[str, bool]:
    """Store a take with what was said in it; on return it is on the disk.

    Returns: the clip's id, and whether it is new (the same bytes are one clip, however often they are saved).
    Raises: UserError for a take that must not be saved, or without a text.
    """
    if take.blocked:
        raise UserError(next(finding.words for finding in take.findings if finding.blocking))
    if not clean(text):
        raise UserError("There is no text. Write down what was said.")
    if any(clip.id == take.id for clip in stored_clips()):
        return take.id, False
    now = datetime.now().astimezone()
    row = {
        "audio_path": f"{take.id}{take.suffix}",
        "text": clean(text),
        "language": language,
        "speaker": speaker,
        "session": now.date().isoformat(),
        "prompt_id": prompt_id,
        "recorded_at": now.isoformat(timespec="seconds"),
        **{name: take.figures[name] for name in ("duration_s", "level_dbfs", "snr_db")},
    }
    _put("clip", source, {name: value for name, value in row.items() if value is not None}, take.content)
    return take.id, True


def correct_text(clip: StoredClip, text: str) -> None:
    """Raises: UserError for an empty text."""
    if not clean(text):
        raise UserError("There is no text. Write down what was said, or delete the recording.")
    _put("text", clip.source, {"audio_path": clip.audio_path, "text": clean(text)})


def delete(clip: StoredClip) -> None:
    _put("delete", clip.source, {"audio_path": clip.audio_path})


def record_consent(speaker: str, wording: str) -> None:
    """Store that a speaker agreed to this wording, with the time."""
    given_at = datetime.now().astimezone().isoformat(timespec="seconds")
    _put("consent", SOURCES[0], {"speaker": speaker, "wording": wording, "given_at": given_at})


def consents() -> dict[str, dict]:
    """The latest consent of each speaker."""
    return {row["speaker"]: row for row in _state(SOURCES[0], pending()).consents}


def stored_clips() -> list[StoredClip]:
    """All clips that the page has saved, oldest first."""
    changes = pending()
    fields = StoredClip.__dataclass_fields__
    return [
        StoredClip(source=source, **{name: value for name, value in row.items() if name in fields})
        for source in SOURCES
        for row in _state(source, changes).clips.values()
    ]


def content_of(clip: StoredClip) -> bytes:
    """The sound file as it was saved. Raises: UserError where it is gone."""
    waiting_places = (change.folder / clip.audio_path for change in pending() if change.kind == "clip")
    kept = locate(paths.RAW, RawClip(clip.source, clip.audio_path, clip.text))
    for place in (kept, *waiting_places):
        if place is not None and place.is_file():
            return place.read_bytes()
    raise UserError(f"{clip.file} is not on this machine. If it was stored elsewhere, run 'dvc pull'.")


def pending() -> list[Change]:
    """What waits in the inbox, in the order in which it was put there."""
    names = sorted(name for name in os.listdir(INBOX) if name[0] != ".") if INBOX.is_dir() else []
    changes = []
    for name in names:
        # Moved away since the listing: then data/raw has it.
        with contextlib.suppress(FileNotFoundError):
            content = json.loads((INBOX / name / CHANGE).read_text(encoding="utf-8"))
            changes.append(Change(INBOX / name, content["kind"], content["source"], content["row"]))
    return changes


def waiting() -> int:
    """How many changes are not yet in data/raw."""
    return len(pending())


def problem() -> str | None:
    """Why the inbox could not be moved, None where it was or is being moved."""
    if not MOVER_LOG.exists() or not waiting() or is_locked(MOVER_LOCK):
        return None
    lines = MOVER_LOG.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), None)


def start_moving() -> None:
    """Let a process of its own move the inbox, unless one is at it; it outlives the page's server."""
    INBOX.mkdir(parents=True, exist_ok=True)
    if is_locked(MOVER_LOCK):
        return
    with MOVER_LOG.open("wb") as log:
        subprocess.Popen(
            [sys.executable, "-m", "recorder.inbox"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def bring_in() -> int:
    """Move all waiting changes into data/raw; returns how many.

    Raises: Busy while DVC is at work, UserError where data/raw has fewer files than DVC knows of.
    """
    if not pending():
        return 0
    with _dvc_at_rest() as repository:
        changes = pending()
        removed = sum(
            change.kind == "delete" and not (paths.RAW / change.source / change.row["audio_path"]).exists()
            for change in changes
        )
        raw.check_complete(removed)
        for source in SOURCES:
            if any(change.source == source for change in changes):
                _apply(source, changes)
        repository.add(str(paths.RAW))
        for change in changes:
            shutil.rmtree(change.folder)
    return len(changes)


def bring_in_when_possible(stop=lambda: False) -> int:
    """As `bring_in`, waiting for DVC; gives up when `stop` says so."""
    while not stop():
        try:
            return bring_in()
        except Busy:
            time.sleep(PAUSE_S)
    return 0


def stages_at_work() -> list[str]:
    """DVC commands that read or write something right now, as `process 123 (dvc repro)`."""
    try:
        locks = json.loads(DVC_STAGES_AT_WORK.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError:  # DVC is writing it
        return ["another DVC process"]
    holders = [*locks.get("write", {}).values(), *(one for many in locks.get("read", {}).values() for one in many)]
    alive = {holder["pid"]: holder["cmd"] for holder in holders if psutil.pid_exists(holder["pid"])}
    return [f"process {pid} ({os.path.basename(command)})" for pid, command in alive.items()]


@dataclass
class _State:
    clips: dict[str, dict]
    consents: list[dict]


def _state(source: str, changes: list[Change]) -> _State:
    """A source's rows with the changes applied; what is read from data/raw is not changed."""
    folder = paths.RAW / source
    state = _State({row["audio_path"]: row for row in _rows(folder / CLIPS)}, list(_rows(folder / CONSENTS)))
    for change in changes:
        if change.source != source:
            continue
        name = change.row.get("audio_path")
        if change.kind == "clip":
            state.clips.setdefault(name, change.row)
        elif change.kind == "text" and name in state.clips:
            state.clips[name] = {**state.clips[name], "text": change.row["text"]}
        elif change.kind == "delete":
            state.clips.pop(name, None)
        elif change.kind == "consent" and change.row not in state.consents:
            state.consents.append(change.row)
    return state


def _apply(source: str, changes: list[Change]) -> None:
    """Write a source's rows and sounds as the changes say; sounds come before their rows, and go after them."""
    folder = paths.RAW / source
    state = _state(source, changes)
    folder.mkdir(parents=True, exist_ok=True)
    for change in changes:
        name = change.row.get("audio_path")
        if change.source == source and change.kind == "clip" and name in state.clips and not (folder / name).exists():
            # Renamed into place, so that no half file is ever in data/raw; the inbox keeps its own until the end.
            partial = change.folder / f".{name}"
            shutil.copyfile(change.folder / name, partial)
            os.replace(partial, folder / name)
    for name, rows in ((CLIPS, state.clips.values()), (CONSENTS, state.consents)):
        if rows or (folder / name).exists():
            # Written in the inbox: killed here, nothing unfinished is left in data/raw.
            partial = INBOX / f".{source}-{name}"
            write_jsonl(partial, rows)
            os.replace(partial, folder / name)
    for change in changes:
        if change.source == source and change.kind == "delete" and change.row["audio_path"] not in state.clips:
            (folder / change.row["audio_path"]).unlink(missing_ok=True)


def _put(kind: str, source: str, row: dict, content: bytes | None = None) -> None:
    """Write a change where nobody looks, force it to the disk, and rename it into the inbox."""
    INBOX.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=INBOX))
    if content is not None:
        _write_through(partial / row["audio_path"], content)
    _write_through(partial / CHANGE, json.dumps({"kind": kind, "source": source, "row": row}).encode())
    _force_to_disk(partial)
    digest = hashlib.sha256(f"{os.getpid()} {partial.name}".encode()).hexdigest()[:8]
    partial.rename(INBOX / f"{time.time_ns():020d}-{digest}")
    _force_to_disk(INBOX)


def _write_through(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _force_to_disk(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rows(path: Path) -> tuple[dict, ...]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return _read_rows(path.resolve(), status.st_mtime_ns, status.st_size, status.st_ino)


@functools.lru_cache(maxsize=8)
def _read_rows(path: Path, *signature: int) -> tuple[dict, ...]:
    """Rows of a file that is only ever replaced as a whole; read again when any part of the signature changes."""
    try:
        return tuple(json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip())
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}. Mend the line, or restore it with 'dvc checkout'.") from None


@contextlib.contextmanager
def _dvc_at_rest() -> Iterator:
    """DVC's repository, locked against any other DVC command, with no stage running.

    DVC gives its lock away while a stage's command runs, but first notes the stage in its list of readers and writers;
    so with the lock held and the list empty nobody reads data/raw, and nobody can begin to.
    """
    from dvc.exceptions import NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    try:
        with Repo() as repository, lock_repo(repository):
            if busy := stages_at_work():
                raise Busy(", ".join(busy))
            yield repository
    except LockError as error:
        raise Busy(str(error)) from None
    except NotDvcRepoError:
        raise UserError(
            "this folder is no DVC repository: run 'dvc init' here, or go to the project's folder"
        ) from None


def main() -> str:
    """Move until nothing waits; a second mover leaves it to the first."""
    INBOX.mkdir(parents=True, exist_ok=True)
    for partial in INBOX.glob(".partial-*"):
        if time.time() - partial.stat().st_mtime > LEFT_BY_A_KILL_S:
            shutil.rmtree(partial)
    moved = 0
    # Looked at again after the lock is free: what was put there meanwhile has found it taken.
    while waiting():
        with lock(MOVER_LOCK) as held:
            if held is None:
                return "another process is moving"
            moved += bring_in_when_possible()
    return f"{moved} changes moved into {paths.RAW}"


if __name__ == "__main__":
    run("inbox", main, outlives_parent=True)

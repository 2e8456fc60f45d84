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
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from recorder.takes import Take
from stages.commands import pull
from stages.common import paths
from stages.common.files import write_jsonl, write_whole
from stages.common.locks import is_locked, lock
from stages.common.plurals import counted
from stages.common.stage import UserError, run
from stages.speech.clips import RawClip
from stages.speech.sources import locate
from stages.speech.text import clean

if TYPE_CHECKING:
    from dvc.repo import Repo

INBOX = paths.RAW.parent / "inbox"
SOURCES = ("recorded", "uploaded")
CLIPS, CONSENTS = "clips.jsonl", "consents.jsonl"
CHANGE = "change.json"
DVC_STAGES_AT_WORK, DVC_LOCK = Path(".dvc/tmp/rwlock"), Path("dvc.lock")
MERGE_CONFLICT = b"<<<<<<<"
CHANGE_NAME = re.compile(r"(\d{20})-[0-9a-f]{8}")  # nanoseconds since 1970, and something to tell processes apart
UNFINISHED, GONE = ".partial-", ".gone-"
MOVER_LOCK, MOVER_LOG, MOVER_PROBLEM = INBOX / ".mover.lock", INBOX / ".mover.log", INBOX / ".mover.problem"
PAUSE_S = 0.5
RETRY_S = 60.0
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
        return os.path.splitext(os.path.basename(self.audio_path))[0]  # a Path takes ten times as long

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


def record_consent(speaker: str, wording: str, publish: bool | None = None) -> None:
    """Store that a speaker agreed to this wording, with the time; `publish`: and whether others may hear them."""
    given_at = datetime.now().astimezone().isoformat(timespec="seconds")
    about_publishing = {} if publish is None else {"publish": publish}
    _put("consent", SOURCES[0], {"speaker": speaker, "wording": wording, "given_at": given_at, **about_publishing})


def consents() -> dict[str, dict]:
    """The latest consent of each speaker."""
    return {row["speaker"]: row for row in _state(SOURCES[0], pending()).consents}


def agreed_to_publish() -> set[str]:
    """Speakers whose latest answer about publication is yes."""
    rows = _state(SOURCES[0], pending()).consents
    latest = {row["speaker"]: row["publish"] for row in rows if "publish" in row}
    return {speaker for speaker, agreed in latest.items() if agreed is True}


def stored_clips() -> list[StoredClip]:
    """All clips that the page has saved, oldest first."""
    waiting_names = tuple(_names())  # before the files are looked at: what has left the inbox is in them
    return list(_stored_clips(waiting_names, *(_signature(paths.RAW / source / CLIPS) for source in SOURCES)))


@functools.lru_cache(maxsize=2)
def _stored_clips(waiting_names: tuple[str, ...], *signatures: tuple[int, ...]) -> list[StoredClip]:
    """Made anew when a file or the inbox changes: a page asks several times while it is drawn."""
    changes = pending()
    fields = StoredClip.__dataclass_fields__
    clips = [
        StoredClip(source=source, **{name: value for name, value in row.items() if name in fields})
        for source in SOURCES
        for row in _state(source, changes).clips.values()
    ]
    return sorted(clips, key=lambda clip: clip.recorded_at or "")


def content_of(clip: StoredClip) -> bytes:
    """The sound file as it was saved. Raises: UserError where it is gone."""
    waiting_places = [
        change.folder / clip.audio_path
        for change in pending()
        if change.kind == "clip" and (change.source, change.row["audio_path"]) == (clip.source, clip.audio_path)
    ]
    kept = _kept(clip.source, clip.audio_path)
    for place in (kept, *waiting_places, kept):  # twice: it may be moved while we look
        if place is not None:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                return place.read_bytes()
    raise UserError(f"{clip.file} is not on this machine. If it was stored elsewhere, run 'make pull'.")


def pending() -> list[Change]:
    """What waits in the inbox, in the order in which it was put there."""
    changes = []
    for name in _names():
        # Moved away since the listing: then data/raw has it.
        with contextlib.suppress(FileNotFoundError):
            content = json.loads((INBOX / name / CHANGE).read_text(encoding="utf-8"))
            changes.append(Change(INBOX / name, content["kind"], content["source"], content["row"]))
    return changes


def waiting() -> int:
    """How many changes are not yet in data/raw."""
    return len(pending())


def problem() -> str | None:
    """Why the inbox could not be moved, None where it was, or is being, or is to be tried again."""
    try:
        found, age_s = MOVER_PROBLEM.read_text(encoding="utf-8"), time.time() - MOVER_PROBLEM.stat().st_mtime
    except FileNotFoundError:
        return None
    return found if waiting() and age_s < RETRY_S and not is_locked(MOVER_LOCK) else None


def start_moving() -> None:
    """Let a process of its own move the inbox, unless one is at it; it outlives the page's server."""
    INBOX.mkdir(parents=True, exist_ok=True)
    if is_locked(MOVER_LOCK):
        return
    with MOVER_LOG.open("wb") as log:
        mover = subprocess.Popen(
            [sys.executable, "-m", "recorder.inbox"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # Killed and not waited for, it would stay in the list of processes, and DVC would take it for alive.
    threading.Thread(target=mover.wait, daemon=True).start()


def bring_in() -> int:
    """Move all waiting changes into data/raw; returns how many.

    Raises: Busy while DVC is at work, UserError where data/raw has fewer files than DVC knows of.
    """
    with _dvc_at_rest() as repository:
        _sweep()
        changes = pending()
        if not _mend(repository) and not changes:
            return 0
        deleted = {_kept(change.source, change.row["audio_path"]) for change in changes if change.kind == "delete"}
        pull.check_complete(removed=sum(path is not None and not path.exists() for path in deleted))
        for source in SOURCES:
            if any(change.source == source for change in changes):
                _apply(source, changes)
        repository.add(str(paths.RAW))
        os.sync()  # a power cut must not find the inbox empty and data/raw unwritten
        for change in changes:
            # Renamed first: a kill leaves a change whole or not at all.
            gone = INBOX / f"{GONE}{change.folder.name}"
            change.folder.rename(gone)
            shutil.rmtree(gone)
    return len(changes)


def stages_at_work() -> list[str]:
    """DVC commands that read or write something right now, as `process 123 (dvc repro)`.

    Raises: UserError where DVC's list of them is damaged.
    """
    gives_up_at_s = time.monotonic() + 2
    while True:
        try:
            locks = json.loads(DVC_STAGES_AT_WORK.read_text(encoding="utf-8"))
            break
        except FileNotFoundError:
            return []
        except ValueError:
            if time.monotonic() < gives_up_at_s:  # DVC is writing it
                time.sleep(0.02)
                continue
            remedy = "DVC was killed while it wrote it. Make sure that no dvc command runs, then delete the file"
            raise UserError(f"{DVC_STAGES_AT_WORK} is damaged: {remedy}.") from None
    holders = [*locks.get("write", {}).values(), *(one for many in locks.get("read", {}).values() for one in many)]
    alive = {holder["pid"]: holder["cmd"] for holder in holders if psutil.pid_exists(holder["pid"])}
    return [f"process {pid} ({_short(command)})" for pid, command in alive.items()]


def _short(command: str) -> str:
    program, *arguments = command.split()
    return " ".join([os.path.basename(program).replace("__main__.py", "dvc"), *arguments])


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
            partial = changes[-1].folder / f".{name}"
            write_jsonl(partial, rows)
            os.replace(partial, folder / name)
    for change in changes:
        if change.source == source and change.kind == "delete" and change.row["audio_path"] not in state.clips:
            kept = _kept(source, change.row["audio_path"])
            if kept is not None:
                kept.unlink(missing_ok=True)


def _kept(source: str, audio_path: str) -> Path | None:
    """The recording's place in data/raw, None where its path leads out of its source's folder."""
    return locate(paths.RAW, RawClip(source, f"{source}/{audio_path}", text=""))


def _put(kind: str, source: str, row: dict, content: bytes | None = None) -> None:
    """Write a change where nobody looks, force it to the disk, and rename it into the inbox."""
    INBOX.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=INBOX))
    if content is not None:
        _write_through(partial / row["audio_path"], content)
    _write_through(partial / CHANGE, json.dumps({"kind": kind, "source": source, "row": row}).encode())
    _force_to_disk(partial)
    digest = hashlib.sha256(f"{os.getpid()} {partial.name}".encode()).hexdigest()[:8]
    # Never before one that waits already, even where the clock was set back.
    newest_ns = max((int(CHANGE_NAME.fullmatch(name)[1]) for name in _names()), default=0)
    partial.rename(INBOX / f"{max(time.time_ns(), newest_ns + 1):020d}-{digest}")
    _force_to_disk(INBOX)


def _names() -> list[str]:
    """Of the folders of waiting changes, in their order; what else lies in the inbox is left alone."""
    return sorted(name for name in os.listdir(INBOX) if CHANGE_NAME.fullmatch(name)) if INBOX.is_dir() else []


def _sweep() -> None:
    """Remove what processes that were killed have left in the inbox."""
    for gone in INBOX.glob(f"{GONE}*"):
        shutil.rmtree(gone)
    for unfinished in INBOX.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):  # it has just been finished
            if time.time() - unfinished.stat().st_mtime > LEFT_BY_A_KILL_S:
                shutil.rmtree(unfinished)


def _mend(repository: Repo) -> bool:
    """Remove what DVC was killed in the middle of writing, for it refuses to do anything until that is gone.

    Nothing is lost with them: data/raw is added anew, and without dvc.lock DVC finds what the stages have made in its
    cache of runs.

    Raises: UserError for what git has left half merged.
    """
    from dvc.dvcfile import Lockfile
    from dvc.utils.strictyaml import YAMLSyntaxError, YAMLValidationError

    for path in (pull.TRACKED, DVC_LOCK):
        if path.exists() and MERGE_CONFLICT in path.read_bytes():
            raise UserError(f"{path} is half merged: finish the merge in git, then try again")
    cut_off = [pull.TRACKED] if pull.TRACKED.exists() and pull.TRACKED.stat().st_size == 0 else []
    try:
        Lockfile(repository, str(DVC_LOCK)).load()
    except (YAMLSyntaxError, YAMLValidationError):
        cut_off.append(DVC_LOCK)
    for path in cut_off:
        print(f"{path} was cut off when DVC was killed: it is made anew", flush=True)
        path.unlink()
    return bool(cut_off)


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
    signature = _signature(path)
    return _read_rows(path, *signature) if signature else ()


def _signature(path: Path) -> tuple[int, ...]:
    """Changes whenever a file, which is only ever replaced as a whole, does; empty where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=8)
def _read_rows(path: Path, *signature: int) -> tuple[dict, ...]:
    """Rows of a file that is only ever replaced as a whole; read again when any part of the signature changes."""
    needed = ("audio_path", "text") if path.name == CLIPS else ("speaker",)
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
            if not (isinstance(row, dict) and all(isinstance(row.get(name), str) for name in needed)):
                raise ValueError(f"it needs {' and '.join(needed)}")
        except ValueError as error:
            remedy = "Mend the line, or restore the file with 'dvc checkout'"
            raise UserError(f"{path}:{number} is damaged ({error}). {remedy}.") from None
        rows.append(row)
    return tuple(rows)


@contextlib.contextmanager
def _dvc_at_rest() -> Iterator[Repo]:
    """DVC's repository, locked against any other DVC command, with no stage running.

    DVC gives its lock away while a stage's command runs, but first notes the stage in its list of readers and writers;
    so with the lock held and the list empty nobody reads data/raw, and nobody can begin to.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    if busy := stages_at_work():  # without the lock: who waits for long disturbs nobody
        raise Busy(", ".join(busy))
    try:
        with Repo() as repository, lock_repo(repository):
            if busy := stages_at_work():
                raise Busy(", ".join(busy))
            yield repository
    except LockError:
        raise Busy("another DVC command") from None
    except NotDvcRepoError:
        raise UserError(
            "this folder is no DVC repository: run 'dvc init' here, or go to the project's folder"
        ) from None
    except DvcException as error:
        raise UserError(f"DVC cannot take the recordings in: {' '.join(str(error).split())}") from None


def main() -> str:
    """Move until nothing waits; a second mover leaves it to the first."""
    os.nice(10)  # nobody waits for it, and the page is to stay quick
    moved = 0
    # Looked at again after the lock is free: what was put there meanwhile has found it taken.
    while waiting():
        with lock(MOVER_LOCK) as held:
            if held is None:
                return "another process is moving"
            MOVER_PROBLEM.unlink(missing_ok=True)
            try:
                moved += bring_in()
            except Busy:
                time.sleep(PAUSE_S)
            except Exception as error:
                write_whole(MOVER_PROBLEM, (str(error) or type(error).__name__).encode())
                raise
    return f"{counted(moved, 'change')} moved into {paths.RAW}"


if __name__ == "__main__":
    run("inbox", main, outlives_parent=True)

"""Changes that the page makes to data/raw: saved in data/inbox first, moved into data/raw when no DVC command runs.

    python -m recorder.inbox        (moves what is waiting; mover.py starts it after each change)

DVC hashes what a stage has read only after the stage has ended: a recording that arrives in data/raw meanwhile would be
marked as processed without being read. So each change waits in a folder of its own in data/inbox, complete and flushed
to the disk before the page says "saved". Moving means: with DVC's lock held and no stage running, apply all changes in
their order, `dvc add data/raw`, remove them from the inbox. If it is killed at any point, the next one does the same
again with the same result. The inbox is moved after each change (if a DVC command is running, after that), at the
start and end of each run, and whenever the page is drawn.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from recorder.takes import Take
from stages.commands import pull
from stages.common import paths
from stages.common.dvc import Busy, locked_repository, remove_cut_off_files
from stages.common.files import write_jsonl
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
CHANGE_NAME = re.compile(r"(\d{20})-[0-9a-f]{8}")  # nanoseconds since 1970, and digits that differ between processes
UNFINISHED, GONE = ".partial-", ".gone-"
LOG = INBOX / ".mover.log"
PAUSE_S = 0.5
ABANDONED_S = 24 * 3600


@dataclass(frozen=True)
class StoredClip:
    """A clip as data/raw will have it when all changes are moved."""

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
        return os.path.splitext(os.path.basename(self.audio_path))[0]  # ten times as fast as a Path

    @property
    def file(self) -> str:
        """The recording's path below data/raw."""
        return f"{self.source}/{self.audio_path}"


@dataclass(frozen=True)
class Change:
    """One entry of the inbox. `kind`: clip (with a sound file), text, delete or consent."""

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
    """Save a take with what was said in it; on return it is on the disk.

    Returns: the clip's id, and whether it is new (the same bytes are one clip, however often they are saved).
    Raises: UserError if the take must not be saved or has no text.
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
    """Raises: UserError if the text is empty."""
    if not clean(text):
        raise UserError("There is no text. Write down what was said, or delete the recording.")
    _put("text", clip.source, {"audio_path": clip.audio_path, "text": clean(text)})


def delete(clip: StoredClip) -> None:
    _put("delete", clip.source, {"audio_path": clip.audio_path})


def record_consent(speaker: str, wording: str, publish: bool | None = None) -> None:
    """Save when a speaker agreed to which wording and, in `publish`, whether others may hear the recordings."""
    given_at = datetime.now().astimezone().isoformat(timespec="seconds")
    about_publishing = {} if publish is None else {"publish": publish}
    _put("consent", SOURCES[0], {"speaker": speaker, "wording": wording, "given_at": given_at, **about_publishing})


def consents() -> dict[str, dict]:
    """The latest consent of each speaker."""
    _, rows = _state(SOURCES[0], pending())
    return {row["speaker"]: row for row in rows}


def agreed_to_publish() -> set[str]:
    """Speakers whose latest answer about publishing is yes."""
    _, rows = _state(SOURCES[0], pending())
    latest = {row["speaker"]: row["publish"] for row in rows if "publish" in row}
    return {speaker for speaker, agreed in latest.items() if agreed is True}


def stored_clips() -> list[StoredClip]:
    """All clips that the page has saved, oldest first."""
    waiting_names = tuple(_names())  # listed before the files are read: a change that leaves the inbox is in a file
    return list(_stored_clips(waiting_names, *(_version(paths.RAW / source / CLIPS) for source in SOURCES)))


@functools.lru_cache(maxsize=2)
def _stored_clips(waiting_names: tuple[str, ...], *versions: tuple[int, ...]) -> list[StoredClip]:
    """The page asks several times while it is drawn: read again only if the inbox or a file has changed."""
    changes = pending()
    fields = StoredClip.__dataclass_fields__
    clips = [
        StoredClip(source=source, **{name: value for name, value in row.items() if name in fields})
        for source in SOURCES
        for row in _state(source, changes)[0].values()
    ]
    return sorted(clips, key=lambda clip: clip.recorded_at or "")


def content_of(clip: StoredClip) -> bytes:
    """The sound file as it was saved. Raises: UserError if it is missing."""
    places = [
        change.folder / clip.audio_path
        for change in pending()
        if change.kind == "clip" and (change.source, change.row["audio_path"]) == (clip.source, clip.audio_path)
    ]
    places.append(_kept(clip.source, clip.audio_path))  # last: a recording that leaves the inbox is there
    for place in places:
        if place is not None:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                return place.read_bytes()
    raise UserError(f"{clip.file} is not on this machine. If it was stored elsewhere, run 'make pull'.")


def pending() -> list[Change]:
    """The changes in the inbox, oldest first."""
    changes = []
    for name in _names():
        try:
            content = json.loads((INBOX / name / CHANGE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            if (INBOX / name).exists():
                raise UserError(f"{INBOX / name} has no {CHANGE}: put it back, or remove the folder") from None
            continue  # moved into data/raw since the listing
        changes.append(Change(INBOX / name, content["kind"], content["source"], content["row"]))
    return changes


def waiting() -> int:
    """How many changes are not yet in data/raw."""
    return len(_names())


def bring_in() -> int:
    """Move all waiting changes into data/raw; returns how many. Raises: Busy while dvc runs, and what `move` raises."""
    with locked_repository() as repository:
        return move(repository)


def move(repository: Repo) -> int:
    """`bring_in` with DVC locked by `repository`. Raises: UserError if data/raw has fewer files than DVC knows of."""
    _sweep()
    changes = pending()
    if not remove_cut_off_files(repository) and not changes:
        return 0
    deleted = {_kept(change.source, change.row["audio_path"]) for change in changes if change.kind == "delete"}
    pull.check_complete(removed=sum(path is not None and not path.exists() for path in deleted))
    for source in SOURCES:
        if any(change.source == source for change in changes):
            _apply(source, changes)
    repository.add(str(paths.RAW))
    os.sync()  # after a power cut the inbox must not be empty and data/raw unwritten
    for change in changes:
        gone = INBOX / f"{GONE}{change.folder.name}"  # renamed first: after a kill a change is whole or gone
        change.folder.rename(gone)
        shutil.rmtree(gone)
    return len(changes)


def _state(source: str, changes: list[Change]) -> tuple[dict[str, dict], list[dict]]:
    """A source's clips by their paths, and its consents, with the changes applied; writes nothing."""
    folder = paths.RAW / source
    clips, given = {row["audio_path"]: row for row in _rows(folder / CLIPS)}, _rows(folder / CONSENTS)
    for change in changes:
        if change.source != source:
            continue
        name = change.row.get("audio_path")
        if change.kind == "clip":
            clips.setdefault(name, change.row)
        elif change.kind == "text" and name in clips:
            clips[name] = {**clips[name], "text": change.row["text"]}
        elif change.kind == "delete":
            clips.pop(name, None)
        elif change.kind == "consent" and change.row not in given:
            given.append(change.row)
    return clips, given


def _apply(source: str, changes: list[Change]) -> None:
    """Write a source's rows and sounds: new sounds before their rows, removed sounds after them."""
    folder = paths.RAW / source
    clips, given = _state(source, changes)
    folder.mkdir(parents=True, exist_ok=True)
    changes = [change for change in changes if change.source == source]
    for change in changes:
        name = change.row.get("audio_path")
        if change.kind == "clip" and name in clips and not (folder / name).exists():
            # Copied in the inbox, renamed into data/raw: no half file is ever there, and the inbox keeps its own.
            partial = change.folder / f".{name}"
            shutil.copyfile(change.folder / name, partial)
            os.replace(partial, folder / name)
    for name, rows in ((CLIPS, clips.values()), (CONSENTS, given)):
        if rows or (folder / name).exists():
            partial = changes[-1].folder / f".{name}"
            write_jsonl(partial, rows)
            os.replace(partial, folder / name)
    for change in changes:
        if change.kind == "delete" and change.row["audio_path"] not in clips:
            kept = _kept(source, change.row["audio_path"])
            if kept is not None:
                kept.unlink(missing_ok=True)


def _kept(source: str, audio_path: str) -> Path | None:
    """The recording's place in data/raw, None if its path leads out of its source's folder."""
    return locate(paths.RAW, RawClip(source, f"{source}/{audio_path}", text=""))


def _put(kind: str, source: str, row: dict, content: bytes | None = None) -> None:
    """Write a change under a hidden name, flush it to the disk, and rename it into the inbox."""
    INBOX.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=INBOX))
    if content is not None:
        _write_through(partial / row["audio_path"], content)
    _write_through(partial / CHANGE, json.dumps({"kind": kind, "source": source, "row": row}).encode())
    _flush(partial)
    # After all that are waiting, even if the clock was set back.
    newest_ns = max((int(CHANGE_NAME.fullmatch(name)[1]) for name in _names()), default=0)
    partial.rename(INBOX / f"{max(time.time_ns(), newest_ns + 1):020d}-{secrets.token_hex(4)}")
    _flush(INBOX)


def _names() -> list[str]:
    """The folders of waiting changes, oldest first; other files in the inbox are left alone."""
    return sorted(name for name in os.listdir(INBOX) if CHANGE_NAME.fullmatch(name)) if INBOX.is_dir() else []


def _sweep() -> None:
    """Remove what killed processes have left in the inbox."""
    for gone in INBOX.glob(f"{GONE}*"):
        shutil.rmtree(gone)
    for unfinished in INBOX.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):  # finished in this moment
            if time.time() - unfinished.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(unfinished)


def _write_through(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _version(path: Path) -> tuple[int, ...]:
    """Changes whenever a file that is only replaced as a whole does; empty if there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _rows(path: Path) -> list[dict]:
    """Raises: UserError if a line is damaged."""
    needed = ("audio_path", "text") if path.name == CLIPS else ("speaker",)
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else [], 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
            if not (isinstance(row, dict) and all(isinstance(row.get(name), str) for name in needed)):
                raise ValueError(f"it needs {' and '.join(needed)}")
        except ValueError as error:
            remedy = "Fix the line, or restore the file with 'dvc checkout'"
            raise UserError(f"{path}:{number} is damaged ({error}). {remedy}.") from None
        rows.append(row)
    return rows


def main() -> str:
    """Move until nothing is waiting, as soon as no dvc command runs."""
    os.nice(10)  # the page stays quick
    moved = 0
    while waiting():
        try:
            moved += bring_in()
        except Busy:
            time.sleep(PAUSE_S)
    return f"{counted(moved, 'change')} moved into {paths.RAW}"


if __name__ == "__main__":
    run("inbox", main, outlives_parent=True)

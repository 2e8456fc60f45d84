"""All that there is of a speaker, or of one recording: in data/raw, inbox, older versions, results, and on the Hub."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from recorder import inbox, reading
from recorder.erasing.rows import clips_beside
from recorder.erasing.todo import PERHAPS, Recording, Repository, Todo, Wanted, digest_of
from recorder.erasing.traces import pieces_of
from recorder.erasing.versions import Objects, rows_of, versions_in_git
from stages.common import paths
from stages.common.dvc import DVC_LOCK
from stages.common.files import read_jsonl, sha256_of_file
from stages.common.params import PARAMS_FILE
from stages.common.stage import UserError
from stages.speech import prepared
from stages.speech.clips import AUDIO_SUFFIXES, ID_LENGTH, RawClip, clip_id
from stages.speech.sources import read_sources
from stages.speech.text import clean

RESULTS = (paths.PREPARED, paths.SPLIT, paths.CHECKPOINTS, paths.EVALUATION, paths.CARD)
RECEIPTS = {"push": "model", "dataset": "dataset", "deploy": "space"}
FEATURES = ".ark"  # Kaldi's, beside the recordings


def find(wanted: Wanted, objects: Objects) -> Todo:
    """All that belongs to a speaker or a clip, in data/raw, in the inbox and in DVC's older versions."""
    todo = Todo(wanted)
    raw_clips = clips_in_raw()
    clips = {normal_path(clip.recorded_file): clip for clip in raw_clips}
    pending = [change for change in inbox.pending() if change.kind == "clip"]
    rows = {f"{change.source}/{change.row['audio_path']}": change.row for change in pending}
    sounds = {f"{change.source}/{change.row['audio_path']}": change.folder for change in pending}
    sounds = {name: folder / rows[name]["audio_path"] for name, folder in sounds.items()}
    in_raw = {path.relative_to(paths.RAW).as_posix(): path for path in paths.RAW.rglob("*") if path.is_file()}
    sounds |= {name: path for name, path in in_raw.items() if name in clips or path.suffix.lower() in AUDIO_SUFFIXES}
    digests = {name: sha256_of_file(path) for name, path in sounds.items()}

    def is_theirs(clip: RawClip) -> bool:
        if wanted.speaker is not None:
            return clip.speaker == wanted.speaker
        digest = digests.get(normal_path(clip.recorded_file), "")
        part = digest and clip.begins_s is not None and clip_id(digest, clip.begins_s, clip.ends_s)
        return wanted.clip in (digest[:ID_LENGTH], part)

    theirs = {normal_path(clip.recorded_file) for clip in raw_clips if is_theirs(clip)}
    if wanted.speaker is not None:
        theirs |= {name for name, row in rows.items() if wanted.is_row(row)}
    else:
        theirs |= {name for name, digest in digests.items() if digest.startswith(wanted.clip)}
    # The same bytes under another name, or as another's, are the same recording.
    chosen = {digests[name] for name in theirs if name in digests}
    theirs |= {name for name, digest in digests.items() if digest in chosen}
    _check_alone(theirs, raw_clips, wanted, is_theirs)
    lengths = _lengths()
    for name in sorted(theirs & set(sounds)):
        row = {"recorded_at": None, "language": None} | (vars(clips[name]) if name in clips else rows.get(name, {}))
        todo.recordings.append(
            Recording.of(
                name,
                "raw" if name in in_raw else "inbox",
                sounds[name].read_bytes(),
                language=row["language"] or "",
                duration_s=lengths.get(digests[name][:ID_LENGTH], lengths.get(name)),
                since=_since(row["recorded_at"], sounds[name]),
            )
        )
    todo.files = sorted(theirs & (set(clips) | set(in_raw)))  # rows whose sound is missing go too
    todo.texts = [clips[name].text for name in theirs & set(clips)] + [
        rows[name]["text"] for name in theirs & set(rows)
    ]
    _find_older(todo, objects, kept=set(digests.values()) - chosen)
    for recording in todo.recordings:
        with contextlib.suppress(UserError):  # where it is damaged; it goes all the same
            flac = prepared.path_of(recording.id)
            todo.prepared += [piece.hex() for piece in pieces_of(prepared.content(flac) if flac else b"")]
    is_older = any(one.place == "older" for one in todo.recordings) or bool(todo.prepared)
    todo.versioned = bool(todo.files) or is_older or wanted.speaker in _agreed()
    if DVC_LOCK.exists():
        todo.results = learned_from(todo, DVC_LOCK.read_text(encoding="utf-8"), objects) or _is_in_results(todo)
    else:
        todo.results = todo.versioned and any(folder.exists() for folder in RESULTS)
    return todo


def _is_in_results(todo: Todo) -> bool:
    """Whether a table of the results names one of the recordings, whatever dvc.lock says of them."""
    ids, files = {recording.id for recording in todo.recordings}, {recording.file for recording in todo.recordings}
    tables = [path for folder in RESULTS for path in folder.glob("*.jsonl")]
    rows = (row for path in tables for row in rows_of(path.read_bytes()))
    return any(row.get("id") in ids or row.get("recorded_file", row.get("file")) in files for row in rows)


def _find_older(todo: Todo, objects: Objects, kept: set[str]) -> None:
    """Add what only older versions have: recordings that were deleted since, texts that were corrected.

    kept: sha256 of recordings that are by now another speaker's, and stay.
    """
    known, converted = {"", *(recording.md5 for recording in todo.recordings)}, set()
    kept_ids = {digest[:ID_LENGTH] for digest in kept}
    labels: set[tuple[str, str]] = set()  # (file below data/raw, id), as prepare noted them
    trees = list(objects.trees())
    rows_in = functools.cache(lambda md5: rows_of(objects.content(md5)))
    for tree in trees:
        for manifest in (name for name in tree if Path(name).name == inbox.CLIPS):
            for row in filter(todo.wanted.is_row, rows_in(tree[manifest])):
                sound = normal_path(str(Path(manifest).parent / str(row.get("audio_path"))))
                if row.get("id") in kept_ids:
                    continue
                if "recorded_file" in row:
                    todo.texts.append(str(row.get("text", "")))
                    labels.add((row["recorded_file"], row["id"]))
                    if row["id"] not in converted:
                        converted.add(row["id"])
                        todo.prepared += [piece.hex() for piece in pieces_of(objects.prepared(tree, sound))]
                    continue
                md5 = tree.get(sound, "")
                content = None if md5 in known else objects.content(md5)
                if digest_of(content) in kept:
                    continue
                known.add(md5)
                todo.texts.append(str(row.get("text", "")))
                if content is not None:
                    todo.recordings.append(_older_recording(sound, content, row, objects.path(md5)))
    for tree in trees:
        for label, known_id in labels:
            md5 = tree.get(label, "")
            content = None if md5 in known else objects.content(md5)
            if digest_of(content).startswith(known_id):
                todo.recordings.append(_older_recording(label, content, {}, objects.path(md5)))
                known.add(md5)
    todo.texts, todo.prepared = list(dict.fromkeys(todo.texts)), list(dict.fromkeys(todo.prepared))


def learned_from(todo: Todo, lock_text: str, objects: Objects) -> bool:
    """Whether results with this dvc.lock were made with any of the recordings; where it cannot be known, yes."""
    if not todo.versioned:
        return False
    ids, md5s = {recording.id for recording in todo.recordings}, {recording.md5 for recording in todo.recordings}
    files = {recording.file for recording in todo.recordings}
    try:
        stages = (YAML(typ="safe").load(lock_text) or {}).get("stages") or {}
    except YAMLError:
        return True
    for stage in stages.values():
        for dependency in stage.get("deps", []):
            path, md5 = Path(dependency["path"]), dependency.get("md5", "")
            if path == paths.RAW:
                tree = objects.tree(md5)
                if tree is None or md5s & set(tree.values()):
                    return True
            elif path.suffix == ".jsonl":
                content = objects.content(md5)
                if content is None:
                    return True
                if any(row.get("id") in ids or row.get("recorded_file") in files for row in rows_of(content)):
                    return True
    return False


def _check_alone(theirs: set[str], clips: list[RawClip], wanted: Wanted, is_theirs: Callable[[RawClip], bool]) -> None:
    """Refuse, before anything has happened, what would cost others their recordings, or would leave some of theirs.

    Raises: UserError for recordings in whose parts others speak, and for archives of features.
    """
    for clip in clips:
        if clip.begins_s is not None and normal_path(clip.recorded_file) in theirs and not is_theirs(clip):
            raise UserError(
                f"{paths.RAW / clip.recorded_file}: not all of its parts are known to be of {wanted.name}: remove it, "
                "or what they say in it, and the rows yourself, "
                f"run 'dvc add {paths.RAW}', then this again for all older versions"
            )
    for source in sorted({name.split("/")[0] for name in theirs}):
        for archive in sorted((paths.RAW / source).rglob(f"*{FEATURES}")):
            raise UserError(
                f"{archive} holds features of many recordings, out of which this cannot take single ones: remove it, "
                "nothing here reads it, then run this again"
            )


def clips_in_raw() -> list[RawClip]:
    """All that a table in data/raw names, also what no stage reads."""
    sources = [path for path in sorted(paths.RAW.glob("[!.]*")) if path.is_dir()]
    return read_sources(paths.RAW)[0] + [clip for source in sources for clip in clips_beside(source)]


def speakers() -> list[str]:
    """Everybody with a recording, a consent or phrases of their own."""
    names = {clip.speaker for clip in clips_in_raw()} | _agreed()
    names |= {clean(change.row.get("speaker") or "") for change in inbox.pending()}
    names |= {clean(name) for name in read_names(reading.OWN_PHRASES)}
    names |= {clean(name) for known in read_names(paths.PSEUDONYMS).values() for name in known["speakers"]}
    return sorted(name for name in names if name)


def _agreed() -> set[str]:
    """Speakers with a consent in data/raw."""
    consents = paths.RAW.glob(f"*/{inbox.CONSENTS}")
    return {clean(str(row.get("speaker"))) for path in consents for row in rows_of(path.read_bytes())}


def published(speaker: str | None) -> list[Repository]:
    """What the receipts say is on the Hub; then what may be: named in params.yaml, or in an older one in git."""
    found: dict[tuple[str, str], Repository] = {}

    def add(kind: str, repo_id: str | None, why: str) -> None:
        if repo_id:
            found.setdefault((kind, repo_id), Repository(kind, repo_id, why))

    for stage, stage_kind in RECEIPTS.items():
        path = paths.RECEIPTS / f"{stage}.json"
        receipt = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for kind, part in (stage_kind, receipt), ("dataset", receipt.get("dataset") or {}):
            if part.get("published"):
                add(kind, part.get("repo_id") or part.get("space_id"), str(path))
    for repo_id, known in read_names(paths.PSEUDONYMS).items():
        if speaker in map(clean, known["speakers"]):
            add("dataset", repo_id, str(paths.PSEUDONYMS))
    texts = [(str(path), path.read_text(encoding="utf-8")) for path in [PARAMS_FILE] if path.exists()]
    texts += [(f"{PARAMS_FILE} of {commit[:7]}", text) for commit, text in versions_in_git(str(PARAMS_FILE))]
    for where, text in texts:
        with contextlib.suppress(YAMLError, AttributeError):  # older ones need not be as ours
            values = YAML(typ="safe").load(text)
            push, deploy = values.get("push") or {}, values.get("deploy") or {}
            dataset = push.get("dataset") or {}
            why = f"{PERHAPS}: {where} names it"
            add("model", push.get("enabled") and push.get("repo_id"), why)
            add("dataset", dataset.get("enabled") and dataset.get("repo_id"), why)
            add("space", deploy.get("enabled") and deploy.get("space_id"), why)
    return list(found.values())


def _older_recording(file: str, content: bytes, row: dict, path: Path) -> Recording:
    return Recording.of(
        file,
        "older",
        content,
        language=str(row.get("language") or ""),
        duration_s=row.get("duration_s"),
        since=_since(row.get("recorded_at"), path),
    )


def _since(recorded_at: str | None, path: Path) -> float:
    """When a recording was made, or at the latest: seconds since 1970."""
    with contextlib.suppress(ValueError, TypeError):
        return datetime.fromisoformat(recorded_at).timestamp()
    return path.stat().st_mtime


def _lengths() -> dict[str, float]:
    """Seconds of recordings, by id (as prepared) and by file (as the page measured them)."""
    lengths = {clip.file: clip.duration_s for clip in inbox.stored_clips() if clip.duration_s is not None}
    prepared = paths.PREPARED / inbox.CLIPS
    return lengths | {row["id"]: row["duration_s"] for row in (read_jsonl(prepared) if prepared.exists() else [])}


def read_names(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def normal_path(name: str) -> str:
    return os.path.normpath(name.strip())

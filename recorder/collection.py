"""All recordings together, as the Clips page shows them: order, search, what to check and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recorder.inbox import SOURCES, StoredClip
from recorder.phrases import LANGUAGES
from stages.common import paths
from stages.common.files import read_jsonl
from stages.common.stage import UserError
from stages.speech.names import AUDIO_SUFFIXES


def search(clips: Sequence[StoredClip], words: str) -> list[StoredClip]:
    """Clips that have each of the words in their text, speaker or language, in any case."""
    wanted = words.casefold().split()
    return [clip for clip in clips if all(word in _searched(clip) for word in wanted)]


def other_folders() -> list[str]:
    """Names of the folders of data/raw that the page does not write."""
    folders = paths.RAW.iterdir() if paths.RAW.is_dir() else []
    return sorted(one.name for one in folders if one.is_dir() and one.name not in SOURCES and one.name[0] != ".")


def rejected(stored: Sequence[StoredClip]) -> list[dict]:
    """What the last preparation could not use (file, reason, remedy), without what has been deleted since."""
    return _not_deleted(stored, _rows(paths.PREPARED / "rejected.jsonl"))


def to_review(stored: Sequence[StoredClip]) -> list[dict]:
    """Clips that training uses but a person should hear (file, text, reason, listen_for), without deleted ones.

    From prepare, and from `make review` if somebody has run it.
    """
    return _not_deleted(stored, [*_rows(paths.PREPARED / "review.jsonl"), *_rows(paths.REVIEW / "base_model.jsonl")])


def language_name(code: str | None) -> str:
    return LANGUAGES[code].name if code in LANGUAGES else (code or "no language")


def _not_deleted(stored: Sequence[StoredClip], rows: Sequence[dict]) -> list[dict]:
    there = {clip.file for clip in stored}
    return [row for row in rows if row["file"] in there or not _is_deleted(row["file"])]


def _is_deleted(file: str) -> bool:
    is_ours = file.split("/")[0] in SOURCES and Path(file).suffix in AUDIO_SUFFIXES
    return is_ours and not (paths.RAW / file).exists()


def _searched(clip: StoredClip) -> str:
    code = clip.language or ""
    own_name = LANGUAGES[code].own_name if code in LANGUAGES else ""
    return f"{clip.text} {clip.speaker or ''} {code} {language_name(code)} {own_name}".casefold()


def _rows(path: Path) -> list[dict]:
    """Rows of a file; none if it is not there, such as before the first preparation."""
    if not path.exists():
        return []
    try:
        return read_jsonl(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}. Run 'dvc repro' to make it again.") from None

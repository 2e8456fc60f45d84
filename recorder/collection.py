"""All recordings together, as the Clips page shows them: order, search, what is left out, and figures of the set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from recorder.inbox import SOURCES, StoredClip
from recorder.phrases import LANGUAGES
from stages.common import paths
from stages.common.files import read_jsonl
from stages.common.stage import UserError
from stages.speech.clips import AUDIO_SUFFIXES, Clip, read_clips

Found = TypeVar("Found", StoredClip, Clip)


def newest_first(clips: Sequence[StoredClip]) -> list[StoredClip]:
    return sorted(reversed(clips), key=lambda clip: clip.recorded_at or "", reverse=True)


def search(clips: Sequence[Found], words: str) -> list[Found]:
    """Clips that have each of the words in their text, speaker or language, in any case."""
    wanted = words.casefold().split()
    return [clip for clip in clips if all(word in _searched(clip) for word in wanted)]


def from_other_folders() -> list[Clip]:
    """Clips of the last preparation from folders of data/raw that the page does not write."""
    return [clip for clip in _rows(paths.PREPARED / "metadata.jsonl", read_clips) if clip.source not in SOURCES]


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


def minutes_by_voice(clips: Sequence[StoredClip | Clip]) -> list[tuple[str, float]]:
    """Minutes of each language and speaker, the most first."""
    minutes: Counter[str] = Counter()
    for clip in clips:
        minutes[f"{language_name(clip.language)} · {clip.speaker or 'no name'}"] += (clip.duration_s or 0.0) / 60
    return [(voice, round(total, 1)) for voice, total in minutes.most_common()]


def language_name(code: str | None) -> str:
    return LANGUAGES[code].name if code in LANGUAGES else (code or "no language")


def _not_deleted(stored: Sequence[StoredClip], rows: Sequence[dict]) -> list[dict]:
    there = {clip.file for clip in stored}
    return [row for row in rows if row["file"] in there or not _is_deleted(row["file"])]


def _is_deleted(file: str) -> bool:
    is_ours = file.split("/")[0] in SOURCES and Path(file).suffix in AUDIO_SUFFIXES
    return is_ours and not (paths.RAW / file).exists()


def _searched(clip: StoredClip | Clip) -> str:
    code = clip.language or ""
    own_name = LANGUAGES[code].own_name if code in LANGUAGES else ""
    return f"{clip.text} {clip.speaker or ''} {code} {language_name(code)} {own_name}".casefold()


def _rows(path: Path, read: Callable[[Path], list] = read_jsonl) -> list:
    """Rows of a file; none if it is not there, such as before the first preparation."""
    if not path.exists():
        return []
    try:
        return read(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}. Run 'dvc repro' to make it again.") from None

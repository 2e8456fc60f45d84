"""What the columns of a table hold: by the names that tools give them, or, without names, by all of their cells."""

from __future__ import annotations

import functools
import re
from collections import Counter
from pathlib import Path

from stages.speech.names import AUDIO_SUFFIXES
from stages.speech.text import UNSPACED, normalise

# The names that tools give to a column, the first that a table has; in small letters, without spaces and hyphens.
COLUMNS = {
    "audio_path": ("audio_path", "file", "file_name", "filename", "audio_file", "audio_filepath", "wav_filename",
                   "path", "file_path", "filepath", "wav_path", "wav", "audio"),
    "text": ("text", "sentence", "transcription", "transcript", "normalized_text", "normalised_text", "normalized",
             "normalised"),
    "language": ("language", "lang", "locale"),
    "speaker": ("speaker", "speaker_id", "speaker_name", "client_id"),
}  # fmt: skip
OPTIONAL_FIELDS = ("language", "speaker", "session", "prompt_id", "recorded_at")
NO_NAME = re.compile(r"[a-z]{2}([-_][a-z]{2})?|m|f|male|female", re.IGNORECASE)  # a language or initials, a sex


@functools.lru_cache  # the rows of a JSON table have the same
def names_of(header: tuple[str, ...]) -> list[str]:
    """Names of columns as COLUMNS writes them."""
    return [re.sub(r"[\s-]+", "_", name.strip(" \"'\ufeff\r\n").lower()) for name in header]


def by_our_names(row: dict) -> dict:
    """A row with our names beside its own."""
    named = dict(row)
    for ours, names in COLUMNS.items():
        theirs = next((name for name in names if name in row), ours)
        if theirs != ours and row[theirs] is not None:
            named[ours] = row[theirs]
    return named


def meaning_of(pairs: list[tuple[str, str]]) -> str | None:
    """What a column holds, from its (text, cell) pairs.

    Returns: "text" if it is the texts in words; "speaker" for short names that come again; "unused" for numbers, paths
        and other short cells; None if that is not certain, and the texts could be the names.
    """
    texts, cells = ([_words(one) for one in column] for column in zip(*pairs, strict=True)) if pairs else ([], [])
    plain = [[word for word in text if not _has_digit(word)] for text in texts]
    kept = sum((Counter(text) & Counter(cell)).total() for text, cell in zip(plain, cells, strict=True))
    in_texts, in_cells = sum(map(len, texts)), sum(map(len, cells))
    if kept >= 0.75 * sum(map(len, plain)) > 0 and in_cells <= 2 * in_texts:  # 1455: fourteen hundred and fifty-five
        return "text"
    names = {cell for _, cell in pairs}
    # Texts that come again more often than the cells may be names, or describe the recordings.
    are_sentences = in_texts > 3 * len(pairs) and len({text for text, _ in pairs}) >= len(names)
    if all(cell == str(len(text)) for text, cell in pairs):
        return "unused"  # how many letters it has
    if not any(map(str.isalpha, "".join(names))):
        is_said = not are_sentences and all(map(str.isdigit, names))
        return None if is_said and any(text != cell for text, cell in pairs) else "unused"
    if all(Path(name).suffix.lower() in AUDIO_SUFFIXES for name in names):
        return "unused"
    if are_sentences and 2 * in_cells <= in_texts:
        is_speaker = 2 * len(names) <= len(pairs) and not any(map(NO_NAME.fullmatch, names))
        return "speaker" if is_speaker else "unused"
    return None


def is_other(text: str, cell: str) -> bool:
    """Whether a text has words, and a cell none of them."""
    plain = {word for word in _words(text) if not _has_digit(word)}
    return bool(plain) and plain.isdisjoint(_words(cell))


def _has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


def _words(text: str) -> list[str]:
    """Compared by: words, and the characters of scripts that leave no space between words."""
    return UNSPACED.sub(r" \g<0> ", normalise(text)).split()

"""Texts made comparable before errors are counted: the same way for what was said and what was heard.

English goes through Whisper's normaliser, as on the Open ASR Leaderboard: spelling, numbers, titles, contractions and
hesitations no longer count. Every other language keeps all its letters and marks, and loses case and punctuation alone
(text.normalise says why). Where words are not parted by spaces, each character counts as a word.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from importlib import resources

import regex

from stages.speech.text import normalise

# Languages whose writing has no spaces between words; ISO 639-1 where there is one.
WITHOUT_SPACES = frozenset({"bo", "ja", "km", "lo", "my", "th", "yue", "zh"})


def comparable(reference: str, hypothesis: str, language: str | None) -> tuple[str, str]:
    """Both texts normalised for a language (ISO 639-1, None: any but English).

    Whisper's normaliser drops hesitations: where it leaves nothing of the reference ("hmm"), both texts keep theirs.
    """
    for normaliser in (_english(), normalise) if language == "en" else (normalise,):
        said, heard = normaliser(reference).strip(), normaliser(hypothesis).strip()
        if said:
            break
    return said, heard


def words_of(text: str, language: str | None) -> list[str]:
    """What counts as one word each: parted by spaces, or each character as a reader sees it (UAX 29 cluster)."""
    if language in WITHOUT_SPACES:
        return [character for character in regex.findall(r"\X", text) if not character.isspace()]
    return text.split()


def characters_of(text: str, language: str | None) -> str:
    """The characters (code points) that count; spaces are some of them only where they part words."""
    return "".join(text.split()) if language in WITHOUT_SPACES else " ".join(text.split())


@functools.cache
def _english() -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    # British to American spelling; transformers fetches this table from the Hub, together with a tokenizer.
    table = resources.files("whisper_normalizer") / "normalizers/english.json"
    return EnglishTextNormalizer(json.loads(table.read_text(encoding="utf-8")))

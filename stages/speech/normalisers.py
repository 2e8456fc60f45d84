"""Normalising texts before errors are counted, reference and hypothesis in the same way.

English: Whisper's normaliser, as on the Open ASR Leaderboard (spelling, numbers, titles, contractions and hesitations
do not count). Other languages lose case and punctuation, and keep all letters and marks (see text.normalise). In
languages without spaces between words, each character counts as a word.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from stages.speech.text import normalise

# Languages written without spaces between words; ISO 639-1 if there is such a code.
WITHOUT_SPACES = frozenset({"bo", "ja", "km", "lo", "my", "th", "yue", "zh"})


def comparable(reference: str, hypothesis: str, language: str | None) -> tuple[str, str]:
    """Both texts normalised for a language (ISO 639-1, None: any but English).

    Whisper's normaliser drops hesitations. If that leaves nothing of the reference ("hmm"), both texts keep theirs.
    """
    for normaliser in (_english, normalise) if language == "en" else (normalise,):
        said, heard = normaliser(reference).strip(), normaliser(hypothesis).strip()
        if said:
            break
    return said, heard


def words_of(text: str, language: str | None) -> list[str]:
    """Words: separated by spaces, or in a language without spaces each character (UAX 29 grapheme cluster)."""
    if language in WITHOUT_SPACES:
        import regex  # imported here: most runs of prepare need none

        return [character for character in regex.findall(r"\X", text) if not character.isspace()]
    return text.split()


def characters_of(text: str, language: str | None) -> str:
    """The characters (code points) that count: with the spaces between words, if the language has them."""
    return "".join(text.split()) if language in WITHOUT_SPACES else " ".join(text.split())


@functools.lru_cache(maxsize=50_000)  # each text is compared several times
def _english(text: str) -> str:
    return _english_normaliser()(text)


@functools.cache
def _english_normaliser() -> Callable[[str], str]:
    # The same rules as in transformers, which fetches their table of spellings from the Hub.
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()

"""Transcripts: cleaned before training, normalised only for comparing."""

from __future__ import annotations

import functools
import re
import unicodedata

# Format characters that change how a word is written: joiners of Indic scripts and Persian.
JOINERS = "\u200c\u200d"


def clean(text: str) -> str:
    """Unicode NFC, single spaces, nothing invisible or broken; case and punctuation stay as the person wrote them."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(
        " " if char.isspace() else char
        for char in text
        if char.isspace() or char in JOINERS or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
    )
    return " ".join(text.split())


def normalise(text: str) -> str:
    """For comparing: case folded, punctuation and symbols gone, apostrophes closed up, single spaces.

    Combining marks stay: dropping them, as Whisper's basic normaliser does, deletes the vowels of Hindi (arXiv
    2409.02449).
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"(?<=\w)['’](?=\w)", "", text)
    kept = (" " if unicodedata.category(char)[0] in "PSZC" and char not in JOINERS else char for char in text)
    return " ".join("".join(kept).split())


@functools.cache
def control_strings() -> tuple[str, ...]:
    """The strings that Voxtral's tokenizers give a meaning, such as `[AUDIO]` and `</s>`."""
    from mistral_common.tokens.tokenizers.base import SpecialTokens

    return tuple(token.value for token in SpecialTokens)


def find_control_string(text: str) -> str | None:
    """The first control string in a text, None where there is none."""
    return next((control for control in control_strings() if control in text), None)

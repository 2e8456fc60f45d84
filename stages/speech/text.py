"""Transcripts: cleaned before training, normalised only for comparing."""

from __future__ import annotations

import functools
import re
import unicodedata

# Format characters that change how a word is written: joiners of Indic scripts and Persian.
JOINERS = "\u200c\u200d"
APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")


@functools.lru_cache(maxsize=100_000)  # names of speakers and sessions come again and again, texts twice
def clean(text: str) -> str:
    """Unicode NFC, single spaces, nothing invisible or broken; case and punctuation stay as the person wrote them."""
    text = unicodedata.normalize("NFC", text)
    if text.isprintable():  # as nearly all are: nothing below would change it
        return " ".join(text.split())
    text = "".join(
        " " if char.isspace() else char
        for char in text
        if char.isspace() or char in JOINERS or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
    )
    return " ".join(text.split())


@functools.lru_cache(maxsize=100_000)  # a clip's text is looked at several times
def normalise(text: str) -> str:
    """For comparing: case folded, punctuation and symbols gone, apostrophes closed up, single spaces.

    Combining marks stay: dropping them, as Whisper's basic normaliser does, deletes the vowels of Hindi (arXiv
    2409.02449).
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    if "'" in text or "’" in text:
        text = APOSTROPHE.sub("", text)
    return " ".join(text.translate(_WITHOUT_MARKS).split())


class _WithoutMarks(dict):
    """For str.translate: a space for each character that is punctuation, a symbol or invisible."""

    def __missing__(self, code: int) -> int:
        char = chr(code)
        self[code] = ord(" ") if unicodedata.category(char)[0] in "PSZC" and char not in JOINERS else code
        return self[code]


_WITHOUT_MARKS = _WithoutMarks()


# What Voxtral's tokenizers give a meaning. mistral-common names them (SpecialTokens; tests/test_text.py compares), but
# takes as long to import as all of prepare's own work.
CONTROL_STRINGS = """
    <unk> <s> </s> <pad> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS]
    [TOOL_CALLS] [TOOL_CONTENT] [ARGS] [CALL_ID] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [MODEL_SETTINGS] [/MODEL_SETTINGS]
    [PREFIX] [MIDDLE] [SUFFIX] [IMG] [IMG_BREAK] [IMG_END] [AUDIO] [BEGIN_AUDIO] [TRANSCRIBE] [THINK] [/THINK]
    [STREAMING_PAD] [STREAMING_WORD] [NEXT_AUDIO_TEXT] [REPEAT_AUDIO_TEXT]
""".split()  # noqa: SIM905  a list would have one on each line


def find_control_string(text: str) -> str | None:
    """The first control string in a text, None where there is none."""
    if "<" not in text and "[" not in text:  # one of these is in each of them, and in hardly any text
        return None
    return next((control for control in CONTROL_STRINGS if control in text), None)

"""Transcripts and their languages: cleaned before training, normalised for grouping, divided into words.

To add a language that has no spaces between words: WITHOUT_SPACES.
"""

from __future__ import annotations

import functools
import re
import unicodedata

# Those that Voxtral was made for, by the cards of Voxtral-Mini-3B-2507 and Voxtral-Small-24B-2507 on the Hub. It takes
# others, and understands them less well.
VOXTRAL_LANGUAGES = {
    "en": "English", "es": "Spanish", "fr": "French", "pt": "Portuguese", "hi": "Hindi", "de": "German", "nl": "Dutch",
    "it": "Italian",
}  # fmt: skip
# Format characters that change how a word is written: joiners of Indic scripts and Persian.
JOINERS = "\u200c\u200d"
# Languages and scripts written without spaces between words: scored and counted by characters.
WITHOUT_SPACES = frozenset({"bo", "ja", "km", "lo", "my", "th", "zh"})
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")  # Thai to Han
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
    """Case folded, punctuation and symbols gone, apostrophes closed up, single spaces.

    The split's groups are hashes of it, so a change would move clips between training and test: what scoring makes
    equal besides is in comparing.py. Combining marks stay: dropping them, as Whisper's basic normaliser does, deletes
    the vowels of Hindi (arXiv 2409.02449).
    """
    text = APOSTROPHE.sub("", unicodedata.normalize("NFKC", text).casefold())
    kept = (
        " " if unicodedata.category(char)[0] in "PSZC" and char not in JOINERS else char  # punctuation, symbol, space
        for char in text
    )
    return " ".join("".join(kept).split())


# Strings with a meaning for Voxtral's tokenizers, from mistral-common's SpecialTokens (tests/test_text.py compares),
# whose import takes as long as all of prepare's own work.
CONTROL_STRINGS = """
    <unk> <s> </s> <pad> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS]
    [TOOL_CALLS] [TOOL_CONTENT] [ARGS] [CALL_ID] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [MODEL_SETTINGS] [/MODEL_SETTINGS]
    [PREFIX] [MIDDLE] [SUFFIX] [IMG] [IMG_BREAK] [IMG_END] [AUDIO] [BEGIN_AUDIO] [TRANSCRIBE] [THINK] [/THINK]
    [STREAMING_PAD] [STREAMING_WORD] [NEXT_AUDIO_TEXT] [REPEAT_AUDIO_TEXT]
""".split()  # noqa: SIM905  a list would have one on each line


def find_control_string(text: str) -> str | None:
    """The first control string in a text, None if there is none."""
    return next((control for control in CONTROL_STRINGS if control in text), None)


def words_of(text: str, language: str | None) -> list[str]:
    """Words: separated by spaces, or in a language without spaces each character (UAX 29 grapheme cluster)."""
    if language in WITHOUT_SPACES:
        import regex  # imported here: most runs of prepare need none

        return [character for character in regex.findall(r"\X", text) if not character.isspace()]
    return text.split()


def characters_of(text: str, language: str | None) -> str:
    """The characters (code points) that count: with the spaces between words, if the language has them."""
    return "".join(text.split()) if language in WITHOUT_SPACES else " ".join(text.split())


def is_accepted(code: str) -> bool:
    """True for the codes (ISO 639-1, such as `en`) that mistral-common takes in a transcription request.

    It asks the same list (tests/test_text.py compares), but takes as long to import as all of prepare's own work.
    """
    import pycountry  # imported here: most stages need none

    return pycountry.languages.get(alpha_2=code) is not None

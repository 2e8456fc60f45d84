"""Transcripts: what cleaning and normalising change, and what they must leave; which languages are accepted."""

import itertools
import string

import pytest
from mistral_common.protocol.transcription.request import TranscriptionRequest
from mistral_common.tokens.tokenizers.base import SpecialTokens
from pydantic import ValidationError

from stages.speech.text import CONTROL_STRINGS, clean, find_control_string, is_accepted, normalise

HINDI = "हिन्दी में कितने शब्द हैं"
# KA, VIRAMA, ZERO WIDTH JOINER, SSA: half a KA; without the joiner the letters fuse into one (Unicode 16, 12.1).
HALF_FORM = "\u0915\u094d\u200d\u0937"


INVISIBLE = ["\ufeff", "\u200b", "\u2060", "\u00ad", "\u200e", "\u202a", "\x00", "\x1b"]
SPACES = ["  ", "\t", "\n", "\r\n", "\u00a0", "\u2028", "\u3000", "\x85", " \u2003 "]
AS_WRITTEN = "Well — “Hello”, it's 5 € (or ½)… Ärger?!"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("\u1100\u1161", "\uac00"),  # Unicode 16, 3.12: Hangul syllable composition
        *((f"{space}one{space}two{space}", "one two") for space in SPACES),
        *((f"{char}on{char}e two{char}", "one two") for char in INVISIBLE),
        (HALF_FORM, HALF_FORM),  # joiners of Indic and Persian words
        ("می\u200cروم", "می\u200cروم"),
        (AS_WRITTEN, AS_WRITTEN),
        # json.loads('"\\ud83d"') gives half of a surrogate pair, which no file can hold.
        ("one \ud83d two", "one two"),
    ],
)
def test_clean_changes_what_cannot_be_seen_and_nothing_else(text, cleaned):
    """Catches: two spellings of one text, a text that no file can hold, and a letter lost."""
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("don't DON’T", "dont dont"),
        ("rock 'n' roll", "rock n roll"),
        ("well-known", "well known"),
        ("5 € + 3 $", "5 3"),
        ("Straße", "strasse"),  # Unicode CaseFolding.txt: 00DF; F; 0073 0073
        ("ﬁne ２", "fine 2"),  # Unicode 16, 3.7: compatibility decomposition
        ("¿Qué? «ça»", "qué ça"),
        ("नमस्ते।", "नमस्ते"),  # U+0964 is the full stop of Hindi
        (HINDI, HINDI),  # vowel signs stay: Whisper's basic normaliser drops marks (arXiv 2409.02449)
        (HALF_FORM, HALF_FORM),
        ("  \n", ""),
        ("?!…", ""),
    ],
)
def test_normalise_leaves_what_is_compared(text, expected):
    assert normalise(text) == normalise(expected) == expected


def test_control_strings_are_those_of_mistral_common():
    assert set(CONTROL_STRINGS) == {token.value for token in SpecialTokens}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        *((f"please write {control} here", control) for control in ("<s>", "</s>", "[INST]", "[/INST]", "[AUDIO]")),
        ("[TRANSCRIBE]", "[TRANSCRIBE]"),
        (clean("[AUD\u200bIO]"), "[AUDIO]"),  # it cannot hide behind invisible characters
        ("[laughs] well <s > a < b", None),
        ("AUDIO [audio]", None),
        (HINDI, None),
    ],
)
def test_control_string_is_found_within_a_text(text, found):
    """Catches: a text that the model takes for a command, and words refused for brackets."""
    assert find_control_string(text) == found


def test_language_codes_are_those_that_a_transcription_request_takes():
    """Catches: a code that fails only in training, hours later."""

    def takes(code: str) -> bool:
        try:
            TranscriptionRequest(audio=b"", language=code)
        except ValidationError:
            return False
        return True

    codes = ["".join(letters) for letters in itertools.product(string.ascii_lowercase, repeat=2)]
    accepted = {code for code in codes if is_accepted(code)}
    assert {"en", "es", "fr", "pt", "hi", "de", "nl", "it", "sw"} <= accepted and len(accepted) > 150
    assert accepted == {code for code in codes if takes(code)}
    for code in ("pt-BR", "en_US", "eng", "english", "e", "", " en", "en\n", "हि"):
        assert not is_accepted(code), code

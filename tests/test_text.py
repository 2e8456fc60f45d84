"""Transcripts: what cleaning and normalising change, and what they must leave; which languages are accepted."""

import itertools
import os
import string
import subprocess
import sys
import unicodedata

import pytest
from mistral_common.protocol.transcription.request import TranscriptionRequest
from mistral_common.tokens.tokenizers.base import SpecialTokens
from pydantic import ValidationError

from stages.speech.text import CONTROL_STRINGS, clean, find_control_string, is_accepted, normalise
from tests.workspaces import ROOT

HINDI = "हिन्दी में कितने शब्द हैं"
# KA, VIRAMA, ZERO WIDTH JOINER, SSA: half a KA; without the joiner the letters fuse into one (Unicode 16, 12.1).
HALF_FORM = "\u0915\u094d\u200d\u0937"


def test_clean_composes_letters():
    assert clean("cafe\u0301") == "caf\u00e9"
    assert clean("\u1100\u1161") == "\uac00"  # Unicode 16, 3.12: Hangul syllable composition


@pytest.mark.parametrize("space", ["  ", "\t", "\n", "\r\n", "\u00a0", "\u2028", "\u3000", "\x85", " \u2003 "])
def test_clean_leaves_one_space_between_words(space):
    assert clean(f"{space}one{space}two{space}") == "one two"


@pytest.mark.parametrize("invisible", ["\ufeff", "\u200b", "\u2060", "\u00ad", "\u200e", "\u202a", "\x00", "\x1b"])
def test_clean_removes_invisible_characters(invisible):
    assert clean(f"{invisible}on{invisible}e two{invisible}") == "one two"


def test_clean_keeps_the_joiners_of_indic_and_persian_words():
    assert clean(HALF_FORM) == HALF_FORM
    assert clean("می\u200cروم") == "می\u200cروم"


def test_clean_keeps_case_and_punctuation():
    text = "Well — “Hello”, it's 5 € (or ½)… Ärger?!"
    assert clean(text) == text


# json.loads('"\\ud83d"') gives half of a surrogate pair, which no file can hold.
def test_cleaned_text_can_always_be_written_as_utf_8():
    assert clean("one \ud83d two").encode() in (b"one two", "one \ufffd two".encode())


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
        ("  \n", ""),
        ("?!…", ""),
    ],
)
def test_normalise_leaves_what_is_compared(text, expected):
    assert normalise(text) == expected


# Whisper's basic normaliser drops every mark and with it the vowels of Hindi (arXiv 2409.02449).
def test_normalise_keeps_the_vowel_signs_of_hindi():
    marks = [char for char in HINDI if unicodedata.category(char) in ("Mc", "Mn")]
    assert len(marks) == 10
    assert normalise(HINDI) == HINDI
    assert normalise(HALF_FORM) == HALF_FORM


@pytest.mark.parametrize("text", ["Don't — stop!", HINDI, HALF_FORM, "İstanbul", "ǅ ﬃ ²"])
def test_normalise_of_normalised_text_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)


def test_control_strings_are_those_of_mistral_common():
    assert set(CONTROL_STRINGS) == {token.value for token in SpecialTokens}


@pytest.mark.parametrize("control", ["<s>", "</s>", "[INST]", "[/INST]", "[AUDIO]", "[BEGIN_AUDIO]", "[TRANSCRIBE]"])
def test_control_string_is_found_within_a_text(control):
    assert control in CONTROL_STRINGS
    assert find_control_string(f"please write {control} here") == control
    assert find_control_string(control) == control


@pytest.mark.parametrize("text", ["hello", "", "[laughs] well <s > a < b", "AUDIO [audio]", HINDI])
def test_text_without_control_string_passes(text):
    assert find_control_string(text) is None


def test_control_string_cannot_hide_behind_invisible_characters():
    assert find_control_string(clean("[AUD\u200bIO]")) == "[AUDIO]"


# ISO 639-1; the first eight are those that Mistral names for Voxtral Mini (mistral.ai/news/voxtral).
@pytest.mark.parametrize("code", ["en", "es", "fr", "pt", "hi", "de", "nl", "it", "ja", "sw", "no"])
def test_two_letter_code_is_accepted(code):
    assert is_accepted(code)


@pytest.mark.parametrize("code", ["pt-BR", "en_US", "eng", "deu", "english", "xx", "e", "", " ", " en", "en\n", "हि"])
def test_anything_else_is_refused(code):
    assert not is_accepted(code)


def test_codes_are_those_that_a_transcription_request_takes():
    def takes(code: str) -> bool:
        try:
            TranscriptionRequest(audio=b"", language=code)
        except ValidationError:
            return False
        return True

    codes = ["".join(letters) for letters in itertools.product(string.ascii_lowercase, repeat=2)]
    accepted = {code for code in codes if is_accepted(code)}
    assert len(accepted) > 150
    assert accepted == {code for code in codes if takes(code)}


def test_what_knows_languages_is_loaded_only_when_asked(workspace, set_param, record):
    record("phone/a.wav").with_suffix(".txt").write_text("Ich gehe jetzt nach Hause und esse etwas")
    code = "import sys; from stages import prepare; prepare.main(); print('py3langid' in sys.modules)"
    loaded = []
    for limit in (None, 1.0):
        set_param("prepare.filters.max_other_language", limit)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        loaded.append(ran.stdout.split()[-1])
    assert loaded == ["False", "True"]

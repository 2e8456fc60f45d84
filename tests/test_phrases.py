"""Phrases to read aloud: the written ones, and a person's own."""

import unicodedata

import pytest

from recorder.phrases import FOLDER, LANGUAGES, from_file, from_text, prompt_id
from stages.speech.filters import script_fraction
from stages.speech.text import CONTROL_STRINGS, WITHOUT_SPACES, clean, is_accepted, normalise

WITH_100_PHRASES = ["en", "es", "fr", "pt", "hi", "de", "nl", "it"]
QUESTION_MARKS = {"ar": "؟", "el": ";", "ja": "？"}


def length_of(text, language):
    return len(text) if language in WITHOUT_SPACES else len(text.split())


def test_each_language_is_known_to_voxtrals_prompt_and_its_name_is_in_its_script():
    assert len(LANGUAGES) == 28
    for language in LANGUAGES.values():
        assert is_accepted(language.code)
        assert script_fraction(language.own_name, language.code) == 1.0


@pytest.mark.parametrize("code", LANGUAGES)
def test_written_phrases_are_enough_clean_varied_and_easy_to_read(code):
    """A new language's file with digits, addresses, another script, or sentences too long to read at once."""
    content = (FOLDER / f"{code}.txt").read_text(encoding="utf-8")
    assert unicodedata.is_normalized("NFC", content)
    assert [line for line in content.splitlines() if line != clean(line)] == []
    texts = from_file(code)
    assert len(texts) >= (100 if code in WITH_100_PHRASES else 50)
    assert len({normalise(text) for text in texts}) == len(texts)
    shortest, longest = (5, 40) if code in WITHOUT_SPACES else (3, 15)
    for text in texts:
        assert shortest <= length_of(text, code) <= longest, text
        assert script_fraction(text, code) > 0.8, text  # 1 but for the long vowels of Japanese
        assert {unicodedata.category(char)[0] for char in text} <= set("LMPZ"), text  # letters, no digits or signs
        assert not any(control in text for control in CONTROL_STRINGS), text
    assert len({length_of(text, code) for text in texts}) >= 7
    questions = sum(QUESTION_MARKS.get(code, "?") in text for text in texts)
    assert 0.1 <= questions / len(texts) <= 0.5


def test_own_phrases_are_the_lines_cleaned_each_once():
    text = "\ufeffHello there\r\n\r\n  Turn\u00a0on   the light! \nhello THERE.\n...\nझूठ बोलना\n42\n"
    assert from_text(text) == ["Hello there", "Turn on the light!", "झूठ बोलना", "42"]
    assert from_text(" \n\t\n") == []


def test_prompt_id_depends_on_what_is_said_alone():
    # sha256("guten morgen") begins with 05767df2.
    assert prompt_id("de", "Guten Morgen!") == prompt_id("de", " guten   morgen") == "de-05767df2"
    assert prompt_id("en", "Guten Morgen!") == "en-05767df2"
    assert prompt_id("de", "Guten Abend!") != prompt_id("de", "Guten Morgen!")

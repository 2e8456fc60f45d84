"""Phrases to read aloud: the written ones, a person's own, and what the filter lets through."""

import re
import unicodedata
from importlib import resources

import pytest

from recorder import phrases
from recorder.phrases import (
    LANGUAGES,
    ORDINARY_WORDS,
    from_file,
    own_phrases,
    prompt_id,
    usable,
)
from stages.common.stage import UserError
from stages.speech.text import CONTROL_STRINGS, clean, is_accepted, normalise

WITH_100_PHRASES = ["en", "es", "fr", "pt", "hi", "de", "nl", "it"]
QUESTION_MARKS = {"ar": "؟", "el": ";", "ja": "？"}


def length_of(text, language):
    return len(text) if language == "ja" else len(text.split())


# Languages


def test_each_language_is_known_to_voxtrals_prompt_and_its_name_is_in_its_script():
    assert len(LANGUAGES) == 28
    for language in LANGUAGES.values():
        assert is_accepted(language.code)
        assert all(unicodedata.name(char).startswith((*language.scripts, "SPACE")) for char in language.own_name)


# The phrases written for this project


@pytest.mark.parametrize("code", LANGUAGES)
def test_written_phrases_are_enough_clean_and_varied_and_obey_our_own_filter(code):
    content = (phrases.FOLDER / f"{code}.txt").read_text(encoding="utf-8")
    assert unicodedata.is_normalized("NFC", content)
    assert [line for line in content.splitlines() if line != clean(line)] == []
    texts = from_file(code)
    assert len(texts) >= (100 if code in WITH_100_PHRASES else 50)
    assert len({normalise(text) for text in texts}) == len(texts)
    assert usable(texts, code) == texts
    assert len({length_of(text, code) for text in texts}) >= 7
    questions = sum(QUESTION_MARKS.get(code, "?") in text for text in texts)
    assert 0.1 <= questions / len(texts) <= 0.5


def test_unknown_language_is_refused_with_those_there_are():
    for code in ("xx", "../en"):
        with pytest.raises(UserError, match=re.escape(f"{code!r}: choose one of ar, bg, cs")):
            from_file(code)


# A person's own


def test_own_phrases_are_the_lines_cleaned_each_once():
    text = "\ufeffHello there\r\n\r\n  Turn\u00a0on   the light! \nhello THERE.\n...\nझूठ बोलना\n42\n"
    assert own_phrases(text) == ["Hello there", "Turn on the light!", "झूठ बोलना", "42"]
    assert own_phrases(" \n\t\n") == []


def test_prompt_id_depends_on_what_is_said_alone():
    # sha256("guten morgen") begins with 05767df2.
    assert prompt_id("de", "Guten Morgen!") == prompt_id("de", " guten   morgen") == "de-05767df2"
    assert prompt_id("en", "Guten Morgen!") == "en-05767df2"
    assert prompt_id("de", "Guten Abend!") != prompt_id("de", "Guten Morgen!")


# The filter


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Well-known people came – didn’t they?"),
        ("en", "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"),
        ("fr", "« Bonjour », dit-il à Noëlle !"),
        ("de", "„Schöne Grüße“, sagte Frau Groß."),
        ("uk", "П'ять м’ячів тут."),
        ("ja", "「三時ですよ」"),
    ],
)
def test_ordinary_phrase_is_usable(language, text):
    assert usable([text], language) == [text]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Too - short - ."),
        ("en", "One " * 16),
        ("en", "Come at 10 please."),
        ("en", "Chapter Ⅳ is long."),
        ("en", "Look at www.example.com today."),
        ("en", "Write to me@example please."),
        ("en", "Ask e.g. your doctor."),
        ("en", "- Starts with a dash."),
        ("en", "[Applause] thank you all."),
        ("en", "He said 'привет' to me."),
        ("en", "Тhis begins with Cyrillic."),
        ("en", "Smile at me 🙂 please."),
        ("en", "Five € for that."),
        ("en", "... and so on."),
        ("en", f"Turn {CONTROL_STRINGS[0]} the light on."),
        ("hi", "यह phone मेरा है।"),
        ("ja", "はい。"),
        ("ja", "あ" * 41),
        ("ja", "これはOKですね。"),
    ],
)
def test_phrase_that_is_hard_to_read_or_out_of_place_is_not_usable(language, text):
    assert usable([text], language) == []


def test_usable_cleans_keeps_the_order_and_drops_doubles():
    texts = ["Turn  on the\u200b light!", "What time is it?", "turn on the light", "nope", "Cafe\u0301 is over there."]
    assert usable(texts, "en") == ["Turn on the light!", "What time is it?", "Caf\u00e9 is over there."]


@pytest.mark.parametrize("code", ORDINARY_WORDS)
def test_profanities_are_dropped(code):
    """Every word of the package's own list, in a sentence that is usable without it."""
    words = (resources.files("badwords") / f"resource/words/{code}.txt").read_text(encoding="utf-8").split("\n")
    neighbour = from_file(code)[0].strip(".,;:!?¿¡").split()[0]
    assert usable([f"{neighbour} {neighbour} {neighbour}."], code)
    shown = usable([f"{neighbour} {word}, {neighbour}." for word in words if word], code)
    assert [text for text in shown if not any(word in text for word in ORDINARY_WORDS[code])] == []

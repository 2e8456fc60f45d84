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


def test_languages_are_those_of_granary_and_three_more():
    european = set("bg cs da de el en es et fi fr hr hu it lt lv mt nl pl pt ro ru sk sl sv uk".split())  # noqa: SIM905
    assert {code for code, language in LANGUAGES.items() if language.in_granary} == european
    assert set(LANGUAGES) - european == {"ar", "hi", "ja"}
    assert [code for code, language in LANGUAGES.items() if language.direction == "rtl"] == ["ar"]


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=lambda language: language.code)
def test_a_language_is_known_to_voxtrals_prompt_and_its_name_is_in_its_script(language):
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
    kept = usable(texts, code)
    assert [text for text in texts if text not in kept] == []
    lengths = [length_of(text, code) for text in texts]
    shortest, longest = phrases.CHARACTERS if code == "ja" else phrases.WORDS
    assert shortest <= min(lengths) <= shortest + 3
    assert (9 if code != "ja" else 22) <= max(lengths) <= longest
    assert len(set(lengths)) >= 7
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
        ("en", "It's half past ten, isn't it?"),
        ("en", "Well-known people came – didn’t they?"),
        ("en", "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"),
        ("es", "¿Dónde está la estación?"),
        ("fr", "« Bonjour », dit-il à Noëlle !"),
        ("de", "„Schöne Grüße“, sagte Frau Groß."),
        ("el", "Πού είναι ο σταθμός;"),
        ("uk", "П'ять м’ячів тут."),
        ("hi", "क्या आप मेरी मदद करेंगे?"),
        ("hi", "मैं सो रहा हूँ।"),
        ("ar", "هل تسمعني الآن؟"),
        ("ja", "人々はコーヒーを飲みます。"),
        ("ja", "「三時ですよ」"),
    ],
)
def test_ordinary_phrase_is_usable(language, text):
    assert usable([text], language) == [text]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Too short."),
        ("en", "Too - short - ."),
        ("en", "One " * 16),
        ("en", "Come at 10 please."),
        ("en", "Come at ٣ please."),
        ("en", "Chapter Ⅳ is long."),
        ("en", "Look at www.example.com today."),
        ("en", "Look at http://localhost today."),
        ("en", "Write to me@example please."),
        ("en", "Ask e.g. your doctor."),
        ("en", "- Starts with a dash."),
        ("en", "[Applause] thank you all."),
        ("en", "He said 'привет' to me."),
        ("en", "Тhis begins with Cyrillic."),
        ("en", "Smile at me 🙂 please."),
        ("en", "Five € for that."),
        ("en", "Fish & chips please."),
        ("en", "... and so on."),
        ("ru", "Он сказал hello мне."),
        ("el", "Το OK είναι εδώ."),
        ("hi", "यह phone मेरा है।"),
        ("ar", "هذا phone جديد هنا"),
        ("ja", "はい。"),
        ("ja", "あ" * 41),
        ("ja", "これはOKですね。"),
    ],
)
def test_phrase_that_is_hard_to_read_or_out_of_place_is_not_usable(language, text):
    assert usable([text], language) == []


@pytest.mark.parametrize("control", CONTROL_STRINGS)
def test_control_string_is_not_usable(control):
    assert usable([f"Turn {control} the light on."], "en") == []


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


def test_languages_with_profanities_are_all_that_the_package_has():
    from badwords import ProfanityFilter

    profanities = ProfanityFilter()
    profanities.init([])
    assert set(profanities.available_languages()) & set(LANGUAGES) - {"ja"} == set(ORDINARY_WORDS)

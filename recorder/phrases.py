"""Languages, and phrases to read aloud: written for this project or the person's own; granary.py fetches others."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stages.common.stage import UserError
from stages.speech.text import JOINERS, WITHOUT_SPACES, clean, normalise

FOLDER = Path(__file__).with_suffix("")

WORDS = (3, 15)  # shortest and longest phrase
CHARACTERS = (5, 40)  # the same for languages without spaces between words
OPENING = " ¿¡'\"‘“„«‹「『("
PUNCTUATION = set(OPENING + ".,;:!?…-–—’”»›」』)、。！？・،؛؟।·")
# The languages of Granary that badwords-py 3.0.0 has a word list for, each with words that are on the list by mistake:
# a donkey, tiredness, a delay, a cousin, a table, the number six, a ball ...
ORDINARY_WORDS = {
    "cs": [],
    "da": [],
    "de": [],
    "el": ["γάιδαρος"],
    "en": [],
    "es": [],
    "fi": ["väsyttää"],
    "fr": ["retard", "zut"],
    "hu": [],
    "it": [],
    "nl": ["lust", "nicht"],
    "pl": [],
    "pt": ["mesa"],
    "ro": [],
    "ru": [],
    "sv": ["sex"],
    "uk": ["м'яч"],
}


@dataclass(frozen=True)
class Language:
    """A language that there are phrases in; `scripts` begin the Unicode names of its letters."""

    code: str  # ISO 639-1
    name: str
    own_name: str
    direction: Literal["ltr", "rtl"] = "ltr"
    scripts: tuple[str, ...] = ("LATIN",)
    in_granary: bool = True


LANGUAGES = {
    language.code: language
    for language in (
        Language("ar", "Arabic", "العربية", "rtl", scripts=("ARABIC",), in_granary=False),
        Language("bg", "Bulgarian", "български", scripts=("CYRILLIC",)),
        Language("cs", "Czech", "čeština"),
        Language("da", "Danish", "dansk"),
        Language("de", "German", "Deutsch"),
        Language("el", "Greek", "ελληνικά", scripts=("GREEK",)),
        Language("en", "English", "English"),
        Language("es", "Spanish", "español"),
        Language("et", "Estonian", "eesti"),
        Language("fi", "Finnish", "suomi"),
        Language("fr", "French", "français"),
        Language("hi", "Hindi", "हिन्दी", scripts=("DEVANAGARI",), in_granary=False),
        Language("hr", "Croatian", "hrvatski"),
        Language("hu", "Hungarian", "magyar"),
        Language("it", "Italian", "italiano"),
        Language("ja", "Japanese", "日本語", scripts=("HIRAGANA", "KATAKANA", "CJK", "IDEOGRAPHIC"), in_granary=False),
        Language("lt", "Lithuanian", "lietuvių"),
        Language("lv", "Latvian", "latviešu"),
        Language("mt", "Maltese", "Malti"),
        Language("nl", "Dutch", "Nederlands"),
        Language("pl", "Polish", "polski"),
        Language("pt", "Portuguese", "português"),
        Language("ro", "Romanian", "română"),
        Language("ru", "Russian", "русский", scripts=("CYRILLIC",)),
        Language("sk", "Slovak", "slovenčina"),
        Language("sl", "Slovenian", "slovenščina"),
        Language("sv", "Swedish", "svenska"),
        Language("uk", "Ukrainian", "українська", scripts=("CYRILLIC",)),
    )
}


def find_language(code: str) -> Language:
    """Raises: UserError if the code is not one of LANGUAGES."""
    if code not in LANGUAGES:
        raise UserError(f"there are no phrases in language {code!r}: choose one of {', '.join(LANGUAGES)}")
    return LANGUAGES[code]


def from_file(code: str) -> list[str]:
    """The phrases written for this project, in their order. Raises: UserError for an unknown language."""
    find_language(code)
    lines = (FOLDER / f"{code}.txt").read_text(encoding="utf-8").splitlines()
    return [clean(line) for line in lines if line.strip() and not line.startswith("#")]


def own_phrases(text: str) -> list[str]:
    """The lines of a text box or file: cleaned, each only once, without those that say nothing."""
    return _without_doubles(clean(line) for line in text.splitlines())


def prompt_id(language: str, text: str) -> str:
    """An id such as `de-1a2b3c4d`, the same for all spellings of a phrase in case and punctuation."""
    return f"{language}-{hashlib.sha256(normalise(text).encode()).hexdigest()[:8]}"


def _without_doubles(texts: Iterable[str]) -> list[str]:
    by_what_is_said: dict[str, str] = {}
    for text in texts:
        by_what_is_said.setdefault(normalise(text), text)
    by_what_is_said.pop("", None)
    return list(by_what_is_said.values())


# What may be shown


def usable(texts: Iterable[str], language: str) -> list[str]:
    """The texts that a person can be asked to read: cleaned, in their order, each once.

    They have 3 to 15 words (Japanese: 5 to 40 characters), begin with a letter, hold only letters of the language's
    script and punctuation (so no digits, addresses or control strings such as `[AUDIO]`), and no word of the list of
    profanities in badwords-py. It has no list for bg, et, hr, lt, lv, mt, sk, sl, ar and hi; its list for ja matches
    whole words only, which Japanese does not mark. In these languages profanity is not filtered.
    """
    spoken = find_language(language)
    return _without_profanity(
        [text for text in _without_doubles(map(clean, texts)) if _is_readable(text, spoken)], language
    )


def _is_readable(text: str, language: Language) -> bool:
    if language.code in WITHOUT_SPACES:
        shortest, longest = CHARACTERS
        length = len(text)
    else:
        shortest, longest = WORDS
        length = sum(any(char.isalpha() for char in word) for word in text.split())
    return (
        shortest <= length <= longest
        and text.lstrip(OPENING)[:1].isalpha()
        and not re.search(r"\w[.:]\w", text)  # addresses and abbreviations
        and all(char in PUNCTUATION or char in JOINERS or _is_of(char, language) for char in text)
    )


def _is_of(char: str, language: Language) -> bool:
    """Whether it is a letter, or a mark on a letter, of the language's script."""
    return unicodedata.category(char)[0] in "LM" and unicodedata.name(char, "").startswith(language.scripts)


def _without_profanity(texts: list[str], language: str) -> list[str]:
    if language not in ORDINARY_WORDS:
        return texts
    from badwords import Options, ProfanityFilter

    profanities = ProfanityFilter()
    # Without its look-alike tables, which take a Cyrillic word for a Latin one that it resembles.
    profanities.init([language], processing_transliterate=False, processing_replace_homoglyphs=False)
    profanities.add_whitelist(ORDINARY_WORDS[language])
    profane = profanities.is_profane_many(texts, Options(split_on_punctuation=True))
    return [text for text, is_profane in zip(texts, profane, strict=True) if not is_profane]

"""Languages, and phrases to read aloud: written for this project, or the person's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stages.speech.text import clean, normalise

FOLDER = Path(__file__).with_suffix("")


@dataclass(frozen=True)
class Language:
    """A language that there are phrases in."""

    code: str  # ISO 639-1
    name: str
    own_name: str
    direction: Literal["ltr", "rtl"] = "ltr"


LANGUAGES = {
    language.code: language
    for language in (
        Language("ar", "Arabic", "العربية", "rtl"),
        Language("bg", "Bulgarian", "български"),
        Language("cs", "Czech", "čeština"),
        Language("da", "Danish", "dansk"),
        Language("de", "German", "Deutsch"),
        Language("el", "Greek", "ελληνικά"),
        Language("en", "English", "English"),
        Language("es", "Spanish", "español"),
        Language("et", "Estonian", "eesti"),
        Language("fi", "Finnish", "suomi"),
        Language("fr", "French", "français"),
        Language("hi", "Hindi", "हिन्दी"),
        Language("hr", "Croatian", "hrvatski"),
        Language("hu", "Hungarian", "magyar"),
        Language("it", "Italian", "italiano"),
        Language("ja", "Japanese", "日本語"),
        Language("lt", "Lithuanian", "lietuvių"),
        Language("lv", "Latvian", "latviešu"),
        Language("mt", "Maltese", "Malti"),
        Language("nl", "Dutch", "Nederlands"),
        Language("pl", "Polish", "polski"),
        Language("pt", "Portuguese", "português"),
        Language("ro", "Romanian", "română"),
        Language("ru", "Russian", "русский"),
        Language("sk", "Slovak", "slovenčina"),
        Language("sl", "Slovenian", "slovenščina"),
        Language("sv", "Swedish", "svenska"),
        Language("uk", "Ukrainian", "українська"),
    )
}


def from_file(code: str) -> list[str]:
    """The phrases written for this project, in their order; `code`: one of LANGUAGES."""
    lines = (FOLDER / f"{code}.txt").read_text(encoding="utf-8").splitlines()
    return [clean(line) for line in lines if line.strip() and not line.startswith("#")]


def from_text(text: str) -> list[str]:
    """Own phrases, the lines of a text box: cleaned, each only once, without those that say nothing."""
    by_what_is_said: dict[str, str] = {}
    for line in map(clean, text.splitlines()):
        by_what_is_said.setdefault(normalise(line), line)
    by_what_is_said.pop("", None)
    return list(by_what_is_said.values())


def prompt_id(language: str, text: str) -> str:
    """An id such as `de-1a2b3c4d`, the same for all spellings of a phrase in case and punctuation."""
    return f"{language}-{hashlib.sha256(normalise(text).encode()).hexdigest()[:8]}"

"""What counts as the same words in scoring. What is learnt, and the split's groups, stay as written.

English goes through Whisper's normaliser, as on the Open ASR Leaderboard: spelling, numbers, titles, contractions and
hesitations no longer count. Other languages keep all letters and lose case and punctuation; numbers in words and in
digits are the same in the languages of ONE. What `unified` makes equal are code points, never words. Sources:
tests/test_comparing.py.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import jiwer
import regex

from stages.speech.text import normalise

if TYPE_CHECKING:
    from text_to_num import Occurence

# Languages whose numbers text2num reads, with the words for one that are articles, too.
ONE = {
    "da": ("en", "et"),
    "de": ("ein", "eine", "einem", "einen", "einer", "eines", "eins"),
    "es": ("un", "una", "uno"),
    "fr": ("un", "une"),
    "it": ("un", "una", "uno"),
    "nl": ("een",),
    "pt": ("um", "uma"),
}
THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}([. '])\d{3}(?:\1\d{3})*(?!\d)")
# Two digits after a point may be a time, two points a date: they stay two numbers.
DECIMAL = re.compile(r"(?<![\d.,])(\d+)(?:,(\d+)(?!,?\d)|\.(\d)(?![.,]?\d|\.))")
LEADING_ZERO = re.compile(r"\b0\d+\b")  # 06 is said digit by digit
DECIMAL_SIGN = "ː"  # a letter, which `normalise` keeps
POINT = re.compile(r"(?<=\d)\.(?=[ºª]|er\b)")  # 3.º in Spanish
# Written in digits; NFKC makes 3o of 3º. The point of German and Danish may end a sentence as well.
ORDINALS = {
    "es": re.compile("(\\d+)(?:er|os?|as?)"),
    "fr": re.compile("(\\d+)(?:ers?|[eè]res?|res?|[eè]mes?|es?|nde?s?)"),
    "it": re.compile("(\\d+)[oa]"),
    "nl": re.compile("(\\d+)(?:ste|de|e)"),
    "pt": re.compile("(\\d+)(?:os?|as?)"),
}
# What text2num reads in longer numbers alone.
ITALIAN_SCALES = {"mila": "1000", "milione": "1000000", "milioni": "1000000", "miliardi": "1000000000"}
SAME = {"één": "een", "én": "en", "ét": "et", "veintiún": "veintiuno"}
SCALES = ("1000", "1000000", "1000000000", "1000000000000")  # "2 mil", "2,5 Millionen"

APOSTROPHES = dict.fromkeys(
    map(ord, "\u2018\u2019\u201b\u02b9\u02bb\u02bc\u02bd\u2032\u2035\u00b4\u0060\u05f3\ua78c"), "'"
)
QUOTES = dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\u05f4"), '"')
DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u05be"), "-")
SIGNS = {**APOSTROPHES, **QUOTES, **DASHES, ord("\u066b"): ".", ord("\u066c"): ","}
# Keyboards have one or the other: yeh and kaf of Persian and of Arabic, heh of Urdu.
LETTERS = str.maketrans("\u06cc\u06a9\u06c1", "\u064a\u0643\u0647")
LETTERS_OF = {
    "az": str.maketrans("Iİ", "ıi"),
    "fa": str.maketrans("\u0649", "\u064a"),
    "fr": str.maketrans({"œ": "oe", "Œ": "oe", "æ": "ae", "Æ": "ae"}),
    "ro": str.maketrans("şŞţŢ", "șȘțȚ"),
    "ru": str.maketrans("ёЁ", "еЕ"),
    "tr": str.maketrans("Iİ", "ıi"),
}
# Invisible characters; Arabic vowel marks and tatweel; Hebrew points. Hindi's marks are its vowels, and stay.
OPTIONAL = regex.compile(
    r"\p{Default_Ignorable_Code_Point}|[\u0610-\u061a\u0640\u064b-\u0652\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed]"
    r"|[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]"
)
OTHER_DIGIT = re.compile(r"(?![0-9])\d")  # Eastern Arabic, Devanagari ...
STRESS = re.compile("(?<=[аеиоуыэюяєіАЕИОУЫЭЮЯЄІ])\u0301")


def comparable(reference: str, hypothesis: str, language: str | None) -> tuple[str, str]:
    """Both texts normalised for a language (ISO 639-1, None: any but English); a number is one word.

    Whisper's normaliser drops hesitations. If that leaves nothing of the reference ("hmm"), both texts keep theirs.
    """
    if language in ONE:
        return _with_numbers(reference, hypothesis, language)
    plain = functools.partial(_plain, language=language)
    for normaliser in (_english, plain) if language == "en" else (plain,):
        said, heard = normaliser(reference).strip(), normaliser(hypothesis).strip()
        if said:
            break
    return said, heard


def unified(text: str, language: str | None) -> str:
    """A text with one code point for each letter and sign that a keyboard, font or file may have in several."""
    # Before NFKC, which makes a space and a mark of an acute accent alone.
    text = unicodedata.normalize("NFKC", text.translate(SIGNS)).translate(LETTERS)
    text = OPTIONAL.sub("", STRESS.sub("", text))
    if letters := LETTERS_OF.get(language or ""):
        text = text.translate(letters)
    text = text.replace("İ", "i").replace("i\u0307", "i")
    return OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)


@functools.lru_cache(maxsize=50_000)  # each text is compared several times
def _plain(text: str, language: str | None) -> str:
    return normalise(unified(text, language))


@functools.lru_cache(maxsize=50_000)
def _english(text: str) -> str:
    return _english_normaliser()(unified(text, "en"))


@functools.cache
def _english_normaliser() -> Callable[[str], str]:
    # The same rules as in transformers, which fetches their table of spellings from the Hub.
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()


class _Token(NamedTuple):
    """A word, or a number as one word. value: the number, as digits. An article or ordinal in words keeps its form."""

    text: str
    value: str = ""
    is_written_in_digits: bool = False
    is_ordinal: bool = False


class _Word(str):
    """A word as text2num asks for it."""

    def text(self) -> str:
        return str(self)

    def nt_separated(self, _: _Word) -> bool:
        return False

    def not_a_number_part(self) -> bool:
        return False


def _with_numbers(reference: str, hypothesis: str, language: str) -> tuple[str, str]:
    """Both texts; where one has digits, the other's article or ordinal of this number is the same word."""
    said, heard = _tokens(reference, language), list(_tokens(hypothesis, language))
    forms = [{token.value for token in tokens if token.value and token.text != token.value} for tokens in (said, heard)]
    digits = [{token.value for token in tokens if token.is_written_in_digits} for tokens in (said, heard)]
    if forms[0] & digits[1] or digits[0] & forms[1]:
        aligned = jiwer.process_words(*(" ".join(token.value or token.text for token in one) for one in (said, heard)))
        for chunk in aligned.alignments[0]:
            if chunk.type == "equal":
                for offset in range(chunk.ref_end_idx - chunk.ref_start_idx):
                    one, other = said[chunk.ref_start_idx + offset], heard[chunk.hyp_start_idx + offset]
                    if _may_be_same(one, other) or _may_be_same(other, one):
                        heard[chunk.hyp_start_idx + offset] = one
    return " ".join(token.text for token in said), " ".join(token.text for token in heard)


def _may_be_same(digits: _Token, words: _Token) -> bool:
    return digits.is_written_in_digits and not words.is_written_in_digits and digits.is_ordinal <= words.is_ordinal


@functools.lru_cache(maxsize=50_000)
def _tokens(text: str, language: str) -> tuple[_Token, ...]:
    text = THOUSANDS.sub(lambda number: re.sub(r"\D", "", number[0]), unified(POINT.sub("", text), language))
    text = DECIMAL.sub(lambda number: f"{number[1]}{DECIMAL_SIGN}{number[2] or number[3]}", text)
    text = LEADING_ZERO.sub(lambda number: " ".join(number[0]), normalise(text)).replace(DECIMAL_SIGN, ",")
    words = [_Word(SAME.get(word, word)) for word in text.split()]
    found: list[_Token] = []
    at = 0
    for start, end, number in _numbers_in(words, language):
        found += [_as_written(word, language) for word in words[at:start]]
        found.append(_as_read(words[start:end], number, language))
        at = end
    found += [_as_written(word, language) for word in words[at:]]
    return tuple(_multiplied(found))


def _numbers_in(words: list[_Word], language: str) -> Iterator[tuple[int, int, Occurence]]:
    """Begin and end among the words, and the number; one that begins with zero word by word, as telephone numbers."""
    from text_to_num import find_numbers  # imported here: English needs none

    for number in find_numbers(words, language, threshold=0):
        if number.text.startswith("0") and number.text.isdigit() and number.end - number.start > 1:
            for at in range(number.start, number.end):
                yield from ((at, at + 1, one) for one in find_numbers(words[at : at + 1], language, threshold=0))
        else:
            yield number.start, number.end, number


def _as_written(word: str, language: str) -> _Token:
    if word[0].isdigit():
        if word.replace(",", "").isdigit():
            return _Token(word, word, is_written_in_digits=True)
        if language in ORDINALS and (ordinal := ORDINALS[language].fullmatch(word)):
            return _Token(f"{ordinal[1]}.", ordinal[1], is_written_in_digits=True, is_ordinal=True)
    if language == "it" and word in ITALIAN_SCALES:
        return _Token(ITALIAN_SCALES[word], ITALIAN_SCALES[word])
    return _Token(word, "1" if word in ONE[language] else "")


def _as_read(words: list[_Word], number: Occurence, language: str) -> _Token:
    if number.is_ordinal or words == ["tercer"]:  # which text2num takes for three
        return _Token("-".join(words), str(int(number.value)), is_ordinal=True)
    if len(words) == 1 and words[0] in ONE[language]:
        return _Token(words[0], "1")
    value = number.text.replace(".", ",")
    return _Token(value, value)


def _multiplied(tokens: list[_Token]) -> Iterator[_Token]:
    """Numbers before a word such as million are one with it, as in "2,5 Millionen"."""
    before = None
    for token in tokens:
        if before and token.text in SCALES and not token.is_written_in_digits:
            is_one = before.value == "1" != before.text and token.text != "1000"  # eine Million, but un mille
            if (before.is_written_in_digits and not before.is_ordinal) or "," in before.value or is_one:
                product = Decimal(before.value.replace(",", ".")) * int(token.text)
                value = f"{product.normalize():f}".replace(".", ",")
                before = _Token(value, value)
                continue
        if before:
            yield before
        before = token
    if before:
        yield before

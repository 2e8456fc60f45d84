"""What scoring takes for the same words: numbers in words and in digits, and one code point for another."""

import pytest

from stages.speech.caveats import verdict
from stages.speech.comparing import comparable
from stages.speech.scoring import relative_improvement, score_clip, summarise
from stages.speech.text import normalise


def errors(reference: str, hypothesis: str, language: str | None) -> tuple[int, int, int]:
    """Word errors, words of the reference, character errors."""
    score = score_clip(reference, hypothesis, language)
    return score.word_errors, score.reference_words, score.character_errors


# Words: Unicode CLDR, rbnf, spellout-numbering and spellout-numbering-year; years by hundreds also Duden, "Jahreszahl".
# Thousands and decimals: CLDR, main/LL.xml, symbols; ISO 80000-1, 7.3: a space between groups of three.
NUMBERS = [
    ("de", ["fünfundzwanzig", "fünf und zwanzig", "Fünfundzwanzig.", "25"], 1),
    ("de", ["dreißig", "dreissig", "30"], 1),
    ("de", ["neunzehnhundertvierundachtzig", "eintausendneunhundertvierundachtzig", "1984"], 1),
    ("de", ["tausend Euro", "eintausend Euro", "1.000 Euro", "1 000 Euro", "1\u202f000 Euro", "1000 Euro"], 2),
    ("de", ["drei Komma fünf", "3,5", "3.5"], 1),
    ("de", ["zwei Komma fünf Millionen", "2,5 Millionen", "2.500.000"], 1),
    ("de", ["eine Million Euro", "1 Million Euro", "1000000 Euro"], 2),
    ("de", ["eins acht null", "1 8 0"], 3),
    ("de", ["null sechs zwölf", "0 6 12", "06 12"], 3),
    ("de", ["null eins sieben", "017"], 3),
    ("fr", ["soixante-dix", "soixante dix", "septante", "70"], 1),  # CLDR, fr_BE and fr_CH: septante
    ("fr", ["quatre-vingt-dix-sept", "quatre vingt dix sept", "nonante-sept", "97"], 1),
    ("fr", ["vingt et un ans", "vingt-et-un ans", "21 ans"], 2),  # Journal officiel 1990-12-06: hyphens throughout
    ("fr", ["mille neuf cent quatre-vingt-quatre", "dix-neuf cent quatre-vingt-quatre", "1 984", "1984"], 1),
    ("fr", ["trois virgule zéro cinq", "3,05"], 1),
    ("es", ["mil novecientos ochenta y cuatro", "1984", "1.984"], 1),
    ("es", ["veintiún mil", "21 mil", "21.000", "21 000"], 1),
    ("es", ["dos millones", "2 millones"], 1),
    ("it", ["millenovecentoottantaquattro", "1984"], 1),
    ("it", ["ventitré", "ventitre", "23"], 1),
    ("it", ["due milioni", "2 milioni", "2.000.000"], 1),
    ("pt", ["dezesseis", "dezasseis", "16"], 1),  # CLDR, pt and pt_PT
    ("pt", ["mil novecentos e oitenta e quatro", "1984"], 1),
    ("nl", ["tweeëntwintig", "22"], 1),
    ("nl", ["negentienhonderdvierentachtig", "negentien honderd vierentachtig", "1984"], 1),
    ("da", ["femogtyve", "25"], 1),
]


@pytest.mark.parametrize(("language", "forms", "words"), NUMBERS)
def test_number_is_the_same_however_it_is_written_and_counts_as_many_words(language, forms, words):
    """Catches: a model that writes numbers as the reference does looks better than one that hears as well."""
    for said in forms:
        for heard in forms:
            assert errors(said, heard, language) == (0, words, 0), (said, heard)


# An ordinal or article is the same word as a number in digits, and not as another form in words.
@pytest.mark.parametrize(
    ("language", "said", "heard", "wrong"),
    [
        ("de", "am dritten Mai", "am 3. Mai", 0),
        ("de", "am 3. Mai", "am dritten Mai", 0),
        ("de", "am dritten Mai", "am dritter Mai", 1),
        ("de", "am dritten Mai", "am drei Mai", 1),
        ("de", "am dritten Mai", "am 4. Mai", 1),
        ("de", "ein Haus", "1 Haus", 0),
        ("de", "ein Haus", "eine Haus", 1),
        ("de", "fünfundzwanzig", "26", 1),
        ("de", "eins acht null", "180", 3),  # digits are not a number
        ("de", "3,5", "3 5", 2),
        ("de", "3.5.2024", "3. 5. 2024", 0),  # a date
        ("fr", "un chat", "1 chat", 0),
        ("fr", "un chat", "une chat", 1),
        ("fr", "le troisième jour", "le 3e jour", 0),
        ("fr", "le troisième jour", "le 3ème jour", 0),
        ("fr", "le trois mai", "le 3e mai", 1),
        ("fr", "la vingt et unième", "la 21e", 0),
        ("es", "el tercer día", "el 3.er día", 0),
        ("es", "la tercera", "la 3.ª", 0),
        ("es", "una casa", "un casa", 1),
        ("it", "il terzo", "il 3º", 0),
        ("it", "una casa e 1 gatto", "una casa e un gatto", 0),
        ("pt", "um gato", "uma gato", 1),
        ("nl", "één huis", "een huis", 0),
        ("nl", "de derde", "de 3e", 0),
    ],
)
def test_ordinals_and_articles_are_unified_with_digits_alone(language, said, heard, wrong):
    """Catches: "un" in digits as an error, and a wrong article or ending that no longer is one."""
    assert errors(said, heard, language)[0] == wrong


# language, said, the same in other code points, source
SAME = [
    # Unicode 16, 6.2: U+2019 is the preferred apostrophe, U+02BC the letter; the others are typed for want of it.
    *[("en", "don't stop", f"don{sign}t stop") for sign in "\u2019\u02bc\u2032\u00b4\u2018\u0060\uff07"],
    *[("uk", "п'ять", f"п{sign}ять") for sign in "\u2019\u02bc"],
    *[("fr", "l'été", f"l{sign}été") for sign in "\u2019\u02bc\u2032"],
    ("en", "twenty-five", "twenty\u2011five"),  # UAX 14: non-breaking hyphen
    ("en", '"yes" - no', "\u201eyes\u201c \u2014 no"),
    # SpecialCasing.txt, tr and az: U+0130 and i, I and U+0131
    *[(language, "Iğdır İli", "ığdır ili") for language in ("tr", "az")],
    ("de", "İstanbul", "istanbul"),  # CaseFolding.txt: 0130; F; 0069 0307
    ("ro", "Şi ţară", "Și țară"),  # Unicode 16, 7.1: comma below; cedilla is for want of it
    ("ru", "за\u0301мок", "замок"),  # the acute marks stress in primers
    ("ru", "всё ещё", "все еще"),  # Rules of Russian orthography 1956, 10: the dots may be left out
    # Unicode 16, 9.2: vowel marks are optional, tatweel only stretches a word; 9.1: Hebrew points are optional
    ("ar", "مُحَمَّدٌ ذَهَبَ", "محمد ذهب"),
    ("ar", "مـــرحبا", "مرحبا"),
    ("he", "שָׁלוֹם", "שלום"),
    ("fa", "\u06a9\u06cc", "\u0643\u064a"),  # kaf and yeh of Persian and of Arabic keyboards: Unicode 16, 9.2
    ("fa", "می\u200cروم", "میروم"),  # DerivedCoreProperties.txt: Default_Ignorable_Code_Point
    ("ar", "١٢٣", "123"),  # UnicodeData.txt: decimal digit values
    ("fa", "۱۲۳", "123"),
    ("hi", "२५", "25"),
    ("hi", "\u0958लम", "\u0915\u093cलम"),  # CompositionExclusions.txt: 0958
    ("vi", "tiếng", "tie\u0302\u0301ng"),  # UAX 15
    ("ko", "\uac00\ub098", "\u1100\u1161\u1102\u1161"),  # Unicode 16, 3.12
    ("el", "ΛΟΓΟΣ", "λογος"),  # CaseFolding.txt: 03C2; C; 03C3
    ("de", "STRAẞE Maß", "strasse MASS"),
    ("ja", "ｶﾀｶﾅ ２", "カタカナ 2"),  # UAX 15: compatibility decomposition
    ("fr", "œuvre", "oeuvre"),
    ("en", "ﬁne ﬂag", "fine flag"),
    *[("de", "Haustür", f"Haus{char}tür") for char in "\u00ad\u200b\u2060\ufeff\ufe0f"],
]


@pytest.mark.parametrize(("language", "said", "heard"), SAME)
def test_other_code_points_for_the_same_letters_are_no_error(language, said, heard):
    """Catches: a model that is better because it learnt which apostrophe is typed."""
    assert said != heard
    assert errors(said, heard, language)[0::2] == (0, 0)
    assert errors(heard, said, language)[0::2] == (0, 0)


@pytest.mark.parametrize(
    ("language", "said", "heard"),
    [
        ("hi", "कितने", "कतने"),  # a vowel sign
        ("hi", "फल", "फ\u093cल"),  # a nukta: another consonant
        ("tr", "ısı", "isi"),
        ("en", "it", "ıt"),
        ("de", "schon", "schön"),
        ("be", "всё", "все"),  # U+0451 is never left out in Belarusian
        ("mk", "\u0453", "г"),  # a consonant with an acute is another letter
        ("ar", "على", "علي"),  # alef maksura: another word
        ("da", "være", "vaere"),
    ],
)
def test_letters_that_make_another_word_stay_errors(language, said, heard):
    assert errors(said, heard, language)[0] == 1


def test_model_that_only_changed_code_points_or_numbers_is_not_better():
    """Catches: push.require passed by spelling alone."""
    heard = ["don\u2019t stop", "it\u2019s twenty-five", "I won\u2019t"] * 20
    written = ["don't stop", "it's 25", "I won't"] * 20
    german = [("am 3. Mai um 12 Uhr", "am dritten Mai um zwölf Uhr"), ("1.000 Schritte", "tausend Schritte")] * 20
    for language, pairs in (("en", list(zip(written, heard, strict=True))), ("de", german)):
        base = [score_clip(said, before, language) for said, before in pairs]
        tuned = [score_clip(said, said, language) for said, _ in pairs]
        improvement = relative_improvement(base, tuned)
        assert verdict({"base": summarise(base), "tuned": summarise(tuned), "improvement": improvement}) != "better"
        assert improvement["difference"] == 0


def test_nothing_said_and_hesitations_alone():
    assert comparable("", "drei", "de") == ("", "3")
    assert comparable("Hmm.", "", "en") == ("hmm", "")


def test_groups_of_the_split_stay_where_they_are():
    """Catches: a change of scoring that moves clips of an existing set between training and test."""
    assert normalise("Fünfundzwanzig donʼt مـرحبا") == "fünfundzwanzig donʼt مـرحبا"

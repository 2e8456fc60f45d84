"""Error rates: known values as fractions with their sources, and intervals whose bounds follow by hand."""

import numpy as np
import pytest

from stages.speech.scoring import ClipScore, differences, relative_improvement, score_clip, summarise, wer_interval
from tests.benchmarks import coverage


def scores_of(*pairs: tuple[str, str]) -> list:
    return [score_clip(reference, hypothesis) for reference, hypothesis in pairs]


# reference, hypothesis, substitutions, deletions, insertions, WER
KNOWN = [
    # Jurafsky and Martin, Speech and Language Processing, 3rd edition draft, chapter on speech recognition: 76.9 %
    (
        "i UM the PHONE IS i LEFT THE portable PHONE UPSTAIRS last night",
        "i GOT IT TO the FULLEST i LOVE TO portable FORM OF STORES last night", 6, 1, 3, 10 / 13,
    ),
    # jiwer, README (version 4.0): wer = 0.5
    ("hello world", "hello duck", 1, 0, 0, 1 / 2),
    # By hand: one of each kind
    ("one two three four five six", "one too three five six seven", 1, 1, 1, 3 / 6),
    ("Don't stop!", "dont, STOP", 0, 0, 0, 0 / 2),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "hypothesis", "substitutions", "deletions", "insertions", "wer"), KNOWN)
def test_word_errors_have_their_known_values(reference, hypothesis, substitutions, deletions, insertions, wer):
    score = score_clip(reference, hypothesis)
    assert score.word_errors / score.reference_words == wer
    assert (score.substitutions, score.deletions, score.insertions) == (substitutions, deletions, insertions)


# language, said, heard, (word errors, words), (character errors, characters)
LANGUAGES = [
    # Whisper's English normaliser: Radford et al. 2022 (arXiv 2212.04356), appendix C: numbers, spelling, contractions.
    ("en", "I'm to colour 23 houses, Mr. Smith!", "i am to color twenty-three houses mister smith", (0, 8), (0, 36)),
    ("en", "Um, don't stop.", "do not stop", (0, 3), (0, 11)),
    ("en", "Hmm.", "mhm", (1, 1), (2, 3)),  # nothing but a hesitation: then it counts
    # Full case folding, Unicode 16.0, CaseFolding.txt: U+00DF folds to "ss".
    ("de", "Straße, 23 Häuser", "STRASSE 24 häuser", (1, 3), (1, 17)),
    # An apostrophe inside a word is none of its letters; U+2019 is the typographic one.
    ("fr", "L’été n'est pas fini.", "l'été n’est pas fini", (0, 4), (0, 18)),
    # U+093F is a vowel sign (general category Mc): dropping it makes another word (arXiv 2409.02449).
    ("hi", "कितने शब्द", "कतने शब्द", (1, 2), (1, 10)),
    # U+060C ARABIC COMMA is punctuation (Po); the vowel mark U+064B is optional: tests/test_comparing.py.
    ("ar", "مرحبا، شكرًا", "مرحبا شكر", (1, 2), (1, 10)),
    # Written without spaces: each character is a word. UAX 29, 4: word boundaries would need a dictionary.
    ("zh", "今天天气很好。", "今天天汽很好", (1, 6), (1, 6)),
    ("ja", "今日は 天気", "今日わ天気", (1, 5), (1, 5)),
    # U+0E31, U+0E35 (Mn) belong to the consonant before: seven clusters of ten code points (UAX 29).
    ("th", "สวัสดีครับ", "สวัสดีคะ", (2, 7), (3, 10)),
]


@pytest.mark.parametrize(("language", "said", "heard", "words", "characters"), LANGUAGES)
def test_each_language_has_its_known_values(language, said, heard, words, characters):
    score = score_clip(said, heard, language)
    assert (score.word_errors, score.reference_words) == words
    assert (score.character_errors, score.reference_characters) == characters


def test_nothing_heard_is_all_deletions_and_nothing_said_has_no_rate():
    """Catches: an empty answer that counts as no error, and a division by zero."""
    for heard in ("", "  ", "…"):
        score = score_clip("one two three", heard)
        assert (score.substitutions, score.deletions, score.insertions) == (0, 3, 0)
        assert score.character_errors == score.reference_characters == len("one two three")
    for said in ("", "  ", "?!"):
        with pytest.raises(ValueError, match="empty reference"):
            score_clip(said, "one")


def test_rate_of_a_set_is_not_the_mean_of_its_clips_rates():
    scores = scores_of(("one", "won"), ("a b c d e f g h i", "a b c d e f g h i"))
    # The mean of the rates would be (1/1 + 0/9) / 2 = 1/2.
    assert summarise(scores) == {
        "wer": 1 / 10,
        "cer": 2 / 20,  # "one" to "won": insert w, delete e; 3 + 17 characters, spaces counted
        "substitutions": 1,
        "deletions": 0,
        "insertions": 0,
        "reference_words": 10,
        "clips": 2,
    }


@pytest.fixture
def mixed():
    """40 clips of 1 to 10 words with 0 to all of them wrong."""
    rng = np.random.default_rng(1)
    words = rng.integers(1, 11, 40)
    return [ClipScore(int(rng.integers(said + 1)), 0, 0, int(said), 0, 1) for said in words]


def clips_of(words: int, *wrong: int) -> list[ClipScore]:
    """Clips of so many words each, with these numbers of errors."""
    return [ClipScore(errors, 0, 0, words, 0, 1) for errors in wrong]


# By hand: units, the jackknife's logarithms, and t of 0.975 (Student's table: 12.706 with one degree of freedom, 4.303
# with two).
@pytest.mark.parametrize(
    ("scores", "reach"),
    [
        # Two clips, left out in turn: log(3.375 / 8) and log(1.375 / 8); half their difference is the standard error.
        (clips_of(8, 1, 3), 12.706 * np.log(3.375 / 1.375) / 2),
        # Three: 4.375 / 16, 3.375 / 16, 2.375 / 16.
        (clips_of(8, 1, 2, 3), 4.303 * np.sqrt(2 / 3 * 3 * np.var(np.log([5.375, 4.375, 3.375])))),
    ],
)
def test_interval_is_students_t_on_the_logarithm_of_the_rate(scores, reach):
    rate = summarise(scores)["wer"]
    low, high = wer_interval(scores)
    assert low == pytest.approx(rate * np.exp(-reach), rel=1e-3)
    assert high == pytest.approx(min(rate * np.exp(reach), 1), rel=1e-3)


def test_interval_of_one_clip_has_no_width_and_insertions_can_pass_all_words_wrong():
    assert wer_interval(clips_of(4, 1)) == (0.25, 0.25)
    assert wer_interval(clips_of(4, 1, 1, 6))[1] == 6 / 4  # the worst clip: 1 would be too low, t would allow any


@pytest.mark.parametrize(("takes", "high"), [(1, 3.689 / 200), (5, 5 * 3.689 / 200)])
def test_no_error_leaves_room_for_what_was_not_seen(takes, high):
    """Catches: 0 % to 0 %. The upper limit of a count of 0 is 3.689 (Garwood 1936), of one take of each phrase."""
    units = [number // takes for number in range(25)]
    assert wer_interval(clips_of(8, *[0] * 25), units) == (0, pytest.approx(high, rel=1e-3))


# (words wrong before, words wrong after) in clips of eight words; wer_relative, low, high
IMPROVEMENTS = [
    # Drawn in pairs, although the clips differ widely; not exactly alike, as 3/8 are added to the counts.
    ([(2, 1), (4, 2), (6, 3), (8, 4)], (0.5, 0.49, 0.51)),
    ([(1, 2)], (-1.0, -1.0, -1.0)),
    ([(0, 1)], (None, None, None)),
    ([(0, 0)] * 3, (None, None, None)),
    ([(3, 3), (1, 1), (0, 0)], (0.0, 0.0, 0.0)),
]


@pytest.mark.parametrize(("wrong", "expected"), IMPROVEMENTS)
def test_improvement_is_the_share_of_errors_that_went_away(wrong, expected):
    base, tuned = (clips_of(8, *(row[place] for row in wrong)) for place in (0, 1))
    found = relative_improvement(base, tuned)
    assert (found["wer_relative"], found["low"], found["high"]) == pytest.approx(expected, abs=0.001)


def test_one_error_less_among_ten_clips_shows_no_improvement():
    found = relative_improvement(clips_of(8, 1, *[0] * 9), clips_of(8, *[0] * 10))
    assert (found["wer_relative"], found["high"]) == (1.0, 1.0)
    assert found["low"] < 0 and found["difference_low"] < 0 < found["difference_high"]


def test_intervals_of_difference_and_improvement_exclude_none_together():
    """Catches: a report that says better in one line and unsure in the next."""
    rng = np.random.default_rng(2)
    outcomes = set()
    for _ in range(200):
        words = rng.integers(3, 13, 12)
        base, tuned = (
            [
                ClipScore(int(wrong), 0, 0, int(said), 0, 1)
                for wrong, said in zip(rng.binomial(words, rate), words, strict=True)
            ]
            for rate in rng.choice([0.03, 0.2, 0.6], 2)
        )
        found = relative_improvement(base, tuned)
        if found["low"] is not None:
            assert (found["low"] > 0, found["high"] < 0) == (found["difference_low"] > 0, found["difference_high"] < 0)
            outcomes.add((found["low"] > 0, found["high"] < 0))
    assert len(outcomes) == 3


def test_differences_show_what_was_replaced_added_and_missed():
    assert differences("Turn on, the light", "turn of the light now") == [
        ("turn", "equal"),
        ("of", "substitute"),
        ("the light", "equal"),
        ("now", "insert"),
    ]
    assert differences("one two", "one") == [("one", "equal"), ("two", "delete")]


def test_difference_has_an_interval_a_p_value_and_what_could_be_seen():
    rng = np.random.default_rng(0)
    base = scores_of(*[("a b c d", " ".join(rng.choice(["a b c d", "x b c d", "x y c d"], 1))) for _ in range(200)])
    tuned = scores_of(*[("a b c d", "a b c d")] * 150, *[("a b c d", "x b c d")] * 50)
    found = relative_improvement(base, tuned)
    assert found["difference"] == pytest.approx(summarise(base)["wer"] - summarise(tuned)["wer"])
    assert 0 < found["difference_low"] < found["difference"] < found["difference_high"]
    assert found["p_value"] == pytest.approx(2 / 2001)  # no swap is as far to either side: the smallest it can be
    assert 0 < found["visible_difference"] < found["difference"]
    same = relative_improvement(base, base)
    assert (same["difference"], same["difference_low"], same["difference_high"]) == (0, 0, 0)
    assert (same["p_value"], same["visible_difference"]) == (1, 0)


def test_p_value_is_that_of_the_sign_test():
    # Six clips better by one word each, none worse: 2 of 2 ** 6 swaps are as far apart.
    base, tuned = clips_of(2, *[1] * 6), clips_of(2, *[0] * 6)
    assert relative_improvement(base, tuned)["p_value"] == 2 / 64
    # Of three phrases with two takes each: 2 of 2 ** 3.
    assert relative_improvement(base, tuned, units=list("aabbcc"))["p_value"] == 2 / 8


def test_takes_of_one_phrase_do_not_narrow_the_intervals(mixed):
    """Ten copies of each clip tell no more than one, where each copy is said to be of the same phrase."""
    copies = [score for score in mixed for _ in range(10)]
    units = [number for number in range(len(mixed)) for _ in range(10)]
    low, high = wer_interval(mixed)
    # 3/8 added to ten times the errors is less.
    assert wer_interval(copies, units) == pytest.approx((low, high), rel=0.01)
    narrow_low, narrow_high = wer_interval(copies)
    assert narrow_high - narrow_low < 0.4 * (high - low)
    once, ten = (
        relative_improvement(scores, scores[::-1], groups) for scores, groups in ((mixed, None), (copies, units))
    )
    assert ten["p_value"] == once["p_value"]
    assert ten["difference_high"] == pytest.approx(once["difference_high"], rel=0.01)


def test_intervals_hold_the_true_rate_and_chance_is_no_difference_as_often_as_they_say():
    """Catches: takes of a phrase that count as phrases. A sample of what tests/benchmarks/coverage.py measures.

    By clip, the interval holds the rate in 60 % of such sets, and p is below 0.05 in 29 %.
    """
    sets = coverage.drawn_sets(rate=0.2, takes=5, phrases=25, alike=False, sets=400)
    intervals = [wer_interval(first, units) for units, first, *_ in sets]
    assert 0.92 <= np.mean([low <= 0.2 <= high for low, high in intervals]) <= 0.98  # 0.95 +- 3 standard errors
    sets = coverage.drawn_sets(rate=0.2, takes=5, phrases=25, alike=False, sets=60)
    found = [relative_improvement(first, second, units) for units, first, second, _ in sets]
    assert sum(one["p_value"] < 0.05 for one in found) <= 8  # 3 expected, 3 standard errors above
    assert sum(one["low"] > 0 for one in found) <= 5  # 1.5 expected

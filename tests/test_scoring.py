"""Error rates: known values as fractions with their sources, and intervals whose bounds follow by hand."""

import numpy as np
import pytest

from stages.speech.scoring import differences, relative_improvement, score_clip, summarise, wer_interval


def scores_of(*pairs: tuple[str, str]) -> list:
    return [score_clip(reference, hypothesis) for reference, hypothesis in pairs]


# reference, hypothesis, substitutions, deletions, insertions, WER
KNOWN = [
    # Jurafsky and Martin, Speech and Language Processing, 3rd edition draft, chapter on speech recognition: 76.9 %
    (
        "i UM the PHONE IS i LEFT THE portable PHONE UPSTAIRS last night",
        "i GOT IT TO the FULLEST i LOVE TO portable FORM OF STORES last night",
        6,
        1,
        3,
        10 / 13,
    ),
    # jiwer, README (version 4.0): wer = 0.5
    ("hello world", "hello duck", 1, 0, 0, 1 / 2),
    # By hand: one of each kind
    ("one two three four five six", "one too three five six seven", 1, 1, 1, 3 / 6),
    ("a", "a b c", 0, 0, 2, 2 / 1),
    ("the same words", "the same words", 0, 0, 0, 0 / 3),
    ("Don't stop!", "dont, STOP", 0, 0, 0, 0 / 2),
]


@pytest.mark.parametrize(("reference", "hypothesis", "substitutions", "deletions", "insertions", "wer"), KNOWN)
def test_word_errors_have_their_known_values(reference, hypothesis, substitutions, deletions, insertions, wer):
    score = score_clip(reference, hypothesis)
    assert score.word_errors / score.reference_words == wer
    assert (score.substitutions, score.deletions, score.insertions) == (substitutions, deletions, insertions)


# Wagner and Fischer's distance; kitten and Saturday are the examples of en.wikipedia.org/wiki/Levenshtein_distance.
@pytest.mark.parametrize(
    ("reference", "hypothesis", "cer"),
    [("kitten", "sitting", 3 / 6), ("saturday", "sunday", 3 / 8), ("flaw", "lawn", 2 / 4), ("a b", "ab", 1 / 3)],
)
def test_character_errors_have_their_known_values(reference, hypothesis, cer):
    score = score_clip(reference, hypothesis)
    assert score.character_errors / score.reference_characters == cer
    assert summarise([score])["cer"] == cer


def test_missing_vowel_sign_of_hindi_is_an_error():
    score = score_clip("कितने शब्द", "कतने शब्द")
    assert (score.substitutions, score.reference_words) == (1, 2)
    assert (score.character_errors, score.reference_characters) == (1, 10)


@pytest.mark.parametrize("hypothesis", ["", "  ", "…"])
def test_empty_hypothesis_is_all_deletions(hypothesis):
    score = score_clip("one two three", hypothesis)
    assert (score.substitutions, score.deletions, score.insertions) == (0, 3, 0)
    assert score.character_errors == score.reference_characters == len("one two three")


@pytest.mark.parametrize("reference", ["", "  ", "?!"])
def test_empty_reference_has_no_rate(reference):
    with pytest.raises(ValueError, match="empty reference"):
        score_clip(reference, "one")


def test_as_written_case_and_punctuation_count():
    assert score_clip("Hello, world.", "hello world").word_errors == 0
    assert score_clip("Hello, world.", "hello world", str).substitutions == 2


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


def test_counts_of_a_set_are_sums():
    scores = [score_clip(reference, hypothesis) for reference, hypothesis, *_ in KNOWN]
    total = summarise(scores)
    assert [total[kind] for kind in ("substitutions", "deletions", "insertions")] == [8, 2, 6]
    assert total["wer"] == 16 / (13 + 2 + 6 + 1 + 3 + 2)


@pytest.fixture
def mixed():
    """40 clips of 1 to 10 words with 0 to all of them wrong."""
    rng = np.random.default_rng(1)
    scores = []
    for _ in range(40):
        words = int(rng.integers(1, 11))
        wrong = int(rng.integers(0, words + 1))
        scores += scores_of((" ".join(["a"] * words), " ".join(["b"] * wrong + ["a"] * (words - wrong))))
    return scores


def test_interval_is_the_same_each_time_and_holds_the_rate(mixed):
    low, high = wer_interval(mixed, samples=1000)
    assert (low, high) == wer_interval(mixed, samples=1000)
    assert (low, high) != wer_interval(mixed, samples=1000, seed=1)
    assert low < summarise(mixed)["wer"] < high


def test_interval_is_as_wide_as_theory_has_it(mixed):
    # Linearised variance of a ratio estimate (Cochran, Sampling Techniques, 2.11): 1.96 standard errors to each side.
    errors = np.array([score.word_errors for score in mixed])
    words = np.array([score.reference_words for score in mixed])
    rate = errors.sum() / words.sum()
    standard_error = np.sqrt(((errors - rate * words) ** 2).sum()) / words.sum()
    low, high = wer_interval(mixed, samples=4000)
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.1)


def test_interval_of_clips_with_the_same_rate_has_no_width():
    scores = scores_of(("a b", "a x"), ("a b c d", "a b x y"), ("a b c d e f", "a b c x y z"))
    assert wer_interval(scores, samples=200) == (0.5, 0.5)


def test_more_clips_make_the_interval_narrower(mixed):
    low, high = wer_interval(mixed, samples=1000)
    more_low, more_high = wer_interval(mixed * 16, samples=1000)
    # 16 times the clips: a quarter of the width.
    assert more_high - more_low == pytest.approx((high - low) / 4, rel=0.15)


def test_improvement_is_the_share_of_errors_that_went_away():
    base = scores_of(("a b c d", "x x c d"), ("a b c d", "x x c d"))
    tuned = scores_of(("a b c d", "x b c d"), ("a b c d", "a b c d"))
    assert relative_improvement(base, tuned, samples=500)["wer_relative"] == 1 - 1 / 4


def test_improvement_draws_both_results_of_a_clip_together():
    # Half of each clip's errors are gone: paired, every draw says 1/2, although the clips themselves differ widely.
    base, tuned = [], []
    for half in (1, 2, 3, 4):
        reference = " ".join(["a"] * 2 * half + ["b"] * (8 - 2 * half))
        base += scores_of((reference, reference.replace("a", "x")))
        tuned += scores_of((reference, reference.replace("a", "x", half)))
    assert [score.word_errors for score in base] == [2, 4, 6, 8]
    assert relative_improvement(base, tuned, samples=200) == {"wer_relative": 0.5, "low": 0.5, "high": 0.5}


def test_worse_model_has_a_negative_improvement():
    base, tuned = scores_of(("a b", "x b")), scores_of(("a b", "x x"))
    assert relative_improvement(base, tuned, samples=100) == {"wer_relative": -1.0, "low": -1.0, "high": -1.0}


def test_perfect_base_leaves_nothing_to_improve():
    perfect, tuned = scores_of(("a b", "a b")), scores_of(("a b", "x b"))
    nothing = {"wer_relative": None, "low": None, "high": None}
    assert relative_improvement(perfect, tuned, samples=100) == nothing
    assert relative_improvement(perfect, perfect, samples=100) == nothing


def test_draws_in_which_the_base_makes_no_error_are_left_out():
    # One clip of ten holds the base's only error: about a third of the draws, (9/10) ** 10, hold none.
    base = scores_of(("a b", "x b"), *[("a b", "a b")] * 9)
    assert relative_improvement(base, scores_of(*[("a b", "a b")] * 10), samples=200)["low"] == 1.0


def test_differences_show_what_was_replaced_added_and_missed():
    assert differences("Turn on, the light", "turn of the light now") == [
        ("turn", "equal"),
        ("of", "substitute"),
        ("the light", "equal"),
        ("now", "insert"),
    ]
    assert differences("one two three", "one three") == [("one", "equal"), ("two", "delete"), ("three", "equal")]
    assert differences("one", "") == [("one", "delete")]

"""The learning curve: a known law is found again, and what cannot be told is not told."""

import numpy as np
import pytest

from stages.commands.learning_curve import fit, points_of, power_law, sentence, sizes_of, standard_error
from stages.common.stage import UserError

MINUTES = np.array([0.5, 1.0, 2.0, 5.0, 10.0, 15.0])


def test_known_law_is_found_again_and_never_falls_below_zero_nor_rises():
    """Catches: a fit that stops in a wrong minimum, or goes below no mistakes at all."""
    law = (0.03, 0.2, 0.8)
    laws = fit(MINUTES[:-1], power_law(MINUTES[:-1], *law), np.full(5, 0.005))
    assert laws[0] == pytest.approx(law, abs=0.01)
    low, high = np.quantile(power_law(15.0, *laws.T), [0.025, 0.975])
    assert low <= power_law(15.0, *law) <= high < low + 0.03
    anything = fit(MINUTES, np.random.default_rng(3).uniform(0, 1, 6), np.full(6, 0.05))
    along = power_law(np.geomspace(0.1, 1000, 50)[:, None], *anything.T)
    assert along.min() >= 0 and np.diff(along, axis=0).max() <= 1e-12


def test_slow_fit_does_not_end_the_run():
    """Catches: hours of training without a result, because scipy gives up on one of the refits."""
    minutes = [21.19122698554829, 24.18842083763983, 32.59583431022538, 58.45323888329199]
    wers = [0.31684368406077257, 0.25916353769202366, 0.2543225586817348, 0.24062089890798563]
    errors = [0.06137785589494178, 0.005, 0.009171473713390443, 0.020999600501172458]
    assert fit(minutes, wers, errors)[0] == pytest.approx((0.048, 0.294, 0.103), abs=0.003)


@pytest.mark.parametrize(
    ("wers", "error", "words"),
    [
        (power_law(MINUTES, 0.0, 0.3, 0.5), 0.005, "about 15 minutes more would bring 7.7% to 5.5% wrong words"),
        ([0.05] * 6, 0.001, "more recordings of this kind would hardly help: 5.0% wrong words"),
        ([0.30, 0.20, 0.28, 0.18, 0.24, 0.20], 0.08, "the data cannot tell whether more would help"),
    ],
)
def test_sentence_says_as_much_as_the_points_do(wers, error, words):
    """Catches: a promise that scattered points do not support."""
    assert sentence(fit(MINUTES, wers, np.full(6, error)), 15.0).startswith(words)


def test_set_without_a_wrong_word_is_no_surer_than_one_wrong_word():
    """Catches: a curve that goes through one lucky point alone."""
    perfect = {"wer_low": 0.0, "wer_high": 0.0, "reference_words": 80}
    assert standard_error(perfect) == 1 / 80
    assert standard_error({"wer_low": 0.1, "wer_high": 0.3, "reference_words": 80}) == pytest.approx(0.1 / 1.96)
    # One wrong word in 80 at each size but the last.
    laws = fit(MINUTES, np.array([0.0125] * 5 + [0.0]), np.full(6, 1 / 80))
    assert power_law(15.0, *laws[0]) > 0.006


def test_every_part_gets_the_updates_of_the_whole(params):
    """Catches: a curve in which the smaller parts are worse because they were trained for a shorter time."""
    train = params.train.model_copy(update={"epochs": 15, "clips_per_update": 8, "min_updates": 100})
    points = points_of([10, 50, None], 101, train)
    assert [point["train.max_clips"] for point in points] == ["10", "50", "null"]
    assert {point["train.min_updates"] for point in points} == {"195"}
    assert {point["train.early_stopping_patience"] for point in points} == {"null"}


def test_sizes_are_those_that_there_are_and_all_or_too_few():
    """Catches: a curve through three points, or a part larger than the whole."""
    assert sizes_of([], available=60) == [10, 20, 50, None]
    assert sizes_of(["200", "25", "50", "75"], available=100) == [25, 50, 75, None]
    for words, message in ((["ten"], "'ten'"), (["25", "50", "200"], "found 2")):
        with pytest.raises(UserError, match=message):
            sizes_of(words, available=100)

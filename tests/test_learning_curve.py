"""The learning curve: a known law is found again, and what cannot be told is not told."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from stages.commands.experiments import Experiment
from stages.commands.learning_curve import fit, power_law, sentence, sizes_of, standard_error
from stages.common.stage import UserError

MINUTES = np.array([0.5, 1.0, 2.0, 5.0, 10.0, 15.0])


def test_known_law_is_found_again_and_holds_out_its_next_point():
    law = (0.03, 0.2, 0.8)
    wers = power_law(MINUTES, *law)
    curve = fit(MINUTES[:-1], wers[:-1], np.full(5, 0.005))
    ahead, low, high = curve.at(15.0)
    assert ahead == pytest.approx(wers[-1], abs=0.003)
    assert low <= wers[-1] <= high
    assert curve.fitted == pytest.approx(law, abs=0.01)


@pytest.mark.slow
def test_interval_holds_a_point_that_the_fit_has_not_seen():
    """In nine of ten curves or more, drawn with the errors that the fit is told of."""
    held = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        wers = power_law(MINUTES, 0.05, 0.3, 0.7) + rng.normal(0, 0.02, len(MINUTES))
        _, low, high = fit(MINUTES[:-1], wers[:-1], np.full(5, 0.02), seed=seed).at(MINUTES[-1])
        held += low <= power_law(MINUTES[-1], 0.05, 0.3, 0.7) <= high
    assert held >= 17


@pytest.mark.parametrize(
    ("wers", "error", "words"),
    [
        (power_law(MINUTES, 0.0, 0.3, 0.5), 0.004, "about 15 minutes more would bring 7.7% to 5.5% wrong words"),
        ([0.05] * 6, 0.001, "more recordings of this kind would hardly help: 5.0% wrong words"),
        ([0.30, 0.20, 0.28, 0.18, 0.24, 0.20], 0.08, "the data cannot tell whether more would help"),
    ],
)
def test_sentence_says_as_much_as_the_points_do(wers, error, words):
    assert sentence(fit(MINUTES, wers, np.full(6, error)), 15.0).startswith(words)


def test_curve_never_falls_below_zero_nor_rises():
    rng = np.random.default_rng(3)
    curve = fit(MINUTES, rng.uniform(0, 1, 6), np.full(6, 0.05))
    along = [curve.at(minutes)[0] for minutes in np.geomspace(0.1, 1000, 50)]
    assert min(along) >= 0 and all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(along))


def test_set_without_a_wrong_word_is_no_surer_than_one_wrong_word():
    perfect = Experiment("curve-1", "", 0.5, 0.0, {}, 0.0, (0.0, 0.0), 3.0, test_words=80)
    assert standard_error(perfect) == 1 / 80
    assert standard_error(replace(perfect, tuned_wer=0.2, wer_interval=(0.1, 0.3))) == pytest.approx(0.1 / 1.96)
    # One wrong word in 80 at each size but the last: the curve goes through all of them, not through the last alone.
    wers = np.array([0.0125] * 5 + [0.0])
    assert fit(MINUTES, wers, np.full(6, 1 / 80)).at(15.0)[0] > 0.006


def test_three_points_are_no_curve():
    with pytest.raises(UserError, match="found 3"):
        fit([1, 2, 3], [0.3, 0.2, 0.1], [0.01] * 3)


def test_sizes_are_those_that_there_are_and_all():
    assert sizes_of([], available=60) == [10, 20, 50, None]
    assert sizes_of(["200", "25", "50"], available=100) == [25, 50, None]
    with pytest.raises(UserError, match="'ten'"):
        sizes_of(["ten"], available=60)

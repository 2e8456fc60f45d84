"""What an evaluation shows is said, what it does not show as well."""

import pytest

from stages.speech.caveats import caveats, conclusion, verdict


@pytest.mark.parametrize(
    ("units", "wer", "difference", "words"),
    [
        (1, 0.3, 0.1, ["One test phrase tells nothing about others"]),
        (1, 0.0, 0.1, ["One test phrase tells nothing about others"]),
        (49, 0.3, 0.1, ["49 different test phrases are few: they can hardly show a change of less than 9 points"]),
        (50, 0.3, 0.1, []),
        (50, 0.3, 0.0, ["equally many mistakes"]),
        (50, 0.0, 0.1, ["among 60. With that many, up to 6.1 % wrong words can still hide"]),
    ],
)
def test_what_a_set_cannot_show_is_said(units, wer, difference, words):
    """Five takes of a phrase are no more than one: the caveats count phrases."""
    found = caveats(
        {
            "units": units,
            "units_by": "prompt",
            "tuned": {"clips": 5 * units, "wer": wer, "wer_high": wer + 0.061, "reference_words": 60},
            "improvement": {"difference": difference, "visible_difference": 0.09},
        }
    )
    assert len(found) == len(words)
    assert all(part in sentence for part, sentence in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("low", "high", "tuned_wer", "difference_high", "units", "expected"),
    [
        (0.01, 0.9, 0.2, 0.1, 30, "better"),
        (0.01, 0.01, 0.2, 0.1, 1, "unsure"),  # one phrase, one speaker ...: nothing about others
        (0.0, 0.9, 0.2, 0.1, 30, "unsure"),
        (-0.5, 0.0, 0.2, 0.0, 30, "unsure"),
        (-0.5, -0.01, 0.2, -0.01, 30, "worse"),
        (None, None, 0.0, 0.1, 30, "perfect"),
        (None, None, 0.1, -0.01, 30, "worse"),  # the base model made no mistake
        (None, None, 0.1, 0.01, 30, "unsure"),
    ],
)
def test_verdict_needs_the_whole_interval(low, high, tuned_wer, difference_high, units, expected):
    improvement = {"low": low, "high": high, "difference_low": -0.4, "difference_high": difference_high}
    assert verdict({"units": units, "tuned": {"wer": tuned_wer}, "improvement": improvement}) == expected


@pytest.mark.parametrize(
    ("difference", "low", "high", "words"),
    [
        (0.321, 0.261, 0.389, "better: 32.1 points fewer wrong words (95 % interval 26.1 to 38.9; p = 0.0005)."),
        (
            0.1,
            -0.05,
            0.2,
            "does not show which model is better: 10.0 points fewer wrong words here, and with other recordings of the "
            "same kind anything from 5.0 points more wrong words to 20.0 points fewer wrong words would be likely (95",
        ),
        (0.0, 0.0, 0.0, "does not show which model is better: no difference here (95 % interval; p = "),
        (0.0004, 0.0, 0.001, "does not show which model is better: hardly any difference here"),
        (-0.3, -0.389, -0.05, "The tuned model is worse: 30.0 points more wrong words (95 % interval 5.0 to 38.9"),
    ],
)
def test_conclusion_claims_a_difference_only_if_the_interval_shows_it(difference, low, high, words):
    measured = {"difference": difference, "difference_low": low, "difference_high": high, "p_value": 0.0005}
    metrics = {
        "units": 60,
        "tuned": {"wer": 0.3},
        "improvement": {"wer_relative": difference, "low": low, "high": high} | measured,
    }
    assert words in conclusion(metrics).replace("\u00a0", " ")

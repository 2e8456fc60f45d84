"""What an evaluation shows is said, what it does not show as well."""

import pytest

from stages.speech.caveats import caveats, conclusion, verdict


@pytest.mark.parametrize(
    ("clips", "wer", "difference", "words"),
    [
        (1, 0.3, 0.1, ["One test recording tells nothing about others"]),
        (49, 0.3, 0.1, ["they can hardly show a change of less than 9 points"]),
        (50, 0.3, 0.1, []),
        (50, 0.3, 0.0, ["equally many mistakes"]),
        (50, 0.0, 0.1, ["among 60. With that many, up to 5.0 % wrong words can still hide"]),  # 3 / 60
    ],
)
def test_what_a_set_cannot_show_is_said(clips, wer, difference, words):
    improvement = {"difference": difference, "visible_difference": 0.09}
    found = caveats({"tuned": {"clips": clips, "wer": wer, "reference_words": 60}, "improvement": improvement})
    assert len(found) == len(words)
    assert all(part in sentence for part, sentence in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("low", "high", "tuned_wer", "expected"),
    [
        (0.01, 0.9, 0.2, "better"),
        (0.0, 0.9, 0.2, "unsure"),
        (-0.5, 0.0, 0.2, "unsure"),
        (-0.5, -0.01, 0.2, "worse"),
        (None, None, 0.0, "perfect"),
        (None, None, 0.1, "worse"),  # the base model made no mistake
    ],
)
def test_verdict_needs_the_whole_interval(low, high, tuned_wer, expected):
    assert verdict({"tuned": {"wer": tuned_wer}, "improvement": {"low": low, "high": high}}) == expected


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
    metrics = {"tuned": {"wer": 0.3}, "improvement": {"wer_relative": difference, "low": low, "high": high} | measured}
    assert words in conclusion(metrics).replace("\u00a0", " ")

"""What an evaluation cannot tell is said, and nothing is doubted that it can."""

from pathlib import Path

import pytest

from stages.common.params import load_params
from stages.evaluate import metrics_of
from stages.speech.caveats import caveats, change, changes
from stages.speech.clips import Clip
from stages.speech.scoring import relative_improvement

PARAMS = load_params(Path("params.yaml")).evaluate


def clip(text: str) -> Clip:
    return Clip(
        id="0" * 16,
        audio_path="audio/0.flac",
        text=text,
        language="en",
        source="s",
        recorded_file="s/0.wav",
        duration_s=2.0,
        peak_dbfs=-3,
        level_dbfs=-20,
        snr_db=30,
        clipped_fraction=0,
    )


def figures(base: list[tuple[str, str]], tuned: list[str]) -> dict:
    clips = [clip(said) for said, _ in base]
    models = {"base": [heard for _, heard in base], "tuned": tuned}
    metrics, scores = {}, {}
    for model, texts in models.items():
        made = [{"text": text, "seconds": 1.0} for text in texts]
        metrics[model], scores[model] = metrics_of(clips, made, PARAMS)
    return metrics | {"improvement": relative_improvement(scores["base"], scores["tuned"], PARAMS.bootstrap_samples)}


def test_what_a_set_cannot_tell_is_said():
    single = caveats(figures([("turn it on", "turn it off")], ["turn it off"]))
    assert single[0] == "One test recording tells nothing about others: the intervals are empty."
    assert "Both models make equally many mistakes here." in single
    perfect = caveats(figures([("turn it on", "turn it off")] * 20, ["turn it on"] * 20))
    assert perfect[-1] == (
        "No word was wrong after training, among 60. With that many, up to 5.0 % wrong words can still hide."  # 3 / 60
    )
    assert caveats(figures([("turn it on", "turn it off"), ("turn it on", "it")] * 30, ["turn it off"] * 60)) == []


@pytest.mark.parametrize(
    ("fewer", "words"),
    [
        (0.1234, "12.3 points fewer wrong words"),
        (-0.05, "5.0 points more wrong words"),
        (0.0, "no difference"),
        (-0.0, "no difference"),
        (0.0004, "hardly any difference"),
        (-0.0004, "hardly any difference"),
    ],
)
def test_change_of_wrong_words_reads_without_a_sign(fewer, words):
    assert change(fewer, "points").replace("\u00a0", " ") == words


def test_interval_of_a_change_names_both_ends():
    found = changes(0.0, 1.0, "%").replace("\u00a0", " ")
    assert found == "anything from no difference to 100.0 % fewer wrong words"

"""What the Results page claims, and what it must not claim."""

import os
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from recorder import results
from recorder.results import HeardClip
from stages.common.files import write_json, write_jsonl
from stages.common.stage import UserError
from tests.recordings import save

SPACE = "\u00a0"


def metrics(base: float, tuned: float, relative, low, high, clips: int = 100, words: int = 500) -> dict:
    ends = {"difference_low": base - 1.5 * tuned, "difference_high": base - tuned / 2}
    both = {"wer_low": 0.0, "wer_high": 1.0, "clips": clips, "reference_words": words}
    return {
        "units": clips,
        "units_by": "clip",
        "base": {"wer": base, **both},
        "tuned": {"wer": tuned, **both},
        "improvement": {
            "wer_relative": relative,
            "low": low,
            "high": high,
            "difference": base - tuned,
            "visible_difference": 0.2,
            **ends,
        },
    }


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (metrics(0.4, 0.1, 0.75, 0.6, 0.8), ("Training helped", "75.0 % fewer", "60.0 % to 80.0 %")),
        (metrics(0.4, 0.3, 0.25, -0.1, 0.5), ("not show an improvement", "10.0 % more wrong words to 50.0 % fewer")),
        (metrics(0.4, 0.3, 0.25, 0.0, 1.0), ("not show an improvement", "no difference to 100.0 % fewer")),
        (metrics(0.4, 0.4, 0.0, 0.0, 0.0), ("not show an improvement",)),
        (metrics(0.4, 0.6, -0.5, -0.9, -0.1), ("made it worse", "50.0 % more wrong words")),
        (metrics(0.0, 0.0, None, None, None), ("nothing to improve",)),
        (metrics(0.0, 0.1, None, None, None), ("made it worse",)),
    ],
)
def test_meaning_claims_an_improvement_only_if_the_whole_interval_shows_one(figures, words):
    meaning = results.meaning(figures).replace(SPACE, " ")
    assert [part for part in words if part not in meaning] == []
    assert ("likely" in meaning) == (figures["improvement"]["low"] not in (None, -0.9, figures["improvement"]["high"]))


def heard(reference: str, base: str, tuned: str, language: str = "en", mistakes: int = 1) -> HeardClip:
    return HeardClip("0" * 16, language, reference, base, tuned, mistakes, mistakes)


def test_differences_carry_a_sign_and_a_word_besides_their_colour():
    html = results.as_html(
        replace(
            heard("Stop, then walk home now", "well stop den walk now", "stop then walk home now"), tuned_mistakes=0
        )
    )
    assert re.search(r"<del [^>]*><span [^>]*>missed: </span>home</del>", html)
    assert re.search(r"<ins [^>]*underline wavy[^>]*><span [^>]*>wrong: </span>den</ins>", html)
    assert re.search(r"<ins [^>]*underline\"[^>]*><span [^>]*>added: </span>well</ins>", html)
    assert "Before, 1 mistake<" in html and "After, all right" in html
    assert ">Stop, then walk home now</p>" in html
    assert ">stop then walk home now</p>" in html, "what was heard right has no mark"


def test_markup_in_a_transcript_is_text_and_its_direction_is_marked():
    hostile = "<script>alert(1)</script> <img src=x onerror=alert(1)>"
    html = results.as_html(heard(hostile, hostile, "<b>heard</b>", '"><script>'))
    assert "<script" not in html and "<img" not in html and "<b>" not in html
    assert "&lt;script&gt;" in html
    assert results.as_html(heard("كم الساعة", "كم", "", "ar")).count('<p lang="ar" dir="rtl"') == 3
    assert '<p lang="sw" dir="auto"' in results.as_html(heard("habari", "", "", "sw"))


# What has been evaluated


@pytest.fixture
def evaluated(workspace: Path) -> Path:
    """An evaluation of two recordings, as the stages write it."""
    both = {"substitutions": 1, "deletions": 0, "insertions": 0, "language": "en", "reference": "one two"}
    rows = [
        {"id": identity, "model": model, "hypothesis": f"{model} {identity}", "wer": wer, "speaker": speaker, **both}
        for model, wers in (("base", (0.5, 0.2)), ("tuned", (0.0, 0.1)))
        for identity, wer, speaker in zip(("easy", "hard"), wers, (None, "Ann"), strict=True)
    ]
    write_jsonl(workspace / "data/evaluation/predictions.jsonl", rows)
    write_json(workspace / "data/evaluation/metrics.json", metrics(0.4, 0.1, 0.75, 0.6, 0.8))
    write_json(workspace / "data/checkpoints/training.json", {"train_clips": 8})
    for part in ("train", "validation", "test"):
        write_jsonl(workspace / f"data/split/{part}.jsonl", [])
    write_jsonl(workspace / "data/prepared/rejected.jsonl", [])
    return workspace


def test_hardest_recordings_come_first_with_what_both_models_heard(evaluated):
    found = results.read()
    assert results.whose(found.clips) == "Ann 1, no name 1"
    assert [(clip.id, clip.base, clip.tuned) for clip in found.clips] == [
        ("hard", "base hard", "tuned hard"),
        ("easy", "base easy", "tuned easy"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("data/evaluation/predictions.jsonl", None, "predictions.jsonl is missing: run 'dvc repro'"),
        ("data/evaluation/metrics.json", '{"base": ', "the results are damaged"),
        ("data/evaluation/predictions.jsonl", '{"model": "third"}', "the results are damaged"),
    ],
)
def test_missing_or_damaged_results_say_what_to_do(evaluated, name, content, words):
    (evaluated / name).unlink()
    if content:
        (evaluated / name).write_text(content)
    with pytest.raises(UserError, match=words):
        results.read()


def test_newer_recordings_are_counted(evaluated):
    assert results.newer_clips() == 0
    first, second = save(0), save(1)
    assert results.newer_clips() == 2
    set_evaluated(evaluated, days=1)
    write_jsonl(evaluated / "data/split/train.jsonl", [{"id": first.id}])
    assert results.newer_clips() == 1, "one is in the split"
    write_jsonl(evaluated / "data/prepared/rejected.jsonl", [{"file": second.file}])
    assert results.newer_clips() == 0, "the other could not be used"
    set_evaluated(evaluated, days=-1)
    assert results.newer_clips() == 1, "prepared and split by a run that failed in training, so not evaluated"


def set_evaluated(workspace: Path, days: int) -> None:
    moment = (datetime.now() + timedelta(days=days)).timestamp()
    os.utime(workspace / "data/evaluation/metrics.json", (moment, moment))

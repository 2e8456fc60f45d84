"""What an evaluation tells a person: what it cannot show, what goes wrong, and report.html."""

from __future__ import annotations

import base64
import csv
from collections import Counter
from collections.abc import Mapping, Sequence

import jinja2

from stages.pipeline import paths
from stages.pipeline.params import EvaluateParams
from stages.speech import mistakes, prepared
from stages.speech.clips import Clip
from stages.speech.scoring import ClipScore, differences

FEW_CLIPS = 50  # below, intervals may hold the truth in less than 93 of 100 cases (tests/benchmarks/coverage.py)


def doubts(metrics: dict) -> list[str]:
    """What these figures cannot tell, in sentences."""
    clips, visible = metrics["tuned"]["clips"], metrics["improvement"]["visible_difference"]
    found = []
    if clips == 1:
        found.append("One test clip tells nothing about others: the intervals are empty.")
    elif clips < FEW_CLIPS:
        found.append(
            f"{clips} test clips are few: they can hardly show a change of less than {100 * visible:.0f} points of the "
            f"word error rate. Four times as many show half of that."
        )
    if metrics["improvement"]["difference"] == 0:
        found.append("Both models make equally many mistakes here.")
    if metrics["tuned"]["wer"] == 0:
        # The rule of three (Hanley and Lippman-Hand 1983): the upper 95 % limit where nothing was counted.
        hidden = min(3 / metrics["tuned"]["reference_words"], 1)
        found.append(f"No word was wrong; with so few words, up to {100 * hidden:.1f} % can still be.")
    return found


def details_of(
    clips: Sequence[Clip],
    texts: Mapping[str, Sequence[str]],
    scores: Mapping[str, Sequence[ClipScore]],
    metrics: dict,
    params: EvaluateParams,
) -> dict:
    """details.json: doubts, words most often wrong, marked words, groups and answers that are no transcripts.

    texts and scores: of each model, clip by clip.
    """
    heard = {model: list(zip(clips, answers, strict=True)) for model, answers in texts.items()}
    return {
        "doubts": doubts(metrics),
        "groups": mistakes.groups(clips, scores),
        "flags": {
            model: Counter(flag for clip, text in pairs if (flag := mistakes.flag(text, clip.language)))
            for model, pairs in heard.items()
        },
        "misheard": {model: mistakes.misheard_words(pairs, params.listed_words) for model, pairs in heard.items()},
        "keywords": {model: mistakes.keyword_recall(pairs, params.keywords) for model, pairs in heard.items()},
    }


def read_curve() -> list[dict[str, float]]:
    """The rows of curve.csv."""
    with (paths.CHECKPOINTS / "curve.csv").open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def render(
    metrics: dict, details: dict, rows: Sequence[dict], training: dict, curve: Sequence[dict], listed: int
) -> bytes:
    """report.html: one page, with the sounds of the clips it lists in it, and without links to anywhere."""
    tuned = [row for row in rows if row["model"] == "tuned"]
    base = {row["id"]: row for row in rows if row["model"] == "base"}
    by_error = sorted(tuned, key=lambda row: (-row["wer"], -base[row["id"]]["wer"], row["id"]))
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(paths.TEMPLATES), autoescape=True)
    environment.undefined = jinja2.StrictUndefined
    page = environment.get_template("report.html.j2").render(
        metrics=metrics,
        details=details,
        training=training,
        curve=curve,
        worst=[(base[row["id"]], row) for row in by_error[:listed]],
        best=[(base[row["id"]], row) for row in reversed(by_error[-listed:])],
        differences=differences,
        sound=lambda clip_id: base64.b64encode(prepared.content(prepared.path_of(clip_id))).decode(),
    )
    return page.encode()

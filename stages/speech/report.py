"""An evaluation for a person to read: details.json and report.html."""

from __future__ import annotations

import base64
import csv
from collections import Counter
from collections.abc import Mapping, Sequence

import jinja2

from stages.common import paths
from stages.common.params import EvaluateParams
from stages.common.plurals import counted
from stages.speech import error_analysis, prepared
from stages.speech.caveats import caveats, change, changes, conclusion, held, units_in_words, verdict
from stages.speech.clips import Clip
from stages.speech.scoring import ClipScore, differences


def details_of(
    clips: Sequence[Clip],
    texts: Mapping[str, Sequence[str]],
    scores: Mapping[str, Sequence[ClipScore]],
    metrics: dict,
    params: EvaluateParams,
) -> dict:
    """details.json: caveats, misheard words, keywords, groups, and how many answers are empty or endless.

    texts, scores: of each model, clip by clip.
    """
    heard = {model: list(zip(clips, answers, strict=True)) for model, answers in texts.items()}
    return {
        "caveats": caveats(metrics),
        "groups": error_analysis.groups(clips, scores),
        "flags": {
            model: Counter(flag for clip, text in pairs if (flag := error_analysis.flag(text, clip.language)))
            for model, pairs in heard.items()
        },
        "misheard": {
            model: error_analysis.misheard_words(pairs, params.listed_words) for model, pairs in heard.items()
        },
        "keywords": {model: error_analysis.keyword_recall(pairs, params.keywords) for model, pairs in heard.items()},
    }


def read_curve() -> list[dict[str, float]]:
    """The rows of curve.csv."""
    with (paths.CHECKPOINTS / "curve.csv").open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def render(
    metrics: dict, details: dict, rows: Sequence[dict], training: dict, curve: Sequence[dict], listed: int
) -> bytes:
    """report.html: one page with the sounds of the clips that it lists, and without links."""
    tuned = [row for row in rows if row["model"] == "tuned"]
    base = {row["id"]: row for row in rows if row["model"] == "base"}
    by_error = sorted(tuned, key=lambda row: (-row["wer"], -base[row["id"]]["wer"], row["id"]))
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(paths.TEMPLATES), autoescape=True)
    environment.undefined = jinja2.StrictUndefined
    page = environment.get_template("report.html.j2").render(
        metrics=metrics,
        conclusion=conclusion(metrics),
        verdict=verdict(metrics),
        units_in_words=units_in_words,
        details=details,
        held=held(metrics),
        training=training,
        curve=curve,
        worst=[(base[row["id"]], row) for row in by_error[:listed]],
        best=[(base[row["id"]], row) for row in reversed(by_error[-listed:])],
        differences=differences,
        change=change,
        changes=changes,
        counted=counted,
        sound=lambda clip_id: base64.b64encode(prepared.content(prepared.path_of(clip_id))).decode(),
    )
    return page.encode()

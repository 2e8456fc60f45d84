"""What the Results page shows: how much better the model is, and the hardest recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape

from recorder import inbox
from recorder.phrases import LANGUAGES
from stages.common import paths
from stages.common.files import read_json, read_jsonl
from stages.common.plurals import counted, lasting
from stages.common.stage import UserError
from stages.speech.caveats import change, changes, held, verdict
from stages.speech.scoring import differences

METRICS = paths.EVALUATION / "metrics.json"
REPORT = paths.EVALUATION / "report.html"
# Tinted, not coloured, so that the letters keep the page's contrast; the sign is the line.
MARKED = "background: #e0404033; border-radius: 0.2em; padding: 0 0.15em"
UNSEEN = "position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%)"


@dataclass(frozen=True)
class HeardClip:
    """A test recording, what was said in it, what each model heard, and how many words of that are mistakes."""

    id: str
    language: str
    reference: str
    base: str
    tuned: str
    base_mistakes: int
    tuned_mistakes: int
    speaker: str | None = None


@dataclass(frozen=True)
class Results:
    """The last evaluation, and the training that it judges."""

    metrics: dict
    training: dict
    clips: list[HeardClip]  # the hardest first


def read() -> Results | None:
    """The results in data/evaluation; None if nothing has been evaluated.

    Raises: UserError if files are missing or damaged.
    """
    if not METRICS.exists():
        return None
    try:
        metrics = read_json(METRICS)
        if "units" not in metrics:
            raise UserError(f"{METRICS} is of an older version: run 'dvc repro'")
        by_model: dict[str, dict[str, dict]] = {"base": {}, "tuned": {}}
        for row in read_jsonl(paths.EVALUATION / "predictions.jsonl"):
            by_model[row["model"]][row["id"]] = row
        return Results(
            metrics=metrics,
            training=read_json(paths.CHECKPOINTS / "training.json"),
            clips=_hardest_first(by_model["base"], by_model["tuned"]),
        )
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: run 'dvc repro'") from None
    except (ValueError, KeyError) as error:
        raise UserError(f"the results are damaged ({error}): delete {paths.EVALUATION} and run 'dvc repro'") from None


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}\u00a0%"


def headline(metrics: Mapping) -> str:
    before, after = (percent(metrics[name]["wer"]) for name in ("base", "tuned"))
    return f"Wrong words: before\u00a0{before} → after\u00a0{after}"


def meaning(metrics: Mapping) -> str:
    """What the figures show, in plain sentences."""
    relative, low, high = (metrics["improvement"][name] for name in ("wer_relative", "low", "high"))
    outcome = verdict(metrics)
    if outcome == "perfect":
        return "Every word was understood before training. There is nothing to improve in these recordings."
    if outcome == "better":
        return (
            f"Training helped: {change(relative, '%')}. With other recordings of the same kind it would most likely be "
            f"{percent(low)} to {percent(high)} fewer."
        )
    if outcome == "worse":
        how_much = f": {change(relative, '%')}" if relative is not None else ""
        return f"Training made it worse{how_much}. Try a lower learning rate, or record more."
    words = "This does not show an improvement yet. "
    if low < high:
        words += f"With other recordings of the same kind, {changes(low, high, '%')} would be likely. "
    return f"{words}Record more, and train again."


def whose(clips: list[HeardClip]) -> str:
    """Who speaks in the test recordings."""
    counts = Counter(clip.speaker or "no name" for clip in clips)
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def trained_with(training: Mapping, metrics: Mapping) -> str:
    """About the training, and how both models were then compared."""
    return (
        f"Trained on {counted(training['train_clips'], 'recording')} ({lasting(60 * training['train_minutes'])}) from "
        f"{training['base_model']}, for {counted(training['epochs_run'], 'epoch')}, in {lasting(training['seconds'])}. "
        f"The model kept is the one after epoch {training['best_epoch']:g}, chosen with "
        f"{counted(training['validation_clips'], 'other recording')}. Both models were compared {held(metrics)}."
    )


def newer_clips() -> int:
    """How many recordings of the page are not in the results.

    Either made later (a run that failed in training may have prepared them), or not yet prepared (made during a run,
    they are older than its results).
    """
    evaluated_at = METRICS.stat().st_mtime
    known = {row["id"] for part in ("train", "validation", "test") for row in read_jsonl(paths.SPLIT / f"{part}.jsonl")}
    unusable = {row["file"] for row in read_jsonl(paths.PREPARED / "rejected.jsonl")}
    return sum(
        clip.id not in known or _seconds(clip.recorded_at) > evaluated_at
        for clip in inbox.stored_clips()
        if clip.file not in unusable
    )


def as_html(clip: HeardClip) -> str:
    """What was said, and what each model heard: missed words crossed out, wrong (wavy) and added words underlined."""
    direction = LANGUAGES[clip.language].direction if clip.language in LANGUAGES else "auto"
    rows = [("Said", escape(clip.reference))]
    for label, heard, mistakes in (
        ("Before", clip.base, clip.base_mistakes),
        ("After", clip.tuned, clip.tuned_mistakes),
    ):
        count = counted(mistakes, "mistake") if mistakes else "all right"
        rows.append((f"{label}, {count}", _marked(clip.reference, heard, clip.language)))
    return "".join(
        f'<div style="font-size: 0.9em; opacity: 0.75">{label}</div><p lang="{escape(clip.language)}" '
        f'dir="{direction}" style="margin: 0 0 0.6em; overflow-wrap: anywhere">{words}</p>'
        for label, words in rows
    )


def _hardest_first(base: Mapping[str, dict], tuned: Mapping[str, dict]) -> list[HeardClip]:
    return [
        HeardClip(
            id=identity,
            language=row["language"],
            reference=row["reference"],
            base=base[identity]["hypothesis"],
            tuned=row["hypothesis"],
            base_mistakes=_mistakes(base[identity]),
            tuned_mistakes=_mistakes(row),
            speaker=row.get("speaker"),
        )
        for identity, row in sorted(tuned.items(), key=lambda item: (-item[1]["wer"], -base[item[0]]["wer"], item[0]))
    ]


def _mistakes(row: Mapping) -> int:
    return row["substitutions"] + row["deletions"] + row["insertions"]


def _marked(reference: str, hypothesis: str, language: str) -> str:
    """The hypothesis as HTML, with its differences from the reference marked."""
    parts = []
    for words, kind in differences(reference, hypothesis, language):
        said = escape(words)
        if kind == "delete":
            said = f'<del style="{MARKED}"><span style="{UNSEEN}">missed: </span>{said}</del>'
        elif kind != "equal":
            name, line = ("added", "underline") if kind == "insert" else ("wrong", "underline wavy")
            said = f'<ins style="{MARKED}; text-decoration: {line}"><span style="{UNSEEN}">{name}: </span>{said}</ins>'
        parts.append(said)
    return " ".join(parts)


def _seconds(moment: str | None) -> float:
    """An ISO time as seconds since 1970, 0 for none."""
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0

"""Measure how much better the tuned model understands the person, in data/evaluation.

    python -m stages.evaluate       (or `dvc repro evaluate`)

Transcribes data/split/test.jsonl, which training never saw, with the base model and the tuned one in the same way.
Writes predictions.jsonl (a row per clip and model), metrics.json (for `dvc metrics show`), details.json (what goes
wrong), misheard.csv and groups.csv (for `dvc plots`), report.html, and evaluated.json for the check before publishing:
hashes of the tuned weights, and what they made of each clip, token by token. Known transcripts of the base model come
from the cache. If `evaluate.other_speakers` names other people's speech, both models hear that too:
other_speakers.jsonl, and `other_speakers` in metrics.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from stages.common import paths
from stages.common.files import read_json, whole_folder, write_csv, write_json, write_jsonl, write_whole
from stages.common.params import load_params
from stages.common.plurals import counted
from stages.common.stage import announce, run
from stages.speech import caveats, error_analysis, report
from stages.speech.clips import Clip, group_of, read_clips
from stages.speech.scoring import ClipScore, relative_improvement, score_clip, summarise, wer_interval
from stages.voxtral import processes
from stages.voxtral.both_models import transcribe_all, what_was_evaluated
from stages.voxtral.loading import find_model
from stages.voxtral.models import check_base
from stages.voxtral.precision import evaluation_precision


def metrics_of(
    clips: Sequence[Clip], predictions: Sequence[dict], units: Sequence[str]
) -> tuple[dict, list[ClipScore]]:
    """One model's part of metrics.json, and each clip's score on normalised text."""
    pairs = [(clip.text, made["text"], clip.language) for clip, made in zip(clips, predictions, strict=True)]
    scores = [score_clip(*pair) for pair in pairs]
    as_written = summarise([score_clip(*pair, as_written=True) for pair in pairs])
    low, high = wer_interval(scores, units)
    sound_s, seconds = sum(clip.duration_s for clip in clips), sum(prediction["seconds"] for prediction in predictions)
    metrics = {
        **summarise(scores),
        "wer_low": low,
        "wer_high": high,
        "wer_as_written": as_written["wer"],
        "cer_as_written": as_written["cer"],
        "rtfx": sound_s / seconds,
    }
    return {name: round(value, 5) for name, value in metrics.items()}, scores


def prediction_rows(model: str, clips: Sequence[Clip], predictions: Sequence[dict], scores: Sequence[ClipScore]):
    """Rows of predictions.jsonl."""
    for clip, prediction, score in zip(clips, predictions, scores, strict=True):
        yield {
            "id": clip.id,
            "model": model,
            "reference": clip.text,
            "hypothesis": prediction["text"],
            "wer": round(score.word_errors / score.reference_words, 5),
            "cer": round(score.character_errors / score.reference_characters, 5),
            **asdict(score),
            "flag": error_analysis.flag(prediction["text"], clip.language),
            "language": clip.language,
            "speaker": clip.speaker,
            "source": clip.source,
            "duration_s": clip.duration_s,
        }


def compare(
    clips: Sequence[Clip], predictions: dict[str, list[dict]], units_by: str
) -> tuple[dict, dict[str, list[ClipScore]], list[dict]]:
    """Each model's figures and the tuned one's improvement; each model's scores; rows of predictions.jsonl.

    units_by: what counts as one in the intervals: prompt, session, speaker or clip.
    """
    units = [group_of(clip, units_by) or clip.id for clip in clips]
    metrics: dict = {"units": len(set(units)), "units_by": units_by}
    scores, rows = {}, []
    for name, made in predictions.items():
        metrics[name], scores[name] = metrics_of(clips, made, units)
        rows += prediction_rows(name, clips, made, scores[name])
    metrics["improvement"] = relative_improvement(scores["base"], scores["tuned"], units)
    return metrics, scores, rows


def main() -> str:
    all_params = load_params()
    params = all_params.evaluate
    processes.launch("evaluate", all_params.train.launcher)
    announce("evaluate", model=all_params.model.name, **params.model_dump())
    clips = read_clips(paths.SPLIT / "test.jsonl")
    other_speakers = read_clips(paths.PREPARED / "other_speakers.jsonl")
    source = find_model(all_params.model)
    training = read_json(paths.CHECKPOINTS / "training.json")
    check_base(source)
    precision = evaluation_precision(all_params)
    print(f"evaluate: both models {caveats.held({'precision': precision.facts()})}", flush=True)
    quantisation = training["settings"]["quantisation"]
    heard = transcribe_all(source, precision, quantisation, [clips, other_speakers], params.batch_size)
    if not processes.is_main():
        return "done"

    units_by = all_params.split.group_by if params.intervals_by == "split" else params.intervals_by
    own = {name: made for name, (made, _) in heard.items()}
    metrics, scores, rows = compare(clips, own, units_by)
    metrics["precision"] = precision.facts()
    texts = {model: [prediction["text"] for prediction in made] for model, made in own.items()}
    details = report.details_of(clips, texts, scores, metrics, params)
    other_speakers_rows: list[dict] = []
    if other_speakers:
        others = {name: made for name, (_, made) in heard.items()}
        metrics["other_speakers"], _, other_speakers_rows = compare(other_speakers, others, units_by)
    with whole_folder(paths.EVALUATION) as folder:
        write_jsonl(folder / "predictions.jsonl", rows)
        write_jsonl(folder / "other_speakers.jsonl", other_speakers_rows)
        write_json(folder / "metrics.json", metrics)
        write_json(folder / "details.json", details)
        write_json(folder / "evaluated.json", what_was_evaluated(clips, own["tuned"]))
        write_csv(folder / "misheard.csv", ("word", "said", "wrong"), details["misheard"]["tuned"])
        write_csv(folder / "groups.csv", ("kind", "group", "clips", "base", "tuned"), details["groups"])
        page = report.render(metrics, details, rows, training, report.read_curve(), params.listed_clips)
        write_whole(folder / "report.html", page)
    base, tuned = metrics["base"], metrics["tuned"]
    return (
        f"WER {base['wer']:.1%} -> {tuned['wer']:.1%} "
        f"(95 % interval {tuned['wer_low']:.1%} to {tuned['wer_high']:.1%}) "
        f"on {counted(len(clips), 'test clip')} -> {paths.EVALUATION}"
    )


if __name__ == "__main__":
    run("evaluate", main)

"""Measure how much better the tuned model understands the person, in data/evaluation.

    python -m stages.evaluate       (or `dvc repro evaluate`)

Transcribes data/split/test.jsonl, which training never saw, with the base model and the tuned one in the same way.
Writes predictions.jsonl (a row per clip and model), metrics.json (for `dvc metrics show`), details.json (what goes
wrong), misheard.csv and groups.csv (for `dvc plots`) and report.html. Known transcripts of
the base model come from the cache. If `evaluate.other_speakers` names other people's speech, both models hear that too:
other_speakers.jsonl, and `other_speakers` in metrics.json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version

from stages.common import paths
from stages.common.cache import ContentCache
from stages.common.code import code_hash
from stages.common.files import read_json, whole_folder, write_csv, write_json, write_jsonl, write_whole
from stages.common.params import load_params
from stages.common.plurals import counted
from stages.common.stage import announce, run
from stages.speech import error_analysis, prepared, report
from stages.speech.clips import Clip, group_of, read_clips
from stages.speech.scoring import ClipScore, relative_improvement, score_clip, summarise, wer_interval
from stages.voxtral import processes
from stages.voxtral.collation import Collator
from stages.voxtral.loading import (
    VoxtralForConditionalGeneration,
    device_name,
    enough_memory,
    find_model,
    resolve_dtype,
)
from stages.voxtral.models import BEST, check_base, is_adapter, open_model, open_tuned
from stages.voxtral.transcription import transcribe


def transcribe_timed(
    model: VoxtralForConditionalGeneration, collator: Collator, clips: Sequence[Clip], batch_size: int, title: str
) -> list[dict]:
    """[{"text", "seconds"}] of each clip; seconds: the mean over all clips."""
    began_s = time.monotonic()
    texts = transcribe(model, collator, clips, batch_size, progress=title)
    seconds = (time.monotonic() - began_s) / max(len(clips), 1)
    return [{"text": text, "seconds": seconds} for text in texts]


def transcribe_base(
    model: VoxtralForConditionalGeneration,
    collator: Collator,
    clips: Sequence[Clip],
    batch_size: int,
    identity: str,
    title: str = "base model",
) -> list[dict]:
    """As transcribe_timed, from the cache if this model has transcribed the same sound before."""
    cache = ContentCache("base-predictions")
    code = code_hash("stages.voxtral.transcription")
    libraries = [version(package) for package in ("torch", "transformers", "mistral-common", "bitsandbytes")]
    keys = [
        {
            "model": identity,
            "dtype": str(model.dtype),
            "device": device_name(),
            # For the seconds; the text does not depend on them.
            "batch_size": batch_size,
            "processes": processes.world_size(),
            "sound": prepared.sha256(paths.PREPARED / clip.audio_path),
            "language": clip.language,
            "code": code,
            "libraries": libraries,
        }
        for clip in clips
    ]
    entries = [cache.read(key) for key in keys]
    missing = [index for index, entry in enumerate(entries) if entry is None]
    made = transcribe_timed(model, collator, [clips[index] for index in missing], batch_size, title)
    for index, prediction in zip(missing, made, strict=True):
        entries[index] = json.dumps(prediction).encode()
        cache.write(keys[index], entries[index])
    if len(missing) < len(clips):
        known = counted(len(clips) - len(missing), "transcript")
        print(f"evaluate: {known} of the base model from the cache", flush=True)
    return [json.loads(entry) for entry in entries]


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
    everything = clips + other_speakers
    source = find_model(all_params.model)
    training = read_json(paths.CHECKPOINTS / "training.json")
    check_base(source)
    quantisation = training["settings"]["quantisation"]
    dtype = resolve_dtype(all_params.model.dtype)
    with enough_memory("halve evaluate.batch_size"):
        predictions = {}
        if quantisation:
            # What the training began with: a base in 4 bits may answer what is said instead of writing it down.
            model, collator = open_model(source, dtype, four_bit=True)
            collator.check_lengths(everything)
            identity = f"{source.identity} {quantisation}"
            predictions["base_quantised"] = transcribe_base(
                model, collator, everything, params.batch_size, identity, quantisation
            )
            del model
        model, collator = open_model(source, dtype)
        collator.check_lengths(everything)
        predictions["base"] = transcribe_base(model, collator, everything, params.batch_size, source.identity)
        if is_adapter(BEST):
            model = open_tuned(BEST, model, dtype).merge_and_unload()
        else:
            del model  # frees the memory for the tuned one
            model = open_tuned(BEST, None, dtype)
        predictions["tuned"] = transcribe_timed(model, collator, everything, params.batch_size, "tuned model")
    if not processes.is_main():
        return "done"

    units_by = all_params.split.group_by if params.intervals_by == "split" else params.intervals_by
    own = {name: made[: len(clips)] for name, made in predictions.items()}
    metrics, scores, rows = compare(clips, own, units_by)
    texts = {model: [prediction["text"] for prediction in made] for model, made in own.items()}
    details = report.details_of(clips, texts, scores, metrics, params)
    other_speakers_rows: list[dict] = []
    if other_speakers:
        others = {name: made[len(clips) :] for name, made in predictions.items()}
        metrics["other_speakers"], _, other_speakers_rows = compare(other_speakers, others, units_by)
    with whole_folder(paths.EVALUATION) as folder:
        write_jsonl(folder / "predictions.jsonl", rows)
        write_jsonl(folder / "other_speakers.jsonl", other_speakers_rows)
        write_json(folder / "metrics.json", metrics)
        write_json(folder / "details.json", details)
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

"""Turn recordings in data/raw into clips the model can hear: 16 kHz mono FLAC with clean text, in data/prepared.

    python -m stages.prepare        (or `dvc repro prepare`)

Reads data/raw/SOURCE/*. Writes data/prepared: audio/ID.flac, clips.jsonl, rejected.jsonl (file, reason, remedy),
look_through.jsonl (clips that are kept but worth a listen), summary.json. Decoded sound comes from the content cache
where it can, so a new clip costs one clip's work.
"""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import repeat
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.hub import sources as hub_sources
from stages.hub.sources import HubRecording
from stages.pipeline import paths
from stages.pipeline.cache import ContentCache, code_of
from stages.pipeline.files import whole_folder, write_json, write_jsonl, write_whole
from stages.pipeline.params import PrepareParams, load_params
from stages.pipeline.stage import UserError, announce, die_with_parent, run
from stages.speech import audio, cuts, filters, languages, quality, text
from stages.speech.clips import Clip, write_clips
from stages.speech.raw_clips import RawClip, Rejection
from stages.speech.sources import locate, read_sources


@dataclass(frozen=True)
class Converted:
    """One recording's id and figures, or why it cannot be used (`reason`, `remedy`)."""

    id: str = ""
    figures: dict[str, float] | None = None
    fingerprint: bytes = b""
    reason: str = ""
    remedy: str = ""


def language_of(clip: RawClip, params: PrepareParams) -> str:
    """The clip's own language, else the one that the settings name; codes are written in small letters."""
    return (clip.language or params.language).lower()


def check_text(clip: RawClip, params: PrepareParams) -> Rejection | None:
    """Why a clip's text or language cannot be used, None where both can."""
    cleaned = text.clean(clip.text)
    if not text.normalise(cleaned):
        return Rejection(clip.where, "empty text", "write down what was said, in letters")
    if control := text.find_control_string(cleaned):
        return Rejection(
            clip.where, "control string in text", f"remove {control}: the model would take it for a command"
        )
    language = language_of(clip, params)
    if not languages.is_accepted(language):
        return Rejection(clip.where, "unknown language", f"{language!r} is no ISO 639-1 code such as en, de or hi")
    return None


def check_figures(figures: dict[str, float], params: PrepareParams) -> tuple[str, str] | None:
    """(reason, remedy) where a recording's sound cannot be used, None where it can."""
    duration_s, level_dbfs = figures["duration_s"], figures["level_dbfs"]
    if duration_s < params.min_duration_s:
        return (
            "too short",
            f"{duration_s:.2f} s is below prepare.min_duration_s {params.min_duration_s:g}: record it again",
        )
    if duration_s > params.max_duration_s:
        remedy = "cut it, or put its text with times beside it, as subtitles (.srt) of the same name"
        return "too long", f"{duration_s:.1f} s is above prepare.max_duration_s {params.max_duration_s:g}: {remedy}"
    if level_dbfs < params.silence_dbfs:
        return "silence", f"loudest part at {level_dbfs:.0f} dBFS: check the microphone and record it again"
    if figures["clipped_fraction"] > params.max_clipped_fraction:
        clipped = f"{figures['clipped_fraction']:.0%} of it at full scale"
        return "heavy clipping", f"{clipped}: turn the microphone down and record it again"
    return None


def cache_key(digest: str, params: PrepareParams, begins_s: float | None = None, ends_s: float | None = None) -> dict:
    """Everything that a converted recording, or part of it, depends on; its own bytes have this sha256."""
    return {
        "sha256": digest,
        "times": cuts.times(begins_s, ends_s),
        "trim_silence": params.trim_silence,
        "code": code_of(audio, cuts, quality),
        "libraries": [version(package) for package in ("soundfile", "soxr", "librosa", "av")],
    }


def convert(
    path: Path | HubRecording,
    output: Path,
    params: PrepareParams,
    begins_s: float | None = None,
    ends_s: float | None = None,
) -> Converted:
    """Decode, cut, resample, measure and write one clip to `output`/ID.flac; runs in a worker process."""
    try:
        recorded, digest = cuts.read(path, is_part=begins_s is not None)
    except FileNotFoundError:
        return Converted(reason="missing audio", remedy="put the file back, or remove its row")
    except OSError as error:
        return Converted(reason="unreadable audio", remedy=f"check the file: {error.strerror}")
    cache = ContentCache("prepared")
    key = cache_key(digest, params, begins_s, ends_s)
    entry = cache.read(key)
    if entry is None:
        try:
            samples, sample_rate_hz = cuts.decode(recorded, digest, begins_s, ends_s)
        except audio.UnreadableSound as error:
            return Converted(reason="unreadable audio", remedy=str(error))
        except cuts.BadCut as error:
            return Converted(reason="cut out of range", remedy=str(error))
        if not np.isfinite(samples).all():
            return Converted(reason="unreadable audio", remedy="some samples are no numbers: record or export it again")
        mono = audio.to_mono_16k(samples, sample_rate_hz)
        if params.trim_silence:
            mono = audio.trim_silence(mono)
        spectra = quality.power_spectra(mono)
        figures = {
            **audio.measure(mono),
            "clipped_fraction": round(audio.clipped_fraction(samples), 4),
            "bandwidth_hz": quality.bandwidth_hz(spectra),
            "fingerprint": base64.b64encode(quality.fingerprint(spectra).tobytes()).decode(),
        }
        entry = json.dumps(figures).encode() + b"\n" + audio.encode_flac(mono)
        cache.write(key, entry)
    header, _, flac = entry.partition(b"\n")
    figures = json.loads(header)
    fingerprint = base64.b64decode(figures.pop("fingerprint"))
    if problem := check_figures(figures, params):
        return Converted(reason=problem[0], remedy=problem[1])
    clip_id = cuts.clip_id(digest, begins_s, ends_s)
    write_whole(output / f"{clip_id}.flac", flac)
    return Converted(id=clip_id, figures=figures, fingerprint=fingerprint)


def convert_all(
    clips: list[RawClip], locations: list[Path | HubRecording], output: Path, params: PrepareParams
) -> list[Converted]:
    """Convert over all cores, in order, with a progress bar."""
    begins_s, ends_s = [clip.begins_s for clip in clips], [clip.ends_s for clip in clips]
    workers = min(params.workers or os.cpu_count() or 1, max(len(locations), 1))
    with ProcessPoolExecutor(workers, initializer=die_with_parent) as pool:
        results = pool.map(convert, locations, repeat(output), repeat(params), begins_s, ends_s, chunksize=8)
        return list(tqdm(results, total=len(locations), desc="prepare", unit="clip"))


def join(
    raw_clips: list[RawClip], converted: Iterable[Converted], params: PrepareParams
) -> tuple[list[Clip], list[Rejection]]:
    """Each recording with its sound's figures; the same bytes count once, under the first name."""
    clips: dict[str, Clip] = {}
    rejections = []
    for raw_clip, result in zip(raw_clips, converted, strict=True):
        if result.figures is None:
            rejections.append(Rejection(raw_clip.where, result.reason, result.remedy))
        elif result.id in clips:
            first = clips[result.id].recorded_file
            rejections.append(Rejection(raw_clip.where, "same recording twice", f"remove it: same bytes as {first}"))
        else:
            clips[result.id] = Clip(
                id=result.id,
                audio_path=f"audio/{result.id}.flac",
                text=text.clean(raw_clip.text),
                language=language_of(raw_clip, params),
                source=raw_clip.source,
                recorded_file=raw_clip.file,
                speaker=raw_clip.speaker,
                session=raw_clip.session,
                prompt_id=raw_clip.prompt_id,
                recorded_at=raw_clip.recorded_at,
                begins_s=raw_clip.begins_s,
                ends_s=raw_clip.ends_s,
                **result.figures,
            )
    return list(clips.values()), rejections


def summarise(
    clips: list[Clip], rejections: list[Rejection], doubts: list[filters.Doubt], from_hub: list[dict]
) -> dict:
    """Counts for summary.json and for the screen."""
    return {
        "clips": len(clips),
        "minutes": round(sum(clip.duration_s for clip in clips) / 60, 2),
        "languages": dict(Counter(clip.language for clip in clips)),
        "sources": dict(Counter(clip.source for clip in clips)),
        "hub_sources": from_hub,
        "rejected": len(rejections),
        "rejected_by_reason": dict(Counter(rejection.reason for rejection in rejections).most_common()),
        "to_look_through_by_reason": dict(Counter(doubt.reason for doubt in doubts).most_common()),
    }


def main() -> str:
    params = load_params().prepare
    announce("prepare", **params.model_dump())
    if not languages.is_accepted(params.language.lower()):
        raise UserError(f"params.yaml: prepare.language {params.language!r} is no ISO 639-1 code such as en, de or hi")
    raw_clips, rejections = read_sources(paths.RAW)
    if not (raw_clips or rejections or params.sources):
        raise UserError(
            f"{paths.RAW} holds no recordings: put a folder with audio files and a clips.jsonl, transcripts.csv "
            f"or same-name .txt files there (or run 'dvc pull')"
        )
    located = [(clip, locate(paths.RAW, clip)) for clip in raw_clips]
    from_hub = []
    for number, source in enumerate(params.sources):
        fetched = hub_sources.fetch(source, number)
        located += fetched.clips
        from_hub.append({**source.model_dump(), "revision": fetched.revision, "rows": len(fetched.clips)})
    usable, locations = [], []
    for clip, location in located:
        if location is None:
            remedy = "name a file inside the source's own folder, without .. and links"
            rejections.append(Rejection(clip.where, "path leaves its folder", remedy))
        elif rejection := check_text(clip, params):
            rejections.append(rejection)
        else:
            usable.append(clip)
            locations.append(location)
    with whole_folder(paths.PREPARED) as folder:
        converted = convert_all(usable, locations, folder / "audio", params)
        clips, unusable = join(usable, converted, params)
        fingerprints = {result.id: result.fingerprint for result in converted if result.fingerprint}
        clips, left_out, doubts = filters.sift(clips, fingerprints, params.filters)
        rejections += [*unusable, *left_out]
        summary = summarise(clips, rejections, doubts, from_hub)
        for reason, count in summary["rejected_by_reason"].items():
            example = next(rejection for rejection in rejections if rejection.reason == reason)
            print(f"prepare: {count} rejected, {reason}: e.g. {example.file}: {example.remedy}")
        if not clips:
            reasons = ", ".join(f"{count} {reason}" for reason, count in summary["rejected_by_reason"].items())
            raise UserError(f"no usable clip in {paths.RAW}, all {len(rejections)} rejected: {reasons}")
        if doubts:
            reasons = ", ".join(f"{count} {reason}" for reason, count in summary["to_look_through_by_reason"].items())
            print(f"prepare: to look through, in {paths.PREPARED}/look_through.jsonl: {reasons}")
        for name in {f"{result.id}.flac" for result in converted if result.id} - {f"{clip.id}.flac" for clip in clips}:
            (folder / "audio" / name).unlink()  # left out by a filter
        write_clips(folder / "clips.jsonl", clips)
        write_jsonl(folder / "rejected.jsonl", (rejection.row() for rejection in rejections))
        write_jsonl(folder / "look_through.jsonl", (doubt.row() for doubt in doubts))
        write_json(folder / "summary.json", summary)
    return f"{len(clips)} clips, {summary['minutes']:g} minutes, {len(rejections)} rejected -> {paths.PREPARED}"


if __name__ == "__main__":
    run("prepare", main)

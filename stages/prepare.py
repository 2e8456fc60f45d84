"""Turn recordings in data/raw into clips the model can hear: 16 kHz mono FLAC with clean text, in data/prepared.

    python -m stages.prepare        (or `dvc repro prepare`)

Reads data/raw/SOURCE/*. Writes data/prepared: audio/*.zip (ID.flac in each), clips.jsonl, rejected.jsonl (file, reason,
remedy), summary.json; and outside.jsonl, the clips of other people that `evaluate.outside` names. What is known from
earlier runs comes from the sound cache, so a new clip costs one clip's work.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from stages.pipeline import paths
from stages.pipeline.cache import ContentCache, code_of
from stages.pipeline.files import whole_folder, write_json, write_jsonl
from stages.pipeline.params import Params, PrepareParams, load_params
from stages.pipeline.pool import Failed, run_each
from stages.pipeline.stage import UserError, announce, run
from stages.speech import audio, languages, prepared, text
from stages.speech.clips import ID_LENGTH, Clip, write_clips
from stages.speech.sound_cache import Damaged, SoundCache
from stages.speech.sources import RawClip, Rejection, locate_all, read_source, read_sources

OUTSIDE = "outside/"  # before the names of sources that are other people's: no folder of data/raw has a slash
NOTED_AT_ONCE = 500  # results that a killed run may have to find in the cache again


@dataclass(frozen=True)
class Converted:
    """One recording's sha256 and figures, or why it cannot be used (`reason`, `remedy`).

    Without a sha256 the reason may be gone the next time; with one it lies in the recording's bytes.
    """

    sha256: str = ""
    reason: str = ""
    remedy: str = ""
    figures: dict[str, float] | None = None

    @property
    def id(self) -> str:
        return self.sha256[:ID_LENGTH]


def language_of(clip: RawClip, params: PrepareParams) -> str:
    """The clip's own language, else the one that the settings name; codes are written in small letters."""
    return (clip.language or params.language).lower()


def check_text(clip: RawClip, params: PrepareParams) -> Rejection | None:
    """Why a clip's text or language cannot be used, None where both can."""
    cleaned = text.clean(clip.text)
    if not text.normalise(cleaned):
        return Rejection(clip.file, "empty text", "write down what was said, in letters")
    if control := text.find_control_string(cleaned):
        return Rejection(
            clip.file, "control string in text", f"remove {control}: the model would take it for a command"
        )
    language = language_of(clip, params)
    if not languages.is_accepted(language):
        return Rejection(clip.file, "unknown language", f"{language!r} is no ISO 639-1 code such as en, de or hi")
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
        return "too long", f"{duration_s:.1f} s is above prepare.max_duration_s {params.max_duration_s:g}: cut it"
    if level_dbfs < params.silence_dbfs:
        return "silence", f"loudest part at {level_dbfs:.0f} dBFS: check the microphone and record it again"
    if figures["clipped_fraction"] > params.max_clipped_fraction:
        clipped = f"{figures['clipped_fraction']:.0%} of it at full scale"
        return "heavy clipping", f"{clipped}: turn the microphone down and record it again"
    return None


def made_by(params: PrepareParams) -> dict:
    """Everything that a converted recording depends on, besides its own bytes."""
    return {
        "trim_silence": params.trim_silence,
        "channels": params.channels,
        "code": code_of(audio),
        "libraries": [version(package) for package in ("soundfile", "soxr", "librosa", "av")],
    }


def convert(recording: tuple[str, str], params: PrepareParams, cache: ContentCache, made_by: dict) -> Converted:
    """Decode, resample and measure one recording (path, sha256), in a worker process; its sound goes to the cache.

    Raises: UserError on a machine of a cluster that would make other sounds of it.
    """
    path, digest = recording
    if _made_by_here(params) != made_by:
        raise UserError("prepare.dask_scheduler: a worker has other versions of ownvoice or of its sound libraries")
    key = {"sha256": digest, **made_by}
    known = cache.read(key)
    if known is None:
        try:
            with Path(path).open("rb") as recorded:
                if hashlib.file_digest(recorded, "sha256").hexdigest() != digest:
                    return Converted(reason="unreadable audio", remedy="it changed while it was read: run it again")
                # The same open file that was hashed, whatever has this name by now.
                figures, flac = convert_sound(recorded, params)
        except OSError as error:
            return unreadable(error)
        except audio.UnreadableSound as error:
            return Converted(digest, reason="unreadable audio", remedy=str(error))
        except audio.ChannelsDiffer as error:
            return Converted(digest, reason="channels differ", remedy=str(error))
        except MemoryError:
            return Converted(reason="too much memory", remedy="cut it into shorter recordings")
        known = json.dumps(figures).encode() + b"\n" + flac
        cache.write(key, known)
    return Converted(digest, figures=json.loads(known.partition(b"\n")[0]))


def convert_sound(recorded: BinaryIO, params: PrepareParams) -> tuple[dict[str, float], bytes]:
    """A recording's figures, and its sound as FLAC. Raises: UnreadableSound, ChannelsDiffer."""
    samples, sample_rate_hz = audio.decode(recorded)
    if not np.isfinite(samples).all():
        raise audio.UnreadableSound("some samples are no numbers: record or export it again")
    mono = audio.to_mono_16k(samples, sample_rate_hz, params.channels)
    if params.trim_silence:
        mono = audio.trim_silence(mono)
    figures = {**audio.measure(mono), "clipped_fraction": round(audio.clipped_fraction(samples), 4)}
    return figures, audio.encode_flac(mono)


_made_by_here = functools.cache(made_by)


def unreadable(error: OSError) -> Converted:
    if isinstance(error, FileNotFoundError):
        return Converted(reason="missing audio", remedy="put the file back, or remove its row")
    return Converted(reason="unreadable audio", remedy=f"check the file: {error.strerror}")


def convert_all(locations: list[str], output: Path, params: PrepareParams) -> list[Converted]:
    """Figures of each recording, or why it cannot be used; sounds of those that can go to `output`.

    Only what the cache does not know is converted, over all cores or on a Dask cluster, with a progress bar.
    """
    workers = params.workers or os.cpu_count() or 1
    with contextlib.closing(SoundCache(made_by(params))) as cache:
        digests = cache.digests(locations, workers)
        while True:
            by_digest = convert_missing(locations, digests, cache, params, workers)
            results = [unreadable(one) if isinstance(one, OSError) else by_digest[one] for one in digests]
            try:
                cache.write_shards({result.sha256 for result in results if result.figures}, output)
            except Damaged:
                shutil.rmtree(output)
                continue
            return results


def convert_missing(
    locations: list[str], digests: list[str | OSError], cache: SoundCache, params: PrepareParams, workers: int
) -> dict[str, Converted]:
    """{sha256: figures or why not} of all readable recordings."""
    known = cache.figures()
    missing = {
        digest: (location, digest)
        for digest, location in zip(digests, locations, strict=True)
        if isinstance(digest, str) and digest not in known
    }
    failed: dict[str, Converted] = {}
    if missing:
        work = functools.partial(convert, params=params, cache=cache.loose, made_by=cache.made_by)
        limit_s = params.max_seconds_per_file
        results = run_each(work, missing.values(), min(workers, len(missing)), limit_s, params.dask_scheduler)
        new: dict[str, dict] = {}
        for digest, result in zip(missing, tqdm(results, total=len(missing), desc="prepare", unit="clip"), strict=True):
            if isinstance(result, Failed):
                failed[digest] = Converted(reason="unreadable audio", remedy=f"{result.why}: save it as WAV or FLAC")
            elif not result.sha256:
                failed[digest] = result
            else:
                new[digest] = result.figures or {"reason": result.reason, "remedy": result.remedy}
            if len(new) == NOTED_AT_ONCE:
                cache.add(new)
                known |= new
                new = {}
        cache.add(new)
        known |= new
    return {digest: judged(digest, figures, params) for digest, figures in known.items()} | failed


def judged(digest: str, figures: dict, params: PrepareParams) -> Converted:
    """A recording with its figures, or why it cannot be used."""
    problem = (figures["reason"], figures["remedy"]) if "reason" in figures else check_figures(figures, params)
    return Converted(digest, *problem) if problem else Converted(digest, figures=figures)


def join(
    raw_clips: list[RawClip], converted: list[Converted], params: PrepareParams
) -> tuple[list[Clip], list[Rejection]]:
    """Each recording with its sound's figures; the same bytes count once, under the first name."""
    clips: dict[str, Clip] = {}
    rejections = []
    shards = prepared.shards({result.id for result in converted if result.figures})
    shard_of = {clip_id: name for name, ids in shards.items() for clip_id in ids}
    for raw_clip, result in zip(raw_clips, converted, strict=True):
        clip_id = result.id
        if result.figures is None:
            rejections.append(Rejection(raw_clip.file, result.reason, result.remedy))
        elif clip_id in clips:
            first = clips[clip_id].recorded_file
            rejections.append(Rejection(raw_clip.file, "same recording twice", f"remove it: same bytes as {first}"))
        else:
            clips[clip_id] = Clip(
                id=clip_id,
                audio_path=f"audio/{shard_of[clip_id]}/{clip_id}.flac",
                text=text.clean(raw_clip.text),
                language=language_of(raw_clip, params),
                source=raw_clip.source,
                recorded_file=raw_clip.file,
                speaker=raw_clip.speaker,
                session=raw_clip.session,
                prompt_id=raw_clip.prompt_id,
                recorded_at=raw_clip.recorded_at,
                **result.figures,
            )
    return list(clips.values()), rejections


def summarise(clips: list[Clip], rejections: list[Rejection]) -> dict:
    """Counts for summary.json and for the screen."""
    return {
        "clips": len(clips),
        "minutes": round(sum(clip.duration_s for clip in clips) / 60, 2),
        "languages": dict(Counter(clip.language for clip in clips)),
        "sources": dict(Counter(clip.source for clip in clips)),
        "rejected": len(rejections),
        "rejected_by_reason": dict(Counter(rejection.reason for rejection in rejections).most_common()),
    }


def choose(
    raw: Path, raw_clips: list[RawClip], params: PrepareParams
) -> tuple[list[RawClip], list[str], list[Rejection]]:
    """The clips whose text can be used and whose file lies in its source's folder, with that file; and the others."""
    usable, locations, rejections = [], [], []
    for clip, location in zip(raw_clips, locate_all(raw, raw_clips), strict=True):
        if location is None:
            remedy = "name a file inside the source's own folder, without .. and links"
            rejections.append(Rejection(clip.file, "path leaves its folder", remedy))
        elif rejection := check_text(clip, params):
            rejections.append(rejection)
        else:
            usable.append(clip)
            locations.append(location)
    return usable, locations, rejections


def choose_outside(params: Params) -> tuple[list[RawClip], list[str], list[Rejection]]:
    """As choose, of other people's speech, which `evaluate.outside` names; nothing where it names none.

    Raises: UserError where there is no such folder.
    """
    if params.evaluate.outside is None:
        return [], [], []
    source = Path(params.evaluate.outside)
    if not source.is_dir():
        raise UserError(f"params.yaml: evaluate.outside {source} is no folder")
    raw_clips, rejections = read_source(source)
    usable, locations, unusable = choose(source.parent, raw_clips, params.prepare)
    rejections = [replace(rejection, file=f"{OUTSIDE}{rejection.file}") for rejection in rejections + unusable]
    return [replace(clip, source=f"{OUTSIDE}{clip.source}") for clip in usable], locations, rejections


def main() -> str:
    all_params = load_params()
    params = all_params.prepare
    announce("prepare", **params.model_dump(), outside=all_params.evaluate.outside)
    if not languages.is_accepted(params.language.lower()):
        raise UserError(f"params.yaml: prepare.language {params.language!r} is no ISO 639-1 code such as en, de or hi")
    raw_clips, rejections = read_sources(paths.RAW)
    if not raw_clips and not rejections:
        raise UserError(
            f"{paths.RAW} holds no recordings: put a folder with audio files and a clips.jsonl, transcripts.csv "
            f"or same-name .txt files there (or run 'dvc pull')"
        )
    usable, locations, unusable = choose(paths.RAW, raw_clips, params)
    others, other_locations, other_unusable = choose_outside(all_params)
    rejections += [*unusable, *other_unusable]
    with whole_folder(paths.PREPARED) as folder:
        converted = convert_all(locations + other_locations, folder / "audio", params)
        everything, unusable = join(usable + others, converted, params)
        rejections += unusable
        clips = [clip for clip in everything if not clip.source.startswith(OUTSIDE)]
        outside = [clip for clip in everything if clip.source.startswith(OUTSIDE)]
        summary = summarise(clips, rejections)
        for reason, count in summary["rejected_by_reason"].items():
            example = next(rejection for rejection in rejections if rejection.reason == reason)
            print(f"prepare: {count} rejected, {reason}: e.g. {example.file}: {example.remedy}")
        if not clips:
            reasons = ", ".join(f"{count} {reason}" for reason, count in summary["rejected_by_reason"].items())
            raise UserError(f"no usable clip in {paths.RAW}, all {len(rejections)} rejected: {reasons}")
        if all_params.evaluate.outside and not outside:
            raise UserError(
                f"no usable clip in evaluate.outside {all_params.evaluate.outside} that is not in {paths.RAW}"
            )
        write_clips(folder / "clips.jsonl", clips)
        write_clips(folder / "outside.jsonl", outside)
        write_jsonl(folder / "rejected.jsonl", (rejection.row() for rejection in rejections))
        write_json(folder / "summary.json", summary)
    return f"{len(clips)} clips, {summary['minutes']:g} minutes, {len(rejections)} rejected -> {paths.PREPARED}"


if __name__ == "__main__":
    run("prepare", main)

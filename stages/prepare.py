"""Turn recordings in data/raw into clips the model can hear: 16 kHz mono FLAC with clean text, in data/prepared.

    python -m stages.prepare        (or `dvc repro prepare`)

Reads data/raw/SOURCE/*, and the data sets that prepare.sources names. Writes data/prepared: audio/*.zip (ID.flac in
each), clips.jsonl, rejected.jsonl (file, reason, remedy), review.jsonl (clips that are kept but worth a listen),
other_speakers.jsonl (clips of other people, which evaluate.other_speakers names), summary.json. What is known from
earlier runs comes from the sound cache, so a new clip costs one clip's work.
"""

from __future__ import annotations

import contextlib
import gc
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

from stages.common import paths
from stages.common.files import whole_folder, write_json, write_jsonl
from stages.common.params import PrepareParams, load_params
from stages.common.plurals import counted
from stages.common.pool import keep_freed_memory, start_ahead
from stages.common.stage import UserError, announce, run
from stages.speech import WORKER_MODULES, filters, text
from stages.speech.clips import Clip, RawClip, Rejection
from stages.speech.conversion import convert_all, made_by
from stages.speech.duplicates import begin_to_compare, find_copies
from stages.speech.segments import Converted, Stored
from stages.speech.sound_cache import Damaged, SoundCache
from stages.speech.sources import locate_all, read_source, read_sources

OTHER_SPEAKERS = (
    "other_speakers/"  # before the names of sources that are other people's: no folder of data/raw has a slash
)

Located = tuple[RawClip, str | Stored]


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
    if not text.is_accepted(language):
        return Rejection(clip.where, "unknown language", f"{language!r} is no ISO 639-1 code such as en, de or hi")
    return None


def locate(raw: Path, clips: list[RawClip]) -> tuple[list[Located], list[Rejection]]:
    """Clips with their files, and those whose file lies outside of their source's folder."""
    located, rejections = [], []
    for clip, location in zip(clips, locate_all(raw, clips), strict=True):
        if location is None:
            remedy = "name a file inside the source's own folder, without .. and links"
            rejections.append(Rejection(clip.where, "path leaves its folder", remedy))
        else:
            located.append((clip, location))
    return located, rejections


def read_other_speakers(folder: str | None) -> tuple[list[Located], list[Rejection]]:
    """Other people's clips, which evaluate.other_speakers names; nothing where it names none.

    Raises: UserError where there is no such folder.
    """
    if folder is None:
        return [], []
    source = Path(folder)
    if not source.is_dir():
        raise UserError(f"params.yaml: evaluate.other_speakers {source} is no folder")
    clips, unpaired = read_source(source)
    located, unlocated = locate(source.parent, clips)
    rejections = [replace(rejection, file=OTHER_SPEAKERS + rejection.file) for rejection in unpaired + unlocated]
    return [(of_others(clip), location) for clip, location in located], rejections


def of_others(clip: RawClip) -> RawClip:
    """A clip whose source and file say that it is other people's."""
    return replace(clip, source=OTHER_SPEAKERS + clip.source, recorded_file=OTHER_SPEAKERS + clip.recorded_file)


def read_hub(params: PrepareParams) -> tuple[list[Located], list[dict]]:
    """The clips of all of prepare.sources, and what was read of each, for summary.json."""
    located: list[Located] = []
    read = []
    if params.sources:
        from stages.hub import sources as hub_sources  # imported here, with the sound libraries: most runs need none
    for number, source in enumerate(params.sources):
        fetched = hub_sources.fetch(source, number)
        some = [(of_others(clip), sound) for clip, sound in fetched.clips] if source.other_speakers else fetched.clips
        located += some
        read.append({**source.model_dump(), "revision": fetched.revision, "rows": len(fetched.clips)})
    return located, read


def join(
    located: list[Located], converted: list[Converted], params: PrepareParams
) -> tuple[list[Clip], list[Rejection]]:
    """Each recording with its sound's figures; the same bytes count once, under the first name."""
    clips: dict[str, Clip] = {}
    rejections = []
    for (raw_clip, _), result in zip(located, converted, strict=True):
        if result.figures is None:
            remedy = result.remedy
            if _is_in_lines(raw_clip) and _is_too_long(result):
                remedy += "; 'make align' writes them from the lines of its text"
            rejections.append(Rejection(raw_clip.where, result.reason, remedy))
        elif (clip_id := result.id) in clips:
            first = clips[clip_id].recorded_file
            rejections.append(Rejection(raw_clip.where, "same recording twice", f"remove it: same bytes as {first}"))
        else:
            said = {"text": text.clean(raw_clip.text), "language": language_of(raw_clip, params)}
            # The path follows from which clips there are.
            clips[clip_id] = Clip(id=clip_id, audio_path="", **vars(raw_clip) | said, **result.figures)
    return list(clips.values()), rejections


def _is_in_lines(clip: RawClip) -> bool:
    lines = [line for line in clip.text.splitlines() if text.normalise(line)]
    return clip.begins_s is None and len(lines) > 1


def _is_too_long(result: Converted) -> bool:
    if result.reason != "unreadable audio":
        return result.reason == "too long"
    from stages.speech import audio  # imported here, with the sound libraries: most runs have no such recording

    return result.remedy.endswith(audio.CUT_IT)


def summarise(
    clips: list[Clip], rejections: list[Rejection], to_review: list[filters.ReviewItem], hub: list[dict]
) -> dict:
    """Counts for summary.json and for the screen."""
    return {
        "clips": len(clips),
        "minutes": round(sum(clip.duration_s for clip in clips) / 60, 2),
        "languages": dict(Counter(clip.language for clip in clips)),
        "sources": dict(Counter(clip.source for clip in clips)),
        "hub_sources": hub,
        "rejected": len(rejections),
        "rejected_by_reason": dict(Counter(rejection.reason for rejection in rejections).most_common()),
        "to_review_by_reason": dict(Counter(item.reason for item in to_review).most_common()),
    }


def report(summary: dict, rejections: list[Rejection]) -> None:
    """Print what was left out, and what is worth a look."""
    for reason, count in summary["rejected_by_reason"].items():
        example = next(rejection for rejection in rejections if rejection.reason == reason)
        print(f"prepare: {count} rejected, {reason}: e.g. {example.file}: {example.remedy}")
    if to_review := summary["to_review_by_reason"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in to_review.items())
        print(f"prepare: to look through, in {paths.PREPARED}/review.jsonl: {reasons}")


def main() -> str:
    all_params = load_params()
    params, other_speakers_folder = all_params.prepare, all_params.evaluate.other_speakers
    announce("prepare", **params.model_dump(), other_speakers=other_speakers_folder)
    if not text.is_accepted(params.language.lower()):
        raise UserError(f"params.yaml: prepare.language {params.language!r} is no ISO 639-1 code such as en, de or hi")
    raw_clips, unpaired = read_sources(paths.RAW)
    if not (raw_clips or unpaired or params.sources):
        raise UserError(
            f"{paths.RAW} holds no recordings: put a folder with audio files and a clips.jsonl, transcripts.csv "
            f"or same-name .txt files there (or run 'make pull')"
        )
    own, unlocated = locate(paths.RAW, raw_clips)
    from_hub, hub = read_hub(params)
    others, others_unpaired = read_other_speakers(other_speakers_folder)
    unread = [*unpaired, *unlocated, *others_unpaired]
    located: list[Located] = []
    for clip, location in [*own, *from_hub, *others]:
        if rejection := check_text(clip, params):
            unread.append(rejection)
        else:
            located.append((clip, location))
    with whole_folder(paths.PREPARED) as folder, contextlib.closing(SoundCache(made_by(params))) as cache:
        while True:
            try:
                times_s = [(clip.begins_s, clip.ends_s) for clip, _ in located]
                converted = convert_all([location for _, location in located], times_s, cache, params)
                compared = [
                    result
                    for (clip, _), result in zip(located, converted, strict=True)
                    if not clip.source.startswith(OTHER_SPEAKERS)
                ]
                alike = begin_to_compare(compared, cache.made_by)  # at work while the clips are joined
                joined, unusable = join(located, converted, params)
                other_speakers = [clip for clip in joined if clip.source.startswith(OTHER_SPEAKERS)]
                clips = [clip for clip in joined if not clip.source.startswith(OTHER_SPEAKERS)]
                clips, left_out, to_review = filters.apply_filters(clips, find_copies(clips, alike()), params.filters)
                kept = {clip.id for clip in (*clips, *other_speakers)}
                digests = {result.sha256 for result in converted if result.id in kept}
                shard_of = cache.write_shards(digests, folder / "audio", paths.PREPARED / "audio")
                break
            except Damaged:  # made again
                shutil.rmtree(folder / "audio")
        rejections = [*unread, *unusable, *left_out]
        summary = summarise(clips, rejections, to_review, hub)
        report(summary, rejections)
        if not clips:
            reasons = ", ".join(f"{count} {reason}" for reason, count in summary["rejected_by_reason"].items())
            raise UserError(f"no usable clip in {paths.RAW}, all {len(rejections)} rejected: {reasons}")
        if other_speakers_folder and not other_speakers:
            raise UserError(
                f"no usable clip in evaluate.other_speakers {other_speakers_folder} that is not in {paths.RAW}"
            )
        for name, some in (("clips.jsonl", clips), ("other_speakers.jsonl", other_speakers)):
            paths_of = (f"audio/{shard_of[clip.id]}/{clip.id}.flac" for clip in some)
            rows = (vars(clip) | {"audio_path": path} for clip, path in zip(some, paths_of, strict=True))
            write_jsonl(folder / name, rows)
        write_jsonl(folder / "rejected.jsonl", (rejection.row() for rejection in rejections))
        write_jsonl(folder / "review.jsonl", (item.row() for item in to_review))
        write_json(folder / "summary.json", summary)
    minutes = counted(summary["minutes"], "minute")
    return f"{counted(len(clips), 'clip')}, {minutes}, {len(rejections)} rejected -> {paths.PREPARED}"


if __name__ == "__main__":
    gc.disable()  # nothing here is garbage before the end, and looking for it takes a tenth of the time
    keep_freed_memory()
    start_ahead(WORKER_MODULES)
    run("prepare", main)
    gc.freeze()  # nor is it looked for at the end

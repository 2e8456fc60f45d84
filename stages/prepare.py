"""Turn recordings in data/raw into clips the model can hear: 16 kHz mono FLAC with clean text, in data/prepared.

    python -m stages.prepare        (or `dvc repro prepare`)

Reads data/raw/SOURCE/*, and the data sets that prepare.sources names. Writes data/prepared, which Hugging Face's
audiofolder reads: audio/ab/ID.flac and metadata.jsonl; and rejected.jsonl (file, reason, remedy), review.jsonl (clips
that are kept but worth a listen), other_speakers.jsonl (clips of other people, see evaluate.other_speakers),
summary.json. A new clip costs one clip's work: what is known of the others comes from the cache.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from stages.common import paths
from stages.common.dvc import refuse_shrunk_recordings
from stages.common.files import write_json, write_jsonl
from stages.common.params import PrepareParams, load_params
from stages.common.plurals import counted
from stages.common.stage import UserError, announce, run
from stages.speech import filters, prepared, text
from stages.speech.clips import Clip, RawClip, Rejection, write_clips
from stages.speech.conversion import Converted, Part, Stored
from stages.speech.duplicates import find_duplicates
from stages.speech.sound_cache import SoundCache, remove_stale
from stages.speech.sources import locate_all, read_source, read_sources
from stages.speech.transcripts import transcript_of

OTHER_SPEAKERS = "other_speakers/"  # begins a source that is other people's; no folder of data/raw has a slash
TABLES = ("metadata.jsonl", "other_speakers.jsonl", "rejected.jsonl", "review.jsonl", "summary.json")

Located = tuple[RawClip, Path | Stored | None]


def language_of(clip: RawClip, params: PrepareParams) -> str:
    """The clip's own language, else the one that the settings name; codes are written in small letters."""
    return (clip.language or params.language).lower()


def check(clip: RawClip, location: Path | Stored | None, params: PrepareParams) -> Rejection | None:
    """Why a clip's place, text or language cannot be used; None if all can."""
    if location is None:
        remedy = "name a file inside the source's own folder, without .. and links"
        return Rejection(clip.where, "path leaves its folder", remedy)
    language = language_of(clip, params)
    said, problem = transcript_of(clip.text, language)
    if control := text.find_control_string(said):
        return Rejection(
            clip.where, "control string in text", f"remove {control}: the model would take it for a command"
        )
    if problem:
        return Rejection(clip.where, *problem)
    if not text.normalise(said):
        return Rejection(clip.where, "empty text", "write down what was said, in letters")
    if not text.is_accepted(language):
        return Rejection(clip.where, "unknown language", f"{language!r} is not an ISO 639-1 code such as en, de or hi")
    return None


def read_other_speakers(folder: str | None) -> tuple[list[Located], list[Rejection]]:
    """Other people's clips, which evaluate.other_speakers names; nothing if it names none.

    Raises: UserError if the folder is missing.
    """
    if folder is None:
        return [], []
    source = Path(folder)
    if not source.is_dir():
        raise UserError(f"params.yaml: evaluate.other_speakers {source} is not a folder")
    clips, unpaired = read_source(source)
    rejections = [replace(rejection, file=OTHER_SPEAKERS + rejection.file) for rejection in unpaired]
    return list(zip(map(of_others, clips), locate_all(source.parent, clips), strict=True)), rejections


def of_others(clip: RawClip) -> RawClip:
    """A clip whose source and file say that it is other people's."""
    return replace(clip, source=OTHER_SPEAKERS + clip.source, recorded_file=OTHER_SPEAKERS + clip.recorded_file)


def read_hub(params: PrepareParams) -> tuple[list[Located], list[dict]]:
    """The clips of all of prepare.sources, and what was read of each, for summary.json."""
    located: list[Located] = []
    read = []
    if params.sources:
        from stages.hub import sources as hub_sources  # imported here: most runs need none
    for number, source in enumerate(params.sources):
        clips, revision = hub_sources.fetch(source, number)
        located += [(of_others(clip), sound) for clip, sound in clips] if source.other_speakers else clips
        read.append({**source.model_dump(), "revision": revision, "rows": len(clips)})
    return located, read


def join(
    located: list[Located], converted: list[Converted], params: PrepareParams
) -> tuple[list[Clip], list[Rejection]]:
    """Each recording with its sound's figures; the same bytes count once, under the first name."""
    clips: dict[str, Clip] = {}
    rejections = []
    for (raw_clip, _), result in zip(located, converted, strict=True):
        is_heard = bool(result.figures)
        problem = check_figures(result.figures, params, raw_clip.text) if is_heard else (result.reason, result.remedy)
        if problem:
            reason, remedy = problem
            rejections.append(Rejection(raw_clip.where, reason, remedy))
        elif first := clips.get(result.id):
            is_other = raw_clip.text != first.text
            which = "keep the one with the right text" if is_other else "remove it"
            remedy = f"{which}: same bytes as {first.recorded_file}"
            rejections.append(Rejection(raw_clip.where, "same recording twice", remedy))
        else:
            said = {"language": language_of(raw_clip, params)}
            sound = {"audio_path": prepared.audio_path(result.id), **result.figures}
            clips[result.id] = Clip(id=result.id, **vars(raw_clip) | said, **sound)
    return list(clips.values()), rejections


def check_figures(figures: dict[str, float], params: PrepareParams, said: str = "") -> tuple[str, str] | None:
    """(reason, remedy) if a clip's sound, or the length of its text, is beyond a limit of the settings."""
    duration_s, level_dbfs = figures["duration_s"], figures["level_dbfs"]
    if duration_s < params.min_duration_s:
        limit = f"{duration_s:.2f} s is below prepare.min_duration_s {params.min_duration_s:g}"
        return "too short", f"{limit}: record it again"
    if duration_s > params.max_duration_s:
        limit = f"{duration_s:.1f} s is above prepare.max_duration_s {params.max_duration_s:g}"
        return "too long", f"{limit}: cut it, or put subtitles (.srt) beside it, which 'make align' writes from lines"
    if level_dbfs < params.silence_dbfs:
        return "silence", f"loudest part at {level_dbfs:.0f} dBFS: check the microphone and record it again"
    if figures["clipped_fraction"] > params.max_clipped_fraction:
        clipped = f"{figures['clipped_fraction']:.0%} of it at full scale"
        return "heavy clipping", f"{clipped}: turn the microphone down and record it again"
    if (speed := filters.characters_per_s(said, duration_s)) > params.max_characters_per_s:
        limit = f"{speed:.0f} characters a second is above prepare.max_characters_per_s {params.max_characters_per_s:g}"
        return "too many words", f"{limit}: is the text of this recording, and is it whole?"
    return None


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
        raise UserError(f"params.yaml: prepare.language {params.language!r} is not an ISO 639-1 code such as en or de")
    refuse_shrunk_recordings()
    raw_clips, unpaired = read_sources(paths.RAW, note=lambda words: print(f"prepare: {words}"))
    if not (raw_clips or unpaired or params.sources):
        raise UserError(
            f"{paths.RAW} holds no recordings: put a folder with audio files and a clips.jsonl, transcripts.csv "
            f"or same-name .txt files there (or run 'make pull')"
        )
    own = list(zip(raw_clips, locate_all(paths.RAW, raw_clips), strict=True))
    from_hub, hub = read_hub(params)
    others, others_unpaired = read_other_speakers(other_speakers_folder)
    unread = [*unpaired, *others_unpaired]
    located: list[Located] = []
    for clip, location in [*own, *from_hub, *others]:
        if rejection := check(clip, location, params):
            unread.append(rejection)
        else:
            located.append((replace(clip, text=transcript_of(clip.text)[0]), location))
    sounds = SoundCache(params)
    parts = [Part(location, clip.begins_s, clip.ends_s) for clip, location in located]
    converted = sounds.convert_all(parts)
    joined, unusable = join(located, converted, params)
    other_speakers = [clip for clip in joined if clip.source.startswith(OTHER_SPEAKERS)]
    clips = [clip for clip in joined if not clip.source.startswith(OTHER_SPEAKERS)]
    duplicates = find_duplicates(clips, {one.id: one.fingerprint for one in converted})
    clips, left_out, to_review = filters.apply_filters(clips, duplicates)
    rejections = [*unread, *unusable, *left_out]
    summary = summarise(clips, rejections, to_review, hub)
    report(summary, rejections)
    write_jsonl(paths.PREPARED / "rejected.jsonl", (rejection.row() for rejection in rejections))
    if not clips:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary["rejected_by_reason"].items())
        listed = f"{paths.PREPARED}/rejected.jsonl"
        raise UserError(f"no usable clip in {paths.RAW}, all {len(rejections)} rejected: {reasons}; see {listed}")
    if other_speakers_folder and not other_speakers:
        raise UserError(f"no usable clip in evaluate.other_speakers {other_speakers_folder} that is not in {paths.RAW}")

    # Written in place, the manifest last; the next run completes a killed one.
    sound_of = {one.id: (part, one.sha256) for part, one in zip(parts, converted, strict=True)}
    files = {f"{paths.PREPARED}/{clip.audio_path}": sound_of[clip.id] for clip in [*clips, *other_speakers]}
    sounds.put_in_place(files)
    write_clips(paths.PREPARED / "other_speakers.jsonl", other_speakers)
    write_jsonl(paths.PREPARED / "review.jsonl", (item.row() for item in to_review))
    write_json(paths.PREPARED / "summary.json", summary)
    write_clips(prepared.MANIFEST, clips)
    remove_stale({*files, *(str(paths.PREPARED / name) for name in TABLES)})
    sounds.remember()
    # DVC hashes data/raw when this stage has ended: a recording that came meanwhile would count as prepared.
    if read_sources(paths.RAW) != (raw_clips, unpaired) or sounds.has_changed():
        raise UserError(f"{paths.RAW} changed while it was read: run it again")
    minutes = counted(summary["minutes"], "minute")
    return f"{counted(len(clips), 'clip')}, {minutes}, {len(rejections)} rejected -> {paths.PREPARED}"


if __name__ == "__main__":
    run("prepare", main)

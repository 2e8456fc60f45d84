"""Cut long recordings by the lines of their text: write an .srt beside each, which prepare reads.

    make align                               all long recordings in data/raw that have a text of several lines
    make align FILE=data/raw/tv/talk.wav     one of them, such as that of talk.txt beside it
    make align AGREEMENT=0.5                 for a voice that the base model hardly understands

The text has a line for each sentence, in the order spoken, with pauses of 0.4 s and more between them. The base model
(`model` in params.yaml) transcribes the sound between the pauses. A line gets the sound with its words if the model
hears AGREEMENT of them (1 - word error rate), and its first and its last word. An .srt is written only if all lines of
a text are found, and never over another one; otherwise each missing line is named, with what the model heard.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stages.common import paths
from stages.common.dvc import Busy, locked_repository
from stages.common.files import sha256_of_file, write_whole
from stages.common.params import Params, PrepareParams, load_params
from stages.common.plurals import counted
from stages.common.stage import UserError, number_option, run
from stages.speech import alignment, audio, sources, subtitles
from stages.speech.alignment import Line
from stages.speech.clips import Clip, RawClip, clip_id
from stages.speech.pairing import is_recording
from stages.speech.transcripts import is_remark

AGREEMENT = 0.7


@dataclass(frozen=True)
class Talk:
    """A recording with a text of several lines, and begin and end in seconds of the pieces between its pauses."""

    clip: RawClip
    language: str
    duration_s: float
    pieces: list[tuple[float, float]]

    @property
    def path(self) -> Path:
        return paths.RAW / self.clip.recorded_file


def choose(file: str | None) -> list[RawClip]:
    """Recordings in data/raw with several lines of text and without times or subtitles, or `file` alone.

    Raises: UserError if `file` is not one of them, or if there is none.
    """
    found = {}
    for clip in sources.read_sources(paths.RAW)[0]:
        path = sources.locate(paths.RAW, clip)
        if path and path.is_file() and clip.begins_s is None and len(alignment.lines_of(clip.text)) > 1:
            found[path] = clip
    if file is None and not found:
        raise UserError(
            f"{paths.RAW} has no recording with a text of several lines and without times or subtitles: write, beside "
            f"talk.wav, talk.txt with a line for each sentence"
        )
    if file is None:
        return list(found.values())
    if Path(file).resolve() not in found:
        raise UserError(
            f"{file} is not a recording in {paths.RAW} with a text of several lines, or it has times or subtitles "
            f"already: write its text, a line for each sentence, into {Path(file).with_suffix('.txt').name} beside it"
        )
    return [found[Path(file).resolve()]]


def subtitles_path(recording: Path) -> Path:
    """Where a recording's .srt goes.

    Raises: UserError if there are subtitles already, or another recording of this name, which would share them.
    """
    name = re.compile(re.escape(recording.stem) + r"(\.[a-z]{2})?", re.IGNORECASE)
    for other in sorted(recording.parent.iterdir()):
        if other.suffix.lower() in subtitles.SUFFIXES and name.fullmatch(other.stem):
            raise UserError(f"{other.name} exists: remove it to align the recording again")
        if other != recording and other.stem == recording.stem and is_recording(other):
            raise UserError(f"{other.name} would share its subtitles: rename one of the two, with its text")
    return recording.with_suffix(".srt")


def cut_in_pauses(clip: RawClip, params: PrepareParams) -> Talk:
    """Raises: audio.UnreadableSound."""
    with (paths.RAW / clip.recorded_file).open("rb") as recorded:
        return Talk(clip, (clip.language or params.language).lower(), *alignment.find_pieces(recorded, params.channels))


def hear(talk: Talk, params: Params) -> list[str]:
    """What the base model hears in each piece of a talk; nothing in pieces of a length that prepare would reject."""
    from stages.voxtral.base_transcripts import base_transcripts  # torch: mistakes are reported before it is loaded

    limits = params.prepare
    recorded_sha256 = sha256_of_file(talk.path)
    clips = {
        number: Clip(
            **vars(replace(talk.clip, text="", language=talk.language, begins_s=begins_s, ends_s=ends_s)),
            id=clip_id(recorded_sha256, begins_s, ends_s), audio_path="", duration_s=ends_s - begins_s,
            peak_dbfs=0, level_dbfs=0, snr_db=0, clipped_fraction=0,
        )
        for number, (begins_s, ends_s) in enumerate(talk.pieces)
        if limits.min_duration_s <= ends_s - begins_s <= limits.max_duration_s
    }  # fmt: skip
    keys = [{"part": clip.id, "recorded": recorded_sha256, "channels": limits.channels} for clip in clips.values()]

    def sound_of(piece: Clip) -> np.ndarray:
        with talk.path.open("rb") as recorded:
            return audio.to_mono_16k(*audio.decode(recorded, piece.begins_s, piece.ends_s), limits.channels)

    texts = base_transcripts(list(clips.values()), keys, sound_of, params.model, params.evaluate.batch_size)
    heard = dict(zip(clips, texts, strict=True))
    return [heard.get(number, "") for number in range(len(talk.pieces))]


def problem_of(line: Line, limit: float) -> str | None:
    """Why a line is not found, or would be lost; None if it is."""
    if is_remark(line.text):
        return "subtitles name sounds in this way: remove its brackets or signs"
    if line.begins_s is None:
        return "nothing of it is heard between two pauses"
    heard = f"from {line.begins_s:.1f} s to {line.ends_s:.1f} s the model hears {line.heard!r}"
    if line.agreement < limit:
        return f"{heard}, agreement {line.agreement:.2f}"
    return None if line.ends_heard else f"{heard}, without its first or last word"


def write_subtitles(talk: Talk, heard: Sequence[str], limit: float) -> None:
    """Write a talk's .srt if all lines are found; print lines that are not, and what is said that no line has.

    Raises: UserError if a line is not found, or while DVC runs.
    """
    lines = alignment.place(alignment.lines_of(talk.clip.text), talk.pieces, heard, talk.language)
    spans = [(line.begins_s, line.ends_s) for line in lines if line.begins_s is not None]
    for (begins_s, ends_s), words in zip(talk.pieces, heard, strict=True):
        if words and not any(begin <= begins_s < end for begin, end in spans):
            where = replace(talk.clip, begins_s=begins_s, ends_s=ends_s).where
            print(f"align: {where}: {words!r} is in no line, left out", flush=True)
    missing = [(line, problem) for line in lines if (problem := problem_of(line, limit))]
    for line, problem in missing:
        print(f"align: {talk.clip.recorded_file} line {line.number} {line.text!r}: {problem}", flush=True)
    if missing:
        raise UserError(
            f"{len(missing)} of {counted(len(lines), 'line')} not found, see above, so no .srt is written: correct "
            f"these lines, remove what is not said, or lower AGREEMENT ({limit:g})"
        )
    try:
        # A run that reads data/raw now would count the new file as processed without having read it.
        with locked_repository():
            path = subtitles_path(talk.path)
            write_whole(path, as_srt(lines).encode())
    except Busy as error:
        raise UserError(f"{error} reads {paths.RAW}, so no .srt is written: run make align again after it") from None
    print(f"align: {path.name} beside {talk.clip.recorded_file}: {counted(len(lines), 'line')}", flush=True)


def as_srt(lines: Sequence[Line]) -> str:
    """Subtitles, a cue for each line."""
    return "".join(
        f"{number}\n{_clock(line.begins_s)} --> {_clock(line.ends_s)}\n{html.escape(line.text, quote=False)}\n\n"
        for number, line in enumerate(lines, 1)
    )


def _clock(seconds: float) -> str:
    """01:02:03,500"""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"


def main(file: str | None = None, agreement: float = AGREEMENT) -> str:
    if not 0 < agreement <= 1:
        raise UserError(f"AGREEMENT is {agreement:g}: give a number above 0 and at most 1")
    params = load_params()
    done, short, problems = 0, 0, []
    for clip in choose(file):
        print(f"align: {clip.recorded_file}", flush=True)
        try:
            talk = cut_in_pauses(clip, params.prepare)
            if file is None and talk.duration_s <= params.prepare.max_duration_s:
                short += 1
                continue
            subtitles_path(talk.path)  # refused before the model hears an hour of it
            write_subtitles(talk, hear(talk, params), agreement)
            done += 1
        except (UserError, audio.UnreadableSound) as error:
            problems.append(f"{clip.recorded_file}: {error}")
    for problem in problems[:-1]:
        print(f"align: {problem}", flush=True)
    if problems:
        raise UserError(problems[-1])
    return f"subtitles for {counted(done, 'recording')}; {short} not longer than prepare.max_duration_s left whole"


if __name__ == "__main__":
    run("align", lambda: main(os.environ.get("FILE") or None, number_option("AGREEMENT", AGREEMENT)))

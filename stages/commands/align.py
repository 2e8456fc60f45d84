"""Cut long recordings by the lines of their text: write an .srt beside each, which prepare reads.

    make align                               all long recordings in data/raw that have a text of several lines
    make align FILE=data/raw/tv/talk.wav     one of them, such as that of talk.txt beside it
    make align AGREEMENT=0.5                 for a voice that the base model hardly understands

The text has one line for each sentence, in the order spoken, with pauses of 0.4 s and more between them. The base model
(`model` in params.yaml) transcribes what is between two pauses, and each line gets the sound with its words, if the
model hears AGREEMENT of them (1 - word error rate) and its first and last word. An .srt is written only if all lines of
a text are found, and never over another one; else each missing line is named, with what the model heard.
"""

from __future__ import annotations

import argparse
import html
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.common import paths
from stages.common.cache import code_of
from stages.common.files import sha256_of_file, write_whole
from stages.common.params import Params, load_params
from stages.common.plurals import counted, lasting
from stages.common.stage import UserError, run
from stages.speech import alignment, audio, segments, sources, subtitles
from stages.speech.alignment import Placed
from stages.speech.clips import Clip, where
from stages.speech.raw_clips import RawClip

AGREEMENT = 0.7


def choose(file: str | None) -> list[tuple[RawClip, Path]]:
    """The recordings to align, and where they are: without times or subtitles, and with several lines of text.

    Raises: UserError if `file` is not such a recording, or not in data/raw.
    """
    clips, _ = sources.read_sources(paths.RAW)
    found = []
    for clip in clips:
        path = sources.locate(paths.RAW, clip)
        if path and path.is_file() and clip.begins_s is None and len(alignment.lines_of(clip.text)) > 1:
            found.append((clip, path))
    if not file:
        return found
    if not Path(file).is_file():
        raise UserError(f"{file} is not a file: give FILE=data/raw/SOURCE/talk.wav")
    chosen = [(clip, path) for clip, path in found if path == Path(file).resolve()]
    if not chosen:
        raise UserError(
            f"{file} is not a recording in {paths.RAW} with a text of several lines, or it has times or subtitles: put "
            f"its text, a line for each sentence, into {Path(file).with_suffix('.txt').name} beside it"
        )
    return chosen


def subtitles_path(recording: Path) -> Path:
    """Where a recording's .srt goes.

    Raises: UserError if there are subtitles already, or another recording of this name, which would share them.
    """
    names = re.compile(re.escape(recording.stem) + r"(\.[a-z]{2})?", re.IGNORECASE)
    for other in sorted(recording.parent.iterdir()):
        if other.suffix.lower() in subtitles.SUFFIXES and names.fullmatch(other.stem):
            raise UserError(f"{other} exists: remove it to align the recording again")
        if other != recording and other.stem == recording.stem and other.suffix.lower() in sources.AUDIO_SUFFIXES:
            raise UserError(f"{recording} and {other.name} would share their subtitles: rename one, with its text")
    return recording.with_suffix(".srt")


def align(clip: RawClip, recording: Path, pieces: Sequence[tuple[float, float]], params: Params) -> list[Placed]:
    """Place a recording's lines, and print what is said in it that no line has."""
    language = (clip.language or params.prepare.language).lower()
    heard = hear(clip.file, recording, language, pieces, params)
    placed = alignment.place(alignment.lines_of(clip.text), pieces, heard, language)
    spans = [(one.begins_s, one.ends_s) for one in placed if one.begins_s is not None]
    for (begins_s, ends_s), words in zip(pieces, heard, strict=True):
        if words and not any(begin <= begins_s < end for begin, end in spans):
            print(f"align: {where(clip.file, begins_s, ends_s)}: in no line: {words!r}", flush=True)
    return placed


def hear(file: str, recording: Path, language: str, pieces: Sequence[tuple[float, float]], params: Params) -> list[str]:
    """What the base model hears in each piece; nothing in one whose length prepare would refuse."""
    from stages.voxtral.base_transcripts import base_transcripts  # torch: mistakes are reported before it is loaded

    limits = params.prepare
    used = [
        (begins_s, ends_s)
        for begins_s, ends_s in pieces
        if limits.min_duration_s <= ends_s - begins_s <= limits.max_duration_s
    ]
    recorded_sha256 = sha256_of_file(recording)
    clips = [
        Clip(
            segments.clip_id(recorded_sha256, *times), "", "", language, "", file, times[1] - times[0], 0, 0, 0, 0,
            begins_s=times[0], ends_s=times[1],
        )
        for times in used
    ]  # fmt: skip
    made_by = {"code": code_of(audio), "channels": limits.channels, "recorded": recorded_sha256}

    def sound_of(piece: Clip) -> np.ndarray:
        with recording.open("rb") as recorded:
            return audio.to_mono_16k(*audio.decode(recorded, piece.begins_s, piece.ends_s), limits.channels)

    keys = [{**made_by, "begins_s": begins_s, "ends_s": ends_s} for begins_s, ends_s in used]
    texts = base_transcripts(clips, keys, sound_of, params.model, params.evaluate.batch_size)
    heard = dict(zip(used, texts, strict=True))
    return [heard.get(times, "") for times in pieces]


def problem_of(placed: Placed, limit: float) -> str | None:
    """Why a line is not found, None if it is."""
    if placed.begins_s is None:
        return "nothing of it is heard between two pauses"
    heard = f"from {placed.begins_s:.1f} s to {placed.ends_s:.1f} s is heard {placed.heard!r}"
    if placed.agreement < limit:
        return f"{heard}, an agreement of {placed.agreement:.2f}"
    return None if placed.ends_heard else f"{heard}, without its first or last word"


def as_srt(placed: Sequence[Placed]) -> str:
    """Subtitles, a cue for each line.

    Raises: UserError if subtitles cannot have the text of a line, such as one in brackets, which names a sound.
    """
    content = "".join(
        f"{number}\n{_clock(one.begins_s)} --> {_clock(one.ends_s)}\n{html.escape(one.line.text, quote=False)}\n\n"
        for number, one in enumerate(placed, 1)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "written.srt")
        path.write_text(content, encoding="utf-8")
        read = [cue.text if isinstance(cue, subtitles.Cue) else None for cue in subtitles.read(path, path.parent)]
    for one, text in zip(placed, read, strict=True):
        if text != one.line.text:
            raise UserError(f"line {one.line.number} {one.line.text!r} cannot be a subtitle: remove its brackets")
    return content


def _clock(seconds: float) -> str:
    """00:01:02,500"""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"


def align_and_write(clip: RawClip, recording: Path, limit: float, is_chosen: bool, params: Params) -> str:
    """What became of one recording: written, unwritten, or short (not longer than prepare takes, and left alone)."""
    print(f"align: {clip.file}: looking for pauses", flush=True)
    with recording.open("rb") as recorded:
        duration_s, pieces = alignment.find_pieces(recorded, params.prepare.channels)
    if duration_s <= params.prepare.max_duration_s and not is_chosen:
        return "short"
    path = subtitles_path(recording)
    print(f"align: {clip.file}: {counted(len(pieces), 'piece')} in {lasting(duration_s)}", flush=True)
    placed = align(clip, recording, pieces, params)
    missing = [(one, problem) for one in placed if (problem := problem_of(one, limit))]
    for one, problem in missing:
        print(f"align: {clip.file} line {one.line.number} {one.line.text!r}: {problem}", flush=True)
    if missing:
        raise UserError(
            f"{len(missing)} of {counted(len(placed), 'line')} not found, see above: correct these lines, remove "
            f"what is not said, or lower AGREEMENT ({limit:g})"
        )
    write_whole(path, as_srt(placed).encode())
    print(f"align: {path}: {counted(len(placed), 'cue')}", flush=True)
    return "written"


def main() -> str:
    parser = argparse.ArgumentParser(prog="make align")
    parser.add_argument("--file")
    parser.add_argument("--agreement", type=float, default=AGREEMENT)
    options = parser.parse_args()
    if not 0 < options.agreement <= 1:
        raise UserError(f"AGREEMENT is {options.agreement:g}: give a number above 0, at most 1")
    params = load_params()
    chosen = choose(options.file)
    if not chosen:
        raise UserError(f"{paths.RAW} has no recording whose text has several lines, and no times or subtitles")
    outcomes, problems = [], []
    for clip, recording in chosen:
        try:
            outcomes.append(align_and_write(clip, recording, options.agreement, bool(options.file), params))
        except (audio.UnreadableSound, audio.ChannelsDiffer, UserError) as error:
            problems.append(f"{clip.file}: {error}")
            print(f"align: {problems[-1]}", flush=True)
    if problems:
        others = (
            f" ({len(problems)} of {counted(len(chosen), 'recording')} without subtitles)" if len(chosen) > 1 else ""
        )
        raise UserError(problems[0] + others)
    written = outcomes.count("written")
    return f"{counted(written, 'recording')} cut by lines, {outcomes.count('short')} short enough to stay whole"


if __name__ == "__main__":
    run("align", main)

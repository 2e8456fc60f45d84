"""Subtitles: SRT and WebVTT files beside a recording of the same name; every cue is a clip.

Formats: www.w3.org/TR/webvtt1 and what players take for SRT, which has no header, a comma, and always hours.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from stages.speech.clips import Rejection
from stages.speech.tables import read_text, where_in
from stages.speech.text import clean

SUFFIXES = (".srt", ".vtt")
TIME = r"(?:(\d+):)?(\d\d?):(\d\d)[.,](\d{1,3})"
TIMES = re.compile(rf"\s*{TIME}\s*-->\s*{TIME}(?:\s.*)?")
VOICE = re.compile(r"<v(?:\.[^ >]*)?\s+([^>]+)>")
MARKUP = re.compile(r"</?[a-zA-Z][^>]*>|\{\\[^}]*\}")
# A time within a cue: in YouTube's rolling captions, where each cue repeats the one before.
ROLLING = re.compile(r"<\d+:[\d:.]+>")
NOT_SPEECH = re.compile(r"\s*(\[[^\]]*\]|\([^)]*\)|[♪♫#]+[^♪♫#]*[♪♫#]*)\s*")
NO_CUE = ("WEBVTT", "NOTE", "STYLE", "REGION")


def read(path: Path, source: Path) -> Iterator[dict | Rejection]:
    """The cues of an SRT or WebVTT file: begins_s, ends_s, text, speaker; or why one cannot be read, with its line."""
    content = read_text(path, source)
    if isinstance(content, Rejection):
        yield content
        return
    if ROLLING.search(content):
        remedy = "its cues repeat each other's words: export it as SRT from an editor, one cue for each sentence"
        yield Rejection(where_in(path, source), "rolling captions", remedy)
        return
    lines = content.split("\n")
    number = 0
    while number < len(lines):
        block = []
        first = number + 1
        while number < len(lines) and lines[number].strip():
            block.append(lines[number])
            number += 1
        number += 1
        if block and not block[0].startswith(NO_CUE):
            yield _read_cue(block, where_in(path, source, first))


def _read_cue(block: list[str], where: str) -> dict | Rejection:
    # The line with the times is the first, or follows the cue's number or name.
    at = next((number for number, line in enumerate(block[:2]) if TIMES.fullmatch(line)), None)
    if at is None or any("-->" in line for line in block[at + 1 :]):
        remedy = "write a cue as 00:00:01,000 --> 00:00:02,500, its words below, and an empty line after it"
        return Rejection(where, "unreadable row", remedy)
    times = TIMES.fullmatch(block[at]).groups()
    begins_s, ends_s = (
        round(int(hours or 0) * 3600 + int(minutes) * 60 + int(whole) + int(rest.ljust(3, "0")) / 1000, 3)
        for hours, minutes, whole, rest in (times[:4], times[4:])
    )
    words = " ".join(block[at + 1 :])
    voices = [clean(html.unescape(voice)) for voice in VOICE.findall(words)]
    text = clean(html.unescape(MARKUP.sub("", words)))
    if not text or NOT_SPEECH.fullmatch(text):
        return Rejection(where, "no speech in cue", "nothing to do if it names a sound; else write down the words")
    if len(set(voices)) > 1:
        return Rejection(where, "several voices in cue", "give each voice a cue of its own")
    speaker = voices[0] if voices else None
    return {"begins_s": begins_s, "ends_s": ends_s, "text": text, "speaker": speaker}

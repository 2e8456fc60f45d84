"""Subtitles: SRT and WebVTT files beside a recording of the same name; every cue is a clip.

Formats: www.w3.org/TR/webvtt1 and what players take for SRT, which has no header, a comma, and always hours.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from stages.speech.clips import Rejection
from stages.speech.tables import read_text, where_in
from stages.speech.text import clean
from stages.speech.transcripts import SPEAKER_CHANGE, is_remark

SUFFIXES = (".srt", ".vtt")
TIME = r"(?:(\d+):)?(\d\d?):(\d\d)[.,](\d{1,3})"
TIMES = re.compile(rf"\s*{TIME}\s*-->\s*{TIME}(?:\s.*)?")
VOICE = re.compile(r"<v(?:\.[^ >]*)?\s+([^>]+)>")
MARKUP = re.compile(r"</?[a-zA-Z][^>]*>|\{\\[^}]*\}")
# A time within a cue: in YouTube's rolling captions, where each cue repeats the one before.
ROLLING = re.compile(r"<\d+:[\d:.]+>")
COMMENT = re.compile(r"NOTE(\s|$)")  # NOTE-1 is a cue's name
SETTINGS = re.compile(r"(STYLE|REGION)\s*")  # unless times follow: then it is a cue's name, too

# Who speaks, before the words: "Ann: hello". It could as well be said: "Remember: lock the door".
NAME = re.compile(r"(?:[-‐-―−]|>>+)?\s*(?=[^\W\d_])(\w[\w.'’-]*(?: \w[\w.'’-]*)?)\s*:(?:\s+|$)")

# {begins_s, ends_s, text, speaker}, or why there is none.
Part = dict | Rejection


def read(path: Path, source: Path) -> Iterator[Part]:
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
    header = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if lines[header].startswith("WEBVTT"):
        # Up to the first empty line, or to a cue that follows without one.
        while header < len(lines) and lines[header].strip() and "-->" not in lines[header]:
            lines[header] = ""
            header += 1
    names = _names_in(lines)
    number = 0
    while number < len(lines):
        block = []
        first = number + 1
        while number < len(lines) and lines[number].strip():
            block.append(lines[number])
            number += 1
        number += 1
        is_named_cue = len(block) > 1 and TIMES.fullmatch(block[1])
        if block and not COMMENT.match(block[0]) and (is_named_cue or not SETTINGS.fullmatch(block[0])):
            yield _read_cue(block, where_in(path, source, first), names)


def _names_in(lines: list[str]) -> set[str]:
    """Names before the words that are certain: in capitals, in several cues, or where every cue has one."""
    found = Counter(match[1] for line in lines if (match := _name_before(_plain(line))))
    cues = sum(bool(TIMES.fullmatch(line)) for line in lines)
    return {name for name, times in found.items() if times > 1 or name.isupper() or found.total() >= cues}


def _name_before(line: str) -> re.Match | None:
    match = NAME.match(line)
    return match if match and all(word[0].isupper() or word[0].isdigit() for word in match[1].split()) else None


def _plain(line: str) -> str:
    return html.unescape(MARKUP.sub("", line))


def _read_cue(block: list[str], where: str, names: set[str]) -> Part:
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
    written = block[at + 1 :]
    lines = [_plain(line) for line in written]
    before = [_name_before(line) for line in lines]
    voices = [clean(html.unescape(voice)) for voice in VOICE.findall(" ".join(written))]
    voices += [match[1] for match in before if match]
    if len(set(voices)) > 1 or sum(bool(SPEAKER_CHANGE.match(line)) for line in lines) > 1:
        return Rejection(where, "several voices", "give each voice a cue of its own")
    if unsure := [match[1] for match in before if match and match[1] not in names]:
        remedy = f"write <v {unsure[0]}> before the words if that is who speaks, or a comma instead of the colon"
        return Rejection(where, "remark in text", remedy)
    words = " ".join(line[match.end() :] if match else line for line, match in zip(lines, before, strict=True))
    return make_part(begins_s, ends_s, words, where, voices[0] if voices else None)


def make_part(begins_s: float, ends_s: float, text: str, where: str, speaker: str | None = None) -> Part:
    """The part of a recording that a cue or label is about."""
    text = clean(text)
    if not text or is_remark(text):
        return Rejection(where, "no speech in cue", "nothing to do if it names a sound; else write down the words")
    if not 0 <= begins_s < ends_s < float("inf"):
        return Rejection(where, "unreadable row", "correct its times: it ends before it begins")
    return {"begins_s": round(begins_s, 3), "ends_s": round(ends_s, 3), "text": text, "speaker": speaker}

"""Search files for what is left of erased recordings: pieces of their sound, ids, texts and names."""

from __future__ import annotations

import html
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.speech.clips import ID_LENGTH

PIECE_BYTES = 32
PIECES = 4  # of a sound file, so that a partial copy is found too
DIFFERENT_BYTES = 12  # in a piece: one with fewer is silence, which every file has
MIN_TEXT_BYTES = 8  # a shorter text is found by chance
READ_BYTES = 1 << 20
KEY_BYTES = 3
AROUND_CELL = '\n\t,;|/" '  # what is on either side of a name in a table


def pieces_of(content: bytes) -> list[bytes]:
    """Up to four short pieces that tell a sound file from all others; none if it is silent or nearly empty."""
    pieces = []
    for part in range(PIECES):
        first = (2 * part + 1) * len(content) // (2 * PIECES)
        for start in range(first, min(first + len(content) // PIECES, len(content) - PIECE_BYTES), PIECE_BYTES):
            piece = content[start : start + PIECE_BYTES]
            if len(set(piece)) >= DIFFERENT_BYTES:
                pieces.append(piece)
                break
    return pieces


def text_ways(text: str) -> set[bytes]:
    """A text as CSV, JSON and HTML write it; none if it is too short to be told from others."""
    ways = {text, text.replace('"', '""'), html.escape(text), *_in_json(text)}
    return {way.encode() for way in ways if len(way.encode()) >= MIN_TEXT_BYTES}


def speaker_ways(name: str) -> set[bytes]:
    """A speaker's name as JSON files of ours write it."""
    return {
        way.encode() for one in _in_json(name) for way in (f'"speaker":"{one}"', f'"speaker": "{one}"', f'"{one}": {{')
    }


def cell_ways(name: str) -> set[bytes]:
    """A name that fills a cell of a table in data/raw: CSV, TSV, Kaldi, LJSpeech, JSON, or a voice in subtitles."""
    around = [(before, after) for before in AROUND_CELL for after in (*AROUND_CELL, "\r\n")] + [("<v ", ">")]
    return {f"{before}{one}{after}".encode() for before, after in around for one in {name, *_in_json(name)}}


def _in_json(text: str) -> set[str]:
    return {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}


class Traces:
    """Bytes to look for, {bytes: what they are}, all in one pass over a file."""

    def __init__(self, wanted: Mapping[bytes, str]) -> None:
        self.wanted = {piece: what for piece, what in wanted.items() if len(piece) >= KEY_BYTES}
        self.longest = max(map(len, self.wanted), default=0)
        self.by_key: dict[int, list[bytes]] = defaultdict(list)
        for piece in self.wanted:
            self.by_key[int.from_bytes(piece[:KEY_BYTES], "little")].append(piece)
        self.has_key = np.zeros(1 << 8 * KEY_BYTES, dtype=bool)
        self.has_key[list(self.by_key)] = True

    def in_file(self, path: Path) -> Iterator[tuple[int, str]]:
        """(line, what) of all that is found; lines count from 1."""
        if not self.wanted:
            return
        rest, line = b"\n", 0  # a first line begins like the others
        with path.open("rb") as file:
            while part := file.read(READ_BYTES):
                part = rest + part
                for place, what in self._in_bytes(part):
                    yield line + part.count(b"\n", 0, place + 1), what
                rest = part[-self.longest :]
                line += part.count(b"\n", 0, len(part) - len(rest))

    def are_in(self, path: Path) -> bool:
        return any(True for _ in self.in_file(path))

    def _in_bytes(self, content: bytes) -> Iterator[tuple[int, str]]:
        if len(content) < KEY_BYTES:
            return
        octets = np.frombuffer(content, dtype=np.uint8).astype(np.uint32)
        keys = octets[:-2] | octets[1:-1] << 8 | octets[2:] << 16
        for place in np.flatnonzero(self.has_key[keys]).tolist():
            for piece in self.by_key[int(keys[place])]:
                if content.startswith(piece, place):
                    yield place, self.wanted[piece]
                    break


def files_below(folders: Iterable[Path], left_out: Iterable[Path] = ()) -> Iterator[Path]:
    """Every regular file once, even if folders overlap; symlinks are not followed."""
    avoided = {str(path.resolve()) for path in left_out}
    seen: set[str] = set()
    for folder in folders:
        for place, names, files in os.walk(folder.resolve()):
            names[:] = [name for name in names if os.path.join(place, name) not in avoided and name != "__pycache__"]
            for path in (os.path.join(place, name) for name in files):
                if path not in seen and path not in avoided and os.path.isfile(path) and not os.path.islink(path):
                    seen.add(path)
                    yield Path(path)


def has_lines(path: Path) -> bool:
    """Whether it is a text file: no zero byte at its beginning."""
    with path.open("rb") as file:
        return b"\0" not in file.read(8192)


def shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def search(files: Iterable[Path], traces: Traces, ids: Set[str]) -> Iterator[str]:
    """What files hold, or are named by: `file:line (what)`, or `file (what)` if it has no lines."""
    for path in tqdm(list(files), desc="searching", unit="file", disable=None):
        if not ids.isdisjoint(re.findall(f"[0-9a-f]{{{ID_LENGTH}}}", path.name)):
            yield f"{shown(path)} (named by an id)"
        try:
            if places := dict(reversed(list(traces.in_file(path)))):  # the first of each line
                lines = sorted(places) if has_lines(path) else []
                yield from (f"{shown(path)}:{line} ({places[line]})" for line in lines)
                if not lines:
                    yield f"{shown(path)} ({min(places.values())})"
        except PermissionError:
            yield f"{shown(path)} cannot be read: look into it yourself"
        except FileNotFoundError:
            continue  # gone since it was listed

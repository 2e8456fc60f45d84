"""Looking for what is left of erased recordings: pieces of their sound, their ids, their texts, in any file."""

from __future__ import annotations

import html
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

PIECE_BYTES = 32
PIECES = 4  # of a sound file: one copied in part is found too
DIFFERENT_BYTES = 12  # in a piece; one with fewer is silence, which every file has
LEAST_BYTES = 8  # of a text: a shorter one is found by chance
READ_BYTES = 16 << 20
KEY_BYTES = 3


def pieces_of(content: bytes) -> list[bytes]:
    """Short pieces that tell a sound file from all others; none of one that is silent or nearly empty."""
    pieces = []
    for part in range(PIECES):
        first = (2 * part + 1) * len(content) // (2 * PIECES)
        for start in range(first, min(first + len(content) // PIECES, len(content) - PIECE_BYTES), PIECE_BYTES):
            piece = content[start : start + PIECE_BYTES]
            if len(set(piece)) >= DIFFERENT_BYTES:
                pieces.append(piece)
                break
    return pieces


def spellings(text: str) -> set[bytes]:
    """A text as tables, JSON and HTML write it; none for one that is too short to be told from others."""
    ways = {text, html.escape(text), json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    return {way.encode() for way in ways if len(way.encode()) >= LEAST_BYTES}


class Traces:
    """What to look for, {bytes: what it is}; all of it is searched for in one pass over a file."""

    def __init__(self, wanted: Mapping[bytes, str]) -> None:
        self.wanted = {piece: what for piece, what in wanted.items() if len(piece) >= KEY_BYTES}
        self.longest = max(map(len, self.wanted), default=0)
        self.by_key: dict[int, list[bytes]] = defaultdict(list)
        for piece in self.wanted:
            self.by_key[int.from_bytes(piece[:KEY_BYTES], "little")].append(piece)
        self.has_key = np.zeros(1 << 8 * KEY_BYTES, dtype=bool)
        self.has_key[list(self.by_key)] = True

    def in_file(self, path: Path) -> str | None:
        """What was found first, None where nothing was."""
        rest = b""
        with path.open("rb") as file:
            while part := file.read(READ_BYTES):
                part = rest + part
                if found := self.in_bytes(part):
                    return found
                rest = part[-self.longest :]
        return None

    def in_bytes(self, content: bytes) -> str | None:
        if len(content) < KEY_BYTES or not self.wanted:
            return None
        octets = np.frombuffer(content, dtype=np.uint8).astype(np.uint32)
        keys = octets[:-2] | octets[1:-1] << 8 | octets[2:] << 16
        for place in np.flatnonzero(self.has_key[keys]).tolist():
            for piece in self.by_key[int(keys[place])]:
                if content.startswith(piece, place):
                    return self.wanted[piece]
        return None


def files_below(folders: Iterable[Path], left_out: Iterable[Path] = ()) -> Iterator[Path]:
    """Every regular file once, however folders overlap; links are not followed."""
    avoided = {str(path.resolve()) for path in left_out}
    seen: set[str] = set()
    for folder in folders:
        for place, names, files in os.walk(folder.resolve()):
            names[:] = [name for name in names if os.path.join(place, name) not in avoided and name != "__pycache__"]
            for name in files:
                path = os.path.join(place, name)
                if path not in seen and path not in avoided and os.path.isfile(path) and not os.path.islink(path):
                    seen.add(path)
                    yield Path(path)

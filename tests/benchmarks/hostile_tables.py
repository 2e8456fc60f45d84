"""Damaged tables: each must be read or refused in words, and no row's text may go to another row's recording.

    python -m tests.benchmarks.hostile_tables [TABLES]        (2,000 take a minute)

A table's number decides all of it, so one that fails can be made again.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from stages.speech.sources import read_source

NAMES = ["evening-kitchen", "Mörning_walk", "third take", "recording.of.tuesday", "café", "x-ray_12", "twelve"]
WORDS = ["apricot vessel", "thunder pillow", "granite kitten", "umbrella fossil", "walnut sphinx", "orchid mirror"]
WORDS += ["bicycle lantern"]  # no row says those of another
SAID = [
    'Well, "{0}"; said {1}',
    "{0} {1}",
    '"{0}" {1}',
    "{0}, {1}, and {0}",
    "{0}\n{1}",
    "{0} | {1}",
    "{0}\t{1}",
    "é{0} {1}",
]
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "cp1250")
HEADERS = (["file", "text"], ["File Name", "Sentence"], ["id", "path", "transcript"], ["text", "audio_path", "speaker"])
SPECIAL = (b'"', b"'", b",", b";", b"|", b"\t", b"\n", b"\r", b"\r\n", b'""', b'"\n', b"\0", b"\xff", b"\\", b"{", b"]")


def make(number: int) -> tuple[str, bytes]:
    """A table's name and content, before it is damaged."""
    rng = np.random.default_rng(number)
    texts = [str(rng.choice(SAID)).format(*WORDS[n].split()) for n in range(len(NAMES))]
    ending = str(rng.choice([".wav", "", ".WAV", ".mp3"], p=[0.7, 0.1, 0.1, 0.1]))
    rows = [{"file": name + ending, "text": text} for name, text in zip(NAMES, texts, strict=True)]
    encoding = str(rng.choice(ENCODINGS))
    if rng.random() < 0.25:
        lines = [json.dumps(row, ensure_ascii=bool(rng.random() < 0.5)) for row in rows]
        content = "\n".join(lines) if rng.random() < 0.5 else f"[{', '.join(lines)}]"
        return "list.json", content.encode(encoding, "replace")
    header = HEADERS[rng.integers(len(HEADERS))]
    delimiter = str(rng.choice(list(",;\t|")))
    output = io.StringIO(newline="")
    if rng.random() < 0.5:  # as a library writes it
        writer = csv.writer(output, delimiter=delimiter, lineterminator=str(rng.choice(["\n", "\r\n"])))
        write = writer.writerow
    else:  # as a person does, who knows nothing of quotes

        def write(cells: list[str]) -> None:
            output.write(delimiter.join(cell.replace("\n", " ").replace(delimiter, " ") for cell in cells) + "\n")

    if rng.random() < 0.8:
        write(header)
    for row in rows:
        known = {"text": row["text"], "Sentence": row["text"], "transcript": row["text"], "id": "7", "speaker": "ann"}
        write([known.get(name, row["file"]) for name in header])
    return str(rng.choice(["list.csv", "metadata.csv", "a.tsv"])), output.getvalue().encode(encoding, "replace")


def damage(content: bytes, number: int) -> bytes:
    rng = np.random.default_rng([number, 1])
    changed = bytearray(content)
    for _ in range(rng.integers(0, 6)):
        place = int(rng.integers(len(changed)))
        kind = rng.integers(5)
        if kind == 0:
            changed[place] = int(rng.integers(256))
        elif kind == 1:
            changed[place:place] = SPECIAL[rng.integers(len(SPECIAL))]
        elif kind == 2:
            del changed[place : place + int(rng.integers(1, 4))]  # no name and line end at once: that leaves no trace
        elif kind == 3:
            changed[place : place + 1] = SPECIAL[rng.integers(len(SPECIAL))]
        else:  # a line comes again elsewhere
            lines = changed.split(b"\n")
            again = lines[rng.integers(len(lines))]
            lines.insert(int(rng.integers(len(lines))), again if b'"' not in again else b"")  # no half of a cell
            changed = bytearray(b"\n".join(lines))
        changed = changed or bytearray(b" ")
    return bytes(changed)


def judge(number: int, folder: Path) -> str:
    """'all read', 'some read' or 'none read'; an error if a text went to another recording."""
    name, content = make(number)
    (folder / name).write_bytes(damage(content, number))
    try:
        clips, rejections = read_source(folder)
    finally:
        (folder / name).unlink()
    found = set()
    for clip in clips:
        stem = re.sub(r"\.wav$", "", clip.path_in_source)
        if stem in NAMES:
            own = NAMES.index(stem)
            others = [n for n in range(len(NAMES)) if n != own for word in WORDS[n].split() if word in clip.text]
            assert not others, (number, clip.recorded_file, clip.text)
            found.add(own)
    assert clips or rejections, number
    for rejection in rejections:
        assert rejection.remedy and "\n" not in rejection.file, number
    return "all read" if len(found) == len(NAMES) else "some read" if found else "none read"


def run(count: int) -> tuple[Counter, list[str]]:
    """Of damaged tables 0 to `count`: how often each verdict came, and what failed."""
    verdicts, failures = Counter(), []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "x"
        folder.mkdir()
        for name in NAMES:
            (folder / f"{name}.wav").write_bytes(name.encode())
        for number in range(count):
            try:
                verdicts[judge(number, folder)] += 1
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is what we look for
                failures.append(f"table {number}: {type(error).__name__}: {error}")
    return verdicts, failures


if __name__ == "__main__":
    verdicts, failures = run(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
    print(*failures, sep="\n")
    print(dict(verdicts), f"{len(failures)} failures")
    sys.exit(bool(failures))

"""How quick prepare is, against a plain loop of `librosa.load(sr=16000)` and `soundfile.write`.

    python -m tests.benchmarks.prepare

The recordings are ../shared/speech/kathleen (150 sentences, FLAC, 48 kHz, stereo), four times with other bytes.
Loop and prepare take turns, and the best of each counts.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import time
from pathlib import Path

import librosa
import soundfile

from stages import prepare
from tests.workspaces import ROOT, SPEECH

COPIES, ROUNDS = 4, 3


def copy_recordings(folder: Path) -> list[Path]:
    """Bytes after the end of a FLAC stream make another file of the same sound."""
    folder.mkdir(parents=True)
    rows = (SPEECH / "kathleen/transcripts.csv").read_text().splitlines()
    table, files = [rows[0]], []
    for number in range(COPIES):
        for row in rows[1:]:
            name, _, text = row.partition(",")
            files.append(folder / f"{number}-{name}")
            files[-1].write_bytes((SPEECH / "kathleen" / name).read_bytes() + bytes(number))
            table.append(f"{files[-1].name},{text}")
    (folder / "transcripts.csv").write_text("\n".join(table) + "\n")
    return files


def plain_loop(files: list[Path], output: Path) -> float:
    """Seconds it takes."""
    output.mkdir()
    began_s = time.perf_counter()
    for path in files:
        samples, _ = librosa.load(path, sr=16_000)
        soundfile.write(output / f"{path.stem}.wav", samples, 16_000)
    return time.perf_counter() - began_s


def ours(cache: Path) -> float:
    """Seconds it takes."""
    os.environ["OWNVOICE_CACHE"] = str(cache)
    began_s = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        prepare.main()
    return time.perf_counter() - began_s


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        shutil.copy(ROOT / "params.yaml", ".")
        files = copy_recordings(Path("data/raw/kathleen"))
        plain_loop(files[:5], Path("warm-up"))  # librosa imports what it needs when it needs it
        # Each into a folder of its own: ext4 is slow to make files where others were just removed.
        rounds = [(plain_loop(files, Path(f"plain-{n}")), ours(Path(f"cache-{n}"))) for n in range(ROUNDS)]
    plain_s, ours_s = map(min, zip(*rounds, strict=True))
    print(f"plain loop: {len(files) / plain_s:.0f} clips/s; prepare on {os.cpu_count()} cores: ", end="")
    print(f"{len(files) / ours_s:.0f} clips/s; ratio {plain_s / ours_s:.2f}")


if __name__ == "__main__":
    main()

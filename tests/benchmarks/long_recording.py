"""How long prepare takes for a long MP3 without an index that subtitles cut into many parts.

    python -m tests.benchmarks.long_recording [--minutes 95] [--parts 1000]

Made-up sound at 44.1 kHz, 128 kbit/s, whose first frame does not say how many there are.
Each part has a tone of its own, which is compared.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from contextlib import chdir
from pathlib import Path

import av
import numpy as np

from stages import prepare
from stages.common import paths
from stages.speech.clips import read_clips
from stages.speech.prepared import read_prepared
from tests.workspaces import ROOT

RATE_HZ = 44_100
SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru")


def tone_hz(number: int) -> int:
    return 200 + 10 * (number % 100)


def write_recording(folder: Path, minutes: int, parts: int) -> float:
    """talk.mp3 and talk.srt; returns a part's seconds."""
    folder.mkdir(parents=True)
    part_s = 60 * minutes / parts
    time_s = np.arange(round(part_s * RATE_HZ)) / RATE_HZ
    with av.open(folder / "talk.mp3", "w", format="mp3", options={"write_xing": "0"}) as output:
        stream = output.add_stream("libmp3lame", rate=RATE_HZ, layout="mono")
        stream.bit_rate = 128_000
        for number in range(parts):
            samples = 0.3 * np.sin(2 * np.pi * tone_hz(number) * time_s, dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate = RATE_HZ
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    cues = []
    for number in range(parts):
        begin, end = (f"{s // 3600:02.0f}:{s // 60 % 60:02.0f}:{s % 60:06.3f}".replace(".", ",") for s in
                      (number * part_s + 0.1, (number + 1) * part_s - 0.1))  # fmt: skip
        words = " ".join(SYLLABLES[int(digit)] for digit in f"{number:04d}")
        cues.append(f"{number + 1}\n{begin} --> {end}\n{words}\n")
    (folder / "talk.srt").write_text("\n".join(cues))
    return part_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=95)
    parser.add_argument("--parts", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        shutil.copy(ROOT / "params.yaml", ".")
        os.environ["OWNVOICE_CACHE"] = str(Path(folder) / "cache")
        write_recording(Path("data/raw/talks"), options.minutes, options.parts)
        began_s = time.perf_counter()
        print(prepare.main())
        seconds = time.perf_counter() - began_s
        right = 0
        for clip in read_clips(paths.PREPARED / "metadata.jsonl"):
            samples = read_prepared(paths.PREPARED / clip.audio_path)
            loudest_hz = np.abs(np.fft.rfft(samples)).argmax() * 16_000 / len(samples)
            number = int("".join(str(SYLLABLES.index(word)) for word in clip.text.split()))
            right += abs(loudest_hz - tone_hz(number)) < 2
    print(
        f"{options.minutes} minutes in {options.parts} parts: {seconds:.1f} s on {os.cpu_count()} cores; {right} right"
    )


if __name__ == "__main__":
    main()

"""How long the recorder itself takes from "save" to the next phrase at 5,000 clips, and for looking at a take.

    python -m tests.benchmarks.recorder

Without browser and server, which `python -m tests.benchmarks.page` has. Nothing is moved into data/raw meanwhile.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recorder import inbox, phrases, pictures, reading, takes
from stages.common.files import write_jsonl
from tests.recordings import limits, make_take, spoken

CLIPS, TIMES = 5000, 50
SPEAKER, LANGUAGE = "ann", "en"


def fill_data_raw(texts: list[str]) -> None:
    """Rows of CLIPS recordings; nothing that is measured here opens the recordings."""
    rows = (
        {
            "audio_path": f"{number:016x}.flac",
            "text": texts[number % len(texts)],
            "language": LANGUAGE,
            "speaker": SPEAKER,
            "session": "2026-01-01",
            "prompt_id": phrases.prompt_id(LANGUAGE, texts[number % len(texts)]),
            "recorded_at": "2026-01-01T12:00:00+00:00",
            "duration_s": 3.0,
            "level_dbfs": -20.0,
            "snr_db": 40.0,
        }
        for number in range(CLIPS)
    )
    write_jsonl(Path("data/raw/recorded/clips.jsonl"), rows)


def list_anew() -> None:
    Path("data/raw/recorded/clips.jsonl").touch()
    assert len(inbox.stored_clips()) == CLIPS


def next_phrase(texts: list[str]) -> str | None:
    counts = reading.recorded_counts(inbox.stored_clips(), SPEAKER)
    return reading.next_phrase(texts, LANGUAGE, counts)


def save_and_go_on(number: int, texts: list[str]) -> None:
    phrase = next_phrase(texts)
    prompt_id = phrases.prompt_id(LANGUAGE, phrase)
    inbox.save_clip(make_take(number), text=phrase, language=LANGUAGE, speaker=SPEAKER, prompt_id=prompt_id)
    assert next_phrase(texts) != phrase


def measure(name: str, work: Callable[[int], object]) -> None:
    """Print median and 95th percentile of the milliseconds that a piece of work takes."""
    milliseconds = []
    for number in range(TIMES):
        began_s = time.perf_counter()
        work(number)
        milliseconds.append(1000 * (time.perf_counter() - began_s))
    print(f"| {name} | {np.median(milliseconds):.1f} | {np.percentile(milliseconds, 95):.1f} |", flush=True)


def main() -> None:
    texts = phrases.from_file(LANGUAGE)
    samples, sample_rate_hz = spoken(0)
    take = takes.from_recording(np.resize(samples, 5 * sample_rate_hz), sample_rate_hz, "", LANGUAGE, limits())
    longest = np.resize(samples, 30 * sample_rate_hz)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        fill_data_raw(texts)
        for number in range(TIMES):
            make_take(number)  # decodes the demo's clips, which is not measured
        print(f"| {CLIPS:,} clips, {TIMES} times | median, ms | 95th percentile, ms |\n|---|---|---|", flush=True)
        measure("list the clips after a moving", lambda _: list_anew())
        measure("choose the next phrase, nothing new", lambda _: next_phrase(texts))
        measure("save a take of 3 s and choose the next phrase", lambda number: save_and_go_on(number, texts))
        measure("judge a take of 5 s", lambda _: takes.from_recording(
            take.samples, take.sample_rate_hz, "", LANGUAGE, limits()
        ))  # fmt: skip
        measure("draw a take of 5 s", lambda _: pictures.waveform(take.samples))
        measure("draw a take of 30 s", lambda _: pictures.waveform(longest))


if __name__ == "__main__":
    main()

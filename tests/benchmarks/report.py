"""Seconds for scores, intervals, error analysis and the report of 1,500 test clips: those of 10,000 recordings.

python -m tests.benchmarks.report       (some seconds)
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

import numpy as np

from stages.common import paths
from stages.common.files import write_whole
from stages.common.params import load_params
from stages.evaluate import compare
from stages.speech import audio, prepared, report
from stages.speech.clips import Clip

CLIPS = 1_500
WORDS_OF_A_CLIP = 9
WORDS = ("turn", "the", "garden", "kitchen", "light", "heating", "radio", "on", "off", "please", "call", "my", "sister")


def mishear(words: list[str], rate: float, numbers: random.Random) -> str:
    return " ".join(numbers.choice(WORDS) if numbers.random() < rate else word for word in words)


def main() -> None:
    params = load_params().evaluate
    numbers = random.Random(0)
    clips, predictions = [], {"base": [], "tuned": []}
    for number in range(CLIPS):
        words = numbers.choices(WORDS, k=WORDS_OF_A_CLIP)
        clip_id = f"{number:016x}"
        clips.append(
            Clip(
                id=clip_id, audio_path=f"audio/{clip_id}.flac", text=" ".join(words), language="en", source="s",
                recorded_file=f"s/{number}.wav", duration_s=numbers.uniform(1, 12), peak_dbfs=-3, level_dbfs=-20,
                snr_db=numbers.uniform(5, 40), clipped_fraction=0, speaker=f"speaker {number % 5}",
            )
        )  # fmt: skip
        for model, rate in (("base", 0.3), ("tuned", 0.1)):
            predictions[model].append({"text": mishear(words, rate, numbers), "seconds": 0.1})
    began_s = time.monotonic()
    metrics, scores, rows = compare(clips, predictions, params)
    judged_s = time.monotonic() - began_s
    texts = {model: [prediction["text"] for prediction in made] for model, made in predictions.items()}
    details = report.details_of(clips, texts, scores, metrics, params)
    training = {
        "base_model": "none", "train_clips": 0, "train_minutes": 0, "epochs_run": 1, "best_epoch": 1, "settings": {},
        "versions": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        paths.PREPARED = Path(folder)
        silence = audio.encode_flac(np.zeros(1600, np.float32))
        for clip in clips:
            write_whole(paths.PREPARED / prepared.audio_path(clip.id), silence)
        began_report_s = time.monotonic()
        page = report.render(metrics, details, rows, training, [], params.listed_clips)
        seconds = time.monotonic() - began_report_s + judged_s
    print(f"{CLIPS} clips, two models, {params.bootstrap_samples} draws: scores and intervals {judged_s:.1f} s")
    print(f"with mistakes, groups and a report of {len(page) / 1000:.0f} kB: {seconds:.1f} s")


if __name__ == "__main__":
    main()

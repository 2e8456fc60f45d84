"""Does augmentation help? Four real speakers: 20 clips each, off, light and strong; 100 clips each, off and light.

    python -m tests.benchmarks.augment                (half an hour on two cores)

With 20 clips: the official test part (index 0 to 4 of each digit), index 5 as validation, several seeds, each of which
draws other training clips. With 100: the split and seed of tests/benchmarks/digits.py. Needs the recordings of the Free
Spoken Digit Dataset beside the checkout (see tests/workspaces.py).
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from stages import evaluate, train
from stages.speech.clips import read_clips, write_clips
from stages.speech.scoring import ClipScore, relative_improvement, score_clip, summarise, wer_interval
from tests.benchmarks.digits import SPEAKERS
from tests.workspaces import (
    SPEECH,
    add_digits,
    make_workspace,
    read_json,
    read_rows,
    run_stages,
    set_params,
)

SAMPLES = 2000


def split_officially(workspace: Path) -> None:
    """Index 0 to 4 of each digit as test part, 5 as validation, the rest as training, in data/split."""
    parts: dict[str, list] = {"test": [], "validation": [], "train": []}
    for clip in read_clips(workspace / "data/prepared/metadata.jsonl"):
        index = int(Path(clip.recorded_file).stem.rpartition("_")[2])
        parts["test" if index < 5 else "validation" if index == 5 else "train"].append(clip)
    for part, clips in parts.items():
        write_clips(workspace / f"data/split/{part}.jsonl", clips)


def run_here(workspace: Path, *stages: Callable[[], str]) -> None:
    """Stages in this process, which need not start each time; what they say goes to a file."""
    with (
        contextlib.chdir(workspace),
        Path("log.txt").open("a") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        for stage in stages:
            stage()


def scores_of(workspace: Path, speaker: str, level: str, seed: int) -> list[ClipScore]:
    """Train and evaluate, in this process, and print a line; the tuned model's scores on the test part."""
    set_params(workspace, train__augment=level, train__seed=seed)
    run_here(workspace, train.main, evaluate.main)
    rows = [row for row in read_rows(workspace / "data/evaluation/predictions.jsonl") if row["model"] == "tuned"]
    scores = [score_clip(row["reference"], row["hypothesis"], "en") for row in rows]
    training = read_json(workspace / "data/checkpoints/training.json")
    print(
        f"{speaker}, {level}, seed {seed}: {summarise(scores)['wer']:.1%} of {len(scores)}, "
        f"epoch {training['best_epoch']:g} of {training['epochs_run']:g}, {training['clips_per_s']} clips/s",
        flush=True,
    )
    return scores


def print_table(results: dict[tuple[str, str, int], list[ClipScore]], levels: Sequence[str]) -> None:
    """Intervals are drawn by training run: seeds and speakers differ more than clips do."""
    runs = sorted({(speaker, seed) for speaker, _, seed in results})
    print(
        "\n| | " + " | ".join(SPEAKERS) + " | all, 95 % interval | off minus this, 95 % interval |\n" + "|---" * 7 + "|"
    )

    def scores_and_units(level: str) -> tuple[list[ClipScore], list]:
        rows = [(score, run) for run in runs for score in results[run[0], level, run[1]]]
        return [score for score, _ in rows], [run for _, run in rows]

    off, units = scores_and_units("off")
    for level in levels:
        cells = []
        for speaker in SPEAKERS:
            of_speaker = [score for run in runs if run[0] == speaker for score in results[speaker, level, run[1]]]
            cells.append(f"{summarise(of_speaker)['wer']:.1%}")
        scores, _ = scores_and_units(level)
        low, high = wer_interval(scores, SAMPLES, units)
        cells.append(f"{summarise(scores)['wer']:.1%} ({low:.1%} to {high:.1%})")
        found = relative_improvement(off, scores, SAMPLES, units)
        points = [100 * found[name] for name in ("difference", "difference_low", "difference_high")]
        cells.append("" if level == "off" else "{:+.1f} ({:+.1f} to {:+.1f}) points".format(*points))
        print(f"| {level} | " + " | ".join(cells) + " |", flush=True)
    print(flush=True)


def compare(clips: int, levels: Sequence[str], seeds: Sequence[int]) -> None:
    """The table after each seed, over all seeds so far."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for speaker in SPEAKERS:
            workspace = make_workspace(
                Path(folder) / speaker, split__group_by="clip", train__max_clips=clips, evaluate__bootstrap_samples=100
            )
            add_digits(workspace, speaker)
            run_stages(workspace, "prepare", "split")
            if clips < 100:
                split_officially(workspace)
        for seed in seeds:
            for speaker in SPEAKERS:
                for level in levels:
                    results[speaker, level, seed] = scores_of(Path(folder) / speaker, speaker, level, seed)
            print_table(results, levels)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, nargs="+", choices=(20, 100), default=(20, 100))
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    arguments = parser.parse_args()
    if not SPEECH.is_dir():
        raise SystemExit(f"no recordings in {SPEECH}")
    if 20 in arguments.clips:
        compare(20, ("off", "light", "strong"), arguments.seeds)
    if 100 in arguments.clips:
        compare(100, ("off", "light"), (0,))


if __name__ == "__main__":
    main()

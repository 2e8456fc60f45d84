"""Would more recordings help? Trains on growing parts of the recordings, and fits a curve through the results.

    make learning-curve                             (10, 20, 50, 100 recordings, and all)
    make learning-curve CLIPS="25 50 100 200 400"

Each part contains the one before (train.max_clips) and is a DVC experiment; an interrupted run resumes. All parts get
as many updates of the weights as all recordings would: else the curve would sell longer training as more recordings.
Writes
data/experiments/learning_curve.csv and says what more minutes would bring, or that the data cannot tell.

The curve is a power law, error = floor + b * minutes ** -c, as found for speech recognisers and their data (Hestness et
al. 2017, arXiv 1712.00409). Its interval: the points are moved at random within their own intervals and fitted again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.commands.experiments import Experiment, run_all
from stages.common import paths
from stages.common.files import read_jsonl, write_csv
from stages.common.params import TrainParams, load_params
from stages.common.plurals import lasting
from stages.common.stage import UserError, run
from stages.speech.scoring import TWO_SIDED_95

RESULT = Path("data/experiments/learning_curve.csv")
CLIPS = (10, 20, 50, 100)
REFITS = 300
LEAST_POINTS = 4
STEEPEST = 2.0
MOST_STEPS = 10_000
SMALLEST_ERROR = 0.005  # of a point: half a point of WER, for sets in which no word was wrong
INTERVAL = (0.025, 0.975)


def sizes_of(words: Sequence[str], available: int) -> list[int | None]:
    """The requested numbers of clips below `available`, and None for all.

    Raises: UserError for a word that is not a number, or if there are too few sizes for a curve.
    """
    try:
        wanted = sorted({int(word) for word in words}) or CLIPS
    except ValueError:
        raise UserError(f"CLIPS: {' '.join(words)!r} are not numbers") from None
    sizes = [size for size in wanted if 0 < size < available]
    if len(sizes) + 1 < LEAST_POINTS:
        raise UserError(
            f"a curve needs {LEAST_POINTS - 1} sizes or more below all {available} clips, found {len(sizes)}: "
            "give more CLIPS"
        )
    return [*sizes, None]


def points_of(sizes: Sequence[int | None], available: int, train: TrainParams) -> list[dict[str, str]]:
    """The settings of each part's experiment: sizes as `sizes_of` returns them."""
    in_update = train.clips_per_update or train.batch_size  # with more devices, all parts get more updates
    updates = max(train.min_updates, train.epochs * math.ceil(available / in_update))
    same = {"train.min_updates": str(updates), "train.early_stopping_patience": "null"}
    return [{"train.max_clips": "null" if size is None else str(size), **same} for size in sizes]


def row_of(point: Experiment) -> dict[str, float]:
    """A row of learning_curve.csv."""
    trained_on = {"clips": point.validation["train_clips"], "minutes": point.validation["train_minutes"]}
    return trained_on | {name: point.tuned[name] for name in ("wer", "wer_low", "wer_high")}


def standard_error(tuned: dict[str, float]) -> float:
    """Standard error of a WER: from its interval, but at least that of one wrong word (a count's is its root).

    If no word was wrong, the interval is empty, and the curve would go through that point alone.
    """
    half_width = (tuned["wer_high"] - tuned["wer_low"]) / 2
    return max(half_width / TWO_SIDED_95, 1 / tuned["reference_words"], SMALLEST_ERROR)


def power_law(minutes, floor, b, c):
    return floor + b * np.power(minutes, -c)


def fit(minutes: Sequence[float], wers: Sequence[float], errors: Sequence[float], seed: int = 0) -> np.ndarray:
    """Power laws (floor, b, c) [1 + REFITS, 3]: through the points, then through points moved at random.

    errors: each point's standard error, by which it is moved and weighted.
    """
    from scipy.optimize import curve_fit

    moved = np.clip(np.random.default_rng(seed).normal(wers, errors, (REFITS, len(wers))), 0, None)
    # scipy's own limit of steps is too low for a flat valley, and it raises there.
    options = {"sigma": errors, "bounds": ([0, 0, 0], [1, 10, STEEPEST]), "max_nfev": MOST_STEPS}
    return np.array(
        [
            curve_fit(power_law, minutes, points, (0, max(points[0], 0.01), 0.5), **options)[0]
            for points in [np.asarray(wers), *moved]
        ]
    )


def sentence(laws: np.ndarray, minutes: float) -> str:
    """What twice the minutes would bring, if the points can tell. laws: as `fit` returns them."""
    (now, *nows), (then, *thens) = (power_law(at, *laws.T) for at in (minutes, 2 * minutes))
    low, high = np.quantile(thens, INTERVAL)
    least, most = np.quantile(np.subtract(nows, thens), INTERVAL)
    if least > 0.1 * now and now - then > SMALLEST_ERROR:
        return (
            f"about {lasting(60 * minutes)} more would bring {now:.1%} to {then:.1%} wrong words "
            f"(95 % interval {low:.1%} to {high:.1%})"
        )
    if most < SMALLEST_ERROR:
        return f"more recordings of this kind would hardly help: {now:.1%} wrong words, and the curve is flat"
    return (
        f"the data cannot tell whether more would help: the curve is at {now:.1%} wrong words, and as many minutes "
        f"again could bring it to anything from {max(now - most, 0):.1%} to {now - min(least, 0):.1%}"
    )


def main() -> str:
    available = len(read_jsonl(paths.SPLIT / "train.jsonl"))
    points = run_all("curve", points_of(sizes_of(sys.argv[1:], available), available, load_params().train))
    rows = [row_of(point) for point in points]
    minutes, wers = ([row[name] for row in rows] for name in ("minutes", "wer"))
    laws = fit(minutes, wers, [standard_error(point.tuned) for point in points])
    write_csv(RESULT, list(rows[0]), rows)
    for row in rows:
        trained_on = f"{row['clips']:5d} clips {row['minutes']:6.1f} min"
        print(f"{trained_on}  {row['wer']:8.1%} wrong words ({row['wer_low']:.1%} to {row['wer_high']:.1%})")
    return f"{sentence(laws, minutes[-1])} -> {RESULT}"


if __name__ == "__main__":
    run("learning-curve", main)

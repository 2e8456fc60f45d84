"""Would more recordings help? Trains on growing parts of the recordings, and fits a curve through the results.

    make learning-curve                             (10, 20, 50, 100 recordings, and all)
    make learning-curve CLIPS="25 50 100 200 400"

Each part contains the one before (train.max_clips) and is a DVC experiment; an interrupted run resumes. Writes
data/experiments/learning_curve.{csv,svg} and says what more minutes would bring, or that the data cannot tell.

The curve is a power law, error = floor + b * minutes ** -c, as found for speech recognisers and their data (Hestness et
al. 2017, arXiv 1712.00409). Its interval: the points are moved at random within their own intervals and fitted again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from stages.commands.experiments import Experiment, run_all
from stages.common import paths
from stages.common.files import read_jsonl, write_csv, write_whole
from stages.common.plurals import lasting
from stages.common.stage import UserError, run
from stages.speech.scoring import TWO_SIDED_95

FOLDER = Path("data/experiments")
CLIPS = (10, 20, 50, 100)
REFITS = 300
LEAST_POINTS = 4
STEEPEST = 2.0
SMALLEST_ERROR = 0.005  # of a point: half a point of WER, for sets in which no word was wrong


@dataclass(frozen=True)
class Curve:
    """A fitted power law (floor, b, c), and its refits [REFITS, 3]."""

    fitted: np.ndarray
    refits: np.ndarray

    def at(self, minutes: float) -> tuple[float, float, float]:
        """WER (fraction) with `minutes`, and its 95 % interval."""
        low, high = np.quantile(power_law(minutes, *self.refits.T), [0.025, 0.975])
        return float(power_law(minutes, *self.fitted)), float(low), float(high)

    def gain(self, minutes: float, more: float) -> tuple[float, float]:
        """95 % interval of how much lower the WER is with `more` additional minutes."""
        gains = power_law(minutes, *self.refits.T) - power_law(minutes + more, *self.refits.T)
        low, high = np.quantile(gains, [0.025, 0.975])
        return float(low), float(high)


def power_law(minutes, floor, b, c):
    return floor + b * np.power(minutes, -c)


def check_enough(sizes: Sequence[float | None]) -> None:
    """Raises: UserError if there are too few sizes for a curve."""
    if len(sizes) < LEAST_POINTS:
        raise UserError(f"a curve needs {LEAST_POINTS} sizes or more, found {len(sizes)}: give more CLIPS")


def fit(minutes: Sequence[float], wers: Sequence[float], errors: Sequence[float], seed: int = 0) -> Curve:
    """The power law through points, each weighted by its standard error.

    Raises: UserError for fewer than four points.
    """
    check_enough(minutes)
    errors = np.maximum(errors, SMALLEST_ERROR)
    rng = np.random.default_rng(seed)
    drawn = np.clip(rng.normal(wers, errors, (REFITS, len(wers))), 0, None)
    return Curve(_fit_once(minutes, wers, errors), np.array([_fit_once(minutes, row, errors) for row in drawn]))


def standard_error(point: Experiment) -> float:
    """Standard error of a point's WER: from its interval, but at least that of one wrong word (a count's is its root).

    If no word was wrong, the interval is empty, and the curve would go through that point alone.
    """
    low, high = point.wer_interval
    return max((high - low) / (2 * TWO_SIDED_95), 1 / (point.test_words or math.inf))


def sentence(curve: Curve, minutes: float) -> str:
    """What twice the minutes would bring, if the points can tell."""
    now, *_ = curve.at(minutes)
    then, low, high = curve.at(2 * minutes)
    least, most = curve.gain(minutes, minutes)
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


def table(points: Sequence[Experiment]) -> list[str]:
    """A line for each training: its recordings, and the wrong words on the test recordings."""
    lines = ["  trained on            wrong words (95 % interval)"]
    for point in points:
        low, high = point.wer_interval
        trained_on = f"{point.train_clips:5d} clips {point.train_minutes:6.1f} min"
        lines.append(f"{trained_on}  {point.tuned_wer:8.1%} ({low:.1%} to {high:.1%})")
    return lines


def sizes_of(words: Sequence[str], available: int) -> list[int | None]:
    """The requested numbers of clips below `available`, and None for all.

    Raises: UserError for a word that is not a number.
    """
    try:
        sizes = sorted({int(word) for word in words}) or list(CLIPS)
    except ValueError:
        raise UserError(f"CLIPS: {' '.join(words)!r} are not numbers") from None
    return [*(size for size in sizes if 0 < size < available), None]


def draw(curve: Curve, points: Sequence[Experiment]) -> bytes:
    """The points with their intervals, the curve, and the band of its refits, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    minutes = np.array([point.train_minutes for point in points])
    wers = np.array([100 * point.tuned_wer for point in points])
    lows, highs = (100 * np.array([point.wer_interval[side] for point in points]) for side in (0, 1))
    along = np.geomspace(minutes.min(), 2 * minutes.max(), 60)
    band = np.quantile(100 * power_law(along[:, None], *curve.refits.T), [0.025, 0.975], axis=1)
    figure, axes = pyplot.subplots(figsize=(8, 5))
    axes.fill_between(along, *band, color="#15803d", alpha=0.15, label="95 % of the refits")
    axes.plot(along, 100 * power_law(along, *curve.fitted), color="#15803d", label="fitted curve")
    axes.errorbar(
        minutes, wers, yerr=[np.maximum(wers - lows, 0), np.maximum(highs - wers, 0)], fmt="o", color="black",
        capsize=3, label="measured, with 95 % interval",
    )  # fmt: skip
    axes.set(xlabel="minutes of recordings trained on", ylabel="wrong words, %", ylim=(0, None))
    axes.legend()
    figure.tight_layout()
    content = BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return content.getvalue()


def _fit_once(minutes: Sequence[float], wers: Sequence[float], errors: Sequence[float]) -> np.ndarray:
    from scipy.optimize import least_squares

    minutes, wers = np.asarray(minutes), np.asarray(wers)

    def misses(law: np.ndarray) -> np.ndarray:
        return (power_law(minutes, *law) - wers) / errors

    starts = [(0.0, max(wers[0], 0.01), 0.5), (max(wers.min(), 0.0) * 0.9, max(np.ptp(wers), 0.01), 1.0)]
    fits = [least_squares(misses, start, bounds=([0, 0, 0], [1, 10, STEEPEST])) for start in starts]
    return min(fits, key=lambda found: found.cost).x


def main() -> str:
    available = len(read_jsonl(paths.SPLIT / "train.jsonl"))
    sizes = sizes_of(sys.argv[1:], available)
    check_enough(sizes)
    points = run_all("curve", [{"train.max_clips": size} for size in sizes])
    if missing := [point.name for point in points if point.train_minutes is None]:
        raise UserError(f"{missing[0]} was made by an older version: run 'dvc exp remove {missing[0]}' and try again")
    columns = [
        [point.train_minutes for point in points],
        [point.tuned_wer for point in points],
        [standard_error(point) for point in points],
    ]
    curve = fit(*columns)
    rows = [
        {
            "clips": point.train_clips,
            "minutes": point.train_minutes,
            "wer": point.tuned_wer,
            "wer_low": low,
            "wer_high": high,
        }
        for point in points
        for low, high in [point.wer_interval]
    ]
    write_csv(FOLDER / "learning_curve.csv", list(rows[0]), rows)
    write_whole(FOLDER / "learning_curve.svg", draw(curve, points))
    if len(points) > LEAST_POINTS:
        ahead, low, high = fit(*(column[:-1] for column in columns)).at(columns[0][-1])
        print(
            f"check: without the largest part the curve says {ahead:.1%} there ({low:.1%} to {high:.1%}), measured: "
            f"{columns[1][-1]:.1%}"
        )
    print("\n".join(table(points)))
    return f"{sentence(curve, columns[0][-1])} -> {FOLDER / 'learning_curve.svg'}"


if __name__ == "__main__":
    run("learning-curve", main)

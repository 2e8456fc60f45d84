"""How often the 95 % intervals hold the truth, and how often chance is taken for a difference: simulated test sets.

    python -m tests.benchmarks.coverage [PHRASES ...]       (a quarter of an hour on two idle cores)

Phrases have 3 to 12 words and are recorded once or more. "Alike" phrases have the same rate of errors; "unlike" ones
have rates of their own, drawn from a beta distribution around the mean (precision 5), as with words that a model knows
and others that it does not. Two models with the same rates hear each set: any difference between them is chance.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np

from stages.speech.scoring import ClipScore, relative_improvement, wer_interval

SETS = 1000
PHRASES, TAKES, RATES = (12, 25, 50), (1, 2, 5), (0.05, 0.2, 0.5)
PRECISION = 5.0
COLUMNS = ("rate", "difference", "halved", "better", "p below 0.05")


def drawn_sets(rate: float, takes: int, phrases: int, alike: bool, sets: int = SETS) -> Iterator[tuple]:
    """Test sets: each clip's phrase, and the scores of two models with this rate and of one with half of it."""
    rng = np.random.default_rng([phrases, takes])
    units = np.repeat(np.arange(phrases), takes)
    for _ in range(sets):
        words = np.repeat(rng.integers(3, 13, phrases), takes)
        rates = rate if alike else rng.beta(rate * PRECISION, (1 - rate) * PRECISION, phrases).repeat(takes)
        wrong = [rng.binomial(words, factor * rates) for factor in (1, 1, 0.5)]
        yield units, *([ClipScore(e, 0, 0, w, 0, 1) for e, w in zip(errors, words, strict=True)] for errors in wrong)


def measure(rate: float, takes: int, phrases: int, alike: bool) -> dict[str, float]:
    """Shares of sets.

    rate, difference, halved: whose interval of the WER, of the difference between two equal models, and of the relative
    improvement to a model with half the errors holds the true one. better: where one of two equal models is called
    better, although it is not. p below 0.05: the same by the permutation test.
    """
    counts = dict.fromkeys(COLUMNS, 0)
    for units, first, second, half in drawn_sets(rate, takes, phrases, alike):
        low, high = wer_interval(first, units)
        equal, halved = (relative_improvement(first, other, units) for other in (second, half))
        counts["rate"] += low <= rate <= high
        counts["difference"] += equal["difference_low"] <= 0 <= equal["difference_high"]
        counts["halved"] += halved["low"] is None or halved["low"] <= 0.5 <= halved["high"]
        counts["better"] += equal["low"] is not None and equal["low"] > 0
        counts["p below 0.05"] += equal["p_value"] < 0.05
    return {name: count / SETS for name, count in counts.items()}


def main() -> None:
    cases = list(product(map(int, sys.argv[1:]) if sys.argv[1:] else PHRASES, RATES, (True, False), TAKES))
    arguments = [(rate, takes, phrases, alike) for phrases, rate, alike, takes in cases]
    with ProcessPoolExecutor() as pool:
        shares = list(pool.map(measure, *zip(*arguments, strict=True)))
    print(f"Shares of {SETS} sets, with 1, 2 and 5 takes of each phrase\n")
    print(f"| phrases | mean rate | kind | {' | '.join(COLUMNS)} |")
    print("|---|---|---|" + "---|" * len(COLUMNS))
    for start in range(0, len(cases), len(TAKES)):
        phrases, rate, alike, _ = cases[start]
        cells = [", ".join(f"{100 * one[name]:.1f}" for one in shares[start : start + len(TAKES)]) for name in COLUMNS]
        print(f"| {phrases} | {100 * rate:.0f} % | {'alike' if alike else 'unlike'} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

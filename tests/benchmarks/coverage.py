"""How often the 95 % intervals hold the true word error rate: sets of clips drawn with a rate that is known.

    python -m tests.benchmarks.coverage       (some minutes on two cores)

Clips have 3 to 12 words. "Alike" clips have the same rate of errors; "unlike" ones have rates of their own, drawn from
a beta distribution around the mean (precision 5), as with words that a model knows and others that it does not.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np

from stages.speech.scoring import ClipScore, wer_interval

SETS, DRAWS = 1000, 500
CLIPS, RATES = (12, 25, 50, 100, 200), (0.05, 0.2, 0.5)
PRECISION = 5.0


def held(rate: float, clips: int, alike: bool, sets: int = SETS) -> float:
    """Share of sets whose interval holds `rate`."""
    rng = np.random.default_rng(clips)
    count = 0
    for number in range(sets):
        words = rng.integers(3, 13, clips)
        rates = rate if alike else rng.beta(rate * PRECISION, (1 - rate) * PRECISION, clips)
        wrong = rng.binomial(words, rates)
        scores = [ClipScore(int(errors), 0, 0, int(said), 0, 1) for errors, said in zip(wrong, words, strict=True)]
        low, high = wer_interval(scores, DRAWS, seed=number)
        count += low <= rate <= high
    return count / sets


def main() -> None:
    cases = list(product((True, False), RATES, CLIPS))
    with ProcessPoolExecutor() as pool:
        shares = dict(zip(cases, pool.map(held, *zip(*[(r, c, a) for a, r, c in cases], strict=True)), strict=True))
    print(f"Share of {SETS} intervals that hold the true rate\n")
    print("| clips | mean rate | " + " | ".join(f"{clips} clips" for clips in CLIPS) + " |")
    print("|---|---|" + "---|" * len(CLIPS))
    for alike, rate in product((True, False), RATES):
        found = " | ".join(f"{100 * shares[alike, rate, clips]:.1f} %" for clips in CLIPS)
        print(f"| {'alike' if alike else 'unlike'} | {100 * rate:.0f} % | {found} |")


if __name__ == "__main__":
    main()

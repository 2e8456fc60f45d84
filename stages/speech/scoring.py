"""Word and character error rates, with 95 % intervals.

A set's rate is all errors over all reference words, not the mean of the clips' rates. What a word is, and how texts are
normalised, depends on the language: text.py, comparing.py. Known values and their sources: tests/test_scoring.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jiwer
import numpy as np

from stages.speech.comparing import comparable
from stages.speech.text import characters_of, words_of

# In standard errors: half a 95 % interval, and how much larger a change must be to be seen in four of five test sets
# (Cohen 1988, power 0.8).
TWO_SIDED_95 = 1.96
POWER_80 = 0.84
CLIPS_AT_ONCE = 1_000_000  # drawn in one step: bounds the memory


@dataclass(frozen=True)
class ClipScore:
    """Errors in one clip; words and characters of its reference."""

    substitutions: int
    deletions: int
    insertions: int
    reference_words: int
    character_errors: int
    reference_characters: int

    @property
    def word_errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions


def score_clip(reference: str, hypothesis: str, language: str | None = None, as_written: bool = False) -> ClipScore:
    """Compare two texts of a language (ISO 639-1), normalised or as written.

    Raises: ValueError if the reference has no words: no rate is defined.
    """
    if not as_written:
        reference, hypothesis = comparable(reference, hypothesis, language)
    if not reference.strip():
        raise ValueError("empty reference: a clip without words has no error rate")
    words = jiwer.process_words(*(" ".join(words_of(text, language)) for text in (reference, hypothesis)))
    characters = jiwer.process_characters(*(characters_of(text, language) for text in (reference, hypothesis)))
    return ClipScore(
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        reference_words=words.hits + words.substitutions + words.deletions,
        character_errors=characters.substitutions + characters.deletions + characters.insertions,
        reference_characters=characters.hits + characters.substitutions + characters.deletions,
    )


class Span(NamedTuple):
    """A part of an alignment: words said, words heard, and kind (equal, substitute, insert or delete)."""

    said: list[str]
    heard: list[str]
    kind: str


def align(reference: str, hypothesis: str, language: str | None = None) -> list[Span]:
    """Two normalised texts side by side, with the fewest errors."""
    reference, hypothesis = comparable(reference, hypothesis, language)
    said, heard = words_of(reference, language), words_of(hypothesis, language)
    aligned = jiwer.process_words(" ".join(said), " ".join(heard))
    return [
        Span(said[chunk.ref_start_idx : chunk.ref_end_idx], heard[chunk.hyp_start_idx : chunk.hyp_end_idx], chunk.type)
        for chunk in aligned.alignments[0]
    ]


def differences(reference: str, hypothesis: str, language: str | None = None) -> list[tuple[str, str]]:
    """The hypothesis as (text, kind) spans; deletions with the reference's words."""
    spans = align(reference, hypothesis, language)
    return [(" ".join(said if kind == "delete" else heard), kind) for said, heard, kind in spans]


def summarise(scores: Sequence[ClipScore]) -> dict[str, float | int]:
    """Error rates (fractions) and counts of a whole set."""
    reference_words = sum(score.reference_words for score in scores)
    reference_characters = sum(score.reference_characters for score in scores)
    return {
        "wer": sum(score.word_errors for score in scores) / reference_words,
        "cer": sum(score.character_errors for score in scores) / reference_characters,
        "substitutions": sum(score.substitutions for score in scores),
        "deletions": sum(score.deletions for score in scores),
        "insertions": sum(score.insertions for score in scores),
        "reference_words": reference_words,
        "clips": len(scores),
    }


def wer_interval(
    scores: Sequence[ClipScore], samples: int, units: Sequence[Hashable] | None = None, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the WER: a bootstrap of `samples` draws over clips, or over `units` (each clip's session).

    tests/benchmarks/coverage.py measures how often it contains the true rate.
    """
    return _interval(lambda errors, words: errors / words, _by_unit(units, *_errors_and_words(scores)), samples, seed)


def relative_improvement(
    base: Sequence[ClipScore], tuned: Sequence[ClipScore], samples: int, units: Sequence[Hashable] | None = None
) -> dict[str, float | None]:
    """How much better the tuned model is, with 95 % intervals and a p-value; both models heard the same clips.

    wer_relative, low, high: 1 - tuned WER / base WER; None if the base model made no error. difference,
    difference_low, difference_high: base WER - tuned WER. p_value: two-sided, of a paired permutation test (Good 2005)
    that swaps the two models' results at random. visible_difference: the change of the WER that a test set like this
    shows in four of five cases.
    """
    base_errors, words = _errors_and_words(base)
    tuned_errors, _ = _errors_and_words(tuned)
    columns = _by_unit(units, base_errors, tuned_errors, words)
    low, high = _interval(lambda before, after, said: (before - after) / said, columns, samples)
    found = {
        "wer_relative": None,
        "low": None,
        "high": None,
        "difference": float((columns[0] - columns[1]).sum() / columns[2].sum()),
        "difference_low": low,
        "difference_high": high,
        "p_value": _swapping_p_value(columns[0] - columns[1], samples),
        "visible_difference": (TWO_SIDED_95 + POWER_80) * (high - low) / (2 * TWO_SIDED_95),
    }
    if columns[0].sum():
        # A draw without an error of the base model shows no improvement.
        low, high = _interval(lambda before, after: (before - after) / np.maximum(before, 1), columns[:2], samples)
        found |= {"wer_relative": float(1 - columns[1].sum() / columns[0].sum()), "low": low, "high": high}
    return found


def _errors_and_words(scores: Sequence[ClipScore]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score.word_errors for score in scores]), np.array([score.reference_words for score in scores])


def _by_unit(units: Sequence[Hashable] | None, *columns: np.ndarray) -> list[np.ndarray]:
    """Columns [clips] summed to [units], in the order in which the units first come."""
    if units is None:
        return list(columns)
    numbers = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    places = [numbers[unit] for unit in units]
    return [np.bincount(places, weights=column, minlength=len(numbers)) for column in columns]


def _interval(
    rate: Callable[..., np.ndarray], columns: Sequence[np.ndarray], samples: int, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of a rate of column sums: bootstrap over units (Bisani and Ney 2004), by scipy.

    BCa (Efron 1987) corrects for skew, which few and rare errors have. Its level is wider than 95 %, by Student's t and
    n - 1 (Hesterberg 2015, The American Statistician 69:4, section 3.3): any bootstrap is too narrow for small sets.
    One unit says nothing about others, and its interval is the rate itself.
    """
    from scipy import stats  # imported here: it takes longer than most stages

    count = len(columns[0])
    if count < 2:
        found = float(rate(*(column.sum() for column in columns)))
        return found, found
    reach = -stats.t.ppf(0.025, count - 1) * np.sqrt(count / (count - 1))
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            columns,
            lambda *chosen, axis: rate(*(column.sum(axis=axis) for column in chosen)),
            paired=True,
            confidence_level=1 - 2 * stats.norm.cdf(-reach),
            n_resamples=samples,
            batch=max(1, CLIPS_AT_ONCE // count),
            method="BCa",
            rng=np.random.default_rng(seed),
        )
    low, high = drawn.confidence_interval
    if not np.isfinite([low, high]).all():  # all draws are the same
        low, high = np.quantile(drawn.bootstrap_distribution, [0.025, 0.975])
    return float(low), float(high)


def _swapping_p_value(differences_: np.ndarray, samples: int) -> float:
    """Of a permutation test that swaps the two models' results; exact if there are fewer swaps than `samples`."""
    from scipy import stats

    if len(differences_) < 2:
        return 1.0
    tested = stats.permutation_test(
        [differences_],
        lambda chosen, axis: chosen.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=samples,
        batch=max(1, CLIPS_AT_ONCE // len(differences_)),
        rng=np.random.default_rng(0),
    )
    return float(tested.pvalue)

"""Word and character error rates, with 95 % intervals.

A set's rate is all errors over all reference words, not the mean of the clips' rates. What a word is, and how texts are
normalised, depends on the language: text.py, comparing.py. Known values and their sources: tests/test_scoring.py.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
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
# Added to a count of errors before its logarithm is taken (Anscombe 1948, Biometrika 35:3): a count can be 0.
COUNT_OFFSET = 3 / 8
NONE_SEEN = -np.log(0.025)  # upper 97.5 % limit of a Poisson count of which none was seen
DIRECTIONS = np.linspace(0, 2 * np.pi, 720)
SWAPS = 2000  # of the permutation test
VALUES_AT_ONCE = 1_000_000  # of swapped results: bounds the memory


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


def wer_interval(scores: Sequence[ClipScore], units: Sequence[Hashable] | None = None) -> tuple[float, float]:
    """95 % interval of the WER, over clips or over `units` (each clip's phrase, session ...).

    Student's t on the logarithm of the rate, with the jackknife's variance (Miller 1974, Biometrika 61:1). Without an
    error it reaches from 0 to what the words of one clip a unit leave possible. One unit says nothing about others: the
    interval is then the rate itself. tests/benchmarks/coverage.py measures how often it holds the true rate.
    """
    errors, words = _by_unit(units, *_errors_and_words(scores))
    if len(words) < 2:
        return (float(errors.sum() / words.sum()),) * 2
    centre, deviations = _log_rate(errors, words, len(scores))
    reach = np.linalg.norm(deviations)
    low, high = np.exp(centre - reach), min(np.exp(centre + reach), _highest(errors, words))
    return float(low) if errors.any() else 0.0, float(high)


def relative_improvement(
    base: Sequence[ClipScore], tuned: Sequence[ClipScore], units: Sequence[Hashable] | None = None
) -> dict[str, float | None]:
    """How much better the tuned model is, with 95 % intervals and a p-value; both models heard the same clips.

    wer_relative, low, high: 1 - tuned WER / base WER; None if the base model made no error. difference,
    difference_low, difference_high: base WER - tuned WER. p_value: two-sided, of a paired permutation test (Good 2005)
    that swaps the two models' results of a unit at random. visible_difference: the change of the WER that a test set
    like this shows in four of five cases.

    Both intervals are extremes over one region of the two WERs' logarithms, an ellipse, as a profile likelihood's are
    (Venzon and Moolgavkar 1988, Applied Statistics 37:1): so they exclude "no difference" together or not at all.
    """
    base_errors, words = _errors_and_words(base)
    tuned_errors, _ = _errors_and_words(tuned)
    base_errors, tuned_errors, words = _by_unit(units, base_errors, tuned_errors, words)
    before, after = base_errors.sum() / words.sum(), tuned_errors.sum() / words.sum()
    difference = (float(before - after),) * 3
    relative = (float(1 - after / before),) * 3 if before else (None,) * 3
    if len(words) > 1:
        models = (_log_rate(errors, words, len(base)) for errors in (base_errors, tuned_errors))
        base_logs, tuned_logs = _region(*models)
        highest = max(_highest(base_errors, words), _highest(tuned_errors, words))
        low, high = _extremes(np.clip(np.exp(base_logs) - np.exp(tuned_logs), -highest, highest))
        difference = difference[0], low, high
        if before:
            low, high = _extremes(1 - np.exp(tuned_logs - base_logs))
            relative = relative[0], low, high if after else 1.0
    return {
        **dict(zip(("wer_relative", "low", "high"), relative, strict=True)),
        **dict(zip(("difference", "difference_low", "difference_high"), difference, strict=True)),
        "p_value": _swapping_p_value(base_errors - tuned_errors),
        "visible_difference": (TWO_SIDED_95 + POWER_80) * (difference[2] - difference[1]) / (2 * TWO_SIDED_95),
    }


def _errors_and_words(scores: Sequence[ClipScore]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score.word_errors for score in scores]), np.array([score.reference_words for score in scores])


def _by_unit(units: Sequence[Hashable] | None, *columns: np.ndarray) -> list[np.ndarray]:
    """Columns [clips] summed to [units], in the order in which the units first come."""
    if units is None:
        return list(columns)
    numbers = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    places = [numbers[unit] for unit in units]
    return [np.bincount(places, weights=column, minlength=len(numbers)) for column in columns]


def _log_rate(errors: np.ndarray, words: np.ndarray, clips: int) -> tuple[float, np.ndarray]:
    """Logarithm of the WER of two units or more, and deviations [units + 1] whose length is half its 95 % interval.

    The units' deviations are what two models can have in common. The last one is a model's own, without any error.
    """
    from scipy import stats  # imported here: it takes longer than most stages

    count = len(errors)
    if not errors.any():
        # Clips of one unit may be wrong together: of each unit, only one clip's words count.
        own = np.log(NONE_SEEN * clips / count / COUNT_OFFSET)
        return float(np.log(COUNT_OFFSET / words.sum())), np.append(np.zeros(count), own)
    left_out = np.log((errors.sum() - errors + COUNT_OFFSET) / (words.sum() - words))
    scale = stats.t.ppf(0.975, count - 1) * np.sqrt((count - 1) / count)
    return float(np.log(errors.sum() / words.sum())), np.append(scale * (left_out - left_out.mean()), 0)


def _region(base: tuple[float, np.ndarray], tuned: tuple[float, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Both models' logarithms [DIRECTIONS] on the edge of the ellipse whose shadow on any line is a 95 % interval."""
    (base_log, base_deviations), (tuned_log, tuned_deviations) = base, tuned
    reach = base_deviations @ base_deviations
    shared = base_deviations[:-1] @ tuned_deviations[:-1] / reach if reach else 0.0
    own = np.sqrt(max(tuned_deviations @ tuned_deviations - shared**2 * reach, 0))
    along = np.sqrt(reach) * np.cos(DIRECTIONS)
    return base_log + along, tuned_log + shared * along + own * np.sin(DIRECTIONS)


def _highest(errors: np.ndarray, words: np.ndarray) -> float:
    """Upper bound of the WER's intervals: all words wrong, or the worst unit if that is above (insertions)."""
    return max(1.0, float((errors / words).max()))


def _extremes(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest, to six digits: those behind them depend on DIRECTIONS."""
    return float(values.min().round(6)) + 0.0, float(values.max().round(6)) + 0.0  # + 0.0: never -0.0


def _swapping_p_value(differences_: np.ndarray) -> float:
    """Of a permutation test that swaps the two models' results; exact if there are fewer swaps than SWAPS."""
    from scipy import stats

    if len(differences_) < 2:
        return 1.0
    tested = stats.permutation_test(
        [differences_],
        lambda chosen, axis: chosen.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=SWAPS,
        batch=max(1, VALUES_AT_ONCE // len(differences_)),
        rng=np.random.default_rng(0),
    )
    return float(tested.pvalue)

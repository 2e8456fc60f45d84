"""Word and character error rates, and how sure they are.

Rates are of the whole set: all errors over all reference words, not the mean of the clips' rates. Known values and
their sources: tests/test_scoring.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

from stages.speech.text import normalise


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


def score_clip(reference: str, hypothesis: str, prepare: Callable[[str], str] = normalise) -> ClipScore:
    """Compare two texts after `prepare` (the same for both; `str` compares them as written).

    Raises: ValueError where nothing is left of the reference: no rate is defined.
    """
    reference, hypothesis = prepare(reference), prepare(hypothesis)
    if not reference.strip():
        raise ValueError("empty reference: a clip without words has no error rate")
    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    return ClipScore(
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        reference_words=words.hits + words.substitutions + words.deletions,
        character_errors=characters.substitutions + characters.deletions + characters.insertions,
        reference_characters=characters.hits + characters.substitutions + characters.deletions,
    )


def differences(reference: str, hypothesis: str) -> list[tuple[str, str]]:
    """The hypothesis as (text, kind) spans, with kind equal, substitute, insert or delete."""
    reference, hypothesis = normalise(reference), normalise(hypothesis)
    aligned = jiwer.process_words(reference, hypothesis)
    reference_words, heard_words = reference.split(), hypothesis.split()
    spans = []
    for chunk in aligned.alignments[0]:
        words = heard_words[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "delete":
            words = reference_words[chunk.ref_start_idx : chunk.ref_end_idx]
        spans.append((" ".join(words), chunk.type))
    return spans


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


def wer_interval(scores: Sequence[ClipScore], samples: int, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the WER: percentile bootstrap over clips (Bisani and Ney 2004)."""
    errors, words = _resampled_sums(samples, seed, *_errors_and_words(scores))
    low, high = np.percentile(errors / words, [2.5, 97.5])
    return float(low), float(high)


def relative_improvement(
    base: Sequence[ClipScore], tuned: Sequence[ClipScore], samples: int, seed: int = 0
) -> dict[str, float | None]:
    """How much smaller the tuned model's WER is, as a fraction of the base's, with its 95 % interval.

    The bootstrap draws clips, each with both its results, because the two models heard the same clips. All None where
    the base makes no error: then there is nothing to improve.
    """
    base_errors, words = _errors_and_words(base)
    tuned_errors, _ = _errors_and_words(tuned)
    if not base_errors.sum():
        return {"wer_relative": None, "low": None, "high": None}
    base_sums, tuned_sums, _ = _resampled_sums(samples, seed, base_errors, tuned_errors, words)
    drawn = base_sums > 0
    low, high = np.percentile(1 - tuned_sums[drawn] / base_sums[drawn], [2.5, 97.5])
    return {"wer_relative": 1 - tuned_errors.sum() / base_errors.sum(), "low": float(low), "high": float(high)}


def _errors_and_words(scores: Sequence[ClipScore]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score.word_errors for score in scores]), np.array([score.reference_words for score in scores])


def _resampled_sums(samples: int, seed: int, *columns: np.ndarray) -> list[np.ndarray]:
    """Sums [samples] of each column over clips drawn with replacement, the same clips for all columns."""
    rng = np.random.default_rng(seed)
    clips = len(columns[0])
    sums = np.empty((len(columns), samples))
    # A draw at a time keeps memory flat for sets of any size.
    for draw in range(samples):
        counts = rng.multinomial(clips, np.full(clips, 1 / clips))
        sums[:, draw] = [column @ counts for column in columns]
    return list(sums)

"""What an evaluation's figures cannot tell: for the report, the card and the Results page."""

from __future__ import annotations

from collections.abc import Mapping

FEW_CLIPS = 50  # below, intervals may hold the truth in less than 93 of 100 cases (tests/benchmarks/coverage.py)


def doubts(metrics: Mapping) -> list[str]:
    """What these figures cannot tell, in sentences."""
    clips, visible = metrics["tuned"]["clips"], metrics["improvement"]["visible_difference"]
    found = []
    if clips == 1:
        found.append("One test recording tells nothing about others: the intervals are empty.")
    elif clips < FEW_CLIPS:
        found.append(
            f"{clips} test recordings are few: they can hardly show a change of less than {100 * visible:.0f} points "
            f"of the word error rate. Four times as many show half of that."
        )
    if metrics["improvement"]["difference"] == 0:
        found.append("Both models make equally many mistakes here.")
    if metrics["tuned"]["wer"] == 0:
        # The rule of three (Hanley and Lippman-Hand 1983): the upper 95 % limit where nothing was counted.
        words = metrics["tuned"]["reference_words"]
        found.append(
            f"No word was wrong after training, among {words}. With that many, up to {100 * min(3 / words, 1):.1f} % "
            f"wrong words can still hide."
        )
    return found

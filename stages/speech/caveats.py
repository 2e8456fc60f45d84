"""What an evaluation's figures show and do not show: for the report, the card, the Results page and push."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from stages.common.plurals import counted

FEW_UNITS = 50  # below, even half of the mistakes gone may go unseen
UNITS = {"prompt": "phrase", "session": "session", "speaker": "speaker", "clip": "recording"}


def verdict(metrics: Mapping) -> Literal["better", "worse", "unsure", "perfect"]:
    """Whether training helped, by the 95 % interval of the improvement: the only place that decides this.

    metrics: of metrics.json. perfect: neither model made a mistake. One unit shows nothing about others.
    """
    low, high = metrics["improvement"]["low"], metrics["improvement"]["high"]
    if low is None:  # the base model made no mistake, so there is no relative improvement
        if metrics["tuned"]["wer"] == 0:
            return "perfect"
        low, high = metrics["improvement"]["difference_low"], metrics["improvement"]["difference_high"]
    if metrics["units"] < 2:
        return "unsure"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "unsure"


def conclusion(metrics: Mapping) -> str:
    """The verdict in a sentence, with the difference in points of the word error rate and its 95 % interval."""
    improvement = metrics["improvement"]
    difference, low, high = (improvement[name] for name in ("difference", "difference_low", "difference_high"))
    p = f"p\u00a0=\u00a0{improvement['p_value']:.4f}"
    found = verdict(metrics)
    if found in ("better", "worse"):
        ends = (low, high) if found == "better" else (-high, -low)
        interval = " to ".join(f"{100 * end:.1f}" for end in ends)
        return f"The tuned model is {found}: {change(difference, 'points')} (95\u00a0% interval {interval}; {p})."
    others = f", and with other recordings of the same kind {changes(low, high, 'points')} would be likely"
    return (
        f"This does not show which model is better: {change(difference, 'points')} here{others if low < high else ''} "
        f"(95\u00a0% interval; {p})."
    )


def units_in_words(metrics: Mapping) -> str:
    """What the intervals count as one, and how many: `25 phrases`."""
    return counted(metrics["units"], UNITS[metrics["units_by"]])


def caveats(metrics: Mapping) -> list[str]:
    """What these figures do not show, in sentences."""
    units, visible = metrics["units"], metrics["improvement"]["visible_difference"]
    unit = UNITS[metrics["units_by"]]
    found = []
    if units == 1:
        found.append(f"One test {unit} tells nothing about others: the intervals are empty.")
    elif units < FEW_UNITS:
        found.append(
            f"{units} different test {unit}s are few: they can hardly show a change of less than "
            f"{counted(round(100 * visible), 'point')} of the word error rate. Four times as many show half of that."
        )
    if metrics["improvement"]["difference"] == 0:
        found.append("Both models make equally many mistakes here.")
    if metrics["tuned"]["wer"] == 0 and units > 1:
        found.append(
            f"No word was wrong after training, among {metrics['tuned']['reference_words']}. With that many, up to "
            f"{100 * metrics['tuned']['wer_high']:.1f} % wrong words can still hide."
        )
    return found


def held(metrics: Mapping) -> str:
    """How both models were held in memory: `in bfloat16, the decoder in 4 bits (NF4)`."""
    dtype, quantisation = metrics["precision"]["dtype"], metrics["precision"]["quantisation"]
    return f"in {dtype}, the decoder in {quantisation}" if quantisation else f"in {dtype}"


def change(fewer: float, unit: str) -> str:
    """`2.0 points fewer wrong words`, `5.0 points more wrong words` or `no difference`.

    fewer: how many fewer wrong words, as a fraction; negative: more. unit: "points" of the word error rate, or "%" of
    the wrong words before.
    """
    shown = f"{100 * abs(fewer):.1f}"
    if shown == "0.0":
        return "no difference" if fewer == 0 else "hardly any difference"
    return f"{shown}\u00a0{unit} {'fewer' if fewer > 0 else 'more'} wrong words"


def changes(low: float, high: float, unit: str) -> str:
    """What the 95 % interval of a change holds: `anything from no difference to 50.0 % fewer wrong words`."""
    return f"anything from {change(low, unit)} to {change(high, unit)}"

"""A table and a picture of all experiments: which settings understood the validation recordings best.

    make compare

Sorted by the validation part, never by the test part: chosen by it, the test would no longer be one. Writes
data/experiments/comparison.svg, a line for each experiment through its settings to its error rates.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from stages.commands.experiments import Experiment, differing_settings, dvc, parse
from stages.common.files import write_whole
from stages.common.stage import UserError, run

FOLDER = Path("data/experiments")
COMMITS_LOOKED_AT = 20


def best_first(experiments: Sequence[Experiment]) -> list[Experiment]:
    """By the validation WER; those without one last."""
    return sorted(experiments, key=lambda one: (one.validation_wer is None, one.validation_wer or 0.0, one.made_at))


def table_of(experiments: Sequence[Experiment]) -> str:
    """Markdown: a row for each experiment, the best first, with the settings in which they differ."""
    keys = differing_settings(experiments)
    header = ["experiment", *keys, "validation", "test (95 % interval)"]
    rows = []
    for one in best_first(experiments):
        low, high = one.wer_interval
        validation = "" if one.validation_wer is None else f"{one.validation_wer:.1%}"
        settings = [_plain(one.settings.get(key)) for key in keys]
        rows.append([one.name, *settings, validation, f"{one.tuned_wer:.1%} ({low:.1%} to {high:.1%})"])
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def draw(experiments: Sequence[Experiment]) -> bytes:
    """Parallel coordinates as SVG: an axis for each setting that differs and for both rates, the best line thick."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    ordered = best_first(experiments)
    keys = differing_settings(experiments)
    columns: list[tuple[str, list[Any]]] = [(key, [one.settings.get(key) for one in ordered]) for key in keys]
    columns.append(("validation WER, %", [100 * (one.validation_wer or 0.0) for one in ordered]))
    columns.append(("test WER, %", [100 * one.tuned_wer for one in ordered]))
    figure, axes = pyplot.subplots(figsize=(2 + 2.2 * len(columns), 5))
    heights = [_heights(values) for _, values in columns]
    for number in reversed(range(len(ordered))):
        best = number == 0
        line = [column[number][0] for column in heights]
        axes.plot(line, color="#15803d" if best else "#9ca3af", linewidth=3 if best else 1)
    for place, values in enumerate(heights):
        axes.axvline(place, color="black", linewidth=0.8)
        for height, label in set(values):
            axes.annotate(label, (place, height), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set_xticks(range(len(columns)), [key.removeprefix("train.") for key, _ in columns], rotation=15, ha="right")
    axes.set_yticks([])
    axes.set_title(f"Best by validation: {ordered[0].name}")
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    content = BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return content.getvalue()


def show(experiments: Sequence[Experiment]) -> str:
    """Print the table and write the picture; the summary line.

    Raises: UserError where there is nothing to compare.
    """
    if not experiments:
        raise UserError("no experiment has been evaluated yet: run 'make sweep', or 'dvc exp run -S KEY=VALUE'")
    print(table_of(experiments))
    picture = FOLDER / "comparison.svg"
    write_whole(picture, draw(experiments))
    best = best_first(experiments)[0]
    rate = "unknown" if best.validation_wer is None else f"{best.validation_wer:.1%}"
    return f"{len(experiments)} experiments, best by validation: {best.name} ({rate}) -> {picture}"


def _heights(values: Sequence[Any]) -> list[tuple[float, str]]:
    """(0 to 1, label) of each value on its axis: numbers by size; where others are among them, one above the other."""
    ordered = sorted(values, key=lambda value: (0, value, "") if _is_number(value) else (1, 0, _plain(value)))
    labels = list(dict.fromkeys(_plain(value) for value in ordered))
    heights = list(values) if all(map(_is_number, values)) else [labels.index(_plain(value)) for value in values]
    low, high = min(heights), max(heights)
    return [
        ((height - low) / (high - low) if high > low else 0.5, _plain(value))
        for height, value in zip(heights, values, strict=True)
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "+".join(value)
    return json.dumps(value)


def main() -> str:
    return show(parse(json.loads(dvc("exp", "show", "--json", "--num", str(COMMITS_LOOKED_AT)))))


if __name__ == "__main__":
    run("compare", main)

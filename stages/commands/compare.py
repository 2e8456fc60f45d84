"""A table of all experiments: which settings understood the validation recordings best.

    make compare

Sorted by the validation part, never by the test part: settings chosen by the test part could not be tested on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from stages.commands.experiments import Experiment, differing_settings, parse
from stages.common.dvc import run_dvc
from stages.common.stage import UserError, run

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


def show(experiments: Sequence[Experiment]) -> str:
    """Print the table; returns the summary line.

    Raises: UserError if there is nothing to compare.
    """
    if not experiments:
        raise UserError("no experiment has been evaluated yet: run 'make sweep', or 'dvc exp run -S KEY=VALUE'")
    print(table_of(experiments))
    best = best_first(experiments)[0]
    rate = "unknown" if best.validation_wer is None else f"{best.validation_wer:.1%}"
    return f"{len(experiments)} experiments, best by validation: {best.name} ({rate})"


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "+".join(value)
    return json.dumps(value)


def main() -> str:
    return show(parse(json.loads(run_dvc("exp", "show", "--json", "--num", str(COMMITS_LOOKED_AT)))))


if __name__ == "__main__":
    run("compare", main)

"""A table of all experiments: which settings understood the validation recordings best.

    make compare

Sorted by the validation part, never by the test part: settings chosen by the test part could not be tested on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from stages.commands.experiments import Experiment, read_experiments
from stages.common.stage import UserError, run

COMMITS_LOOKED_AT = 20


def show(experiments: Sequence[Experiment]) -> str:
    """Print the table; returns the summary line.

    Raises: UserError if there is nothing to compare.
    """
    if not experiments:
        raise UserError("no experiment has been evaluated yet: run 'make sweep', or 'dvc exp run -S KEY=VALUE'")
    best_first = sorted(experiments, key=lambda one: one.validation["wer"])
    print(table_of(best_first))
    best = best_first[0]
    return f"{len(experiments)} experiments, best by validation: {best.name} ({best.validation['wer']:.1%})"


def table_of(experiments: Sequence[Experiment]) -> str:
    """Markdown: a row for each experiment, with the settings in which they differ."""
    keys = differing_settings(experiments)
    header = ["experiment", *keys, "validation", "test (95 % interval)"]
    rows = []
    for one in experiments:
        wer, low, high = (one.tuned[name] for name in ("wer", "wer_low", "wer_high"))
        settings = [_plain(one.settings.get(key)) for key in keys]
        rows.append([one.name, *settings, f"{one.validation['wer']:.1%}", f"{wer:.1%} ({low:.1%} to {high:.1%})"])
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def differing_settings(experiments: Sequence[Experiment]) -> list[str]:
    """The dotted keys whose values are not the same in all experiments."""
    keys = dict.fromkeys(key for one in experiments for key in one.settings)
    return [key for key in keys if len({_plain(one.settings.get(key)) for one in experiments}) > 1]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def main() -> str:
    # Commits that changed no result would repeat its row: the newest stays.
    found = {json.dumps([one.settings, one.tuned]): one for one in reversed(read_experiments(COMMITS_LOOKED_AT))}
    return show(list(found.values()))


if __name__ == "__main__":
    run("compare", main)

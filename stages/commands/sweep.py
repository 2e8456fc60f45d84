"""Try every combination of some settings, each as a DVC experiment, and show which was best.

    make sweep                                                   (rank, learning rate and scope, as below)
    make sweep GRID="train.lora.r=8,16,32 train.epochs=5,10"     (any keys of params.yaml)

Run it again after an interruption: finished runs are kept. Needs a git commit: experiments belong to one.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Sequence

from stages.commands.compare import show
from stages.commands.experiments import run_all
from stages.common.stage import UserError, run

# Ranks around the published ones; the automatic rate of the 3B model, a third and three times of it; the encoder
# frozen, which is several times faster, or adapted, which some studies found best (arXiv 2509.16718).
GRID = (
    "train.lora.r=8,32",
    "train.learning_rate=3.0e-5,1.0e-4,3.0e-4",
    "train.lora.scope=[projector,decoder],[encoder,projector,decoder]",
)
COMMA = re.compile(r",(?![^\[]*\])")  # between values, not within a list


def points_of(grid: Sequence[str]) -> list[dict[str, str]]:
    """Every combination of `key=value,value` words, as {dotted key: value}, in DVC's own spelling (-S).

    Raises: UserError for a word of another form.
    """
    values = {}
    for word in grid:
        key, _, listed = word.partition("=")
        values[key] = COMMA.split(listed)
        if not all([key, *values[key]]):
            raise UserError(f"{word!r} is not a setting: write KEY=VALUE,VALUE")
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def main() -> str:
    return show(run_all("sweep", points_of(sys.argv[1:] or GRID)))


if __name__ == "__main__":
    run("sweep", main)

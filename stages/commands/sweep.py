"""Try every combination of some settings, each as a DVC experiment, and show which was best.

    make sweep                                                   (rank, learning rate and scope, as below)
    make sweep GRID="train.lora.r=8,16,32 train.epochs=5,10"     (any keys of params.yaml)

Run it again after an interruption: finished runs are kept. Needs a git commit: experiments belong to one.
"""

from __future__ import annotations

import sys

from stages.commands.compare import show
from stages.commands.experiments import points_of, read_grid, run_all
from stages.common.stage import run

# Ranks around the published ones; the automatic rate of the 3B model, a third and three times of it; the encoder
# frozen, which is several times faster, or adapted, which some studies found best (arXiv 2509.16718).
GRID = (
    "train.lora.r=8,32",
    "train.learning_rate=3.0e-5,1.0e-4,3.0e-4",
    "train.lora.scope=[[projector,decoder],[encoder,projector,decoder]]",
)


def main() -> str:
    found = run_all("sweep", points_of(read_grid(sys.argv[1:] or GRID)))
    return show(found)


if __name__ == "__main__":
    run("sweep", main)

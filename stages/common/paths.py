"""Where everything is, relative to the folder of dvc.yaml (the working folder of every stage)."""

from __future__ import annotations

import os
from pathlib import Path

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
SPLIT = Path("data/split")
CHECKPOINTS = Path("data/checkpoints")
EVALUATION = Path("data/evaluation")
CARD = Path("data/card")
RECEIPTS = Path("data/receipts")
REVIEW = Path("data/review")  # by `make review`; ignored by git and DVC
TEMPLATES = Path("templates")
PSEUDONYMS = Path("data/recorder/pseudonyms.json")  # ignored by git and DVC: it never leaves this machine


def cache_root() -> Path:
    """The folder of the content cache: `$OWNVOICE_CACHE`, or else `.cache` in the repository.

    DVC runs queued and temporary experiments in copies of the repository. `$DVC_ROOT` is the original one, so that all
    share one cache.
    """
    if folder := os.environ.get("OWNVOICE_CACHE"):
        return Path(folder)
    return Path(os.environ.get("DVC_ROOT", ".")) / ".cache"

"""Receipts: what a publishing stage did, or why it did nothing."""

from __future__ import annotations

import os

from stages.pipeline import paths
from stages.pipeline.files import write_json


def reason_to_stay(enabled: bool, section: str) -> str | None:
    """Why a publishing stage does nothing now, None where it may go ahead."""
    if not enabled:
        return f"{section}.enabled is false"
    if experiment := os.environ.get("DVC_EXP_NAME"):
        return f"experiments publish nothing ({experiment})"
    return None


def write_receipt(stage: str, published: bool, reason: str | None = None) -> None:
    """Write data/receipts/STAGE.json."""
    write_json(paths.RECEIPTS / f"{stage}.json", {"published": published, "reason": reason})

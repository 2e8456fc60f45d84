"""Receipts: what a publishing stage did, or why it did nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from stages.common import paths
from stages.common.files import write_json
from stages.common.plurals import counted


def reason_to_stay(enabled: bool, section: str) -> str | None:
    """Why a publishing stage must do nothing now; None if it may publish."""
    if not enabled:
        return f"{section}.enabled is false"
    if experiment := os.environ.get("DVC_EXP_NAME"):
        return f"experiments publish nothing ({experiment})"
    return None


def amount(files: Sequence[Mapping]) -> str:
    """`14 files, 12.3 MB`; files: {"path", "size", "sha256"} each."""
    return f"{counted(len(files), 'file')}, {sum(file['size'] for file in files) / 1e6:.1f} MB"


def write_receipt(stage: str, receipt: Mapping) -> None:
    """Write data/receipts/STAGE.json: `published`, `reason`, and what went where. No times: DVC compares receipts."""
    write_json(paths.RECEIPTS / f"{stage}.json", receipt)


def discard_receipt(stage: str) -> None:
    """Remove it before publishing, as DVC does: after a refusal no receipt may report success."""
    (paths.RECEIPTS / f"{stage}.json").unlink(missing_ok=True)

"""Refuse to go on with fewer recordings than data/raw.dvc says.

DVC takes the folder as it finds it. In a fresh clone whose recordings were not pulled it would note an empty set, and
the next commit would forget where the recordings are.
"""

from __future__ import annotations

from pathlib import Path

from ruamel.yaml import YAML

from stages.pipeline import paths
from stages.pipeline.stage import UserError

TRACKED = Path("data/raw.dvc")


def check_complete(removed: int = 0) -> None:
    """Compare data/raw, which is made where it is missing, with data/raw.dvc; `removed` files are known to be gone.

    Raises: UserError where files are missing.
    """
    paths.RAW.mkdir(parents=True, exist_ok=True)
    if not TRACKED.exists():
        return
    present = sum(path.is_file() for path in paths.RAW.rglob("*"))
    expected = YAML(typ="safe").load(TRACKED)["outs"][0].get("nfiles", 0)
    if present + removed < expected:
        raise UserError(
            f"{paths.RAW} holds {present} files, {TRACKED} names {expected}: run 'dvc pull' to fetch them, or, if you "
            f"removed some on purpose, 'dvc add {paths.RAW}'"
        )

"""Refuse to run on fewer recordings than data/raw.dvc says: `python -m stages.pipeline.raw`, before `dvc repro`.

DVC takes the folder as it finds it. In a fresh clone whose recordings were not pulled it would note an empty set, and
the next commit would forget where the recordings are.
"""

from __future__ import annotations

from pathlib import Path

from ruamel.yaml import YAML

from stages.pipeline import paths
from stages.pipeline.stage import UserError, run

TRACKED = Path("data/raw.dvc")


def main() -> str:
    paths.RAW.mkdir(parents=True, exist_ok=True)
    present = sum(path.is_file() for path in paths.RAW.rglob("*"))
    expected = YAML(typ="safe").load(TRACKED)["outs"][0].get("nfiles", 0)
    if present < expected:
        raise UserError(
            f"{paths.RAW} holds {present} files, {TRACKED} names {expected}: run 'dvc pull' to fetch them, or, if you "
            f"removed some on purpose, 'dvc add {paths.RAW}'"
        )
    return f"{present} files"


if __name__ == "__main__":
    run(str(paths.RAW), main)

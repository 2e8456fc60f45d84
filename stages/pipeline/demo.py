"""Run the whole pipeline on the demo clips with the tiny model, in a workspace of its own: `make demo`.

The workspace, .demo/, is a copy of the code with data/demo/params.yaml as its params.yaml and data/demo/clips as its
only recordings. It has its own DVC repository, cache and tracking, so nothing of the user's is read or changed. It
needs no network, no GPU and no token.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from stages.pipeline import paths
from stages.pipeline.files import read_json
from stages.pipeline.stage import UserError, run

WORKSPACE = Path(".demo")
DEMO = Path("data/demo")


def make_workspace(root: Path, workspace: Path) -> None:
    """A fresh copy of what the pipeline needs: code, templates, dvc.yaml, demo model, clips and settings."""
    if workspace.exists():
        shutil.rmtree(workspace)
    ignore = shutil.ignore_patterns("__pycache__", "tiny")
    for folder in ("stages", "templates"):
        shutil.copytree(root / folder, workspace / folder, ignore=ignore)
    shutil.copytree(root / DEMO / "voxtral-tiny", workspace / DEMO / "voxtral-tiny")
    shutil.copytree(root / DEMO / "clips", workspace / paths.RAW / "demo")
    shutil.copy(root / DEMO / "params.yaml", workspace / "params.yaml")
    shutil.copy(root / "dvc.yaml", workspace / "dvc.yaml")
    shutil.copy(root / ".dvcignore", workspace / ".dvcignore")


def environment(workspace: Path) -> dict[str, str]:
    """This process's environment without traces of another repository, offline, with our own Python first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "OWNVOICE_", "TRACKIO_"))}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    kept["TRACKIO_DIR"] = str((workspace / ".trackio").resolve())
    kept["HF_HUB_OFFLINE"] = "1"
    kept["DVC_NO_ANALYTICS"] = "1"  # `dvc init` would send before the setting below is made
    return kept


def dvc(workspace: Path, *arguments: str) -> None:
    """Run dvc in the workspace, its output on the screen. Raises: UserError where it fails."""
    result = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=workspace, env=environment(workspace), check=False
    )
    if result.returncode != 0:
        raise UserError(
            f"'dvc {' '.join(arguments)}' failed in {workspace} with exit code {result.returncode}, see above"
        )


def main() -> str:
    began_s = time.monotonic()
    make_workspace(Path("."), WORKSPACE)
    dvc(WORKSPACE, "init", "--no-scm", "--quiet")
    dvc(WORKSPACE, "config", "core.analytics", "false")
    dvc(WORKSPACE, "add", "--quiet", str(paths.RAW))
    dvc(WORKSPACE, "repro")
    metrics = read_json(WORKSPACE / paths.EVALUATION / "metrics.json")
    base, tuned = metrics["base"], metrics["tuned"]
    print(
        f"\nWrong words on {tuned['clips']} recordings that training never heard:\n"
        f"  before  {base['wer']:6.1%}   (95 % interval {base['wer_low']:.1%} to {base['wer_high']:.1%})\n"
        f"  after   {tuned['wer']:6.1%}   (95 % interval {tuned['wer_low']:.1%} to {tuned['wer_high']:.1%})\n\n"
        f"  report  {WORKSPACE / paths.EVALUATION / 'report.html'}\n"
        f"  card    {WORKSPACE / paths.CARD / 'README.md'}\n"
        f"  model   {WORKSPACE / paths.CHECKPOINTS / 'best'}\n"
        f"  figures again: cd {WORKSPACE} && ../.venv/bin/dvc metrics show\n"
    )
    return f"the whole pipeline ran in {time.monotonic() - began_s:.0f} s"


if __name__ == "__main__":
    run("demo", main)

"""Run the whole pipeline on the demo clips with the tiny model, in a workspace of its own: `make demo`.

The workspace, .demo/, is a copy of the code with data/demo/clips as its only recordings, and params.yaml with the
values of data/demo/params.yaml. It has its own DVC repository, cache and tracking, so nothing of the user's is changed.
It needs no network, no GPU and no token: it publishes to a local Hub, on this machine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML

from stages.common import paths
from stages.common.dvc import run_dvc
from stages.common.files import read_json
from stages.common.params import PARAMS_FILE
from stages.common.stage import run
from stages.hub.local.server import HubServer

WORKSPACE = Path(".demo")
DEMO = Path("data/demo")
LOCAL_TOKEN = "local-token"  # of the Hub on this machine; no secret


def make_workspace(root: Path, workspace: Path) -> None:
    """A fresh copy of what the pipeline needs: code, templates, dvc.yaml, demo model, clips and settings."""
    if workspace.exists():
        shutil.rmtree(workspace)
    ignore = shutil.ignore_patterns("__pycache__", "tiny")
    for folder in ("stages", "templates", "demo_voxtral"):
        shutil.copytree(root / folder, workspace / folder, ignore=ignore)
    shutil.copytree(root / DEMO / "voxtral-tiny", workspace / DEMO / "voxtral-tiny")
    shutil.copytree(root / DEMO / "clips", workspace / paths.RAW / "demo")
    yaml = YAML()
    params = yaml.load(root / PARAMS_FILE)
    override(params, yaml.load(root / DEMO / PARAMS_FILE))
    yaml.dump(params, workspace / PARAMS_FILE)
    shutil.copy(root / "dvc.yaml", workspace / "dvc.yaml")
    shutil.copy(root / ".dvcignore", workspace / ".dvcignore")


def override(params: dict, values: Mapping) -> None:
    """Set these values, section by section, and keep the others."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            override(params[key], value)
        else:
            params[key] = value


def environment(workspace: Path, hub: str) -> dict[str, str]:
    """This process's environment, without settings for another repository or Hub."""
    foreign = ("DVC_", "OWNVOICE_", "TRACKIO_", "HF_", "HUGGING_FACE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    kept["TRACKIO_DIR"] = str((workspace / ".trackio").resolve())
    kept |= {"HF_ENDPOINT": hub, "HF_TOKEN": LOCAL_TOKEN, "HF_HOME": str((workspace / ".hf").resolve())}
    kept |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    kept["DVC_NO_ANALYTICS"] = "1"  # `dvc init` would send before the setting below is made
    return kept


def main() -> str:
    make_workspace(Path("."), WORKSPACE)
    with HubServer(tokens={LOCAL_TOKEN: "write:local"}) as hub:
        hub.build_polls = 1  # its Space has nothing to build
        place = {"folder": WORKSPACE, "variables": environment(WORKSPACE, hub.url), "to_screen": True}
        run_dvc("init", "--no-scm", "--quiet", **place)
        (WORKSPACE / ".dvc/config").write_text("[core]\n    no_scm = True\n    analytics = false\n")
        run_dvc("add", "--quiet", str(paths.RAW), **place)
        run_dvc("repro", **place)
    pushed, deployed = (read_json(WORKSPACE / paths.RECEIPTS / f"{stage}.json") for stage in ("push", "deploy"))
    metrics = read_json(WORKSPACE / paths.EVALUATION / "metrics.json")
    base, tuned = metrics["base"], metrics["tuned"]
    print(
        f"\nWrong words on {tuned['clips']} recordings that training never heard:\n"
        f"  before  {base['wer']:6.1%}   (95 % interval {base['wer_low']:.1%} to {base['wer_high']:.1%})\n"
        f"  after   {tuned['wer']:6.1%}   (95 % interval {tuned['wer_low']:.1%} to {tuned['wer_high']:.1%})\n\n"
        f"  report  {WORKSPACE / paths.EVALUATION / 'report.html'}\n"
        f"  card    {WORKSPACE / paths.CARD / 'README.md'}\n"
        f"  model   {WORKSPACE / paths.CHECKPOINTS / 'best'}\n"
        f"  published, to a Hub on this machine that ended with the demo: {len(pushed['files'])} files as "
        f"{pushed['repo_id']}, the page as {deployed['space_id']}\n"
        f"  try it  make demo-app IN={WORKSPACE}\n"
        f"  figures again: cd {WORKSPACE} && ../.venv/bin/dvc metrics show\n"
    )
    return "the whole pipeline ran"


if __name__ == "__main__":
    run("demo", main)

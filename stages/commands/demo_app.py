"""Open the demo that a Space would show on the last result, on this machine alone: `make demo-app`.

    python -m stages.commands.demo_app [WORKSPACE]      (the folder that data/ lies in; unless given, this one)

Runs demo_voxtral/ unchanged, with the environment that it takes its settings from.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stages.common import paths
from stages.common.files import read_json
from stages.common.params import load_params
from stages.common.plurals import counted
from stages.common.stage import UserError, run

APP = Path(__file__).parents[2] / "demo_voxtral/app.py"
BEST = paths.CHECKPOINTS / "best"


def settings_of_last_result() -> dict[str, str]:
    """Environment variables of demo_voxtral for the working folder's data/checkpoints.

    Raises: UserError if nothing has been trained yet.
    """
    if not (paths.CHECKPOINTS / "training.json").is_file():
        raise UserError(
            f"{paths.CHECKPOINTS} holds no model: train one with 'make repro', or run 'make demo' and then "
            f"'make demo-app IN=.demo'"
        )
    training = read_json(paths.CHECKPOINTS / "training.json")
    languages = read_json(paths.PREPARED / "summary.json")["languages"]
    params = load_params()
    return {
        "HF_MODEL_ID": str(BEST),
        "BASE_MODEL": _base_of(training, params.model.name),
        "MODEL_NAME": f"trained on {counted(training['train_clips'], 'recording')}",
        "LANGUAGES": ",".join(sorted(languages, key=lambda code: (-languages[code], code))),
        "TITLE": params.card.title,
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "PYTHONDONTWRITEBYTECODE": "1",  # demo_voxtral stays as it is: it is published whole
    }


def _base_of(training: dict, configured: str) -> str:
    """The base model of a training, with its revision. Of a folder it holds only the name; params.yaml has the path."""
    name, revision = training["base_model"], training["settings"]["model"]["revision"]
    if Path(configured).is_dir() and Path(configured).resolve().name == name:
        return configured
    return f"{name}@{revision}" if revision else name


def main() -> str:
    if len(sys.argv) > 1:
        if not Path(sys.argv[1]).is_dir():
            raise UserError(f"IN={sys.argv[1]} is not a folder: give one that holds data/, such as .demo")
        os.chdir(sys.argv[1])
    settings = settings_of_last_result()
    print("demo-app: loading the model; the page opens at the address below. Ctrl-C ends it.", flush=True)
    os.execve(sys.executable, [sys.executable, str(APP)], {**os.environ, **settings})


if __name__ == "__main__":
    run("demo-app", main)

"""Four real speakers, each alone: word error rates before and after, and the seconds of training, as a table.

    python -m tests.benchmarks.digits       (four minutes on two cores)

Needs the recordings of the Free Spoken Digit Dataset beside the checkout (see tests/workspaces.py).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.workspaces import SPEECH, add_digits, make_workspace, read_json, run_stages

SPEAKERS = ("jackson", "nicolas", "theo", "yweweler")


def main() -> None:
    if not SPEECH.is_dir():
        raise SystemExit(f"no recordings in {SPEECH}")
    print("| speaker | before | after | test recordings | training |\n|---|---|---|---|---|", flush=True)
    for speaker in SPEAKERS:
        with tempfile.TemporaryDirectory() as folder:
            workspace = make_workspace(Path(folder) / "workspace", split__group_by="clip", train__max_clips=100)
            add_digits(workspace, speaker)
            run_stages(workspace, "prepare", "split", "train", "evaluate")
            metrics = read_json(workspace / "data/evaluation/metrics.json")
            seconds = read_json(workspace / "data/checkpoints/training.json")["seconds"]
            before, after = (f"{100 * metrics[model]['wer']:.1f} %" for model in ("base", "tuned"))
            print(f"| {speaker} | {before} | {after} | {metrics['tuned']['clips']} | {seconds:.0f} s |", flush=True)


if __name__ == "__main__":
    main()

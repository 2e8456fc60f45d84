"""Publish the model to the Hub, when params.yaml says so; with push.dataset also the recordings.

    python -m stages.push           (or `dvc repro push`)

Refuses a model that is not shown to be better (push.require), and files that do not work as evaluated. Sends only what
the Hub does not hold yet, as one commit. Writes data/receipts/push.json: what was published, or why nothing was.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

from ruamel.yaml import YAML

from stages.common import paths
from stages.common.cache import fingerprint
from stages.common.files import read_json, read_jsonl
from stages.common.params import Params, load_params
from stages.common.plurals import counted
from stages.common.stage import UserError, announce, run
from stages.hub import release
from stages.hub.receipts import amount, discard_receipt, reason_to_stay, write_receipt


def version_of_run() -> str:
    """The repository's state for a commit message: git's, if there is one, and DVC's hash of the model."""
    parts = []
    if shutil.which("git"):
        git = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--tags"], capture_output=True, text=True, check=False
        )
        if git.returncode == 0:
            parts.append(f"git {git.stdout.strip()}")
    lock = Path("dvc.lock")
    if lock.exists():
        outs = YAML(typ="safe").load(lock).get("stages", {}).get("train", {}).get("outs", [])
        parts += [f"dvc {out['md5'][:8]}" for out in outs if out["path"] == paths.CHECKPOINTS.as_posix()]
    return ", ".join(parts) or "no version control"


def publish_model(params: Params) -> dict:
    """Publish the model; returns the receipt. Raises: UserError if it may not or cannot be published."""
    from stages.hub.publish import held, listing, publish

    section = params.push
    if section.repo_id is None and not section.dry_run:
        raise UserError("params.yaml: push.enabled is true, but push.repo_id names no repository: set USER/NAME")
    model, results, left_out = release.chosen_files(params.model)
    refusal = release.reason_to_refuse(section, read_json(paths.EVALUATION / "metrics.json"))
    if refusal and not section.dry_run:
        raise UserError(refusal)
    release.check_harmless(model | results)
    expected = release.clips_to_check(
        read_jsonl(paths.EVALUATION / "predictions.jsonl"), section.checked_clips, params.evaluate.batch_size
    )
    checked, merged = False, {}
    if section.merged and release.is_adapter(model):
        folder = release.merged_folder(model, params)
        if not folder.exists():
            shutil.rmtree(folder.parent, ignore_errors=True)  # of other adapters, each as large as the base
            release.check_reproduces([model], expected, merge_into=folder)
            checked = True
        merged = release.model_files(folder)
        release.check_harmless(merged)
    files = model | results | {f"{release.MERGED}/{name}": path for name, path in merged.items()}
    listed = listing(files)
    if section.dry_run:
        return {
            "published": False,
            "reason": "push.dry_run is true",
            "refused": refusal,
            "repo_id": section.repo_id,
            "files": listed,
            "left_out": left_out,
        }
    if not checked and not held(section.repo_id, "model", files, private=section.private):
        release.check_reproduces([model, merged] if merged else [model], expected)
    published = publish(
        section.repo_id,
        "model",
        files,
        private=section.private,
        message=f"Model ({version_of_run()})",
        tag=f"v-{fingerprint({entry['path']: entry['sha256'] for entry in listed})[:8]}",
    )
    return {"published": True, "reason": None, **asdict(published), "left_out": left_out}


def summary(receipt: dict) -> str:
    if receipt["published"]:
        files = counted(len(receipt["files"]), "file")
        return f"{files} at {receipt['url']}, commit {receipt['commit'][:8]}, tag {receipt['tag']}"
    line = f"nothing published: {receipt['reason']}"
    if "files" in receipt:  # a dry run
        line += f"; {amount(receipt['files'])} would be uploaded"
    if refusal := receipt.get("refused"):
        line += f", but would be refused: {refusal}"
    return line


def main() -> str:
    params = load_params()
    discard_receipt("push")
    reason = reason_to_stay(params.push.enabled, "push")
    if reason is None:
        announce("push", **params.push.model_dump())
        receipt = publish_model(params)
    else:
        receipt = {"published": False, "reason": reason}
    write_receipt("push", receipt)  # it stays if the data set is refused
    if reason_to_stay(params.push.dataset.enabled, "push.dataset") is None:
        from stages.hub import dataset

        receipt["dataset"] = dataset.publish_dataset(params)
        write_receipt("push", receipt)
        return f"{summary(receipt)}; recordings: {dataset.summary(receipt['dataset'])}"
    return summary(receipt)


if __name__ == "__main__":
    run("push", main)

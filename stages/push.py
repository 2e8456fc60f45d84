"""Publish the model to the Hub, when params.yaml says so; with push.dataset also the recordings.

    python -m stages.push           (or `dvc repro push`)

Refuses a model that is not shown to be better (push.require), and files that do not work as evaluated. Sends only what
the Hub does not hold yet, as one commit. Writes data/receipts/push.json: what was published, or why nothing was.
"""

from __future__ import annotations

from dataclasses import asdict

from stages.common import paths
from stages.common.cache import fingerprint
from stages.common.files import read_json, read_jsonl
from stages.common.params import Params, load_params
from stages.common.plurals import counted
from stages.common.stage import UserError, announce, run
from stages.hub import release
from stages.hub.publish import listing, publish
from stages.hub.receipts import amount, discard_receipt, reason_to_stay, write_receipt


def publish_model(params: Params) -> dict:
    """Publish the model; returns the receipt. Raises: UserError if it may not or cannot be published."""
    section = params.push
    if section.repo_id is None and not section.dry_run:
        raise UserError("params.yaml: push.enabled is true, but push.repo_id names no repository: set USER/NAME")
    model, results, left_out = release.chosen_files()
    metrics, evaluated = read_json(paths.EVALUATION / "metrics.json"), read_json(release.EVALUATED)
    refusal = release.reason_to_refuse(section, metrics)
    if refusal and not section.dry_run:
        raise UserError(refusal)
    release.check_weights(model, evaluated)
    formats = {"": model}  # by folder on the Hub
    predictions = read_jsonl(paths.EVALUATION / "predictions.jsonl")
    expected, precision = release.clips_to_check(predictions, evaluated, section.checked_clips), metrics["precision"]
    if section.merged and release.is_adapter(model):
        formats["merged/"] = release.merge(model, expected, precision)
    files = results | {f"{folder}{name}": path for folder, made in formats.items() for name, path in made.items()}
    release.check_harmless(files)
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
    tag = f"v-{fingerprint({entry['path']: entry['sha256'] for entry in listed})[:8]}"
    published = publish(
        section.repo_id,
        "model",
        files,
        private=section.private,
        message=f"Model ({tag})",
        tag=tag,
        check=lambda: release.check_reproduces(list(formats.values()), expected, precision["dtype"]),
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

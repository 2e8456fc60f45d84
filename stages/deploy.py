"""Publish a demo Space on the Hub that shows the published model, when params.yaml says so.

    python -m stages.deploy         (or `dvc repro deploy`)

The Space is demo_voxtral/, byte for byte. Writes data/receipts/deploy.json: what was published, or why nothing was.
"""

from __future__ import annotations

from stages.common import paths
from stages.common.files import read_json
from stages.common.params import Params, load_params
from stages.common.stage import UserError, announce, run
from stages.hub.receipts import discard_receipt, reason_to_stay, write_receipt
from stages.hub.space import check_hardware, publish_space, wait_until_running


def variables_of(params: Params, pushed: dict, training: dict, languages: dict[str, int]) -> dict[str, str]:
    """The Space's environment; demo_voxtral/README.md says what each does.

    Raises: UserError for an adapter whose base a Space cannot reach.
    """
    base_is_local = training["base_model_identity"].startswith("folder:")
    is_adapter = training["settings"]["mode"] != "full"
    merged = any(entry["path"].startswith("merged/") for entry in pushed["files"])
    if is_adapter and base_is_local and not merged:
        raise UserError(
            f"model.name {training['base_model']} is a folder of this machine, and a Space cannot load an adapter "
            f"without its base: set push.merged to true"
        )
    variables = {
        # With the commit: another model is another value, and restarts the Space.
        "HF_MODEL_ID": f"{pushed['repo_id']}@{pushed['commit']}",
        "MODEL_NAME": pushed["repo_id"].rpartition("/")[2],
        "TITLE": params.card.title,
        "LANGUAGES": ",".join(sorted(languages, key=lambda language: -languages[language])),
    }
    if not base_is_local:
        revision = training["settings"]["model"]["revision"]
        variables["BASE_MODEL"] = training["base_model"] + (f"@{revision}" if revision else "")
    return variables


def parameters_shown(training: dict) -> int:
    """Weights that the demo holds: an adapter shares its base's, a whole model is there beside its base."""
    is_adapter = training["settings"]["mode"] != "full"
    base_is_local = training["base_model_identity"].startswith("folder:")  # not shown beside a whole model
    return training["parameters"] * (1 if is_adapter or base_is_local else 2)


def publish_demo(params: Params) -> dict:
    """Publish the Space and wait for it; returns the receipt. Raises: UserError if it does not run."""
    section = params.deploy
    if section.space_id is None:
        raise UserError("params.yaml: deploy.enabled is true, but deploy.space_id names no Space: set USER/NAME")
    pushed = read_json(paths.RECEIPTS / "push.json")
    if not pushed["published"]:
        raise UserError(f"there is no published model for the Space to show: {pushed['reason']} (push)")
    training = read_json(paths.CHECKPOINTS / "training.json")
    variables = variables_of(params, pushed, training, read_json(paths.PREPARED / "summary.json")["languages"])
    check_hardware(section.hardware, parameters_shown(training))
    published = publish_space(section, variables, needs_token=pushed["private"], version=pushed["tag"])
    wait_until_running(section.space_id, section.wait_minutes)
    return {
        "published": True,
        "reason": None,
        "space_id": published.repo_id,
        "url": published.url,
        "commit": published.commit,
        "private": published.private,
        "hardware": section.hardware,
        "variables": variables,
        "secrets": ["HF_TOKEN"] if pushed["private"] else [],
        "files": published.files,
    }


def main() -> str:
    params = load_params()
    discard_receipt("deploy")
    if reason := reason_to_stay(params.deploy.enabled, "deploy"):
        write_receipt("deploy", {"published": False, "reason": reason})
        return f"nothing published: {reason}"
    announce("deploy", **params.deploy.model_dump())
    receipt = publish_demo(params)
    write_receipt("deploy", receipt)
    return f"the Space runs: {receipt['url']}"


if __name__ == "__main__":
    run("deploy", main)

"""Publish a demo Space on the Hub, when params.yaml says so.

    python -m stages.deploy         (or `dvc repro deploy`)

Writes data/receipts/deploy.json: what went where, or why nothing did. This version publishes nothing yet.
"""

from __future__ import annotations

from stages.hub.receipts import reason_to_stay, write_receipt
from stages.pipeline.params import load_params
from stages.pipeline.stage import UserError, run


def main() -> str:
    params = load_params().deploy
    reason = reason_to_stay(params.enabled, "deploy")
    if reason is None:
        raise UserError("params.yaml: deploy.enabled is true, but this version cannot publish yet: set it to false")
    write_receipt("deploy", published=False, reason=reason)
    return f"nothing published: {reason}"


if __name__ == "__main__":
    run("deploy", main)

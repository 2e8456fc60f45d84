"""Publish the model to the Hub, when params.yaml says so.

    python -m stages.push           (or `dvc repro push`)

Writes data/receipts/push.json: what went where, or why nothing did. This version publishes nothing yet.
"""

from __future__ import annotations

from stages.hub.receipts import reason_to_stay, write_receipt
from stages.pipeline.params import load_params
from stages.pipeline.stage import UserError, run


def main() -> str:
    params = load_params().push
    reason = reason_to_stay(params.enabled, "push")
    if reason is None:
        raise UserError("params.yaml: push.enabled is true, but this version cannot publish yet: set it to false")
    write_receipt("push", published=False, reason=reason)
    return f"nothing published: {reason}"


if __name__ == "__main__":
    run("push", main)

"""DVC's experiments: run one after the other, each in a copy of this folder, and read back.

Every run is an experiment on the present commit, named by its settings. Finished ones are not run again, so an
interrupted sweep resumes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.common import paths
from stages.common.cache import fingerprint
from stages.common.dvc import run_dvc
from stages.common.files import read_json
from stages.common.params import PARAMS_FILE
from stages.common.plurals import counted, lasting
from stages.common.stage import UserError

METRICS = paths.EVALUATION / "metrics.json"
VALIDATION = paths.CHECKPOINTS / "validation.json"


@dataclass(frozen=True)
class Experiment:
    """An evaluated row of `dvc exp show`."""

    name: str
    settings: dict[str, Any]  # by dotted keys
    tuned: dict[str, float]  # of metrics.json
    validation: dict[str, float]  # validation.json


def run_all(prefix: str, points: Sequence[Mapping[str, str]]) -> list[Experiment]:
    """Run the pipeline once for each point, {dotted key: value}, and return its experiments, in their order.

    Raises: UserError if one failed; the next call runs only what is missing.
    """
    names = [f"{prefix}-{fingerprint(point)[:8]}" for point in points]
    done = {experiment.name for experiment in read_experiments(commits=1)}
    missing = {name: point for name, point in zip(names, points, strict=True) if name not in done}
    print(_announcement(len(points), len(missing)), flush=True)
    failed = []
    for number, (name, point) in enumerate(missing.items(), 1):
        changes = [f"{key}={value}" for key, value in point.items()]
        print(f"{name}: run {number} of {len(missing)}, {' '.join(changes)}", flush=True)
        settings = [f"--set-param={change}" for change in changes]
        try:
            run_dvc("exp", "run", "--temp", "--name", name, *settings, to_screen=True)
        except UserError as error:  # the others may succeed
            print(f"{name}: {error}", flush=True)
            failed.append(name)
    if failed:
        raise UserError(f"{len(failed)} of {counted(len(points), 'run')} failed, see above: {', '.join(failed)}")
    found = {experiment.name: experiment for experiment in read_experiments(commits=1)}
    return [found[name] for name in names]


def read_experiments(commits: int) -> list[Experiment]:
    """The evaluated experiments of the last commits, and the results of these commits themselves."""
    return parse(json.loads(run_dvc("exp", "show", "--json", "--num", str(commits))))


def parse(commits: Sequence[Mapping]) -> list[Experiment]:
    """Rows of `dvc exp show --json`, without what failed or waits."""
    found = []
    for name, row in _rows(commits):
        data = row["data"] or {}
        metrics = {file: content.get("data") for file, content in data.get("metrics", {}).items()}
        if metrics.get(str(METRICS)) and metrics.get(str(VALIDATION)):
            settings = dict(_flat(data["params"][str(PARAMS_FILE)]["data"]))
            found.append(Experiment(name, settings, metrics[str(METRICS)]["tuned"], metrics[str(VALIDATION)]))
    return found


def _rows(commits: Sequence[Mapping]) -> Iterator[tuple[str, Mapping]]:
    """Each commit and the last state of each of its experiments, with its name."""
    for commit in commits:
        if commit["rev"] != "workspace":
            yield commit["rev"][:7], commit
            for experiment in commit.get("experiments") or []:
                if experiment.get("revs"):
                    yield experiment["name"], experiment["revs"][0]


def _announcement(all_: int, missing: int) -> str:
    text = f"{missing} of {counted(all_, 'run')} to do"
    training = paths.CHECKPOINTS / "training.json"
    if missing and training.exists():
        seconds = read_json(training)["seconds"]
        text += f"; the last training took {lasting(seconds)}, so about {lasting(missing * seconds)} or more"
    return text


def _flat(values: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value

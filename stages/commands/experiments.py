"""DVC's experiments: queued over a grid of settings, run one after the other, and read back.

Every run is an experiment on the present commit, named by its settings. Finished ones are not run again, so an
interrupted sweep resumes.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from stages.common import paths
from stages.common.cache import fingerprint
from stages.common.dvc import run_dvc
from stages.common.files import read_json
from stages.common.params import PARAMS_FILE
from stages.common.plurals import counted, lasting
from stages.common.stage import UserError

METRICS = paths.EVALUATION / "metrics.json"
VALIDATION = paths.CHECKPOINTS / "validation.json"
POLL_S = 2.0
LONGEST_REST = 5  # polls in which runs are queued and none runs
AT_WORK = ("Queued", "Running")


@dataclass(frozen=True)
class Experiment:
    """An evaluated row of `dvc exp show`; older versions wrote no `validation_wer`."""

    name: str
    made_at: str
    base_wer: float
    tuned_wer: float
    settings: dict[str, Any]  # by dotted keys
    validation_wer: float | None = None
    wer_interval: tuple[float, float] = (0.0, 1.0)  # of the tuned model, 95 %
    train_minutes: float | None = None
    train_clips: int | None = None
    test_words: int | None = None


def points_of(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of a grid's values, as {dotted key: value}."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def read_grid(words: Sequence[str]) -> dict[str, list[Any]]:
    """`key=value,value` words as a grid; values are YAML, so that a list of lists is `[[decoder],[projector,decoder]]`.

    Raises: UserError for a word of another form.
    """
    grid: dict[str, list[Any]] = {}
    for word in words:
        key, equals, values = word.partition("=")
        if not equals or not values:
            raise UserError(f"{word!r} is not a setting: write KEY=VALUE,VALUE")
        text = values if values.startswith("[[") else f"[{values}]"
        grid[key] = YAML(typ="safe").load(text)
    return grid


def name_of(prefix: str, point: Mapping[str, Any]) -> str:
    return f"{prefix}-{fingerprint(point)[:8]}"


def run_all(prefix: str, points: Sequence[Mapping[str, Any]]) -> list[Experiment]:
    """Run the pipeline once for each point, and return its experiments, in their order.

    Raises: UserError if one failed; the next call runs only what is missing.
    """
    names = [name_of(prefix, point) for point in points]
    done = {experiment.name for experiment in on_this_commit()}
    waiting = states()
    missing = [
        (name, point)
        for name, point in zip(names, points, strict=True)
        if name not in done and waiting.get(name) not in AT_WORK
    ]
    print(_announcement(len(points), len(points) - len(missing), len(missing)), flush=True)
    for name, point in missing:
        if name in waiting:
            run_dvc("queue", "remove", name)  # it failed: try again
        changes = [f"--set-param={key}={_as_hydra(value)}" for key, value in point.items()]
        run_dvc("exp", "run", "--queue", "--name", name, *changes)
    if any(state in AT_WORK for state in states().values()):
        run_dvc("queue", "start")
        _wait(names)
    found = {experiment.name: experiment for experiment in on_this_commit()}
    if failed := [name for name in names if name not in found]:
        raise UserError(f"{len(failed)} of {len(names)} runs failed: 'dvc queue logs {failed[0]}' says why")
    return [found[name] for name in names]


def states() -> dict[str, str]:
    """Queued, Running, Success or Failed, of each experiment that DVC's queue knows by name."""
    found = {}
    for line in run_dvc("queue", "status").splitlines()[1:]:
        words = line.split()
        if len(words) >= 3 and words[-1] in (*AT_WORK, "Success", "Failed"):
            found[words[1]] = words[-1]
    return found


def on_this_commit() -> list[Experiment]:
    return parse(json.loads(run_dvc("exp", "show", "--json", "--num", "1")), each=True)


def parse(commits: Sequence[Mapping], each: bool = False) -> list[Experiment]:
    """Rows of `dvc exp show --json`, the oldest first.

    each: also those with the settings and results of another; else they count once.
    """
    found: dict[str, Experiment] = {}
    rows = [row for commit in reversed(commits) if commit["rev"] != "workspace" for row in [commit, *_of(commit)]]
    for row in rows:
        data = row["data"] or {}
        metrics = data.get("metrics", {}).get(str(METRICS), {}).get("data")
        if metrics:
            settings = data.get("params", {}).get(str(PARAMS_FILE), {}).get("data", {})
            validation = data["metrics"].get(str(VALIDATION), {}).get("data", {})
            experiment = Experiment(
                name=row.get("name") or row["rev"][:7],
                made_at=data.get("timestamp") or "",
                base_wer=metrics["base"]["wer"],
                tuned_wer=metrics["tuned"]["wer"],
                settings=dict(_flat(settings)),
                validation_wer=validation.get("wer"),
                wer_interval=(metrics["tuned"].get("wer_low", 0.0), metrics["tuned"].get("wer_high", 1.0)),
                train_minutes=validation.get("train_minutes"),
                train_clips=validation.get("train_clips"),
                test_words=metrics["tuned"].get("reference_words"),
            )
            key = experiment.name if each else json.dumps([metrics, settings], sort_keys=True)
            found.setdefault(key, experiment)
    return sorted(found.values(), key=lambda experiment: experiment.made_at)


def differing_settings(experiments: Sequence[Experiment]) -> list[str]:
    """The dotted keys whose values are not the same in all experiments."""
    keys = dict.fromkeys(key for experiment in experiments for key in experiment.settings)
    values = {key: {json.dumps(experiment.settings.get(key)) for experiment in experiments} for key in keys}
    return [key for key in keys if len(values[key]) > 1]


def _announcement(all_: int, done: int, missing: int) -> str:
    text = counted(all_, "run") + (f", {done} of them done or queued before" if done else "")
    training = paths.CHECKPOINTS / "training.json"
    if missing and training.exists():
        seconds = read_json(training)["seconds"]
        text += f"; the last training took {lasting(seconds)}, so about {lasting(missing * seconds)} or more"
    return text


def _wait(names: Sequence[str]) -> None:
    """Wait until all have ended. DVC's worker may end before its queue is empty: start another."""
    told: dict[str, str] = {}
    rested = 0
    while True:
        now = states()
        for name in names:
            if name in now and now[name] != told.get(name):
                print(f"{name}: {now[name].lower()}", flush=True)
        told |= now
        if not any(now.get(name) in AT_WORK for name in names):
            return
        rested = 0 if "Running" in now.values() else rested + 1
        if rested >= LONGEST_REST:
            run_dvc("queue", "start")  # does nothing if there is a worker
            rested = 0
        time.sleep(POLL_S)


def _as_hydra(value: Any) -> str:
    """A value as DVC's -S takes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(_as_hydra, value)) + "]"
    return str(value)


def _of(commit: Mapping) -> list[Mapping]:
    """The experiments of a commit: the last state of each, under its name."""
    return [
        {**experiment["revs"][0], "name": experiment["name"]}
        for experiment in commit.get("experiments") or []
        if experiment.get("revs")
    ]


def _flat(values: Mapping, prefix: str = "") -> Any:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value

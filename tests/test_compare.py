"""The comparison: best by validation, and the settings that differ."""

import pytest

from stages.commands.compare import best_first, show, table_of
from stages.commands.experiments import Experiment, name_of, parse, points_of, read_grid
from stages.common.stage import UserError


def experiment(name: str, validation: float | None, test: float, **settings) -> Experiment:
    values = {f"train.{key}": value for key, value in settings.items()} | {"train.seed": 0}
    return Experiment(name, f"2026-01-0{name[-1]}", 0.5, test, values, validation, (test - 0.05, test + 0.05), 3.0)


FOUND = [
    experiment("run-1", 0.20, 0.05, r=8, scope=["decoder"]),
    experiment("run-2", 0.10, 0.30, r=16, scope=["decoder"]),
    experiment("run-3", None, 0.01, r=8, scope=["encoder", "decoder"]),
]


def test_best_is_chosen_by_validation_and_never_by_test():
    assert [one.name for one in best_first(FOUND)] == ["run-2", "run-1", "run-3"]


def test_table_has_the_settings_that_differ_and_no_others():
    header, _, first, *_ = table_of(FOUND).splitlines()
    assert header == "| experiment | train.r | train.scope | validation | test (95 % interval) |"
    assert first == "| run-2 | 16 | decoder | 10.0% | 30.0% (25.0% to 35.0%) |"
    assert "train.seed" not in table_of(FOUND)


def test_nothing_to_compare_is_said():
    with pytest.raises(UserError, match="run 'make sweep'"):
        show([])


def test_grid_is_every_combination():
    grid = read_grid(["train.lora.r=8,16", "train.lora.scope=[[decoder],[projector,decoder]]", "train.seed=1"])
    assert read_grid(["train.learning_rate=3.0e-5,1.0e-4"]) == {"train.learning_rate": [3e-5, 1e-4]}
    points = points_of(grid)
    assert len(points) == 4 and points[0] == {"train.lora.r": 8, "train.lora.scope": ["decoder"], "train.seed": 1}
    assert len({name_of("sweep", point) for point in points}) == 4
    assert name_of("sweep", points[0]) == name_of("sweep", dict(points[0]))
    for wrong in ("train.lora.r", "train.lora.r="):
        with pytest.raises(UserError, match="KEY=VALUE,VALUE"):
            read_grid([wrong])


def test_experiment_with_the_settings_of_its_commit_is_found_by_its_name():
    data = {
        "timestamp": "2026-01-01",
        "metrics": {
            "data/evaluation/metrics.json": {
                "data": {"base": {"wer": 0.5}, "tuned": {"wer": 0.1, "wer_low": 0.0, "wer_high": 0.2}}
            },
            "data/checkpoints/validation.json": {"data": {"wer": 0.2, "train_minutes": 4.5, "train_clips": 40}},
        },
        "params": {"params.yaml": {"data": {"train": {"seed": 0}}}},
    }
    commits = [
        {"rev": "a" * 40, "data": data, "experiments": [{"name": "sweep-1", "revs": [{"rev": "b", "data": data}]}]}
    ]
    assert [one.name for one in parse(commits)] == ["aaaaaaa"]
    assert [one.name for one in parse(commits, each=True)] == ["aaaaaaa", "sweep-1"]
    [found] = parse(commits)
    assert (found.validation_wer, found.train_minutes, found.train_clips) == (0.2, 4.5, 40)


def test_failed_and_queued_experiments_are_no_rows():
    evaluated = {"data/evaluation/metrics.json": {"data": {"base": {"wer": 0.4}, "tuned": {"wer": 0.1}}}}
    broken = {"data/evaluation/metrics.json": {"error": {"type": "FileNotFoundError"}}}
    commits = [
        {"rev": "workspace", "data": {"metrics": evaluated, "params": {}}, "experiments": None},
        {
            "rev": "0123456789",
            "name": "main",
            "data": {"metrics": broken, "params": {}},
            "experiments": [
                {"name": "queued", "revs": None},
                {"name": "failed", "revs": [{"rev": "a", "data": None, "error": {"msg": "no"}}]},
                {"name": "done", "revs": [{"rev": "b", "name": None, "data": {"metrics": evaluated, "params": {}}}]},
            ],
        },
    ]
    assert [one.name for one in parse(commits)] == ["done"]

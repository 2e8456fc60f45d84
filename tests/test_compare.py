"""The comparison: best by validation, and the settings that differ."""

import pytest

from stages.commands.compare import show
from stages.commands.experiments import Experiment
from stages.commands.sweep import points_of
from stages.common.stage import UserError


def experiment(name: str, validation: float, test: float, **settings) -> Experiment:
    values = {f"train.{key}": value for key, value in settings.items()} | {"train.seed": 0}
    tuned = {"wer": test, "wer_low": test - 0.05, "wer_high": test + 0.05}
    return Experiment(name, values, tuned, {"wer": validation})


def test_table_is_sorted_by_validation_and_has_the_settings_that_differ(capsys):
    """Catches: settings chosen by the test part, which then measures nothing."""
    found = [experiment("run-1", 0.20, 0.05, r=8, scope=["decoder"])]
    found += [experiment("run-2", 0.10, 0.30, r=16, scope=["encoder", "decoder"])]
    assert show(found) == "2 experiments, best by validation: run-2 (10.0%)"
    header, _, first, second = capsys.readouterr().out.splitlines()
    assert header == "| experiment | train.r | train.scope | validation | test (95 % interval) |"
    assert first == '| run-2 | 16 | ["encoder", "decoder"] | 10.0% | 30.0% (25.0% to 35.0%) |'
    assert second.startswith("| run-1 |")
    with pytest.raises(UserError, match="run 'make sweep'"):
        show([])


def test_grid_is_every_combination_and_lists_stay_whole():
    """Catches: a list of parts that is cut at its commas, and runs that were never asked for."""
    points = points_of(["train.lora.r=8,16", "train.lora.scope=[decoder],[projector,decoder]", "train.seed=1"])
    assert len(points) == 4 and points[1] == {
        "train.lora.r": "8",
        "train.lora.scope": "[projector,decoder]",
        "train.seed": "1",
    }
    for wrong in ("train.lora.r", "train.lora.r=", "train.lora.r=8,", "=8"):
        with pytest.raises(UserError, match="KEY=VALUE,VALUE"):
            points_of([wrong])

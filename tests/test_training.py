"""The training loop's own rules: which checkpoint is best, which is resumed, which learning rate."""

import csv
from pathlib import Path

import pytest
import torch

from stages.common.params import load_params
from stages.common.stage import UserError, run
from stages.voxtral.training import resolve_learning_rate, selection, write_curve

TRAIN = load_params(Path("params.yaml")).train


def test_one_wrong_word_less_always_wins():
    for words in (10, 100, 1000):
        assert selection(3 / words, loss=50.0, reference_words=words) < selection(
            4 / words, loss=0.0, reference_words=words
        )


def test_equal_wer_is_decided_by_the_loss():
    assert selection(0.1, loss=0.4, reference_words=20) < selection(0.1, loss=0.5, reference_words=20)


def test_automatic_learning_rate_falls_with_the_width():
    # The middle of the published LoRA rates (5e-5 to 2e-4) at the width of the 3B model; ten times that at a tenth.
    assert resolve_learning_rate(TRAIN, 3072) == pytest.approx(1e-4, rel=0.03)
    assert resolve_learning_rate(TRAIN, 307.2) == pytest.approx(1e-3, rel=0.03)
    full = TRAIN.model_copy(update={"mode": "full"})
    assert resolve_learning_rate(full, 3072) == pytest.approx(2e-5, rel=0.03)


def test_learning_rate_given_is_taken():
    assert resolve_learning_rate(TRAIN.model_copy(update={"learning_rate": 3e-4}), 3072) == 3e-4


def test_curve_has_a_row_for_each_validation_with_the_mean_loss_before_it(tmp_path):
    validation = {"eval_loss": 0.5, "eval_perplexity": 1.65, "eval_wer": 0.25}
    history = [
        {"step": 1, "epoch": 0.5, "loss": 2.0},
        {"step": 2, "epoch": 1.0, "loss": 1.0},
        {"step": 2, "epoch": 1.0, **validation},
        {"step": 3, "epoch": 1.5, "loss": 0.75},
        {"step": 4, "epoch": 2.0, "loss": 0.25},
        {"step": 4, "epoch": 2.0, **validation},
        {"step": 4, "epoch": 2.0, "train_runtime": 3.0},
    ]
    write_curve(tmp_path / "curve.csv", history)
    with (tmp_path / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["train_loss"], row["validation_wer"]) for row in rows] == [
        ("2", "1.5", "0.25"),
        ("4", "0.5", "0.25"),
    ]


def fail(_rows: list) -> None:
    raise UserError("clip 7 is gone: run it again")


def test_error_in_a_loaders_worker_is_one_line_too(capsys):
    loader = torch.utils.data.DataLoader([1, 2], num_workers=1, collate_fn=fail)
    with pytest.raises(SystemExit) as ended:
        run("train", lambda: next(iter(loader)), outlives_parent=True)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "train: clip 7 is gone: run it again\n"

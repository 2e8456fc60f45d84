"""The training loop's own rules: which checkpoint is best, which is resumed, which learning rate."""

import csv

import pytest
import torch
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from stages.common.stage import UserError, run
from stages.voxtral.adapters import add_lora
from stages.voxtral.training import build_trainer, resolve_learning_rate, selection, write_curve
from tests.tiny_model import lora, open_tiny


def test_best_checkpoint_has_the_fewest_wrong_words_and_among_these_the_lowest_loss():
    for words in (10, 100, 1000):
        fewer_errors = selection(3 / words, loss=50.0, reference_words=words)
        assert fewer_errors < selection(4 / words, loss=0.0, reference_words=words)
        assert selection(0.1, 0.4, words) < selection(0.1, 0.5, words)


@pytest.mark.parametrize(
    ("settings", "width", "expected"),
    [
        # The middle of the published LoRA rates (5e-5 to 2e-4) at the width of the 3B model; ten times that at a tenth.
        ({}, 3072, 1e-4),
        ({}, 307.2, 1e-3),
        ({"mode": "full"}, 3072, 2e-5),
        ({"learning_rate": 3e-4}, 3072, 3e-4),
    ],
)
def test_learning_rate_is_the_given_one_or_falls_with_the_width(params, settings, width, expected):
    train = params.train.model_copy(update=settings)
    assert resolve_learning_rate(train, width) == pytest.approx(expected, rel=0.03)


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


def test_float16_learns_with_loss_scaling_on_a_cpu_too(demo_clips, params, tmp_path):
    """Catches: a library that leaves float16 out on a CPU without a word, and gradients that are zero in float16."""
    model, collator = open_tiny(torch.float16)
    model = add_lora(model, lora("decoder")).train()
    weights = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
    computed = []
    model.get_base_model().lm_head.register_forward_hook(lambda *_, out=computed: out.append(_[2].dtype))
    settings = {
        "batch_size": 2,
        "clips_per_update": 2,
        "learning_rate": 3e-3,
        "epochs": 5,
        "warmup_fraction": 0.0,
        "early_stopping_patience": None,
    }
    train, clips = params.train.model_copy(update=settings), demo_clips[:2]
    trainer = build_trainer(model, collator, clips, clips, train, torch.float16, tmp_path, [])
    trainer.args.eval_strategy, trainer.args.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.8 * losses[0]
    assert weights == {torch.float32} and set(computed) == {torch.float16}
    assert trainer.accelerator.scaler.get_scale() > 1


def fail(_rows: list) -> None:
    raise UserError("clip 7 is gone: run it again")


def test_error_in_a_loaders_worker_is_one_line_too(capsys):
    loader = torch.utils.data.DataLoader([1, 2], num_workers=1, collate_fn=fail)
    with pytest.raises(SystemExit) as ended:
        run("train", lambda: next(iter(loader)), outlives_parent=True)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "train: clip 7 is gone: run it again\n"

"""How long a training is, and how its learning rate falls; the Trainer and the tiny model are real."""

import math
import shutil

import pytest
import torch
from transformers import get_scheduler
from transformers.trainer_utils import EvalLoopOutput

from stages.voxtral import schedule, training
from stages.voxtral.schedule import Length, Schedule, caveats, length_of
from stages.voxtral.scratch import last_checkpoint
from tests.tiny_model import open_adapted


@pytest.mark.parametrize(
    ("clips", "min_updates", "expected"),
    [
        (100, 0, Length(15, 13)),
        (100, 195, Length(15, 13)),  # 15 passes of 13
        (10, 0, Length(15, 2)),
        (10, 180, Length(90, 12)),  # 15 validations, 6 passes apart
        (10, 181, Length(91, 14)),  # 13 of them, 7 apart
        (100, 196, Length(16, 26)),
        (1, 180, Length(180, 12)),
    ],
)
def test_few_clips_are_gone_through_more_often_with_no_more_validations(params, clips, min_updates, expected):
    settings = {"epochs": 15, "min_updates": min_updates, "clips_per_update": 8}
    found = length_of(clips, params.train.model_copy(update=settings))
    assert found == expected
    updates = found.epochs * math.ceil(clips / 8)
    assert updates >= min_updates and updates % found.updates_to_validation == 0
    assert updates / found.updates_to_validation <= 15


@pytest.mark.parametrize("name", ["cosine", "linear", "constant_with_warmup"])
def test_learning_rate_rises_and_falls_as_transformers_has_it(name):
    optimizer = torch.optim.SGD([torch.zeros(1)])
    expected = get_scheduler(name, optimizer, num_warmup_steps=5, num_training_steps=50).lr_lambdas[0]
    own = Schedule(name, warmup=5, updates=50)
    assert [own(update) for update in range(51)] == pytest.approx([expected(update) for update in range(51)])


def test_cool_down_falls_from_the_present_rate_to_zero_at_a_validation():
    own = Schedule("cosine", warmup=5, updates=100)
    before = own(50)
    own.cool_down(50, updates_to_validation=5)
    assert own.ends == 60
    assert [own(update) for update in (50, 55, 60, 61)] == pytest.approx([before, before / 2, 0, 0])


def test_training_that_ends_as_soon_anyway_keeps_its_schedule():
    own = Schedule("cosine", warmup=5, updates=55)
    own.cool_down(50, updates_to_validation=5)
    assert (own.cools_from, own.ends) == (None, 55)


def test_longer_training_is_advised_only_if_the_last_model_was_the_best_and_not_perfect():
    assert "train.min_updates in params.yaml to 240" in caveats(120, planned=120, best=120, validation_wer=0.1)[0]
    assert caveats(120, planned=200, best=120, validation_wer=0.1) == []  # stopped early
    assert caveats(120, planned=120, best=110, validation_wer=0.1) == []
    assert caveats(120, planned=120, best=120, validation_wer=0.0) == []


@pytest.fixture
def build(demo_clips, params, tmp_path, monkeypatch):
    """`build()` is a new Trainer over the same folder. Its first validation stays the best, so it stops early."""
    metrics = {"eval_loss": 1.0, "eval_wer": 0.5, "eval_perplexity": math.e, "eval_selection": 0.5}
    output = EvalLoopOutput(None, None, metrics, 1)
    monkeypatch.setattr(training.VoxtralTrainer, "evaluation_loop", lambda *_, **__: output)
    monkeypatch.setattr(schedule, "COOL_DOWN", 0.7)  # two of three updates
    settings = {"learning_rate": 1e-3, "warmup_fraction": 0.0, "batch_size": 2, "clips_per_update": 2}
    settings |= {"epochs": 9, "min_updates": 0, "early_stopping_patience": 2}
    train = params.train.model_copy(update=settings)

    def trainer():
        model, collator = open_adapted("projector")
        return training.build_trainer(model, collator, demo_clips[:2], demo_clips[2:3], train, False, tmp_path, [])

    return trainer


def test_early_stop_cools_down_and_resumes_in_the_middle_of_it_and_gives_the_same_model(build, tmp_path):
    whole = build()
    whole.args.save_total_limit = None  # else the checkpoint in the middle is gone
    training.fit(whole, None)
    updates = [entry for entry in whole.state.log_history if "learning_rate" in entry]
    rates = [entry["learning_rate"] for entry in updates]
    assert len(rates) == whole.state.global_step == 5, "two validations without a better one after the first, and two"
    assert rates[4] == pytest.approx(rates[3] / 2)

    ended = build()
    training.fit(ended, last_checkpoint(tmp_path))
    assert (ended.state.global_step, ended.state.max_steps) == (5, 9), "is only read again"

    shutil.rmtree(tmp_path / "checkpoint-5")
    resumed = build()
    training.fit(resumed, tmp_path / "checkpoint-4")
    assert [entry for entry in resumed.state.log_history if "learning_rate" in entry] == updates
    expected = whole.model.state_dict()
    assert all(weights.equal(expected[name]) for name, weights in resumed.model.state_dict().items())

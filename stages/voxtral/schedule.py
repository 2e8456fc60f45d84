"""How long a training is, in updates of the weights, and how its learning rate rises and falls."""

from __future__ import annotations

import math
from dataclasses import dataclass

from transformers import EarlyStoppingCallback

from stages.common.params import TrainParams
from stages.common.plurals import counted

# How the learning rate falls after the warm-up, by the share of the updates after it that are done (train.scheduler).
FALLS = {
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "linear": lambda done: 1 - done,
    "constant_with_warmup": lambda done: 1.0,
}
# Of the updates before it. A tenth to a fifth anneals as well as a schedule of that length (Haegele et al. 2024, arXiv
# 2405.18392; Hu et al. 2024, arXiv 2404.06395).
COOL_DOWN = 0.2


@dataclass(frozen=True)
class Length:
    """Passes over the clips, and updates between two validations, which are at the end of a pass."""

    epochs: int
    updates_to_validation: int


def length_of(clips: int, params: TrainParams) -> Length:
    """Of a training on so many clips: `epochs` passes, or more until there are `min_updates`, and at most `epochs`
    validations.

    params: with a number for clips_per_update.
    """
    updates = math.ceil(clips / params.clips_per_update)  # of one pass, on any number of devices
    epochs = max(params.epochs, math.ceil(params.min_updates / updates))
    between = math.ceil(epochs / params.epochs)
    return Length(between * math.ceil(epochs / between), between * updates)


def caveats(updates: int, planned: int, best: int, validation_wer: float) -> list[str]:
    """What the end of a training leaves open, in sentences. best: the update after which the model was best."""
    if best == updates == planned and validation_wer > 0:
        return [
            f"The last model of the training was the best, and still had words wrong: training longer may help. Set "
            f"train.min_updates in params.yaml to {2 * updates} (this training had {counted(updates, 'update')})."
        ]
    return []


class Schedule:
    """The share of the learning rate at each update; for LambdaLR, which keeps these attributes in checkpoints."""

    def __init__(self, scheduler: str, warmup: int, updates: int) -> None:
        self.scheduler, self.warmup, self.updates = scheduler, warmup, updates
        self.cools_from: int | None = None
        self.ends = updates

    def __call__(self, update: int) -> float:
        if self.cools_from is not None and update > self.cools_from:
            left = (self.ends - update) / (self.ends - self.cools_from)
            return self(self.cools_from) * max(left, 0.0)
        if update < self.warmup:
            return update / self.warmup
        return FALLS[self.scheduler]((update - self.warmup) / max(self.updates - self.warmup, 1))

    def cool_down(self, update: int, updates_to_validation: int) -> None:
        """Let the rate fall to zero from `update` on, until a validation; no change if training ends as soon."""
        length = max(round(COOL_DOWN * update / updates_to_validation), 1) * updates_to_validation
        if update + length < self.updates:
            self.cools_from, self.ends = update, update + length


class CoolDown(EarlyStoppingCallback):
    """Early stopping that lets the learning rate fall to zero first: weights at a high rate are not at their best."""

    def on_evaluate(self, args, state, control, metrics, lr_scheduler, **kwargs) -> None:
        super().on_evaluate(args, state, control, metrics, **kwargs)
        schedule = lr_scheduler.lr_lambdas[0]
        if schedule.cools_from is None and self.early_stopping_patience_counter >= self.early_stopping_patience:
            schedule.cool_down(state.global_step, state.eval_steps)
        control.should_training_stop = state.global_step >= schedule.ends

"""Tracking a run with trackio, on this machine unless a Space is named. Its errors never stop a training."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from transformers import TrainerCallback

from stages.common.params import TrackingParams

log = logging.getLogger(__name__)


class Tracker(TrainerCallback):
    """Sends loss, perplexity, WER, learning rate and CPU load to trackio."""

    def __init__(self, params: TrackingParams, run: str, config: dict) -> None:
        self.params, self.run, self.config = params, run, config
        self.enabled = params.enabled

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._safely(self._start)

    def on_log(self, args, state, control, logs: dict, **kwargs) -> None:
        numbers = {name.replace("eval_", "validation/"): value for name, value in logs.items() if name != "epoch"}
        self._safely(lambda: self.trackio.log({**numbers, "epoch": state.epoch}, step=state.global_step))

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self._safely(lambda: self.trackio.finish())

    def _start(self) -> None:
        import trackio

        if self.params.space_id is None:
            # Else trackio takes another place than this machine from the environment.
            for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_WEBHOOK_URL"):
                os.environ.pop(name, None)
        trackio.init(
            project=self.params.project,
            name=self.run,
            space_id=self.params.space_id,
            private=True,
            config=self.config,
            resume="allow",
            embed=False,
            auto_log_cpu=True,
        )
        self.trackio = trackio

    def _safely(self, action: Callable[[], object]) -> None:
        """Run an action of the tracker; the first failure ends tracking with a warning."""
        if self.enabled:
            try:
                action()
            except Exception as error:  # noqa: BLE001  whatever it is, the training matters more
                log.warning("tracking stopped, training continues: %s: %s", type(error).__name__, error)
                self.enabled = False

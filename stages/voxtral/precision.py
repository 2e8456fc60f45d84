"""How models are held that transcribe: the same for base and tuned model, evaluation, publishing and Try it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from stages.common import paths
from stages.common.files import read_json
from stages.common.params import Params
from stages.voxtral import processes
from stages.voxtral.loading import FOUR_BITS, read_config, resolve_dtype, total_memory_bytes
from stages.voxtral.memory import evaluation_bytes

USED_SHARE = 0.9  # of a device's memory; drivers and the screen have the rest


@dataclass(frozen=True)
class Precision:
    """How models are held that transcribe."""

    dtype: torch.dtype
    four_bit: bool

    def facts(self) -> dict[str, str | None]:
        """`precision` of metrics.json."""
        return {
            "dtype": str(self.dtype).removeprefix("torch."),
            "quantisation": FOUR_BITS if self.four_bit else None,
        }

    @classmethod
    def of_facts(cls, facts: Mapping) -> Precision:
        return cls(getattr(torch, facts["dtype"]), facts["quantisation"] is not None)

    def memory_remedy(self, batch_size: int = 1) -> str:
        """What to do if the memory is too small to load a model, or to transcribe so many clips at once with it."""
        if batch_size > 1:
            return f"lower evaluate.batch_size (now {batch_size})"
        if self.four_bit:
            return "close other programs that use the GPU, or use one with more memory"
        return "close other programs that use the GPU, or set evaluate.precision to four_bit"


def evaluation_precision(params: Params) -> Precision:
    """`evaluate.precision`; auto: the whole model if it fits into the memory of every process' device, else 4 bits.

    All of a device's memory counts, not what is free at the moment: the same machine chooses the same every time.
    """
    dtype = resolve_dtype(params.model.dtype)
    if params.evaluate.precision != "auto":
        return Precision(dtype, params.evaluate.precision == "four_bit")
    needed = evaluation_bytes(read_config(params.model), dtype, False, params.evaluate.batch_size)
    fits = needed <= USED_SHARE * total_memory_bytes()
    return Precision(dtype, not all(processes.gather({processes.rank(): fits}).values()))


def evaluated_precision(params: Params) -> Precision:
    """What the last evaluation used, so that its figures hold for what is loaded now; without one, as it would."""
    metrics = paths.EVALUATION / "metrics.json"
    facts = read_json(metrics).get("precision") if metrics.exists() else None
    return Precision.of_facts(facts) if facts else evaluation_precision(params)

"""Opening the base model and the tuned one: the same way for training, evaluation, publishing and Try it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import VoxtralForConditionalGeneration

from stages.common import paths
from stages.common.files import read_json
from stages.common.stage import UserError
from stages.voxtral.adapters import ADAPTER_CONFIG, load_adapter
from stages.voxtral.collation import Collator
from stages.voxtral.loading import FOLDER, ModelSource, load_model, load_processor, read_sizes

BEST = paths.CHECKPOINTS / "best"


def open_model(
    source: ModelSource, dtype: torch.dtype, four_bit: bool = False
) -> tuple[VoxtralForConditionalGeneration, Collator]:
    """A whole model, and its Collator for prepared clips."""
    processor = load_processor(source)
    model = load_model(source, dtype, four_bit)
    return model, Collator(processor, read_sizes(model.config, processor))


def open_tuned(folder: Path, base: VoxtralForConditionalGeneration | None, dtype: torch.dtype) -> nn.Module:
    """The model in `folder`: a whole one, or an adapter that `base` gets, neither switched off nor merged."""
    if is_adapter(folder):
        return load_adapter(base, folder).eval()
    return load_model(folder_source(folder), dtype)


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).exists()


def folder_source(folder: Path) -> ModelSource:
    """A model folder of ours."""
    return ModelSource(str(folder), None, folder, "")


def check_base(source: ModelSource) -> None:
    """Raises: UserError if the tuned model was trained from another base than `source`."""
    if read_json(paths.CHECKPOINTS / "training.json")["base_model_identity"] != source.identity:
        remedy = "run 'dvc repro'"
        if source.identity.startswith(FOLDER):  # its files are not deps in dvc.yaml
            remedy = "run 'dvc repro --force --single-item train', then 'dvc repro'"
        raise UserError(f"{BEST} was trained from another base than model.name {source.name}: {remedy}")

"""Opening the base model and the tuned one: the same way for training, evaluation, publishing and Try it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, VoxtralForConditionalGeneration

from stages.common import paths
from stages.common.files import read_json, write_json
from stages.common.stage import UserError
from stages.voxtral.adapters import ADAPTER_CONFIG, load_adapter
from stages.voxtral.collation import Collator
from stages.voxtral.loading import FOLDER, ModelSource, load_model, load_processor, read_sizes

BEST = paths.CHECKPOINTS / "best"
FILE_BYTES = 5 * 1000**3  # largest file of a whole model, and the memory that writing it takes


def open_model(
    source: ModelSource, dtype: torch.dtype, four_bit: bool = False, where: torch.device | None = None
) -> tuple[VoxtralForConditionalGeneration, Collator]:
    """A whole model, as load_model gives it, and its Collator for prepared clips."""
    processor = load_processor(source)
    model = load_model(source, dtype, four_bit, where)
    return model, Collator(processor, read_sizes(model.config, processor))


def open_tuned(
    folder: Path, base: VoxtralForConditionalGeneration, dtype: torch.dtype, four_bit: bool = False
) -> nn.Module:
    """The model in `folder`: a whole one, or `base` with the adapter in it.

    The adapter is not merged: in half precision a part of it would be rounded away (docs/publishing.md), and weights in
    4 bits would be rounded anew.
    """
    if is_adapter(folder):
        return load_adapter(base, folder).eval()
    return load_model(folder_source(folder), dtype, four_bit)


def save_whole(checkpoint: Path, source: ModelSource, dtype: torch.dtype, folder: Path) -> None:
    """Write a checkpoint's weights in `dtype`, beside the configuration of its base: the Trainer changes its own."""
    with contextlib.ExitStack() as files:
        readers = {}
        for path in checkpoint.glob("model*.safetensors"):
            reader = files.enter_context(safe_open(path, framework="pt"))
            readers.update(dict.fromkeys(reader.keys(), reader))
        shapes = {name: readers[name].get_slice(name).get_shape() for name in sorted(readers)}
        sizes = {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape in shapes.items()}
        split = split_torch_state_dict_into_shards(sizes, max_shard_size=FILE_BYTES)
        for file, names in split.filename_to_tensors.items():
            weights = {name: readers[name].get_tensor(name).to(dtype) for name in names}
            save_file(weights, folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(folder / "model.safetensors.index.json", index)
    config = AutoConfig.from_pretrained(source.folder)
    config.dtype = dtype
    config.save_pretrained(folder)
    if (source.folder / "generation_config.json").exists():
        shutil.copy(source.folder / "generation_config.json", folder)


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

"""Which weights are trained, and adapters on disk.

Scopes are anchored expressions over module names, so that `decoder` never matches the encoder's q_proj. Each part must
match something.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import VoxtralForConditionalGeneration

from stages.common.files import read_json, write_json
from stages.common.params import LoraParams
from stages.common.stage import UserError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOKENIZER_CONFIG = "tokenizer_config.json"

# All linear layers of each part, by their full names below VoxtralForConditionalGeneration.
SCOPES = {
    "encoder": r"model\.audio_tower\.layers\.\d+\.(self_attn\.(q_proj|k_proj|v_proj|out_proj)|fc1|fc2)",
    "projector": r"model\.multi_modal_projector\.linear_[12]",
    "decoder": r"model\.language_model\.layers\.\d+\."
    r"(self_attn\.(q_proj|k_proj|v_proj|o_proj)|mlp\.(gate_proj|up_proj|down_proj))",
}


def base_model(model: nn.Module) -> VoxtralForConditionalGeneration:
    """The Voxtral inside, with or without adapters."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def matched_layers(model: nn.Module, scope: Sequence[str]) -> dict[str, int]:
    """How many linear layers each part of the scope has in this model.

    Raises: UserError if a part matches nothing.
    """
    counts = Counter(
        part
        for part in scope
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(SCOPES[part], name)
    )
    if missing := [part for part in scope if not counts[part]]:
        raise UserError(
            f"train.lora.scope {', '.join(missing)}: this model has no such layers; its layout is unknown here"
        )
    return {part: counts[part] for part in SCOPES if part in scope}


def add_lora(model: VoxtralForConditionalGeneration, params: LoraParams) -> PeftModel:
    """The model with fresh adapters on every layer of the scope; everything else is frozen."""
    config = LoraConfig(
        r=params.r,
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        target_modules="|".join(SCOPES[part] for part in params.scope),  # matched against whole module names
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def complete(folder: Path, name: str, revision: str | None) -> None:
    """Write into a saved adapter what other programs load it by: its base's name, and its tokenizer's class.

    PEFT names the folder that the base was loaded from. transformers finds the class by config.json, which must not lie
    beside an adapter: from_pretrained of such a folder takes it for a whole model (integrations/peft.py).
    """
    config = read_json(folder / ADAPTER_CONFIG)
    write_json(folder / ADAPTER_CONFIG, {**config, "base_model_name_or_path": name, "revision": revision})
    write_json(folder / TOKENIZER_CONFIG, {"tokenizer_class": "MistralCommonBackend"})


def load_adapter(model: VoxtralForConditionalGeneration, folder: Path) -> PeftModel:
    """The model with the adapter in `folder`.

    Raises: UserError for a damaged file, and for a missing or unexpected tensor, of which PEFT only warns.
    """
    adapted = get_peft_model(model, PeftConfig.from_pretrained(folder))
    try:
        saved = load_file(folder / ADAPTER_WEIGHTS)
    except SafetensorError as error:
        raise UserError(
            f"{folder / ADAPTER_WEIGHTS} is damaged ({error}): run 'dvc checkout', or train again"
        ) from None
    expected = get_peft_model_state_dict(adapted)
    if saved.keys() != expected.keys():
        missing, unexpected = sorted(expected.keys() - saved.keys()), sorted(saved.keys() - expected.keys())
        example = (missing or unexpected)[0]
        raise UserError(
            f"{folder / ADAPTER_WEIGHTS}: {len(missing)} tensors missing, {len(unexpected)} unexpected, "
            f"e.g. {example}: it was made for another model or by other versions; train again"
        )
    set_peft_model_state_dict(adapted, saved)
    return adapted

"""Scopes and adapters, on the tiny model and on the full-size configuration, which takes the same path."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import VoxtralConfig, VoxtralForConditionalGeneration, WhisperFeatureExtractor

from stages.common.params import LoraParams, ModelParams
from stages.common.stage import UserError
from stages.voxtral.adapters import ADAPTER_WEIGHTS, SCOPES, add_lora, load_adapter, matched_layers, name_base
from stages.voxtral.loading import find_model, load_model, load_processor, read_sizes
from stages.voxtral.tiny import architecture
from tests.workspaces import TINY_MODEL

SCOPE_LISTS = [["encoder"], ["projector"], ["decoder"], ["encoder", "decoder"], ["encoder", "projector", "decoder"]]


def lora(scope) -> LoraParams:
    return LoraParams(r=4, alpha=8, dropout=0.0, scope=scope)


@pytest.fixture(scope="module")
def full_size() -> VoxtralForConditionalGeneration:
    """The default model of params.yaml by size: transformers' default configuration is that of Voxtral Mini 3B."""
    with torch.device("meta"):
        return VoxtralForConditionalGeneration(VoxtralConfig(audio_token_id=24))


def tiny() -> VoxtralForConditionalGeneration:
    return load_model(find_model(ModelParams(name=str(TINY_MODEL), revision=None, dtype="auto")), torch.float32)


def expected_layers(model) -> dict[str, int]:
    """q, k, v, out, fc1, fc2 in the encoder; q, k, v, o, gate, up, down in the decoder."""
    config = model.config
    return {
        "encoder": 6 * config.audio_config.num_hidden_layers,
        "projector": 2,
        "decoder": 7 * config.text_config.num_hidden_layers,
    }


def test_full_size_model_is_the_published_one(full_size):
    # facts: 4,676,271,104 parameters (the model's page on the Hub gives 4.7 B).
    assert sum(parameter.numel() for parameter in full_size.parameters()) == 4_676_271_104


@pytest.mark.parametrize("scope", SCOPE_LISTS, ids="+".join)
def test_scopes_match_every_layer_of_the_full_size_model(full_size, scope):
    expected = expected_layers(full_size)
    assert matched_layers(full_size, scope) == {part: expected[part] for part in scope}


@pytest.mark.parametrize("scope", SCOPE_LISTS, ids="+".join)
def test_full_size_model_takes_adapters_exactly_in_its_scope(scope):
    with torch.device("meta"):
        model = VoxtralForConditionalGeneration(VoxtralConfig(audio_token_id=24))
        adapted = add_lora(model, lora(scope))
    prefixes = {
        "encoder": "model.audio_tower",
        "projector": "model.multi_modal_projector",
        "decoder": "model.language_model",
    }
    names = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert len(names) == 2 * sum(expected_layers(model)[part] for part in scope)  # an A and a B for each layer
    for part, prefix in prefixes.items():
        assert any(f".{prefix}." in name for name in names) == (part in scope)


def test_full_size_window_is_read_from_configuration_and_tokenizer(full_size, tmp_path):
    processor = architecture.write_processor(tmp_path)
    tokenizer = json.loads((tmp_path / "tekken.json").read_text())
    tokenizer["audio"]["chunk_length_s"] = 30.0
    (tmp_path / "tekken.json").write_text(json.dumps(tokenizer))
    WhisperFeatureExtractor(feature_size=128, processor_class="VoxtralProcessor").save_pretrained(tmp_path)
    processor = load_processor(find_model(ModelParams(name=str(tmp_path), revision=None, dtype="auto")))
    sizes = read_sizes(full_size.config, processor)
    # 30 s at 16 kHz, 3,000 mel frames, 131,072 positions: the model's card and configuration on the Hub.
    assert (sizes.window_samples, sizes.window_frames, sizes.max_positions) == (480_000, 3_000, 131_072)


def test_model_laid_out_in_another_way_is_refused():
    with pytest.raises(UserError, match=r"train\.lora\.scope encoder: this model has no such layers"):
        matched_layers(torch.nn.Sequential(torch.nn.Linear(2, 2)), ["encoder"])


def test_frozen_weights_stay_and_adapters_come_back_from_disk(tmp_path):
    scope = list(SCOPES)
    adapted = add_lora(tiny(), lora(scope))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    adapted.save_pretrained(tmp_path)
    name_base(tmp_path, "some/base", "abc")
    again = load_adapter(tiny(), tmp_path)
    saved = dict(adapted.named_parameters())
    assert all(parameter.equal(saved[name]) for name, parameter in again.named_parameters())
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("some/base", "abc")


def test_adapter_with_a_missing_tensor_is_refused(tmp_path):
    add_lora(tiny(), lora(["decoder"])).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / ADAPTER_WEIGHTS)
    name = sorted(tensors)[0]
    tensors["renamed." + name] = tensors.pop(name)
    save_file(tensors, tmp_path / ADAPTER_WEIGHTS)
    with pytest.raises(UserError, match="1 tensors missing, 1 unexpected"):
        load_adapter(tiny(), tmp_path)

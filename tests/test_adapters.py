"""Scopes and adapters, on the tiny model and on the full-size configuration, which takes the same path."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import VoxtralConfig, VoxtralForConditionalGeneration, VoxtralProcessor, WhisperFeatureExtractor

from stages.common.stage import UserError
from stages.voxtral.adapters import ADAPTER_WEIGHTS, SCOPES, add_lora, complete, load_adapter, matched_layers
from stages.voxtral.loading import read_sizes
from tests.tiny_model import lora, open_adapted, open_tiny
from tests.workspaces import TINY_MODEL

SCOPE_LISTS = [["encoder"], ["projector"], ["decoder"], ["encoder", "decoder"], ["encoder", "projector", "decoder"]]
# Of Voxtral Mini 3B. q, k, v, out, fc1, fc2 in 32 encoder layers; q, k, v, o, gate, up, down in 30 decoder layers.
LAYERS = {"encoder": 6 * 32, "projector": 2, "decoder": 7 * 30}
PREFIXES = {
    "encoder": "model.audio_tower",
    "projector": "model.multi_modal_projector",
    "decoder": "model.language_model",
}


def full_size() -> VoxtralForConditionalGeneration:
    """The default model of params.yaml by size: transformers' default configuration is that of Voxtral Mini 3B."""
    with torch.device("meta"):
        return VoxtralForConditionalGeneration(VoxtralConfig(audio_token_id=24))


def test_full_size_model_is_the_published_one():
    # 4,676,271,104 parameters; the model's page on the Hub gives 4.7 B.
    assert sum(parameter.numel() for parameter in full_size().parameters()) == 4_676_271_104


@pytest.mark.parametrize("scope", SCOPE_LISTS, ids="+".join)
def test_full_size_model_gets_adapters_on_every_layer_of_its_scope_and_no_other(scope):
    model = full_size()
    assert matched_layers(model, scope) == {part: LAYERS[part] for part in scope}
    with torch.device("meta"):
        adapted = add_lora(model, lora(*scope))
    names = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert len(names) == 2 * sum(LAYERS[part] for part in scope)  # an A and a B for each layer
    for part, prefix in PREFIXES.items():
        assert any(f".{prefix}." in name for name in names) == (part in scope)


def test_full_size_window_is_read_from_configuration_and_tokenizer(tmp_path):
    shutil.copytree(TINY_MODEL, tmp_path, dirs_exist_ok=True)
    tokenizer = json.loads((tmp_path / "tekken.json").read_text())
    tokenizer["audio"]["chunk_length_s"] = 30.0
    (tmp_path / "tekken.json").write_text(json.dumps(tokenizer))
    WhisperFeatureExtractor(feature_size=128, processor_class="VoxtralProcessor").save_pretrained(tmp_path)
    sizes = read_sizes(VoxtralConfig(audio_token_id=24), VoxtralProcessor.from_pretrained(tmp_path))
    # 30 s at 16 kHz, 3,000 mel frames, 131,072 positions: the model's card and configuration on the Hub.
    assert (sizes.window_samples, sizes.window_frames, sizes.max_positions) == (480_000, 3_000, 131_072)


def test_model_with_other_layers_is_refused():
    with pytest.raises(UserError, match=r"train\.lora\.scope encoder: this model has no such layers"):
        matched_layers(torch.nn.Sequential(torch.nn.Linear(2, 2)), ["encoder"])


def test_frozen_weights_stay_and_adapters_come_back_from_disk(tmp_path):
    adapted, _ = open_adapted(*SCOPES)
    adapted.save_pretrained(tmp_path)
    complete(tmp_path, "some/base", "abc")
    again = load_adapter(open_tiny()[0], tmp_path)
    saved = dict(adapted.named_parameters())
    assert all(parameter.equal(saved[name]) for name, parameter in again.named_parameters())
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("some/base", "abc")


def test_adapter_that_is_damaged_or_lacks_a_tensor_is_refused(tmp_path):
    open_adapted("decoder")[0].save_pretrained(tmp_path)
    tensors = load_file(tmp_path / ADAPTER_WEIGHTS)
    name = sorted(tensors)[0]
    tensors["renamed." + name] = tensors.pop(name)
    save_file(tensors, tmp_path / ADAPTER_WEIGHTS)
    with pytest.raises(UserError, match="1 tensors missing, 1 unexpected"):
        load_adapter(open_tiny()[0], tmp_path)
    (tmp_path / ADAPTER_WEIGHTS).write_bytes((tmp_path / ADAPTER_WEIGHTS).read_bytes()[:1000])
    with pytest.raises(UserError, match="is damaged"):
        load_adapter(open_tiny()[0], tmp_path)

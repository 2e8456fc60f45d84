"""Finding and loading a model: what a user can get wrong is one line."""

import json
import shutil

import bitsandbytes
import pytest
import torch

from stages.common.params import ModelParams
from stages.common.stage import UserError
from stages.voxtral.loading import find_model, load_model, load_processor, read_sizes
from tests.workspaces import TINY_MODEL, add_demo_clips, make_workspace, run_stage, run_stages


def params(name, revision=None) -> ModelParams:
    return ModelParams(name=str(name), revision=revision, dtype="auto")


@pytest.fixture
def model_copy(tmp_path):
    return shutil.copytree(TINY_MODEL, tmp_path / "model")


def test_sizes_are_read_from_the_model():
    source = find_model(params(TINY_MODEL))
    processor = load_processor(source)
    model = load_model(source, torch.float32)
    sizes = read_sizes(model.config, processor)
    # A window of 4 s: 64,000 samples at 16 kHz, 400 frames of 10 ms.
    assert (sizes.sample_rate_hz, sizes.window_samples, sizes.window_frames) == (16_000, 64_000, 400)
    assert (sizes.audio_token_id, sizes.eos_token_id, sizes.pad_token_id) == (24, 2, 11)
    assert sum(parameter.numel() for parameter in model.parameters()) == 2_468_000


def test_only_the_decoder_is_held_in_four_bits():
    """The encoder's outputs are cached under the same key with and without: they must be the same."""
    source = find_model(params(TINY_MODEL))
    model, whole = load_model(source, torch.float32, four_bit=True), load_model(source, torch.float32)
    packed = {name for name, module in model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)}
    assert len(packed) == 14 and all(name.startswith("model.language_model.layers.") for name in packed)
    weights = model.state_dict()
    for name, tensor in whole.model.audio_tower.state_dict().items():
        assert weights[f"model.audio_tower.{name}"].equal(tensor), name


def test_identity_changes_with_any_file(model_copy):
    before = find_model(params(model_copy)).identity
    config = json.loads((model_copy / "generation_config.json").read_text())
    (model_copy / "generation_config.json").write_text(json.dumps({**config, "max_length": 7}))
    assert find_model(params(model_copy)).identity != before


@pytest.mark.parametrize("name", ["data/demo/voxtral-tinyy", "./nowhere", "/nowhere/model", "plain"])
def test_missing_folder_is_named(name):
    with pytest.raises(UserError, match=f"model.name {name}: no such folder"):
        find_model(params(name))


def test_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json"):
        find_model(params(tmp_path))


def test_broken_weights_are_one_line(model_copy):
    weights = model_copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="its weights do not load") as error:
        load_model(find_model(params(model_copy)), torch.float32)
    assert "\n" not in str(error.value)


def test_weights_of_another_configuration_are_refused(model_copy):
    config = json.loads((model_copy / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] += 1
    (model_copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"missing keys, e\.g\. model\.language_model\.layers\.2"):
        load_model(find_model(params(model_copy)), torch.float32)


def test_encoder_and_tokenizer_must_agree_about_the_window(model_copy):
    tokenizer = json.loads((model_copy / "tekken.json").read_text())
    tokenizer["audio"]["chunk_length_s"] = 8.0
    (model_copy / "tekken.json").write_text(json.dumps(tokenizer))
    source = find_model(params(model_copy))
    with pytest.raises(UserError, match="400 frames at a time, its tokenizer counts on 800"):
        read_sizes(load_model(source, torch.float32).config, load_processor(source))


@pytest.mark.parametrize(
    "network",
    [
        pytest.param({"HF_HUB_OFFLINE": "1"}, id="offline mode"),
        pytest.param(
            {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}, id="no answer", marks=pytest.mark.slow
        ),
    ],
)
def test_hub_model_without_network_is_one_line_and_leaves_nothing(tmp_path, network):
    workspace = make_workspace(tmp_path, model__name="someone/some-model", model__revision="main")
    add_demo_clips(workspace, 60)
    run_stages(workspace, "prepare", "split")
    result = run_stage(workspace, "train", **network)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("train: model.name someone/some-model: not on this machine, and the Hub cannot be reached")
    assert "Traceback" not in result.stderr
    assert not (workspace / "data/checkpoints").exists()

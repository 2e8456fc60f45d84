"""Finding and loading a model: what a user can get wrong is one line."""

import json
import shutil
import subprocess
import sys

import bitsandbytes
import pytest
import torch

from stages.common.params import ModelParams
from stages.common.stage import UserError
from stages.voxtral import loading
from stages.voxtral.loading import find_model, load_model
from stages.voxtral.models import open_model
from tests.tiny_model import SOURCE
from tests.workspaces import ROOT, TINY_MODEL, environment


def find(name):
    return find_model(ModelParams(name=str(name), revision=None, dtype="auto"))


@pytest.fixture
def model_copy(tmp_path):
    return shutil.copytree(TINY_MODEL, tmp_path / "model")


def change(path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_only_the_decoder_is_held_in_four_bits():
    """The encoder's outputs are cached under the same key with and without: they must be the same."""
    model, whole = load_model(SOURCE, torch.float32, four_bit=True), load_model(SOURCE, torch.float32)
    packed = {name for name, module in model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)}
    assert len(packed) == 14 and all(name.startswith("model.language_model.layers.") for name in packed)
    weights = model.state_dict()
    for name, tensor in whole.model.audio_tower.state_dict().items():
        assert weights[f"model.audio_tower.{name}"].equal(tensor), name


def test_weights_go_straight_to_their_device(monkeypatch):
    """Not through the memory of the machine, which may be smaller than the GPU's: meta stands for a GPU here."""
    monkeypatch.setattr(loading, "device", lambda: torch.device("meta"))
    monkeypatch.setattr(torch.nn.Module, "to", lambda *_: pytest.fail("loaded elsewhere, then moved"))
    assert {weight.device.type for weight in load_model(SOURCE, torch.bfloat16).parameters()} == {"meta"}


def test_identity_changes_with_any_file(model_copy):
    before = find(model_copy).identity
    change(model_copy / "generation_config.json", max_length=7)
    assert find(model_copy).identity != before


@pytest.mark.parametrize("name", ["data/demo/voxtral-tinyy", "./nowhere", "/nowhere/model", "plain"])
def test_missing_folder_is_named(name):
    with pytest.raises(UserError, match=f"model.name {name}: no such folder"):
        find(name)


def break_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def add_a_layer(folder):
    text_config = json.loads((folder / "config.json").read_text())["text_config"]
    change(folder / "config.json", text_config={**text_config, "num_hidden_layers": 3})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "not a Voxtral"),
        (break_weights, "its weights do not load"),
        (add_a_layer, r"missing keys, e\.g\. model\.language_model\.layers\.2"),
    ],
)
def test_files_that_do_not_belong_together_are_one_line(model_copy, damage, words):
    damage(model_copy)
    with pytest.raises(UserError, match=words) as error:
        open_model(find(model_copy), torch.float32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "network",
    [
        pytest.param({"HF_HUB_OFFLINE": "1"}, id="offline mode"),
        pytest.param(
            {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}, id="no answer", marks=pytest.mark.slow
        ),
    ],
)
def test_hub_model_without_network_is_one_line(tmp_path, network):
    code = (
        "from stages.voxtral.loading import find_model, ModelParams; from stages.common.stage import run;"
        "run('train', lambda: find_model(ModelParams(name='someone/some-model', revision='main', dtype='auto')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(tmp_path, **network), capture_output=True, text=True
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("train: model.name someone/some-model: not on this machine, and the Hub cannot be reached")
    assert "Traceback" not in result.stderr

"""`make check` and the first lines of training: what is needed, what is there, and settings that fit."""

import pytest
import torch
from transformers import VoxtralConfig

from stages.commands import check
from stages.common.params import load_params
from stages.common.stage import UserError
from stages.voxtral import plan
from tests.workspaces import TINY_MODEL


@pytest.fixture
def mini(workspace, set_param):
    """A folder with the published configuration of the 3B model, and no weights."""
    VoxtralConfig(audio_token_id=24).save_pretrained(workspace / "mini")
    set_param("model.name", "mini")
    return workspace


def test_check_says_what_fits_on_a_card_without_any_weights(mini, monkeypatch, capsys):
    monkeypatch.setenv("MEMORY", "24")
    check.main()
    lines = capsys.readouterr().out.splitlines()
    assert "model    mini: 4.68 billion weights, loaded in bfloat16" in lines
    assert next(line for line in lines if line.startswith("train ")).endswith(": fits")
    table = [line.split(" | ") for line in lines if line.startswith("| mode")]
    assert [cells[-2] for cells in table] == ["1", "8", "2", "8", "4", "8", "none"]
    assert lines[-1] == "Recommended: mode lora, lora.scope [encoder, projector, decoder], batch_size auto"
    assert not list(mini.rglob("*.safetensors"))


def test_training_that_cannot_fit_on_a_gpu_is_refused_with_settings_that_fit(mini, set_param, monkeypatch, capsys):
    """12 GB hold neither full training nor a clip of the default; the second is an estimate and only warns."""
    monkeypatch.setattr(plan, "total_memory_bytes", lambda: 12 * check.GIB)
    monkeypatch.setattr(plan, "device", lambda: torch.device("cuda", 0))
    set_param("model.dtype", "bfloat16")
    plan.check_training(load_params())
    assert "that may be too much; under train, these settings fit: mode lora" in capsys.readouterr().out
    set_param("train.mode", "full")
    with pytest.raises(UserError, match=r"alone take 7\d\.\d GB, .* has 12\.9 GB: under train, these settings fit"):
        plan.check_training(load_params())


def test_tiny_model_needs_no_counting(workspace, set_param, monkeypatch, capsys):
    """Its training starts at once."""
    set_param("model.name", str(TINY_MODEL))
    monkeypatch.setattr(plan, "rows", None)
    plan.check_training(load_params())
    assert capsys.readouterr().out.startswith("train: 10 MB of weights; this machine has ")


def test_configuration_that_cannot_be_reached_is_one_line(workspace, set_param, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    set_param("model.name", "someone/some-model")
    with pytest.raises(UserError, match="not on this machine, and the Hub cannot be reached"):
        check.main()

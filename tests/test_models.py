"""Whole models on disk: what is published is what was measured."""

import json

import torch

from stages.voxtral import models
from stages.voxtral.loading import load_model
from stages.voxtral.models import folder_source, save_whole
from tests.tiny_model import SOURCE


def test_whole_model_is_saved_in_its_dtype_and_in_several_files_with_the_base_s_configuration(tmp_path, monkeypatch):
    """Checkpoints are in float32, with `use_cache: false`: published so, the model would be twice as large and slow."""
    monkeypatch.setattr(models, "FILE_BYTES", 2_000_000)
    folders = [tmp_path / "from one file", tmp_path / "from several"]
    for checkpoint, folder in zip([SOURCE.folder, folders[0]], folders, strict=True):
        folder.mkdir()
        save_whole(checkpoint, SOURCE, torch.bfloat16, folder)
        assert len(list(folder.glob("model-*.safetensors"))) > 1
        assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
        assert "use_cache" not in json.loads((folder / "config.json").read_text())
        assert (folder / "generation_config.json").read_bytes() == (
            SOURCE.folder / "generation_config.json"
        ).read_bytes()
        saved = load_model(folder_source(folder), torch.bfloat16).state_dict()
        for name, tensor in load_model(SOURCE, torch.bfloat16).state_dict().items():
            assert saved[name].bfloat16().equal(tensor.bfloat16()), name

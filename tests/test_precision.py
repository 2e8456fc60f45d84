"""In which precision models are held: by GPU and memory, the same for everything that transcribes."""

import gc
import json

import pytest
import torch

from stages.common.params import ModelParams, Params
from stages.voxtral import last_layer, loading, precision
from stages.voxtral.adapters import add_lora
from stages.voxtral.memory import evaluation_bytes
from stages.voxtral.precision import Precision, evaluated_precision, evaluation_precision
from stages.voxtral.transcription import transcribe
from tests.tiny_model import SOURCE, lora


@pytest.fixture
def tiny(params) -> Params:
    """The settings for the tiny model."""
    return params.model_copy(update={"model": ModelParams(name=str(SOURCE.folder), revision=None, dtype="auto")})


@pytest.mark.parametrize(
    ("gpu_has_bfloat16", "name", "weights", "training"),
    [
        (True, "auto", torch.bfloat16, torch.bfloat16),
        (False, "auto", torch.float16, torch.float16),  # Turing and Volta, such as T4 and V100
        (False, "float32", torch.float32, torch.float32),
        (True, "float16", torch.float16, torch.float16),
    ],
)
def test_gpu_without_bfloat16_gets_float16_not_twice_the_bytes(monkeypatch, gpu_has_bfloat16, name, weights, training):
    monkeypatch.setattr(loading, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu_has_bfloat16)
    assert loading.resolve_dtype(name) == weights
    assert loading.training_dtype(name) == training


def test_whole_model_is_evaluated_if_it_fits_and_in_four_bits_if_not(tiny, monkeypatch):
    config = loading.read_config(tiny.model)
    needed = evaluation_bytes(config, torch.float32, False, tiny.evaluate.batch_size)
    for chosen, memory, four_bit in (
        ("auto", 1.2 * needed, False),
        ("auto", needed, True),  # drivers need some of it
        ("whole", needed / 2, False),
        ("four_bit", 9 * needed, True),
    ):
        monkeypatch.setattr(precision, "total_memory_bytes", lambda memory=memory: memory)
        settings = tiny.model_copy(update={"evaluate": tiny.evaluate.model_copy(update={"precision": chosen})})
        assert evaluation_precision(settings) == Precision(torch.float32, four_bit), (chosen, memory)


def test_what_is_loaded_after_an_evaluation_is_held_as_it_was_there(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert evaluated_precision(tiny) == Precision(torch.float32, False)
    (tmp_path / "data/evaluation").mkdir(parents=True)
    held = Precision(torch.float16, True)
    (tmp_path / "data/evaluation/metrics.json").write_text(json.dumps({"precision": held.facts()}))
    assert evaluated_precision(tiny) == held


def test_remedy_fits_the_cause():
    """Catches: "halve evaluate.batch_size" where a single clip, or the model alone, is already too much."""
    whole, four_bit = Precision(torch.bfloat16, False), Precision(torch.bfloat16, True)
    assert "evaluate.batch_size (now 16)" in whole.memory_remedy(16)
    assert "evaluate.precision to four_bit" in whole.memory_remedy()
    assert "evaluate." not in four_bit.memory_remedy()


def live_bytes() -> int:
    """Of all tensors that something still refers to; collects nothing."""
    storages = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor):
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(storages.values())


@pytest.mark.parametrize("four_bit", [False, True])
def test_memory_of_a_model_is_free_before_the_next_one_loads(demo_clips, four_bit):
    """Catches: a base that stays until the garbage collector happens to run, beside the one that replaces it."""
    gc.collect()
    gc.disable()
    before = live_bytes()
    model, collator = loading.load_model(SOURCE, torch.float32, four_bit), None
    loaded = live_bytes() - before
    from stages.voxtral.collation import Collator

    processor = loading.load_processor(SOURCE)
    collator = Collator(processor, loading.read_sizes(model.config, processor))
    adapted = add_lora(model, lora("encoder", "decoder"))
    last_layer.only_kept_positions(adapted)
    transcribe(adapted, collator, demo_clips[:1], batch_size=1)
    loading.free(adapted)
    left = live_bytes() - before
    gc.enable()
    assert loaded > 2_000_000 and left < 0.02 * loaded, (loaded, left)
    assert model is not None, "who still refers to it does not matter"

"""What the memory plan counts from a configuration is what the real things take."""

import pytest
import torch
from transformers import VoxtralConfig

from stages.voxtral import loading, memory
from tests.tiny_model import SOURCE, open_tiny

# Of mistralai/Voxtral-Mini-3B-2507, as published: transformers' own default.
MINI = VoxtralConfig(audio_token_id=24)


@pytest.fixture(scope="module")
def tiny_config() -> VoxtralConfig:
    return VoxtralConfig.from_pretrained(SOURCE.folder)


def test_weights_of_the_published_mini_are_counted_by_part():
    """4,676,271,104 parameters: the metadata of the published model's safetensors."""
    parts = memory.weight_bytes(memory.empty_model(MINI, torch.bfloat16))
    assert sum(parts.values()) == 2 * (4_676_271_104 + 1500 * 1280)  # the encoder's positions are loaded in float32
    assert parts["embeddings"] == parts["head"] == 2 * 131_072 * 3072
    assert parts["projector"] == 2 * (5120 * 3072 + 3072 * 3072)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_those_of_the_real_model(tiny_config, dtype):
    model, _ = open_tiny(dtype)
    real = sum(weight.nbytes for weight in model.parameters())
    assert sum(memory.weight_bytes(memory.empty_model(tiny_config, dtype)).values()) == real


def test_whole_machine_is_what_a_cpu_has():
    assert loading.total_memory_bytes() > 1e9


def test_evaluation_grows_with_the_batch_and_shrinks_in_four_bits():
    """The 3B in bfloat16: 9.35 GB of weights, and less than 1 GB for each clip."""
    one, sixteen = (memory.evaluation_bytes(MINI, torch.bfloat16, False, batch) for batch in (1, 16))
    assert 9.35e9 < one < sixteen < one + 15e9
    assert 4e9 < memory.evaluation_bytes(MINI, torch.bfloat16, True, 1) < 5e9

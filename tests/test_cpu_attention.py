"""Attention by plain products: the kernel's results, only within a training step on a CPU."""

import contextlib

import pytest
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from stages.voxtral import adapters, cpu_attention
from stages.voxtral.cpu_attention import QUERIES_AT_ONCE, attend, fast_attention
from stages.voxtral.loading import load_model
from tests.test_encoder_cache import LORA, SOURCE, clips, load  # noqa: F401  a fixture
from tests.workspaces import TINY_MODEL


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    monkeypatch.setattr(cpu_attention, "device", lambda: torch.device("cpu"))


class Causal(nn.Module):
    """What transformers hands over as the attention's module."""

    is_causal = True
    num_key_value_groups = 1


@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("length", [2, 37, QUERIES_AT_ONCE, 2 * QUERIES_AT_ONCE + 5])
def test_outputs_and_gradients_are_those_of_the_kernel(key_heads, length):
    results = []
    for attention in (sdpa_attention_forward, attend):
        torch.manual_seed(0)
        module = Causal()
        module.num_key_value_groups = 4 // key_heads
        inputs = [torch.randn(3, heads, length, 16, requires_grad=True) for heads in (4, key_heads, key_heads)]
        output, _ = attention(module, *inputs, None, scaling=0.3)
        output.backward(torch.randn_like(output))
        results.append([output, *(tensor.grad for tensor in inputs)])
    for kernel, products in zip(*results, strict=True):
        assert kernel.abs().max() > 0.1
        torch.testing.assert_close(products, kernel, rtol=1e-4, atol=1e-5)


def test_masks_and_cached_keys_are_left_to_the_kernel():
    query, key, value = torch.randn(3, 2, 4, 9, 16)
    sees = torch.rand(2, 1, 9, 9) < 0.7
    sees |= torch.eye(9, dtype=torch.bool)
    for queries, mask in ((query, sees), (query[:, :, -1:], None)):
        expected, _ = sdpa_attention_forward(Causal(), queries, key, value, mask, scaling=0.25)
        assert attend(Causal(), queries, key, value, mask, scaling=0.25)[0].equal(expected)


def test_in_bfloat16_they_are_nearer_to_the_exact_ones_than_the_kernels():
    torch.manual_seed(0)
    exact = [2 * torch.randn(3, 4, 300, 64, dtype=torch.float64) for _ in range(3)]
    errors = {}
    expected = sdpa_attention_forward(Causal(), *exact, None, scaling=0.125)[0]
    for attention in (sdpa_attention_forward, attend):
        rounded = [tensor.bfloat16() for tensor in exact]
        with torch.autocast("cpu", torch.bfloat16):
            output = attention(Causal(), *rounded, None, scaling=0.125)[0]
        assert output.dtype == torch.bfloat16
        errors[attention] = (output - expected).square().mean().sqrt().item()
    assert errors[attend] <= errors[sdpa_attention_forward] < 0.02


@pytest.mark.parametrize(("bfloat16", "tolerance"), [(False, 1e-5), (True, 5e-3)])
def test_loss_is_that_of_the_kernel_and_the_kernel_is_back_afterwards(clips, bfloat16, tolerance):  # noqa: F811
    batch = load(TINY_MODEL)[1].training_batch(clips[:8])
    losses, gradients = [], []
    for context in (contextlib.nullcontext(), fast_attention()):
        torch.manual_seed(0)
        model = adapters.add_lora(load_model(SOURCE, torch.float32), LORA).train()
        with context, torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            assert (ALL_ATTENTION_FUNCTIONS["sdpa"] is attend) == bool(losses)
            loss = model(**batch).loss
            loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward
    assert not gradients[1].equal(gradients[0])  # the other way was really gone
    assert losses[1] == pytest.approx(losses[0], abs=tolerance)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


def test_kernel_is_back_after_an_error():
    with pytest.raises(ZeroDivisionError), fast_attention():
        1 / 0  # noqa: B018
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward


def test_gpu_keeps_its_kernel(monkeypatch):
    monkeypatch.setattr(cpu_attention, "device", lambda: torch.device("cuda"))
    with fast_attention():
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward

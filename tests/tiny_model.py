"""The tiny model of the demo, opened in a test's own process."""

import torch
from transformers import VoxtralForConditionalGeneration

from stages.common.params import LoraParams, ModelParams
from stages.voxtral.adapters import add_lora
from stages.voxtral.collation import Collator
from stages.voxtral.loading import find_model
from stages.voxtral.models import open_model
from tests.workspaces import TINY_MODEL

SOURCE = find_model(ModelParams(name=str(TINY_MODEL), revision=None, dtype="auto"))


def open_tiny(dtype: torch.dtype = torch.float32) -> tuple[VoxtralForConditionalGeneration, Collator]:
    return open_model(SOURCE, dtype)


def lora(*scope: str) -> LoraParams:
    return LoraParams(r=4, alpha=8, dropout=0.0, scope=list(scope))


def open_adapted(*scope: str) -> tuple[torch.nn.Module, Collator]:
    """With adapters that change the output: a new one has zeros in one half, and so have the gradients of the other."""
    torch.manual_seed(0)
    model, collator = open_tiny()
    model = add_lora(model, lora(*scope)).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return model, collator


def loss_and_gradients(model: torch.nn.Module, batch: dict) -> tuple[float, dict[str, torch.Tensor]]:
    loss = model(**batch).loss
    loss.backward()
    return loss.item(), {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}


def are_close(gradients: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    """Whether all gradients are there, are not zero, and equal the expected ones."""
    return gradients.keys() == expected.keys() and all(
        gradient.any() and torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-6)
        for name, gradient in gradients.items()
    )

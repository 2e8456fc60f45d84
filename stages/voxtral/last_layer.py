"""The decoder's last layer, computed only at the positions whose output is used.

Logits are needed at a transcript's few tokens, which follow hundreds of audio tokens. Of the audio tokens the last
layer needs keys and values only: no queries, no feed-forward. Loss and gradients are the same
(tests/test_last_layer.py), for a fifth less work in a decoder of four layers, 3 % less in one of thirty.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, apply_rotary_pos_emb

from stages.voxtral.adapters import base_model


class Before:
    """Keys and values [B, heads, S, width] of earlier positions, in place of a layer's cache."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys, self.values = keys, values

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)


def only_kept_positions(model: nn.Module) -> None:
    """From now on a forward pass with `logits_to_keep` and without a mask computes the last layer only there.

    The positions before get zeros as last hidden states. Does nothing for another decoder or attention.
    """
    base = base_model(model)
    layer = base.model.language_model.layers[-1]
    if not isinstance(layer, LlamaDecoderLayer) or base.config.text_config._attn_implementation != "sdpa":
        return
    whole = layer.forward
    kept = 0

    def remember(_module: nn.Module, _arguments: tuple, keywords: dict) -> None:
        nonlocal kept
        kept = keywords.get("logits_to_keep", 0)

    def forward(hidden: torch.Tensor, attention_mask=None, past_key_values=None, position_embeddings=None, **keywords):
        cut = hidden.shape[1] - kept
        recomputed = layer.gradient_checkpointing and layer.training  # takes every cache away from the layer
        if not kept or cut <= 0 or attention_mask is not None or past_key_values is not None or recomputed:
            return whole(
                hidden, attention_mask=attention_mask, past_key_values=past_key_values,
                position_embeddings=position_embeddings, **keywords,
            )  # fmt: skip
        attention, (cos, sin) = layer.self_attn, position_embeddings
        normed = layer.input_layernorm(hidden[:, :cut])
        keys, values = (
            projection(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for projection in (attention.k_proj, attention.v_proj)
        )
        keys, _ = apply_rotary_pos_emb(keys, keys, cos[:, :cut], sin[:, :cut])
        sees = torch.ones(kept, hidden.shape[1], dtype=torch.bool, device=hidden.device).tril(diagonal=cut)
        after = whole(
            hidden[:, cut:], attention_mask=sees[None, None], past_key_values=Before(keys, values),
            position_embeddings=(cos[:, cut:], sin[:, cut:]), **keywords,
        )  # fmt: skip
        return nn.functional.pad(after, (0, 0, cut, 0))

    layer.forward = forward  # not a module around the layer: its weights must keep their names
    model.register_forward_pre_hook(remember, with_kwargs=True)

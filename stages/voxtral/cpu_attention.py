"""Attention of a training step in bfloat16 on a CPU.

PyTorch's fused kernel saves memory there and no time: forward and backward together, plain matrix products and a
softmax take half to four fifths as long, the sooner the shorter the sequence. In float32 and on a GPU the kernel wins.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from stages.voxtral.loading import device


@contextlib.contextmanager
def fast_attention(bfloat16: bool) -> Iterator[None]:
    """Within it, the decoder attends by plain products where that is faster; else it does nothing.

    bfloat16: whether the steps compute in it.
    """
    if not bfloat16 or device().type != "cpu":
        yield
        return
    ALL_ATTENTION_FUNCTIONS.register("sdpa", attend)
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS.register("sdpa", sdpa_attention_forward)


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **keywords: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention of whole sequences, as transformers asks for it; everything else goes to the usual kernel.

    query [B, heads, S, width], key and value [B, heads or fewer, S, width]; returns [B, S, heads, width].
    """
    if not module.is_causal or attention_mask is not None or dropout or query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **keywords
        )
    groups = query.shape[1] // key.shape[1]
    weights = (query * scaling) @ repeat_kv(key, groups).transpose(2, 3)
    future = torch.full(weights.shape[2:], float("-inf"), dtype=weights.dtype, device=weights.device).triu(diagonal=1)
    # In the precision of the products: torch's softmax adds up in float32 by itself.
    return ((weights + future).softmax(dim=-1) @ repeat_kv(value, groups)).transpose(1, 2).contiguous(), None

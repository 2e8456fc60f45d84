"""Attention of a training step on a CPU.

PyTorch's fused kernel saves memory there and no time: forward and backward together, plain matrix products and a
softmax in float32 take two thirds as long, in blocks of queries that leave out most of what a causal mask hides. Not in
bfloat16, though that were faster still: scores rounded before the softmax made models with twice as many wrong words.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import torch
from torch import nn
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from stages.voxtral.loading import device

QUERIES_AT_ONCE = 128


@contextlib.contextmanager
def fast_attention() -> Iterator[None]:
    """Within it, the decoder attends by plain products on a CPU; on a GPU it does nothing."""
    if device().type != "cpu":
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
    with torch.autocast(query.device.type, enabled=False):
        queries, keys, values = (
            tensor.float().flatten(0, 1) for tensor in (query, repeat_kv(key, groups), repeat_kv(value, groups))
        )
        outputs = torch.cat(
            [
                _attend_block(block, keys[:, : begin + block.shape[1]], values[:, : begin + block.shape[1]], scaling)
                for begin, block in zip(itertools.count(0, QUERIES_AT_ONCE), queries.split(QUERIES_AT_ONCE, dim=1))
            ],
            dim=1,
        )
    return outputs.to(query.dtype).unflatten(0, query.shape[:2]).transpose(1, 2).contiguous(), None


def _attend_block(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float) -> torch.Tensor:
    """The last queries of a sequence: [N, Q, width] to keys and values [N, S, width]."""
    first = keys.shape[1] - queries.shape[1]
    future = torch.full((queries.shape[1], keys.shape[1]), float("-inf"), device=keys.device).triu(first + 1)
    scores = torch.baddbmm(future.expand(len(queries), -1, -1), queries, keys.transpose(1, 2), alpha=scaling)
    return scores.softmax(dim=-1) @ values

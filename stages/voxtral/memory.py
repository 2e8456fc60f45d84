"""Memory that a model of this configuration needs, counted from the configuration alone: nothing is downloaded.

Models are built on torch's meta device, whose tensors have shapes and no values.
"""

from __future__ import annotations

import re
from collections import Counter

import torch
from torch import nn
from transformers import VoxtralConfig, VoxtralForConditionalGeneration

from stages.voxtral.adapters import SCOPES
from stages.voxtral.batches import ROOM
from stages.voxtral.collation import max_new_tokens

# Bytes of a weight in 4 bits: half a byte, a scale of one byte for each 64 weights, and a scale of these scales of four
# bytes for each 256 of them (Dettmers et al. 2023, arXiv 2305.14314, section 3: double quantisation, 4.127 bits).
FOUR_BIT_BYTES = 1 / 2 + 1 / 64 + 4 / (64 * 256)
POSITIONS_PER_S = 50  # of the encoder: Whisper's features have 100 frames a second, which its second convolution halves
PROMPT_TOKENS = 16  # around the audio tokens, with the language


def empty_model(config: VoxtralConfig, dtype: torch.dtype) -> VoxtralForConditionalGeneration:
    """The model without values."""
    with torch.device("meta"):
        model = VoxtralForConditionalGeneration._from_config(config, dtype=dtype)
    model.model.audio_tower.embed_positions.float()  # as from_pretrained loads them
    return model


def weight_bytes(model: VoxtralForConditionalGeneration, four_bit: bool = False) -> dict[str, int]:
    """Bytes of each part's weights: encoder, projector, decoder, embeddings, head (0 if it shares the embeddings).

    four_bit: the decoder's linear layers in 4 bits with double quantisation.
    """
    parts = {
        "encoder": model.model.audio_tower,
        "projector": model.model.multi_modal_projector,
        "embeddings": model.get_input_embeddings(),
        "head": model.lm_head,
        "decoder": model.model.language_model,
    }
    linear = {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(SCOPES["decoder"], name)
    }
    counted: Counter[str] = Counter(dict.fromkeys(parts, 0))
    seen: set[int] = set()
    for part, module in parts.items():
        for weight in module.parameters():
            if id(weight) not in seen:
                seen.add(id(weight))
                in_four_bit = four_bit and id(weight) in linear
                counted[part] += round(weight.numel() * FOUR_BIT_BYTES) if in_four_bit else weight.nbytes
    return dict(counted)


def evaluation_bytes(config: VoxtralConfig, dtype: torch.dtype, four_bit: bool, batch_size: int) -> int:
    """Memory of the device for transcribing `batch_size` clips of one window at once: an upper estimate."""
    weights = sum(weight_bytes(empty_model(config, dtype), four_bit).values())
    return weights + transcription_bytes(config, dtype, batch_size)


def transcription_bytes(config: VoxtralConfig, dtype: torch.dtype, batch_size: int) -> int:
    """What transcribing clips of one window needs beside the weights: keys and values, and the widest layer's tensors.

    The encoder runs first, then the decoder over the prompts, so the larger of both counts.
    """
    audio, text = config.audio_config, config.text_config
    positions = audio.max_source_positions
    prompt = positions * audio.hidden_size // audio.intermediate_size + PROMPT_TOKENS
    tokens = prompt + max_new_tokens(positions / POSITIONS_PER_S)
    # Keys and values of all layers; while a token is added, one layer's are there twice.
    cache = 2 * (text.num_hidden_layers + 1) * text.num_key_value_heads * text.head_dim * tokens
    # In a layer at once: input, normed, queries, keys, values, attention's output; or the feed-forward's inner tensors.
    encoder = positions * (6 * audio.hidden_size + 2 * audio.intermediate_size)
    decoder = prompt * (6 * text.hidden_size + 3 * text.intermediate_size) + 3 * text.vocab_size
    return round(batch_size * dtype.itemsize * (cache + ROOM * max(encoder, decoder)))

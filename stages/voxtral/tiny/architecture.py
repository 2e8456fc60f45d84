"""The tiny Voxtral: the same classes and processor as the 3B model, about two and a half million parameters.

Its tokenizer is the front of the vocabulary that mistral-common ships, with Voxtral's special tokens at Voxtral's ids.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import mistral_common
import torch
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from torch import nn
from transformers import AutoProcessor, VoxtralConfig, VoxtralForConditionalGeneration, WhisperFeatureExtractor

POSITIONS_PER_S = 50
AUDIO_TOKENS_PER_S = 12.5
SPECIAL_TOKENS = 40
# Voxtral's ids beyond the twenty classic ones of mistral-common; the rest of the forty are fillers.
AUDIO_SPECIAL_TOKENS = {24: "[AUDIO]", 25: "[BEGIN_AUDIO]", 34: "[TRANSCRIBE]"}


@dataclass(frozen=True)
class Architecture:
    """The sizes of a small Voxtral."""

    window_s: int  # an even number: the encoder's 50 positions a second are taken four by four
    width: int  # of encoder and decoder
    encoder_layers: int
    decoder_layers: int
    tokens: int  # of the vocabulary before the special ones: every byte, then the most frequent merges
    max_positions: int
    heads: int = 4

    @property
    def vocabulary_size(self) -> int:
        return self.tokens + SPECIAL_TOKENS


TINY = Architecture(window_s=4, width=160, encoder_layers=4, decoder_layers=2, tokens=256 + 536, max_positions=1024)


def write_processor(folder: Path, size: Architecture = TINY) -> AutoProcessor:
    """Write tokenizer, feature extractor and configuration into `folder`, and load them as a VoxtralProcessor."""
    folder.mkdir(parents=True, exist_ok=True)
    full = json.loads((Path(mistral_common.__file__).parent / "data" / "tekken_240911.json").read_text())
    special_tokens = [dict(token) for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS]
    for rank in range(len(special_tokens), SPECIAL_TOKENS):
        name = AUDIO_SPECIAL_TOKENS.get(rank, f"<SPECIAL_{rank}>")
        special_tokens.append({"rank": rank, "token_str": name, "is_control": True})
    tokenizer = {
        "config": {
            "pattern": full["config"]["pattern"],
            "num_vocab_tokens": size.tokens,
            "default_vocab_size": size.vocabulary_size,
            "default_num_special_tokens": SPECIAL_TOKENS,
            "version": "v7",
        },
        "vocab": full["vocab"][: size.tokens],
        "special_tokens": special_tokens,
        "audio": {
            "sampling_rate": 16000,
            "frame_rate": AUDIO_TOKENS_PER_S,
            "audio_encoding_config": {"num_mel_bins": 128, "hop_length": 160, "window_size": 400},
            "chunk_length_s": float(size.window_s),
        },
    }
    (folder / "tekken.json").write_text(json.dumps(tokenizer, indent=0))
    extractor = WhisperFeatureExtractor(
        feature_size=128, chunk_length=size.window_s, processor_class="VoxtralProcessor"
    )
    extractor.save_pretrained(folder)
    config(size).save_pretrained(folder)
    return AutoProcessor.from_pretrained(folder)


def config(size: Architecture = TINY) -> VoxtralConfig:
    return VoxtralConfig(
        audio_config={
            "hidden_size": size.width,
            "intermediate_size": 4 * size.width,
            "num_hidden_layers": size.encoder_layers,
            "num_attention_heads": size.heads,
            "max_source_positions": size.window_s * POSITIONS_PER_S,
            "num_mel_bins": 128,
            "vocab_size": size.vocabulary_size,
        },
        text_config={
            "vocab_size": size.vocabulary_size,
            "hidden_size": size.width,
            "intermediate_size": 3 * size.width,
            "num_hidden_layers": size.decoder_layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.heads,
            "head_dim": size.width // size.heads,
            "max_position_embeddings": size.max_positions,
            "rope_theta": 10_000.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 11,
        },
        audio_token_id=24,
        projector_hidden_act="gelu",
    )


def untrained_model(seed: int, size: Architecture = TINY) -> VoxtralForConditionalGeneration:
    """A model with random weights at a scale it can learn from.

    With the library's default standard deviation (0.02) a model this narrow stays at chance: the signal dies on its
    way through. Weights get 1 / sqrt(fan in), and the encoder's positions, which are never trained, are sinusoids
    (as in Whisper) small enough not to drown the sound.
    """
    torch.manual_seed(seed)
    model = VoxtralForConditionalGeneration(config(size))
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
    positions = model.model.audio_tower.embed_positions.weight
    positions.data.copy_(0.3 * sinusoids(*positions.shape))
    model.generation_config.bos_token_id = 1
    model.generation_config.eos_token_id = 2
    model.generation_config.pad_token_id = 11
    return model


def sinusoids(length: int, channels: int) -> torch.Tensor:
    """Position table [length, channels] of Vaswani et al. 2017, section 3.5, sines first, then cosines (as Whisper)."""
    rates = torch.exp(-math.log(10_000) / (channels // 2 - 1) * torch.arange(channels // 2))
    angles = torch.arange(length)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)

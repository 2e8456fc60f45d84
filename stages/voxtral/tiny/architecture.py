"""The tiny Voxtral: the same classes and processor as the 3B model, about two and a half million parameters.

Its tokenizer is the front of the vocabulary that mistral-common ships, with Voxtral's special tokens at Voxtral's ids.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import mistral_common
import torch
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from torch import nn
from transformers import AutoProcessor, VoxtralConfig, VoxtralForConditionalGeneration, WhisperFeatureExtractor

WINDOW_S = 4  # an even number of seconds: the encoder's 50 positions a second are taken four by four
POSITIONS_PER_S = 50
AUDIO_TOKENS_PER_S = 12.5
WIDTH = 160
ENCODER_LAYERS = 4
DECODER_LAYERS = 2
HEADS = 4
BYTES_AND_MERGES = 256 + 536  # every byte, then the most frequent merges
SPECIAL_TOKENS = 40
# Voxtral's ids beyond the twenty classic ones of mistral-common; the rest of the forty are fillers.
AUDIO_SPECIAL_TOKENS = {24: "[AUDIO]", 25: "[BEGIN_AUDIO]", 34: "[TRANSCRIBE]"}


def write_tokenizer(folder: Path) -> None:
    """Write `tekken.json` into `folder`."""
    full = json.loads((Path(mistral_common.__file__).parent / "data" / "tekken_240911.json").read_text())
    special_tokens = [dict(token) for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS]
    for rank in range(len(special_tokens), SPECIAL_TOKENS):
        name = AUDIO_SPECIAL_TOKENS.get(rank, f"<SPECIAL_{rank}>")
        special_tokens.append({"rank": rank, "token_str": name, "is_control": True})
    vocabulary_size = BYTES_AND_MERGES + SPECIAL_TOKENS
    tokenizer = {
        "config": {
            "pattern": full["config"]["pattern"],
            "num_vocab_tokens": BYTES_AND_MERGES,
            "default_vocab_size": vocabulary_size,
            "default_num_special_tokens": SPECIAL_TOKENS,
            "version": "v7",
        },
        "vocab": full["vocab"][:BYTES_AND_MERGES],
        "special_tokens": special_tokens,
        "audio": {
            "sampling_rate": 16000,
            "frame_rate": AUDIO_TOKENS_PER_S,
            "audio_encoding_config": {"num_mel_bins": 128, "hop_length": 160, "window_size": 400},
            "chunk_length_s": float(WINDOW_S),
        },
    }
    (folder / "tekken.json").write_text(json.dumps(tokenizer, indent=0))


def write_processor(folder: Path) -> AutoProcessor:
    """Write tokenizer and feature extractor into `folder` and load them as a VoxtralProcessor."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=WINDOW_S, processor_class="VoxtralProcessor")
    extractor.save_pretrained(folder)
    config().save_pretrained(folder)
    return AutoProcessor.from_pretrained(folder)


def config() -> VoxtralConfig:
    """Sizes of the tiny model."""
    vocabulary_size = BYTES_AND_MERGES + SPECIAL_TOKENS
    return VoxtralConfig(
        audio_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": ENCODER_LAYERS,
            "num_attention_heads": HEADS,
            "max_source_positions": WINDOW_S * POSITIONS_PER_S,
            "num_mel_bins": 128,
            "vocab_size": vocabulary_size,
        },
        text_config={
            "vocab_size": vocabulary_size,
            "hidden_size": WIDTH,
            "intermediate_size": 3 * WIDTH,
            "num_hidden_layers": DECODER_LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "head_dim": WIDTH // HEADS,
            "max_position_embeddings": 1024,
            "rope_theta": 10_000.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 11,
        },
        audio_token_id=24,
        projector_hidden_act="gelu",
    )


def untrained_model(seed: int) -> VoxtralForConditionalGeneration:
    """A model with random weights at a scale it can learn from.

    With the library's default standard deviation (0.02) a model this narrow stays at chance: the signal dies on its
    way through. Weights get 1 / sqrt(fan in), and the encoder's positions, which are never trained, are sinusoids
    (as in Whisper) small enough not to drown the sound.
    """
    torch.manual_seed(seed)
    model = VoxtralForConditionalGeneration(config())
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

"""What the benchmarks run on: models of three sizes with random weights, and prepared clips of a real speaker."""

from __future__ import annotations

import csv
import hashlib
import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import mistral_common
import soundfile
import torch
from transformers import VoxtralConfig, VoxtralForConditionalGeneration, WhisperFeatureExtractor

from stages.speech import audio
from stages.speech.clips import Clip
from stages.voxtral.loading import device_name
from stages.voxtral.tiny import pretrain
from tests.workspaces import SPEECH, TINY_MODEL

SIZES = ("tiny", "middle", "3b")
# Of the tiny model's configuration, what the middle one has larger.
MIDDLE_ENCODER = {"hidden_size": 256, "intermediate_size": 1024, "max_source_positions": 1500, "vocab_size": 8256}
MIDDLE_DECODER = {
    "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "head_dim": 64,
    "max_position_embeddings": 4096, "vocab_size": 8256,
}  # fmt: skip
MIDDLE_TOKENS = 8256 - 40  # without the special ones
FULL_TOKENS = 130_000  # of the 3B model's vocabulary, which has some more


def make_model(size: str, folder: Path) -> Path:
    """A model folder with random weights: nothing here depends on what a model has learned."""
    shutil.copytree(TINY_MODEL, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((TINY_MODEL / "config.json").read_text())
    if size == "3b":
        _widen_processor(folder, FULL_TOKENS)
        full = VoxtralConfig(audio_token_id=config["audio_token_id"])  # the published one is the library's default
        with torch.device("meta"):
            model = VoxtralForConditionalGeneration._from_config(full, dtype=torch.bfloat16)
        _fill(model.to_empty(device="cpu"))
    else:
        if size == "middle":
            _widen_processor(folder, MIDDLE_TOKENS)
            config["audio_config"] |= MIDDLE_ENCODER
            config["text_config"] |= MIDDLE_DECODER
        model = pretrain.untrained_model(VoxtralConfig.from_dict(config), seed=0)
    model.save_pretrained(folder)
    return folder


def _fill(model: torch.nn.Module) -> None:
    """The same million random weights again and again: drawing 4.7 billion takes a CPU minutes."""
    drawn = 0.02 * torch.randn(2**20, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    for weights in model.state_dict().values():
        for part in weights.view(-1).split(len(drawn)):
            part.copy_(drawn[: len(part)])


def _widen_processor(folder: Path, tokens: int) -> None:
    """Windows of 30 s, and so many tokens of the vocabulary that mistral-common ships."""
    extractor = WhisperFeatureExtractor(feature_size=128, processor_class="VoxtralProcessor")
    extractor.save_pretrained(folder)
    full = json.loads((Path(mistral_common.__file__).parent / "data" / "tekken_240911.json").read_text())
    tokenizer = json.loads((folder / "tekken.json").read_text())
    tokenizer["vocab"] = full["vocab"][:tokens]
    tokenizer["config"] |= {"num_vocab_tokens": tokens, "default_vocab_size": tokens + 40}
    tokenizer["audio"]["chunk_length_s"] = 30.0
    (folder / "tekken.json").write_text(json.dumps(tokenizer))


def make_clips(folder: Path, count: int) -> list[Clip]:
    """`count` clips in `folder` as prepare writes them; beyond the recordings that there are, the same, softer."""
    with (SPEECH / "kathleen/transcripts.csv").open() as file:
        rows = list(csv.DictReader(file))
    clips = []
    for number in range(count):
        row = rows[number % len(rows)]
        content = (SPEECH / "kathleen" / row["file"]).read_bytes()
        samples = audio.to_mono_16k(*audio.decode(content)) * 0.9 ** (number // len(rows))
        name = f"{number}.flac"
        soundfile.write(folder / name, samples, audio.SAMPLE_RATE_HZ)
        clip_id = hashlib.sha256(f"{number}".encode()).hexdigest()[:16]
        clip = Clip(
            id=clip_id, audio_path=str(folder / name), text=row["text"], language="en", source="kathleen",
            recorded_file=row["file"],
            duration_s=len(samples) / audio.SAMPLE_RATE_HZ, peak_dbfs=-3, level_dbfs=-20, snr_db=30, clipped_fraction=0,
        )  # fmt: skip
        clips.append(clip)
    return clips


def machine() -> str:
    """The machine and the versions that a table of figures belongs to."""
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers", "peft"))
    where = device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} cores ({platform.machine()})"
    return f"{where}; Python {platform.python_version()}, {versions}"

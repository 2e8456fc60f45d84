"""Base and tuned model together, for "Try it": loaded once, asked as the evaluation asks, by the same functions.

The adapter is switched on and off instead of merged, so that base and tuned model share one copy of the weights.
"""

from __future__ import annotations

import contextlib
import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from stages.common import paths
from stages.common.files import read_json
from stages.common.params import ModelParams, load_params
from stages.common.stage import UserError
from stages.speech import audio
from stages.speech.clips import Clip
from stages.voxtral.collation import Collator
from stages.voxtral.loading import enough_memory, find_model
from stages.voxtral.models import BEST, check_base, is_adapter, open_model, open_tuned
from stages.voxtral.precision import evaluated_precision
from stages.voxtral.transcription import transcribe

TRAINING = paths.CHECKPOINTS / "training.json"
MEMORY_REMEDY = "close other programs that use the GPU, or wait until the training has ended"


@dataclass(frozen=True)
class Models:
    """Base and tuned model, one and the same object if an adapter tunes it; tuned None: nothing is trained yet."""

    base: nn.Module
    tuned: nn.Module | None
    collator: Collator
    name: str


@functools.cache
def models() -> Models:
    """The models of data/checkpoints, or the base model of params.yaml if nothing is trained yet.

    Raises: UserError if a model is missing, is not the one that the tuned one was trained from, or needs more memory.
    """
    params = load_params()
    training = read_json(TRAINING) if TRAINING.exists() else None
    source = find_model(base_of(training, params.model) if training else params.model)
    if training:
        check_base(source)
    precision = evaluated_precision(params)
    with enough_memory(MEMORY_REMEDY):
        base, collator = open_model(source, precision.dtype, precision.four_bit)
        tuned = open_tuned(BEST, base, precision.dtype, precision.four_bit) if training else None
    if training and is_adapter(BEST):
        base = tuned
    return Models(base, tuned, collator, source.name)


def base_of(training: dict, params: ModelParams) -> ModelParams:
    """The base model that a training names, whatever params.yaml has been changed to since.

    Of a folder elsewhere on this machine it names the last part alone; params.yaml still knows the way there.
    """
    name, revision = training["base_model"], training["settings"]["model"]["revision"]
    folder = Path(params.name)
    if folder.is_dir() and folder.resolve().name == name:
        name = params.name
    return ModelParams(name=name, revision=revision, dtype=params.dtype)


def transcribe_both(models: Models, content: bytes, language: str | None) -> dict:
    """What both models hear in a sound file, as the fields of listener.Answer.

    Raises: UserError if the content is not a sound, or is longer than the model reads at once.
    """
    began_s = time.monotonic()
    try:
        samples, sample_rate_hz = audio.decode(content)
    except audio.UnreadableSound as error:
        raise UserError(f"This recording cannot be read ({error}).") from None
    mono = audio.to_mono_16k(samples, sample_rate_hz, "mix")  # nothing is learned from it
    figures = {**audio.measure(mono), "clipped_fraction": audio.clipped_fraction(samples)}
    clip = Clip(
        id="recording",
        audio_path="recording.flac",
        text="",
        language=language,
        source="try it",
        recorded_file="recording",
        **figures,
    )
    prepared, _ = audio.decode(audio.encode_flac(mono))  # rounded as prepare writes it
    collator = replace(models.collator, samples_of=lambda _: prepared[:, 0])
    try:
        collator.check_lengths([clip])
    except UserError:
        raise UserError(f"{clip.duration_s:.0f} seconds are too long for the model. Say less at a time.") from None
    with enough_memory(MEMORY_REMEDY):
        with models.base.disable_adapter() if models.base is models.tuned else contextlib.nullcontext():
            [base] = transcribe(models.base, collator, [clip], batch_size=1)
        tuned = transcribe(models.tuned, collator, [clip], batch_size=1)[0] if models.tuned else None
    seconds = round(time.monotonic() - began_s, 2)
    return {"base": base, "tuned": tuned, "seconds": seconds, "model": models.name}

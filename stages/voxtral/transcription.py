"""Greedy transcription in batches: the same way for validation, evaluation and everything else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from tqdm import tqdm

from stages.speech.clips import Clip
from stages.voxtral.prompts import Prompter, max_new_tokens


@torch.inference_mode()
def transcribe(
    model: nn.Module, prompter: Prompter, clips: Sequence[Clip], batch_size: int, progress: str | None = None
) -> list[str]:
    """What the model hears in each clip, in the order given.

    progress: title of a progress bar; None shows none.
    """
    was_training = model.training
    model.eval()
    texts: dict[int, str] = {}
    # Longest first: clips of like length share a batch, and a batch too big for the memory fails at once.
    order = sorted(range(len(clips)), key=lambda index: -clips[index].duration_s)
    with tqdm(total=len(clips), desc=progress, unit="clip", disable=progress is None) as bar:
        for indices in _in_batches(order, batch_size):
            batch = [clips[index] for index in indices]
            texts.update(zip(indices, _transcribe_batch(model, prompter, batch), strict=True))
            bar.update(len(batch))
    model.train(was_training)
    return [texts[index] for index in range(len(clips))]


def strip_language_tag(text: str) -> str:
    """A prompt without a language lets the model name it first, as plain text: `lang:de`."""
    return re.sub(r"^\s*lang:[a-z]{2}\s*", "", text).strip()


def _transcribe_batch(model: nn.Module, prompter: Prompter, clips: Sequence[Clip]) -> list[str]:
    inputs = prompter.transcription_batch(clips)
    prompt_length = inputs["input_ids"].shape[1]
    parameter = next(model.parameters())
    inputs = {name: tensor.to(parameter.device) for name, tensor in inputs.items()}
    generated = model.generate(
        **inputs,
        max_new_tokens=max_new_tokens(max(clip.duration_s for clip in clips)),
        do_sample=False,
        num_beams=1,
        eos_token_id=prompter.sizes.eos_token_id,
        pad_token_id=prompter.sizes.pad_token_id,
    )
    # Each clip is cut at its own length, so that its transcript does not depend on the others of its batch.
    transcripts = [
        row[: max_new_tokens(clip.duration_s)].tolist()
        for row, clip in zip(generated[:, prompt_length:], clips, strict=True)
    ]
    return [strip_language_tag(text) for text in prompter.processor.batch_decode(transcripts, skip_special_tokens=True)]


def _in_batches(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]

"""Greedy transcription in batches, the same for validation, evaluation and everything else."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import nn
from tqdm import tqdm
from transformers import StoppingCriteria

from stages.speech.clips import Clip
from stages.voxtral import processes
from stages.voxtral.collation import Collator, max_new_tokens


class OwnLimits(StoppingCriteria):
    """Ends each clip at its own limit, so that one that repeats itself does not hold up the batch."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = torch.tensor(lengths, device=device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        return input_ids.shape[1] >= self.lengths


@torch.inference_mode()
def transcribe(
    model: nn.Module,
    collator: Collator,
    clips: Sequence[Clip],
    batch_size: int,
    progress: str | None = None,
) -> list[str]:
    """The transcript of each clip, in the order given; the processes share the work.

    progress: title of a progress bar; None for no bar.
    """
    was_training = model.training
    model.eval()
    texts: dict[int, str] = {}
    # Longest first: clips of similar length share a batch, and a batch too big for the memory fails at once.
    order = sorted(range(len(clips)), key=lambda index: -clips[index].duration_s)
    own = processes.own_batches(order, batch_size, model)
    hidden = progress is None or not processes.is_main()
    with tqdm(total=len(processes.shard(order)), desc=progress, unit="clip", disable=hidden) as bar:
        for indices, counts in own:
            batch = _transcribe_batch(model, collator, [clips[index] for index in indices])
            if counts:
                texts.update(zip(indices, batch, strict=True))
                bar.update(len(indices))
    model.train(was_training)
    texts = processes.gather(texts)
    return [texts[index] for index in range(len(clips))]


def strip_language_tag(text: str) -> str:
    """Without a language in the prompt, the model writes it first, as plain text: `lang:de`."""
    return re.sub(r"^\s*lang:[a-z]{2}\s*", "", text).strip()


def _transcribe_batch(model: nn.Module, collator: Collator, clips: Sequence[Clip]) -> list[str]:
    inputs = collator.transcription_batch(clips)
    prompt_length = inputs["input_ids"].shape[1]
    device = next(model.parameters()).device
    inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
    limits = [max_new_tokens(clip.duration_s) for clip in clips]
    generated = model.generate(
        **inputs,
        max_new_tokens=max(limits),
        stopping_criteria=[OwnLimits([prompt_length + limit for limit in limits], device)],
        do_sample=False,
        num_beams=1,
        eos_token_id=collator.sizes.eos_token_id,
        pad_token_id=collator.sizes.pad_token_id,
        # A sharded model is run by all processes until the last one's clips have ended.
        synced_gpus=processes.is_sharded(model),
    )
    transcripts = generated[:, prompt_length:].tolist()
    return [strip_language_tag(text) for text in collator.processor.batch_decode(transcripts, skip_special_tokens=True)]

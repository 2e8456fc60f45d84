"""Greedy transcription in batches, the same for validation, evaluation and everything else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from tqdm import tqdm
from transformers import LogitsProcessor, StoppingCriteria

from stages.speech.clips import Clip
from stages.voxtral import processes
from stages.voxtral.collation import Collator, max_new_tokens


@dataclass(frozen=True)
class Transcript:
    """What a model heard in a clip: the text, its tokens with the end token (unless cut), and each token's logit."""

    text: str
    tokens: list[int]
    logits: list[float]


class HighestLogits(LogitsProcessor):
    """Remembers the highest logit of each step [B], which is that of the token chosen."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.steps.append(scores.max(dim=-1).values)
        return scores


class OwnLimits(StoppingCriteria):
    """Ends each clip at its own limit, so that one that repeats itself does not hold up the batch."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = torch.tensor(lengths, device=device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        return input_ids.shape[1] >= self.lengths


def transcribe(
    model: nn.Module,
    collator: Collator,
    clips: Sequence[Clip],
    batch_size: int,
    progress: str | None = None,
) -> list[str]:
    """The text of each clip, as transcripts_of."""
    return [heard.text for heard in transcripts_of(model, collator, clips, batch_size, progress)]


@torch.inference_mode()
def transcripts_of(
    model: nn.Module,
    collator: Collator,
    clips: Sequence[Clip],
    batch_size: int,
    progress: str | None = None,
) -> list[Transcript]:
    """The transcript of each clip, in the order given; the processes share the work.

    progress: title of a progress bar; None for no bar.
    """
    was_training = model.training
    model.eval()
    heard: dict[int, Transcript] = {}
    # Longest first: clips of similar length share a batch, and a batch too big for the memory fails at once.
    order = sorted(range(len(clips)), key=lambda index: -clips[index].duration_s)
    own = processes.own_batches(order, batch_size, model)
    hidden = progress is None or not processes.is_main()
    with tqdm(total=len(processes.shard(order)), desc=progress, unit="clip", disable=hidden) as bar:
        for indices, counts in own:
            batch = _transcribe_batch(model, collator, [clips[index] for index in indices])
            if counts:
                heard.update(zip(indices, batch, strict=True))
                bar.update(len(indices))
    model.train(was_training)
    heard = processes.gather(heard)
    return [heard[index] for index in range(len(clips))]


@torch.inference_mode()
def logits_of(model: nn.Module, collator: Collator, clip: Clip, tokens: Sequence[int]) -> list[float]:
    """The logit of each of these tokens [K] after the clip's prompt and the tokens before it, in one forward pass."""
    features = collator.features(clip)
    prompt = collator.prompt_ids(len(features), clip.language)
    device = next(model.parameters()).device
    given = torch.tensor([[*prompt, *tokens]], device=device)
    kept = len(tokens) + 1  # the position before a token is the one that predicts it
    logits = model(input_ids=given, input_features=features.to(device), logits_to_keep=kept, use_cache=False).logits
    return logits[0, :-1].float().gather(1, given[0, -len(tokens) :, None])[:, 0].tolist()


def text_of(collator: Collator, tokens: Sequence[int]) -> str:
    """Tokens as text, without special ones and without a language tag."""
    return strip_language_tag(collator.processor.decode(tokens, skip_special_tokens=True))


def strip_language_tag(text: str) -> str:
    """Without a language in the prompt, the model writes it first, as plain text: `lang:de`."""
    return re.sub(r"^\s*lang:[a-z]{2}\s*", "", text).strip()


def _transcribe_batch(model: nn.Module, collator: Collator, clips: Sequence[Clip]) -> list[Transcript]:
    inputs = collator.transcription_batch(clips)
    prompt_length = inputs["input_ids"].shape[1]
    device = next(model.parameters()).device
    inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
    limits = [max_new_tokens(clip.duration_s) for clip in clips]
    highest = HighestLogits()
    generated = model.generate(
        **inputs,
        max_new_tokens=max(limits),
        stopping_criteria=[OwnLimits([prompt_length + limit for limit in limits], device)],
        logits_processor=[highest],
        do_sample=False,
        num_beams=1,
        eos_token_id=collator.sizes.eos_token_id,
        pad_token_id=collator.sizes.pad_token_id,
        # A sharded model is run by all processes until the last one's clips have ended.
        synced_gpus=processes.is_sharded(model),
    )
    logits = torch.stack(highest.steps, dim=1).tolist()
    transcripts = []
    for row, tokens in enumerate(generated[:, prompt_length:].tolist()):
        tokens = tokens[: limits[row]]
        if collator.sizes.eos_token_id in tokens:  # padding follows
            tokens = tokens[: tokens.index(collator.sizes.eos_token_id) + 1]
        transcripts.append(Transcript(text_of(collator, tokens), tokens, logits[row][: len(tokens)]))
    return transcripts

"""From clips to the model's input: transcription prompts, log-mel windows, labels.

Shapes: B clips, W windows (a clip has as many as it has started windows of sound), S tokens.

A prompt is `<s>[INST][BEGIN_AUDIO][AUDIO]...[/INST]lang:xx[TRANSCRIBE]`, with as many [AUDIO] as the clip's windows
give; the transcript and the end token follow. Token ids come from mistral-common's encoder, features from the
processor's feature extractor: both equal those of `VoxtralProcessor.apply_transcription_request`
(tests/test_collation.py), without its detour over WAV files in memory.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
from mistral_common.protocol.transcription.request import TranscriptionRequest
from torch import nn
from transformers import VoxtralProcessor

from stages.common import paths
from stages.common.stage import UserError
from stages.speech import augment
from stages.speech.clips import Clip
from stages.speech.prepared import SAMPLE_RATE_HZ, read_prepared
from stages.voxtral.loading import Sizes

# No speech is denser: 6 words a second, 4 tokens a word. Ends a transcript that repeats itself.
MAX_TOKENS_PER_S = 24
SPARE_TOKENS = 16
IGNORED = -100  # label of a position without a loss, as in torch's cross entropy


def prepared_samples(clip: Clip) -> np.ndarray:
    """A clip's sound in data/prepared, samples [frames] at 16 kHz."""
    return read_prepared(paths.PREPARED / clip.audio_path)


@dataclass(frozen=True)
class Collator:
    """Makes model inputs from clips, whose samples [frames] at 16 kHz `samples_of` gives."""

    processor: VoxtralProcessor
    sizes: Sizes
    samples_of: Callable[[Clip], np.ndarray] = prepared_samples

    def features(self, clip: Clip) -> torch.Tensor:
        """Log-mel windows [W, bins, frames] of a clip, padded with silence to whole windows.

        A variant has as many windows as its clip, so that `check_lengths` holds for it.
        """
        samples = self.samples_of(clip)
        if not isinstance(clip, augment.Variant):
            return self.features_of(samples)
        windows = max(1, math.ceil(len(samples) / self.sizes.window_samples))
        changed = augment.change_sound(samples, clip, longest=windows * self.sizes.window_samples)
        mel = self.features_of(changed).transpose(0, 1).flatten(1)
        hop = self.processor.feature_extractor.hop_length
        augment.mask(mel[:, : math.ceil(len(changed) / hop)].numpy(), clip, frames_per_s=SAMPLE_RATE_HZ / hop)
        return mel.unflatten(1, (-1, self.sizes.window_frames)).transpose(0, 1)

    def features_of(self, samples: np.ndarray) -> torch.Tensor:
        """Log-mel windows [W, bins, frames] of samples [frames] at 16 kHz.

        Only the sound itself is transformed: every frame of the silence behind it is like the first that hears no
        sound (tests/test_collation.py), and most of a window is silence.
        """
        extractor = self.processor.feature_extractor
        windows = max(1, math.ceil(len(samples) / self.sizes.window_samples))
        silence = np.zeros(extractor.n_fft + 2 * extractor.hop_length, dtype=samples.dtype)
        heard = np.concatenate([samples, silence])[: windows * self.sizes.window_samples]
        extracted = extractor(
            heard, sampling_rate=SAMPLE_RATE_HZ, padding=False, truncation=False, return_tensors="pt"
        )["input_features"]
        behind = windows * self.sizes.window_frames - extracted.shape[2]
        extracted = nn.functional.pad(extracted, (0, behind), mode="replicate")
        return extracted.reshape(extracted.shape[1], windows, self.sizes.window_frames).transpose(0, 1)

    def prompt_ids(self, windows: int, language: str | None) -> list[int]:
        """Token ids of the prompt for a clip of `windows` windows."""
        return list(_prompt_ids(self.processor, windows * self.sizes.window_samples, language))

    def target_ids(self, text: str) -> list[int]:
        """Token ids of a transcript and the end token, which teaches the model to stop."""
        tokenizer = self.processor.tokenizer.tokenizer.instruct_tokenizer.tokenizer
        return tokenizer.encode(text, bos=False, eos=True)

    def windows_in(self, clip: Clip) -> int:
        return max(1, math.ceil(round(clip.duration_s * SAMPLE_RATE_HZ) / self.sizes.window_samples))

    def check_lengths(self, clips: Sequence[Clip]) -> None:
        """Raises: UserError naming the first clip whose prompt and transcript are longer than the model reads.

        A transcript is never cut: the model would learn to stop early.
        """
        for clip in clips:
            prompt = self.prompt_ids(self.windows_in(clip), clip.language)
            length = len(prompt) + max(len(self.target_ids(clip.text)), max_new_tokens(clip.duration_s))
            if length > self.sizes.max_positions:
                raise UserError(
                    f"clip {clip.id} ({clip.recorded_file}) makes {length} tokens, the model reads at most "
                    f"{self.sizes.max_positions}: cut the recording into shorter ones"
                )

    def transcription_batch(self, clips: Sequence[Clip]) -> dict[str, torch.Tensor]:
        """Prompts for generation: input_ids and attention_mask [B, S] (padded left), input_features [sum W, ...]."""
        features = [self.features(clip) for clip in clips]
        prompts = [self.prompt_ids(len(part), clip.language) for part, clip in zip(features, clips, strict=True)]
        longest = max(map(len, prompts))
        input_ids = torch.full((len(clips), longest), self.sizes.pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        for row, prompt in enumerate(prompts):
            input_ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            attention_mask[row, longest - len(prompt) :] = 1
        return {"input_ids": input_ids, "attention_mask": attention_mask, "input_features": torch.cat(features)}

    def training_batch(self, clips: Sequence[Clip]) -> dict[str, torch.Tensor | int]:
        """Prompts with their transcripts, [B, S], padded right; labels [B, K] of the last K positions.

        Nothing attends to padding on the right, so no mask is needed and attention takes its fastest path.
        `logits_to_keep` is K: the model computes no logits before the first position that has a label. Labels are
        masked by length, not by the padding id: every token of transcript and end counts, and nothing else.
        """
        features = [self.features(clip) for clip in clips]
        prompts = [self.prompt_ids(len(part), clip.language) for part, clip in zip(features, clips, strict=True)]
        targets = [self.target_ids(clip.text) for clip in clips]
        longest = max(len(prompt) + len(target) for prompt, target in zip(prompts, targets, strict=True))
        input_ids = torch.full((len(clips), longest), self.sizes.pad_token_id)
        labels = torch.full_like(input_ids, IGNORED)
        for row, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
            end = len(prompt) + len(target)
            input_ids[row, :end] = torch.tensor([*prompt, *target])
            labels[row, len(prompt) : end] = torch.tensor(target)
        kept = longest - min(map(len, prompts)) + 1  # the position before a token is the one that predicts it
        return {
            "input_ids": input_ids,
            "input_features": torch.cat(features),
            "labels": labels[:, -kept:],
            "logits_to_keep": kept,
            "use_cache": False,  # of keys and values: only generation reads it
        }


def max_new_tokens(duration_s: float) -> int:
    """Most tokens of a transcript of this much sound."""
    return math.ceil(MAX_TOKENS_PER_S * duration_s) + SPARE_TOKENS


@functools.lru_cache(maxsize=256)
def _prompt_ids(processor: VoxtralProcessor, samples: int, language: str | None) -> tuple[int, ...]:
    """mistral-common encodes a request with sound; the ids depend on its length alone, so silence serves."""
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(samples, dtype=np.float32), SAMPLE_RATE_HZ, format="WAV")
    request = TranscriptionRequest(audio=silence.getvalue(), language=language)
    return tuple(processor.tokenizer.tokenizer.encode_transcription(request).tokens)

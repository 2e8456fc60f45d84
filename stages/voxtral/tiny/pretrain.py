"""Train the tiny base model from nothing, on speech synthesised by speech.py.

    python -m stages.voxtral.tiny.pretrain --output data/demo/voxtral-tiny

Its configuration and tokenizer are taken from data/demo/voxtral-tiny: the same classes and processor as the 3B model,
two and a half million parameters, the front of the vocabulary that mistral-common ships, with Voxtral's special tokens
at Voxtral's ids.

Everything is drawn from a seed; learning rate and curriculum follow the clock, so that training takes the given time
(two CPU cores: 72 minutes; a GPU: a few). tests/test_tiny.py measures the word error rate afterwards. Three things make
this small model learn quickly:

- a second loss on the encoder: which phoneme sounds at each position, as the synthesiser says. With it the encoder
  learns in minutes instead of hours; its head is thrown away;
- a curriculum: single words first, then short sentences, then all of them;
- augmentation of the log-mel spectrogram in one batched resampling (time, vocal tract length, position) and a few sums
  (level, microphone, noise), which takes hardly any time.

Shapes: B clips, T mel frames (100 a second), P encoder positions (50 a second), S text tokens.
"""

from __future__ import annotations

import argparse
import functools
import math
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoProcessor, VoxtralConfig, VoxtralForConditionalGeneration, WhisperFeatureExtractor
from transformers.audio_utils import hertz_to_mel, mel_to_hertz

from stages.voxtral.tiny import speech

FOLDER = Path("data/demo/voxtral-tiny")
WINDOW_S = 4
FRAMES_PER_S = 100
LOG_FLOOR = -10.0  # log10 of the smallest power in Whisper's features
SENTENCES_PER_JOB = 250
SHORT_WINDOW_S = 2
UTTERANCES = 40_000
BATCH_SIZE = 48
PEAK_LEARNING_RATE = 2e-3
SEED = 0
IGNORED = -100
MOST_PHONEMES = 200


@dataclass
class Utterance:
    """`power`: log10 mel power above LOG_FLOOR [128, T], float16; `phonemes`: class of each frame [T], IGNORED if
    unknown; `tokens`: of the transcript, end included."""

    text: str
    power: torch.Tensor
    phonemes: np.ndarray
    tokens: list[int]

    @property
    def duration_s(self) -> float:
        return self.power.shape[1] / FRAMES_PER_S


def mel_power(samples: np.ndarray) -> np.ndarray:
    """log10 mel power above LOG_FLOOR [128, T], float16: Whisper's features before scaling by the clip's maximum."""
    filters = torch.from_numpy(WhisperFeatureExtractor(feature_size=128).mel_filters).float()
    stft = torch.stft(torch.from_numpy(samples), 400, 160, window=torch.hann_window(400), return_complex=True)
    power = filters.T @ stft[..., :-1].abs() ** 2
    return (power.clamp(min=10**LOG_FLOOR).log10() - LOG_FLOOR).half().numpy()


def synthesise_many(seed: int) -> list[tuple[str, np.ndarray, list | None]]:
    """SENTENCES_PER_JOB, each in a voice of its own: (text, log10 mel power above LOG_FLOOR, phonemes and starts)."""
    torch.set_num_threads(1)
    rng = random.Random(seed)
    words = speech.words_of_the_grammar()
    utterances: list[tuple[str, np.ndarray, list | None]] = []
    while len(utterances) < SENTENCES_PER_JOB:
        kind = rng.random()
        if kind < 0.4:
            text = speech.random_digits(rng)
        elif kind < 0.5:
            text = rng.choice(words)
        else:
            text = speech.random_command(rng)
        if speech.is_held_out(text):
            continue
        samples, phonemes = speech.synthesise(text, speech.random_voice(rng))
        if len(samples) <= (WINDOW_S - 0.1) * speech.SAMPLE_RATE_HZ:
            utterances.append((text, mel_power(samples), phonemes))
    return utterances


def make_corpus() -> list[tuple[str, np.ndarray, list | None]]:
    """`synthesise_many` over all cores."""
    jobs = UTTERANCES // SENTENCES_PER_JOB
    seeds = [(SEED + 2) * 100_000 + job for job in range(jobs)]
    with ProcessPoolExecutor() as pool:
        parts = list(tqdm(pool.map(synthesise_many, seeds), total=jobs, desc="synthesise"))
    return [utterance for part in parts for utterance in part]


def frame_classes(phonemes: list | None, frames: int, classes: dict[str, int]) -> np.ndarray:
    """The class of the phoneme that sounds at each mel frame [T]."""
    if phonemes is None:
        return np.full(frames, IGNORED)
    labels = np.zeros(frames, dtype=np.int64)
    for start_s, phoneme in phonemes:
        labels[max(round(start_s * FRAMES_PER_S), 0) :] = classes.get(phoneme, 0)
    return labels


@functools.cache
def hz_of_bins() -> np.ndarray:
    """Centres of the mel filters, evenly spaced on the scale that Whisper's filters use."""
    edges_mel = np.linspace(*hertz_to_mel(np.array([0.0, 8000.0]), mel_scale="slaney"), 128 + 2)
    return mel_to_hertz(edges_mel[1:-1], mel_scale="slaney")


def augment(
    batch: list[Utterance], window_s: int, strength: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each utterance in another voice, room and place of the window.

    Returns: log-mel features [B, 128, T] as the processor would make them, and the phoneme at each position [B, P].
    """
    clips, frames = len(batch), window_s * FRAMES_PER_S
    longest = max(utterance.power.shape[1] for utterance in batch)
    power = torch.zeros(clips, 1, 128, longest)
    grid_bin, grid_time = np.empty((clips, 128)), np.empty((clips, frames))
    phonemes = np.zeros((clips, frames // 2), dtype=np.int64)
    for row, utterance in enumerate(batch):
        length = utterance.power.shape[1]
        power[row, 0, :, :length] = utterance.power
        stretch = min(math.exp(strength * rng.normal(0, 0.12)), frames / length)
        offset = rng.uniform(0, max(frames - length * stretch, 0)) if rng.random() < 0.7 else 0
        warp = math.exp(strength * rng.normal(0, 0.09))
        grid_time[row] = (np.arange(frames) - offset) / stretch
        heard = grid_time[row, ::2].round().astype(int)
        inside = (heard >= 0) & (heard < length)
        phonemes[row, inside] = utterance.phonemes[heard[inside]]
        grid_bin[row] = np.interp(hz_of_bins() * warp, hz_of_bins(), np.arange(128))
    grid = torch.empty(clips, 128, frames, 2)
    grid[..., 0] = torch.from_numpy((2 * grid_time + 1) / longest - 1)[:, None, :]
    grid[..., 1] = torch.from_numpy((2 * grid_bin + 1) / 128 - 1)[:, :, None]
    log_power = F.grid_sample(power, grid, align_corners=False)[:, 0] + LOG_FLOOR
    features = scaled(record(log_power, strength, rng))
    mask_spans(features, strength, rng)
    return features, torch.from_numpy(phonemes)


def scaled(log_power: torch.Tensor) -> torch.Tensor:
    """log10 mel power [B, 128, T] as Whisper's features."""
    return (torch.maximum(log_power, log_power.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def record(log_power: torch.Tensor, strength: float, rng: np.random.Generator) -> torch.Tensor:
    """Level, microphone, narrow telephone band and noise, as additions in the (log) power domain."""
    clips, bins, frames = log_power.shape
    bin_axis = np.linspace(0, 1, bins)
    colour = np.zeros((clips, bins))
    for harmonic in range(1, 4):
        phase, size = rng.uniform(0, 2 * math.pi, (clips, 1)), rng.normal(0, 0.25 * strength, (clips, 1))
        colour += size * np.cos(math.pi * harmonic * bin_axis + phase)
    level = rng.normal(0, 0.5 * strength, (clips, 1))
    narrow = (rng.random((clips, 1)) < 0.3) & (hz_of_bins()[None] > rng.choice([3400, 3900, 5500], (clips, 1)))
    shaped = log_power + torch.from_numpy(colour + level - 6 * narrow).float()[:, :, None]

    speech_level = torch.quantile(shaped.amax(dim=1), 0.9, dim=1).numpy()
    snr_bels = rng.uniform(0.7, 5.0, clips) / strength
    tilt = rng.normal(0, 0.6, (clips, 1)) * (bin_axis - 0.5)
    noise = torch.from_numpy((speech_level - snr_bels)[:, None] + tilt - 6 * narrow).float()[:, :, None]
    # The power of one frame of noise in one bin is roughly exponentially distributed.
    noise = noise + torch.from_numpy(rng.exponential(1, (clips, bins, frames)).astype("f4")).clamp(1e-3).log10()
    return torch.logaddexp(shaped * math.log(10), noise * math.log(10)) / math.log(10)


def mask_spans(features: torch.Tensor, strength: float, rng: np.random.Generator) -> None:
    """SpecAugment (Park et al. 2019), in place: two spans of bins and two of frames set to each clip's mean."""
    mean = features.mean(dim=(1, 2))
    for row in range(len(features)):
        for _ in range(2):
            width, start = rng.integers(0, int(20 * strength) + 1), rng.integers(0, 108)
            features[row, start : start + width] = mean[row]
            width, start = rng.integers(0, int(10 * strength) + 1), rng.integers(0, features.shape[2])
            features[row, :, start : start + width] = mean[row]


def untrained_model(config: VoxtralConfig, seed: int) -> VoxtralForConditionalGeneration:
    """A model with random weights at a scale it can learn from.

    With the library's default standard deviation (0.02) a model this narrow stays at chance: the signal dies on its
    way through. Weights get 1 / sqrt(fan in), and the encoder's positions, which are never trained, are sinusoids
    (Vaswani et al. 2017, section 3.5, sines first, then cosines, as in Whisper), small enough not to drown the sound.
    """
    torch.manual_seed(seed)
    model = VoxtralForConditionalGeneration(config)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
    positions = model.model.audio_tower.embed_positions.weight
    length, channels = positions.shape
    rates = torch.exp(-math.log(10_000) / (channels // 2 - 1) * torch.arange(channels // 2))
    angles = torch.arange(length)[:, None] * rates[None, :]
    positions.data.copy_(0.3 * torch.cat([angles.sin(), angles.cos()], dim=1))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.generation_config, name, getattr(config.text_config, name))
    return model


class Trainee:
    """The model, its prompt and the throw-away phoneme head."""

    def __init__(self, processor, device: torch.device) -> None:
        self.model = untrained_model(VoxtralConfig.from_pretrained(FOLDER), SEED).to(device)
        self.model.set_attn_implementation("eager")  # at these sizes twice as fast as the fused kernel on a CPU
        text_config = self.model.config.text_config
        self.tokenizer = processor.tokenizer.tokenizer.instruct_tokenizer.tokenizer
        self.pad, self.device = text_config.pad_token_id, device
        special = self.tokenizer.get_special_token
        self.before_audio = [text_config.bos_token_id, special("[INST]"), special("[BEGIN_AUDIO]")]
        self.hint = self.tokenizer.encode("lang:en", bos=False, eos=False)
        self.end_inst, self.transcribe = special("[/INST]"), special("[TRANSCRIBE]")
        self.phoneme_head = nn.Linear(self.model.config.audio_config.hidden_size, MOST_PHONEMES).to(device)

    def parameters(self) -> list[torch.nn.Parameter]:
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return trained + list(self.phoneme_head.parameters())

    def encode_audio(self, features: torch.Tensor) -> torch.Tensor:
        """[B, 128, T] -> [B, P, width], for any even number of seconds (the model's own forward takes one window)."""
        tower = self.model.model.audio_tower
        hidden = F.gelu(tower.conv2(F.gelu(tower.conv1(features)))).transpose(1, 2)
        hidden = hidden + tower.embed_positions.weight[: hidden.shape[1]]
        for layer in tower.layers:
            hidden = layer(hidden, attention_mask=None)
        return tower.layer_norm(hidden)

    def loss(
        self, features: torch.Tensor, phonemes: torch.Tensor, batch: list[Utterance], with_hint: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss of the transcript per token, loss of the phonemes per position)."""
        model = self.model.model
        hidden = self.encode_audio(features)
        audio = model.multi_modal_projector(hidden.reshape(len(batch), -1, 4 * hidden.shape[-1]))
        longest = max(len(utterance.tokens) for utterance in batch)
        tokens = torch.full((len(batch), longest), self.pad)
        for row, utterance in enumerate(batch):
            tokens[row, : len(utterance.tokens)] = torch.tensor(utterance.tokens)
        tokens = tokens.to(self.device)
        lengths = torch.tensor([len(utterance.tokens) for utterance in batch], device=self.device)
        is_target = torch.arange(longest, device=self.device)[None] < lengths[:, None]

        embed = model.language_model.embed_tokens
        after_audio = [self.end_inst, *(self.hint if with_hint else []), self.transcribe]
        before, after = (
            embed(torch.tensor(ids, device=self.device)).expand(len(batch), -1, -1)
            for ids in (self.before_audio, after_audio)
        )
        embeds = torch.cat([before, audio, after, embed(tokens[:, :-1])], dim=1)
        states = model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state[:, -longest:]
        logits = self.model.lm_head(states)[is_target]
        transcript_loss = F.cross_entropy(logits, tokens[is_target], label_smoothing=0.05)

        phoneme_loss = F.cross_entropy(
            self.phoneme_head(hidden).flatten(0, 1), phonemes.flatten(), ignore_index=IGNORED
        )
        return transcript_loss, phoneme_loss


def make_optimizers(trainee: Trainee) -> list[torch.optim.Optimizer]:
    """Muon (Jordan 2024) for the matrices inside the layers, AdamW for everything else, at AdamW's learning rate."""
    matrices, others = [], []
    for name, parameter in [*trainee.model.named_parameters(), *trainee.phoneme_head.named_parameters()]:
        if parameter.requires_grad:
            inner = parameter.ndim == 2 and "embed" not in name and "head" not in name and name != "weight"
            (matrices if inner else others).append(parameter)
    return [
        torch.optim.Muon(matrices, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, weight_decay=0.02, betas=(0.9, 0.98)),
    ]


def words_allowed(progress: float) -> int:
    """The curriculum: most words in a sentence after a share `progress` of the time."""
    return 1 if progress < 0.02 else 2 if progress < 0.05 else 4 if progress < 0.1 else 99


def augmentation_strength(progress: float) -> float:
    """Little at first, all of it from a third of the time on."""
    return min(1.0, 0.2 + 2.4 * progress)


def learning_rate(progress: float) -> float:
    """Linear warm-up over the first hundredth, then a cosine to nothing."""
    return PEAK_LEARNING_RATE * min(progress / 0.01, 1) * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))


def train(output: Path, minutes: float) -> None:
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    processor = AutoProcessor.from_pretrained(FOLDER)
    trainee = Trainee(processor, device)
    spoken = make_corpus()
    symbols = sorted({phoneme for *_, phonemes in spoken for _, phoneme in phonemes or [] if phoneme})
    classes = {phoneme: number for number, phoneme in enumerate(symbols, 1)}  # 0 is silence
    corpus = []
    for text, power, phonemes in spoken:
        labels = frame_classes(phonemes, power.shape[1], classes)
        tokens = trainee.tokenizer.encode(text, bos=False, eos=True)
        corpus.append(Utterance(text, torch.from_numpy(power), labels, tokens))
    hours = sum(utterance.duration_s for utterance in corpus) / 3600
    parameters = sum(parameter.numel() for parameter in trainee.model.parameters())
    print(f"{len(corpus)} utterances, {hours:.1f} h; {parameters:,} parameters; {minutes:g} minutes", flush=True)

    # Short clips in a short window: half the work of the full one.
    is_short = [utterance.duration_s < SHORT_WINDOW_S - 0.3 for utterance in corpus]
    words = np.array([len(utterance.text.split()) for utterance in corpus])
    pools = {SHORT_WINDOW_S: np.flatnonzero(is_short), WINDOW_S: np.arange(len(corpus))}
    optimizers = make_optimizers(trainee)
    began_s = reported_s = time.monotonic()
    step, losses = 0, []
    while (progress := (time.monotonic() - began_s) / 60 / minutes) < 1:
        full_window = progress > 0.75 or rng.random() < (0.3 if progress > 0.1 else 0)
        window_s = WINDOW_S if full_window else SHORT_WINDOW_S
        pool = pools[window_s]
        pool = pool[words[pool] <= words_allowed(progress)]
        batch = [corpus[index] for index in rng.choice(pool, BATCH_SIZE, replace=False)]
        features, phonemes = augment(batch, window_s, augmentation_strength(progress), rng)
        features, phonemes = features.to(device), phonemes.to(device)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate(progress)
        transcript_loss, phoneme_loss = trainee.loss(features, phonemes, batch, with_hint=rng.random() < 0.9)
        (transcript_loss + phoneme_loss).backward()
        nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append((transcript_loss.item(), phoneme_loss.item()))
        step += 1
        if time.monotonic() - reported_s > 30:
            reported_s = time.monotonic()
            transcript, phoneme = np.mean(losses[-100:], axis=0)
            print(f"{progress:5.1%}  step {step:6d}  loss {transcript:.3f}  phonemes {phoneme:.3f}", flush=True)
    # In bfloat16: half the bytes.
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in trainee.model.state_dict().items()}
    trainee.model.save_pretrained(output, state_dict=weights)
    processor.save_pretrained(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--minutes", type=float, default=72)
    arguments = parser.parse_args()
    train(arguments.output, arguments.minutes)


if __name__ == "__main__":
    main()

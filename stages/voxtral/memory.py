"""Memory that training and transcription take, counted from a model's configuration or on the model itself.

From the configuration nothing is loaded or downloaded: weights are built on torch's meta device, whose tensors have
shapes and no values, and a training step runs on fake tensors, which have a precision too. Sizes are in bytes.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from transformers import VoxtralConfig, VoxtralForConditionalGeneration
from transformers.modeling_layers import GradientCheckpointingLayer

from stages.common.params import TrainParams
from stages.voxtral import last_layer
from stages.voxtral.adapters import SCOPES, add_lora, base_model
from stages.voxtral.collation import max_new_tokens
from stages.voxtral.encoder_cache import PassOn
from stages.voxtral.loading import device, total_memory_bytes

# Memory of a step over that of the tensors kept for the backward pass (results, gaps of the allocator): a guess on the
# safe side, as too little memory ends a training and a smaller batch hardly slows it down.
ROOM = 1.5
USED_SHARE = 0.8  # of what the weights leave free
# Bytes of a weight in 4 bits: half a byte, a scale of one byte for each 64 weights, and a scale of these scales of four
# bytes for each 256 of them (Dettmers et al. 2023, arXiv 2305.14314, section 3: double quantisation, 4.127 bits).
FOUR_BIT_BYTES = 1 / 2 + 1 / 64 + 4 / (64 * 256)
# bitsandbytes' 8-bit optimizers: a byte for each value, a scale of four bytes for each 256; smaller tensors stay whole
# (Dettmers et al. 2021, arXiv 2110.02861), and so do embeddings, which the Trainer exempts.
EIGHT_BIT_BYTES = 1 + 4 / 256
SMALLEST_IN_EIGHT_BITS = 4096
POSITIONS_PER_S = 50  # of the encoder: Whisper's features have 100 frames a second, which its second convolution halves
PROMPT_TOKENS = 16  # around the audio tokens, with the language
TOKENS_PER_S = 4  # of a transcript: three words a second without a pause
STAND_INS = 3  # layers that are run for all of a part: the first, the last and one for those between


@dataclass(frozen=True)
class Kept:
    """What a forward pass keeps for the backward pass."""

    outside: int  # of the layers
    layers: list[tuple[int, int]]  # of each layer: what it keeps, and its input

    def total(self, checkpointing: bool) -> int:
        """With gradient checkpointing a layer keeps its input alone, and runs again when its turn comes."""
        kept = [inside for inside, _ in self.layers]
        if not checkpointing:
            return self.outside + sum(kept)
        return self.outside + sum(entering for inside, entering in self.layers if inside) + max(kept, default=0)


@dataclass(frozen=True)
class Need:
    """What a training takes on its device."""

    weights: dict[str, int]  # by part, as loaded, with the adapters
    encoder_taken_out: bool  # once its outputs are cached
    gradients: int
    optimizer: int
    once: int  # what a forward pass keeps whatever the batch: weights in bfloat16
    clip: int  # what it keeps of each clip of one window

    @property
    def step_weights(self) -> int:
        return sum(size for part, size in self.weights.items() if part != "encoder" or not self.encoder_taken_out)

    @property
    def certain(self) -> int:
        """Weights, gradients and optimizer, without any estimate."""
        return max(sum(self.weights.values()), self.step_weights + self.gradients + self.optimizer)

    def with_batch(self, size: int) -> int:
        """An upper estimate: what is counted, with room to spare."""
        beside = self.gradients + self.optimizer + self.once + ROOM * size * self.clip
        return round(max(self.certain, self.step_weights + beside / USED_SHARE))

    def fitting(self, memory: int) -> int:
        """How many clips at once fit into this much memory; 0 if not even one does."""
        if self.with_batch(0) > memory:
            return 0
        free = USED_SHARE * (memory - self.step_weights) - self.gradients - self.optimizer - self.once
        return int(free / (ROOM * self.clip))


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


def optimizer_bytes(model: nn.Module, optimizer: str) -> int:
    """Adam's two moments of each trained weight. optimizer: `train.optimizer`."""
    total = 0.0
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            if weight.requires_grad:
                small = isinstance(module, nn.Embedding) or weight.numel() < SMALLEST_IN_EIGHT_BITS
                eight_bit = optimizer == "adamw_8bit" and not small
                total += 2 * (weight.numel() * EIGHT_BIT_BYTES if eight_bit else weight.nbytes)
    return round(total)


def kept_for_backward(model: nn.Module, batch: dict) -> Kept:
    """What a forward pass of `batch` keeps beside the weights. The pass itself keeps nothing, so it needs little."""
    kept: dict[
        int, StorageWeakRef
    ] = {}  # a storage that is referred to, though it be freed, gives its name to no other
    weights = {weight.untyped_storage()._cdata for weight in model.parameters()}
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    inside, entering = Counter(), Counter()
    current: nn.Module | None = None

    def begin(layer: nn.Module, positional: tuple, named: dict) -> None:
        nonlocal current
        current = layer
        entering[layer] = (positional[0] if positional else named["hidden_states"]).nbytes

    def end(*_: object) -> None:
        nonlocal current
        current = None

    def count(tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights and storage._cdata not in kept:
            kept[storage._cdata] = StorageWeakRef(storage)
            inside[current] += storage.nbytes()

    device = next(model.parameters()).device
    batch = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    hooks = [layer.register_forward_pre_hook(begin, with_kwargs=True) for layer in layers]
    hooks += [layer.register_forward_hook(end) for layer in layers]
    try:
        with torch.autograd.graph.saved_tensors_hooks(count, lambda nothing: nothing):
            model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    return Kept(inside[None], [(inside[layer], entering[layer]) for layer in layers])


def largest_batch(model: nn.Module, batch_of: Callable[[int], dict], most: int, train: TrainParams) -> int:
    """How many clips fit into the memory in a training step: a divisor of `most`.

    batch_of: makes a training batch of one or two clips, the longest ones, whose difference is what a clip takes.
    """
    kept = [kept_for_backward(model, batch_of(size)) for size in (1, 2)]
    once, clip = _once_and_for_a_clip(*kept, train)
    trained = sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)
    free = USED_SHARE * free_bytes(model) - trained - optimizer_bytes(model, train.optimizer) - once
    return largest_divisor(most, int(free / (ROOM * clip)))


def _once_and_for_a_clip(one: Kept, two: Kept, train: TrainParams) -> tuple[int, int]:
    """What a step keeps whatever the batch, and of each clip, from what it keeps of one and of two.

    The first is weights in bfloat16, which mixed precision keeps until the end of the forward pass, also with gradient
    checkpointing.
    """
    once = 2 * one.total(False) - two.total(False)
    return once, two.total(train.gradient_checkpointing) - one.total(train.gradient_checkpointing)


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of `number` up to `most`; at least 1."""
    return max(divisor for divisor in range(1, number + 1) if number % divisor == 0 and divisor <= max(most, 1))


def free_bytes(model: nn.Module) -> int:
    """Memory beside the model: free on the GPU, or all of the machine's, so that it is the same in each run."""
    if device().type != "cuda":
        return total_memory_bytes() - sum(weight.nbytes for weight in model.parameters())
    unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return torch.cuda.mem_get_info()[0] + unused


def training_need(
    config: VoxtralConfig, train: TrainParams, dtype: torch.dtype, bfloat16: bool, kept: Sequence[Kept] | None = None
) -> Need:
    """What a training with these settings takes; with mode full, the weights are in float32 whatever `dtype` is.

    bfloat16: whether it computes in it (mixed precision). kept: of kept_of_windows, if known.
    """
    full = train.mode == "full"
    model = empty_model(config, torch.float32 if full else dtype)
    weights = weight_bytes(model, four_bit=train.mode == "qlora")
    learning = model if full else _adapters_alone(model, train)
    trained = sum(weight.nbytes for weight in learning.parameters() if weight.requires_grad)
    once, clip = _once_and_for_a_clip(*(kept or kept_of_windows(config, train, dtype, bfloat16)), train)
    weights["adapters"] = 0 if full else trained
    optimizer = optimizer_bytes(learning, train.optimizer)
    return Need(weights, takes_encoder_out(train), trained, optimizer, once, clip)


def takes_encoder_out(train: TrainParams) -> bool:
    """Whether the encoder's outputs are cached and the encoder leaves the model."""
    return train.mode != "full" and "encoder" not in train.lora.scope and train.augment == "off"


def kept_of_windows(config: VoxtralConfig, train: TrainParams, dtype: torch.dtype, bfloat16: bool) -> list[Kept]:
    """What a forward pass keeps of one clip and of two, each of one window full of speech; the same for qlora."""
    dtype = torch.float32 if train.mode == "full" else dtype
    taken_out = takes_encoder_out(train)
    batches = [full_windows(config, clips, dtype if taken_out else None) for clips in (1, 2)]
    return kept_by_fakes(config, train, dtype, bfloat16, taken_out, batches)


def _adapters_alone(model: VoxtralForConditionalGeneration, train: TrainParams) -> nn.ModuleList:
    """What add_lora adds to the model, in much less time."""
    scope = re.compile("|".join(SCOPES[part] for part in train.lora.scope))
    adapters = nn.ModuleList()
    with torch.device("meta"):
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and scope.fullmatch(name):
                adapters.append(nn.Linear(module.in_features, train.lora.r, bias=False))
                adapters.append(nn.Linear(train.lora.r, module.out_features, bias=False))
    return adapters


def full_windows(config: VoxtralConfig, clips: int, encoded: torch.dtype | None) -> dict:
    """A training batch, without values, of clips of one window full of speech. encoded: of encoder outputs, if any."""
    audio = config.audio_config
    positions = audio.max_source_positions
    tokens = round(TOKENS_PER_S * positions / POSITIONS_PER_S)
    features = (clips, positions, audio.hidden_size) if encoded else (clips, audio.num_mel_bins, 2 * positions)
    with torch.device("meta"):
        return {
            "input_ids": torch.empty(clips, _audio_tokens(config) + PROMPT_TOKENS + tokens, dtype=torch.long),
            "input_features": torch.empty(features, dtype=encoded or torch.float32),
            "labels": torch.empty(clips, tokens + 1, dtype=torch.long),
            "logits_to_keep": tokens + 1,
            "use_cache": False,
        }


def kept_by_fakes(
    config: VoxtralConfig,
    train: TrainParams,
    dtype: torch.dtype,
    bfloat16: bool,
    encoder_taken_out: bool,
    batches: Sequence[dict],
) -> list[Kept]:
    """As kept_for_backward, of each batch, without a model: only shape and precision of the batch's tensors count.

    The layers of a part are alike but for the first and the last, so three of them are run for all. Counted as on a
    CPU: a GPU also computes the encoder's layer norms in float32, a tenth more of its layers; ROOM holds that.
    """
    short = copy.deepcopy(config)
    parts = (short.audio_config, short.text_config)
    counts = [part.num_hidden_layers for part in parts]
    for part in parts:
        part.num_hidden_layers = min(part.num_hidden_layers, STAND_INS)
    model = empty_model(short, dtype)
    if train.mode != "full":
        model = add_lora(model, train.lora)
    with FakeTensorMode():
        _make_fake(model.train())
        last_layer.only_kept_positions(model)
        base = base_model(model)
        # Of fake values the library cannot tell that the audio tokens are as many as the features, nor that no mask is
        # needed.
        base.model.get_placeholder_mask = lambda _, inputs_embeds, **__: torch.empty_like(
            inputs_embeds, dtype=torch.bool
        )
        for layer in base.model.language_model.layers:
            layer.register_forward_pre_hook(
                lambda _, positional, named: (positional, {**named, "attention_mask": None}), with_kwargs=True
            )
        if encoder_taken_out:
            base.model.audio_tower = PassOn()
            counts[0] = 0
        found = []
        for batch in batches:
            fakes = {
                name: torch.empty(value.shape, dtype=value.dtype) if isinstance(value, torch.Tensor) else value
                for name, value in batch.items()
            }
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                kept = kept_for_backward(model, fakes)
            run = iter(kept.layers)
            layers: list[tuple[int, int]] = []
            for count in counts:
                own = [next(run) for _ in range(min(count, STAND_INS))]
                layers += own[:1] + own[1:2] * (count - STAND_INS) + own[1:]
            found.append(Kept(kept.outside, layers))
    return found


def _make_fake(model: nn.Module) -> None:
    """Replace the values that are not there by fake ones; `Module.to` cannot, as fake tensors are not exchanged."""
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            fake = torch.empty(weight.shape, dtype=weight.dtype)
            module.register_parameter(name, nn.Parameter(fake, requires_grad=weight.requires_grad))
        for name, values in module.named_buffers(recurse=False):
            module.register_buffer(name, torch.empty(values.shape, dtype=values.dtype))


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
    prompt = _audio_tokens(config) + PROMPT_TOKENS
    tokens = prompt + max_new_tokens(positions / POSITIONS_PER_S)
    # Keys and values of all layers; while a token is added, one layer's are there twice.
    cache = 2 * (text.num_hidden_layers + 1) * text.num_key_value_heads * text.head_dim * tokens
    # In a layer at once: input, normed, queries, keys, values, attention's output; or the feed-forward's inner tensors.
    encoder = positions * (6 * audio.hidden_size + 2 * audio.intermediate_size)
    decoder = prompt * (6 * text.hidden_size + 3 * text.intermediate_size) + 3 * text.vocab_size
    return round(batch_size * dtype.itemsize * (cache + ROOM * max(encoder, decoder)))


def _audio_tokens(config: VoxtralConfig) -> int:
    """Of one window: the encoder's outputs are taken together until they are as wide as its feed-forward."""
    audio = config.audio_config
    return audio.max_source_positions * audio.hidden_size // audio.intermediate_size

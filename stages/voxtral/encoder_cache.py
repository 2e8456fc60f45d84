"""Encoder outputs, made once for each clip: where the encoder stays as it is, nothing need run it again.

They are kept behind the projector where that stays as it is, too, else before it. One entry serves every rank and
learning rate, training, validation and test, base and tuned model. A window costs 2.3 MB with the 3B model in bfloat16
(375 positions of the decoder's width 3,072), before the projector 3.8 MB (1,500 of the encoder's 1,280).

Shapes: W windows, P positions of a window, C their width.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

import torch
from peft import PeftModel
from safetensors.torch import load, save
from torch import nn
from tqdm import tqdm
from transformers import VoxtralForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling

from stages.common.cache import ContentCache
from stages.common.code import code_hash
from stages.common.stage import UserError
from stages.speech import augment, prepared
from stages.speech.clips import Clip
from stages.voxtral import processes
from stages.voxtral.batches import in_batches
from stages.voxtral.collation import Collator
from stages.voxtral.loading import device_name

# Always so many at once, the rest filled up with silence: other shapes are added up in another order, and an entry's
# last bits would depend on the clips that happened to stand beside it. A GPU wants many, a CPU's cache holds few.
WINDOWS_AT_ONCE = {"cuda": 8, "cpu": 2}
KEPT_UNUSED_S = 30 * 24 * 3600  # of another model, another version of this code, or a clip that is gone
SPARE_BYTES = 2 * 1024**3  # left free on the disk


class PassOn(nn.Module):
    """Stands in a part's place and passes on what it gets: outputs that the part has made before."""

    def forward(self, input_features: torch.Tensor, **_: object) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=input_features)


class RememberLast(nn.Module):
    """The encoder, which gives the same sound back its last outputs: base and tuned model ask for it one by one."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.sound = self.outputs = None

    def forward(self, input_features: torch.Tensor, **keywords: object) -> BaseModelOutput:
        if self.sound is None or not torch.equal(self.sound, input_features):
            self.sound, self.outputs = input_features, self.encoder(input_features, **keywords)
        return BaseModelOutput(last_hidden_state=self.outputs.last_hidden_state)


@dataclass(frozen=True)
class EncodedPrompter(Collator):
    """A Collator for a model without its encoder: its features are encoder outputs from the cache."""

    made_by: dict  # the part of an entry's name that tells model, machine and code
    store: ContentCache = field(default_factory=lambda: ContentCache("encoded"))

    def features(self, clip: Clip) -> torch.Tensor:
        """Encoder outputs [W, P, C] of a clip.

        Raises: UserError where the entry was damaged or removed since the encoder went.
        """
        return self._entry(clip)["encoded"]

    def seconds_before(self, clip: Clip) -> float:
        return self._entry(clip)["seconds"].item()

    def _entry(self, clip: Clip) -> dict[str, torch.Tensor]:
        content = self.store.read(self.key(clip))
        if content is None:
            self.store.remove(self.key(clip))
            raise UserError(f"{self.store.folder}: the entry of clip {clip.id} is damaged or gone: run it again")
        return load(content)

    def key(self, clip: Clip) -> dict:
        changed = {"variant": clip.key()} if isinstance(clip, augment.Variant) else {}
        return {**self.made_by, "sound": prepared.sha256(self.folder / clip.audio_path), **changed}


def is_frozen(model: nn.Module) -> bool:
    """Whether training leaves the encoder of a model, with or without adapters, as it is."""
    return not any(parameter.requires_grad for parameter in _base(model).model.audio_tower.parameters())


def is_projector_frozen(model: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in _base(model).model.multi_modal_projector.parameters())


def remember_last_sound(model: VoxtralForConditionalGeneration | PeftModel) -> None:
    """From now on the encoder runs once for a sound that is heard again at once."""
    base = _base(model)
    base.model.audio_tower = RememberLast(base.model.audio_tower)


def take_encoder_out(
    model: VoxtralForConditionalGeneration | PeftModel,
    collator: Collator,
    clips: Sequence[Clip],
    identity: str,
    projector_too: bool,
) -> Collator:
    """Run the encoder over all clips that the cache does not know, and take it out of the model.

    identity: names the model's files. projector_too: it stays as it is and goes with the encoder. Returns the Collator
    that the model now needs; the same, with the model left as it is, where the disk has no room for the outputs.
    """
    base = _base(model)
    weight = next(base.model.audio_tower.parameters())
    encoded = EncodedPrompter(
        collator.processor,
        collator.sizes,
        collator.folder,
        made_by={
            "model": identity,
            "behind": "projector" if projector_too else "encoder",
            "dtype": str(weight.dtype),
            "device": device_name(),
            "code": code_hash("stages.voxtral.encoder_cache"),
            "libraries": [version(package) for package in ("torch", "transformers")],
        },
    )
    missing = [clip for clip in clips if not encoded.store.has(encoded.key(clip))]
    needed = _window_bytes(base, projector_too) * sum(map(collator.windows_in, missing))
    encoded.store.folder.mkdir(parents=True, exist_ok=True)
    if processes.is_main():
        encoded.store.remove_unused(KEPT_UNUSED_S)
    free = shutil.disk_usage(encoded.store.folder).free - SPARE_BYTES
    if not all(processes.gather({processes.rank(): needed <= free}).values()):
        print(
            f"no encoder cache: {needed / 1e9:.1f} GB needed in {encoded.store.folder}, {max(free, 0) / 1e9:.1f} GB "
            f"free; the encoder runs in every epoch instead",
            flush=True,
        )
        return collator
    _fill(base, collator, encoded, processes.shard(missing), projector_too)
    processes.wait_for_all()
    base.model.audio_tower = PassOn()
    if projector_too:
        base.model.multi_modal_projector = PassOn()
        base.model.get_audio_features = _pass_on  # the model's own brings what the encoder gives into another shape
    return encoded


def _pass_on(input_features: torch.Tensor, **_: object) -> BaseModelOutputWithPooling:
    """In place of VoxtralModel.get_audio_features: what the decoder reads, [sum of P, C], is what comes in."""
    return BaseModelOutputWithPooling(pooler_output=input_features.flatten(0, 1))


def _window_bytes(base: VoxtralForConditionalGeneration, projector_too: bool) -> int:
    """Bytes of one window's outputs."""
    weight, sizes = next(base.model.audio_tower.parameters()), base.config.audio_config
    numbers = sizes.max_source_positions * sizes.d_model
    if projector_too:  # it makes one position out of several, as many as fill its input
        numbers = numbers // sizes.intermediate_size * base.config.text_config.hidden_size
    return numbers * weight.element_size()


@torch.inference_mode()
def _fill(
    base: VoxtralForConditionalGeneration,
    collator: Collator,
    encoded: EncodedPrompter,
    clips: Sequence[Clip],
    projector_too: bool,
) -> None:
    encoder = base.model.audio_tower
    weight = next(encoder.parameters())
    at_once = WINDOWS_AT_ONCE[weight.device.type]

    def outputs_of(windows: torch.Tensor) -> torch.Tensor:
        """[W, P, C] of as many windows as always."""
        if projector_too:
            return base.model.get_audio_features(windows).pooler_output.unflatten(0, (len(windows), -1))
        return encoder(windows).last_hidden_state

    was_training = encoder.training
    encoder.eval()
    with tqdm(total=len(clips), desc="encoder", unit="clip", disable=not clips or not processes.is_main()) as bar:
        for group in in_batches(clips, at_once):
            began_s = time.monotonic()
            features = [collator.features(clip) for clip in group]
            outputs = [
                outputs_of(_filled_up(windows, at_once).to(weight))[: len(windows)].cpu()
                for windows in torch.cat(features).split(at_once)
            ]
            outputs = torch.cat(outputs).split([len(part) for part in features])
            seconds = torch.tensor((time.monotonic() - began_s) / len(group), dtype=torch.float64)
            for clip, output in zip(group, outputs, strict=True):
                encoded.store.write(encoded.key(clip), save({"encoded": output.contiguous(), "seconds": seconds}))
            bar.update(len(group))
    encoder.train(was_training)


def _base(model: nn.Module) -> VoxtralForConditionalGeneration:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _filled_up(windows: torch.Tensor, count: int) -> torch.Tensor:
    return torch.cat([windows, windows.new_zeros(count - len(windows), *windows.shape[1:])])

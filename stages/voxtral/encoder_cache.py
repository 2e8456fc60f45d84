"""Encoder outputs of each clip, computed once if training leaves the encoder as it is.

They are taken after the projector if that stays as it is too, else before it. One entry serves all settings, base and
tuned model. With the 3B model in bfloat16 a window takes 2.3 MB after the projector (375 positions of the decoder's
width 3,072), 3.8 MB before it (1,500 of the encoder's 1,280).

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

# Always the same number, filled up with silence: another batch shape is summed in another order, and an entry's last
# bits would depend on its neighbours. A GPU wants many, a CPU's cache holds few.
WINDOWS_AT_ONCE = {"cuda": 8, "cpu": 2}
KEPT_UNUSED_S = 30 * 24 * 3600  # entries of another model or code, or of a deleted clip
SPARE_BYTES = 2 * 1024**3  # left free on the disk


class PassOn(nn.Module):
    """Replaces a part of the model and passes on its input: the outputs that the part has made before."""

    def forward(self, input_features: torch.Tensor, **_: object) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=input_features)


class RememberLast(nn.Module):
    """The encoder, which keeps its last outputs: base and tuned model hear the same sound one after the other."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.sound = self.outputs = None

    def forward(self, input_features: torch.Tensor, **keywords: object) -> BaseModelOutput:
        if self.sound is None or not torch.equal(self.sound, input_features):
            self.sound, self.outputs = input_features, self.encoder(input_features, **keywords)
        return BaseModelOutput(last_hidden_state=self.outputs.last_hidden_state)


@dataclass(frozen=True)
class EncodedCollator(Collator):
    """A Collator for a model without its encoder: its features are encoder outputs from the cache."""

    made_by: dict  # model, machine and code: a part of each key
    store: ContentCache = field(default_factory=lambda: ContentCache("encoded"))

    def features(self, clip: Clip) -> torch.Tensor:
        """Encoder outputs [W, P, C] of a clip.

        Raises: UserError if the entry was damaged or removed since the encoder was taken out.
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
    """Whether training leaves the encoder as it is."""
    return not any(parameter.requires_grad for parameter in _base(model).model.audio_tower.parameters())


def is_projector_frozen(model: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in _base(model).model.multi_modal_projector.parameters())


def remember_last_sound(model: VoxtralForConditionalGeneration | PeftModel) -> None:
    """From now on the encoder runs once for a sound that is heard twice in a row."""
    base = _base(model)
    base.model.audio_tower = RememberLast(base.model.audio_tower)


def take_encoder_out(
    model: VoxtralForConditionalGeneration | PeftModel,
    collator: Collator,
    clips: Sequence[Clip],
    identity: str,
    projector_too: bool,
) -> Collator:
    """Run the encoder over all clips that are not in the cache, and take it out of the model.

    Args:
        identity: the model's, as in ModelSource.
        projector_too: take the projector out as well.

    Returns: the Collator that the model now needs; `collator`, with the model unchanged, if the disk is too full.
    """
    base = _base(model)
    weight = next(base.model.audio_tower.parameters())
    encoded = EncodedCollator(
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
        base.model.get_audio_features = _pass_on  # the model's own changes the shape
    return encoded


def _pass_on(input_features: torch.Tensor, **_: object) -> BaseModelOutputWithPooling:
    """Replaces VoxtralModel.get_audio_features: [W, P, C] to the decoder's [W * P, C]."""
    return BaseModelOutputWithPooling(pooler_output=input_features.flatten(0, 1))


def _window_bytes(base: VoxtralForConditionalGeneration, projector_too: bool) -> int:
    """Bytes of one window's outputs."""
    weight, sizes = next(base.model.audio_tower.parameters()), base.config.audio_config
    numbers = sizes.max_source_positions * sizes.d_model
    if projector_too:  # it joins several positions into one, as many as its input takes
        numbers = numbers // sizes.intermediate_size * base.config.text_config.hidden_size
    return numbers * weight.element_size()


@torch.inference_mode()
def _fill(
    base: VoxtralForConditionalGeneration,
    collator: Collator,
    encoded: EncodedCollator,
    clips: Sequence[Clip],
    projector_too: bool,
) -> None:
    encoder = base.model.audio_tower
    weight = next(encoder.parameters())
    at_once = WINDOWS_AT_ONCE[weight.device.type]

    def outputs_of(windows: torch.Tensor) -> torch.Tensor:
        """[W, P, C] of `at_once` windows."""
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

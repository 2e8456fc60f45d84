"""Encoder outputs of each clip, computed once if training leaves the encoder as it is.

They serve every scope without the encoder, all settings and every epoch. With the 3B model in bfloat16 a window takes
3.8 MB (1,500 positions of the encoder's width 1,280).

Shapes: W windows, P positions of a window, C their width.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

import torch
from peft import PeftModel
from safetensors.torch import load, save
from torch import nn
from tqdm import tqdm
from transformers import VoxtralForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from stages.common import paths
from stages.common.cache import ContentCache
from stages.common.code import code_hash
from stages.common.stage import UserError
from stages.speech import prepared
from stages.speech.clips import Clip
from stages.voxtral import processes
from stages.voxtral.adapters import base_model
from stages.voxtral.collation import Collator
from stages.voxtral.loading import device, device_name

KEPT_UNUSED_S = 30 * 24 * 3600  # entries of another model or code, or of a deleted clip
SPARE_BYTES = 2 * 1024**3  # left free on the disk


class PassOn(nn.Module):
    """Replaces the encoder and passes on its input: the outputs that the encoder has made before."""

    def forward(self, input_features: torch.Tensor, **_: object) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=input_features)


@dataclass(frozen=True)
class EncodedCollator(Collator):
    """A Collator for a model without its encoder: its features are encoder outputs from the cache."""

    made_by: dict = field(kw_only=True)  # model, machine and code: a part of each key
    store: ContentCache = field(default_factory=lambda: ContentCache("encoded"))

    def features(self, clip: Clip) -> torch.Tensor:
        """Encoder outputs [W, P, C] of a clip.

        Raises: UserError if the entry was damaged or removed since the encoder was taken out.
        """
        content = self.store.read(self.key(clip))
        if content is None:
            self.store.remove(self.key(clip))
            raise UserError(f"{self.store.folder}: the entry of clip {clip.id} is damaged or gone: run it again")
        return load(content)["encoded"]

    def key(self, clip: Clip) -> dict:
        return {**self.made_by, "sound": prepared.sha256(paths.PREPARED / clip.audio_path)}


def is_frozen(model: nn.Module) -> bool:
    """Whether training leaves the encoder as it is."""
    return not any(parameter.requires_grad for parameter in base_model(model).model.audio_tower.parameters())


def take_encoder_out(
    model: VoxtralForConditionalGeneration | PeftModel, collator: Collator, clips: Sequence[Clip], identity: str
) -> Collator:
    """Run the encoder over all clips that are not in the cache, and take it out of the model.

    identity: the model's, as in ModelSource.
    Returns: the Collator that the model now needs; `collator`, with the model unchanged, if the disk is too full.
    """
    base = base_model(model)
    weight, sizes = next(base.model.audio_tower.parameters()), base.config.audio_config
    made_by = {
        "model": identity,
        "dtype": str(weight.dtype),
        "device": device_name(),
        "code": code_hash("stages.voxtral.encoder_cache"),
        "libraries": [version(package) for package in ("torch", "transformers")],
    }
    encoded = EncodedCollator(collator.processor, collator.sizes, made_by=made_by)
    missing = [clip for clip in clips if not encoded.store.has(encoded.key(clip))]
    window_bytes = sizes.max_source_positions * sizes.d_model * weight.element_size()
    needed = window_bytes * sum(map(collator.windows_in, missing))
    encoded.store.folder.mkdir(parents=True, exist_ok=True)
    if processes.is_main():
        encoded.store.remove_unused(KEPT_UNUSED_S)
    free = shutil.disk_usage(encoded.store.folder).free - SPARE_BYTES
    of_all = processes.gather({processes.rank(): (needed, needed <= free)}).values()
    if not all(fits for _, fits in of_all):
        print(
            f"no encoder cache: {needed / 1e9:.1f} GB needed in {encoded.store.folder}, {max(free, 0) / 1e9:.1f} GB "
            f"free; the encoder runs in every epoch instead",
            flush=True,
        )
        return collator
    if any(bytes_of_one for bytes_of_one, _ in of_all):
        if processes.uses_fsdp():
            processes.send_to_all(base.model.audio_tower, device())
        _fill(base.model.audio_tower, collator, encoded, processes.shard(missing))
    processes.wait_for_all()
    base.model.audio_tower = PassOn()
    return encoded


@torch.inference_mode()
def _fill(encoder: nn.Module, collator: Collator, encoded: EncodedCollator, clips: Sequence[Clip]) -> None:
    """Window by window: in a batch, the last bits of a clip's outputs would depend on its neighbours."""
    weight = next(encoder.parameters())
    encoder.eval()
    for clip in tqdm(clips, desc="encoder", unit="clip", disable=not clips or not processes.is_main()):
        windows = collator.features(clip).to(weight).split(1)
        outputs = torch.cat([encoder(window).last_hidden_state for window in windows]).cpu()
        encoded.store.write(encoded.key(clip), save({"encoded": outputs}))

"""Load models from the files that would be published, and transcribe test clips with each.

A process of its own: what it can do, somebody who downloads the files can do too. Started by stages/hub/release.py
with a request (JSON): `models` (folders), `clips` (ids), `merge_into` (folder or null: the first model, its adapter
merged into the base, is written there and is one more model to load), `reply` (file for a list of {id: text}).
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

from stages.common import paths
from stages.common.files import read_json, whole_folder, write_json
from stages.common.params import ModelParams, load_params
from stages.common.plurals import counted
from stages.common.stage import UserError, run
from stages.speech.clips import read_clips
from stages.voxtral.adapters import ADAPTER_CONFIG, load_adapter
from stages.voxtral.collation import Collator
from stages.voxtral.loading import (
    ModelSource,
    enough_memory,
    find_model,
    load_model,
    load_processor,
    read_sizes,
    resolve_dtype,
)
from stages.voxtral.transcription import transcribe


def load_published(folder: Path, params: ModelParams) -> nn.Module:
    """The model that a folder's files make, an adapter merged into its base.

    Raises: UserError where an adapter was trained on another base than model.name.
    """
    dtype = resolve_dtype(params.dtype)
    if not (folder / ADAPTER_CONFIG).exists():
        return load_model(ModelSource(folder.name, None, folder, ""), dtype)
    source = find_model(params)
    if read_json(paths.CHECKPOINTS / "training.json")["base_model_identity"] != source.identity:
        raise UserError(f"the adapter was trained on another base than model.name {source.name}: run 'dvc repro'")
    return load_adapter(load_model(source, dtype), folder).merge_and_unload()


def main() -> str:
    request = read_json(Path(sys.argv[1]))
    params = load_params()
    clips = [clip for clip in read_clips(paths.SPLIT / "test.jsonl") if clip.id in set(request["clips"])]
    if missing := set(request["clips"]) - {clip.id for clip in clips}:
        raise UserError(f"clip {min(missing)} was evaluated, but is no test clip now: run 'dvc repro'")
    folders, merge_into = [Path(folder) for folder in request["models"]], request["merge_into"]
    replies = []
    while folders:
        folder = folders.pop(0)
        with enough_memory("use a machine with more, or set model.dtype to bfloat16"):
            model = load_published(folder, params.model)
            processor = load_processor(ModelSource(folder.name, None, folder, ""))
            collator = Collator(processor, read_sizes(model.config, processor), paths.PREPARED)
            texts = transcribe(model, collator, clips, params.evaluate.batch_size, progress="check before publishing")
        replies.append({clip.id: text for clip, text in zip(clips, texts, strict=True)})
        if merge_into:
            with whole_folder(Path(merge_into)) as merged:
                model.save_pretrained(merged)
                processor.save_pretrained(merged)
            folders.append(Path(merge_into))
            merge_into = None
        del model  # before the next one is loaded
    write_json(Path(request["reply"]), replies)
    return f"{counted(len(replies), 'model')} loaded, and heard {counted(len(clips), 'test clip')}"


if __name__ == "__main__":
    run("push", main)

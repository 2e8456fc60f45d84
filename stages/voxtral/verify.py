"""Load models from the files to be published, and transcribe test clips with each.

A process of its own, so that it has the files alone, like somebody who downloads them. stages/hub/release.py starts it
with a request (JSON): `models` (folders), `clips` (ids), `merge_into` (folder or null: the first model, its adapter
merged into the base, is written there and is loaded as well), `reply` (file for a list of {id: text}).
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
from stages.voxtral.collation import Collator
from stages.voxtral.loading import enough_memory, find_model, load_processor, read_sizes, resolve_dtype
from stages.voxtral.models import check_base, folder_source, is_adapter, open_model, open_tuned
from stages.voxtral.transcription import transcribe


def open_published(folder: Path, params: ModelParams) -> tuple[nn.Module, Collator]:
    """The model that a folder's files make, an adapter merged into its base.

    Raises: UserError if an adapter was trained from another base than model.name.
    """
    dtype = resolve_dtype(params.dtype)
    if not is_adapter(folder):
        return open_model(folder_source(folder), dtype)
    source = find_model(params)
    check_base(source)
    model, _ = open_model(source, dtype)
    processor = load_processor(folder_source(folder))
    collator = Collator(processor, read_sizes(model.config, processor))
    return open_tuned(folder, model, dtype).merge_and_unload(), collator


def main() -> str:
    request = read_json(Path(sys.argv[1]))
    params = load_params()
    clips = [clip for clip in read_clips(paths.SPLIT / "test.jsonl") if clip.id in set(request["clips"])]
    if missing := set(request["clips"]) - {clip.id for clip in clips}:
        raise UserError(f"clip {min(missing)} was evaluated, but is not a test clip now: run 'dvc repro'")
    folders, merge_into = [Path(folder) for folder in request["models"]], request["merge_into"]
    replies = []
    while folders:
        folder = folders.pop(0)
        with enough_memory("use a machine with more, or set model.dtype to bfloat16"):
            model, collator = open_published(folder, params.model)
            texts = transcribe(model, collator, clips, params.evaluate.batch_size, progress="check before publishing")
        replies.append({clip.id: text for clip, text in zip(clips, texts, strict=True)})
        if merge_into:
            with whole_folder(Path(merge_into)) as merged:
                model.save_pretrained(merged)
                collator.processor.save_pretrained(merged)
            folders.append(Path(merge_into))
            merge_into = None
        del model  # before the next one is loaded
    write_json(Path(request["reply"]), replies)
    return f"{counted(len(replies), 'model')} loaded, and heard {counted(len(clips), 'test clip')}"


if __name__ == "__main__":
    run("push", main)

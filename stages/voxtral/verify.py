"""Load models from the files to be published, and run each over test clips and what the evaluation heard in them.

A process of its own, so that it has the files alone, like somebody who downloads them. stages/hub/release.py starts it
with a request (JSON): `models` (folders), `clips` ({id: tokens}), `merge_into` (folder or null: the first model, its
adapter merged into the base, is written there and is loaded as well), `reply` (file for a list of
{id: {"text", "logits"}}: the tokens as these files' processor reads them, and each token's logit).
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn
from tqdm import tqdm

from stages.common import paths
from stages.common.files import read_json, whole_folder, write_json
from stages.common.params import Params, load_params
from stages.common.plurals import counted
from stages.common.stage import UserError, run
from stages.speech.clips import read_clips
from stages.voxtral.collation import Collator
from stages.voxtral.loading import enough_memory, find_model, free, load_processor, read_sizes
from stages.voxtral.models import check_base, folder_source, is_adapter, open_model, open_tuned
from stages.voxtral.precision import evaluated_precision
from stages.voxtral.transcription import logits_of, text_of


def open_published(folder: Path, params: Params) -> tuple[nn.Module, Collator]:
    """The model that a folder's files make, in the evaluation's precision.

    Raises: UserError if an adapter was trained from another base than model.name.
    """
    source = find_model(params.model)
    precision = evaluated_precision(params)
    with enough_memory(precision.memory_remedy()):
        if not is_adapter(folder):
            return open_model(folder_source(folder), precision.dtype, precision.four_bit)
        check_base(source)
        model, _ = open_model(source, precision.dtype, precision.four_bit)
    processor = load_processor(folder_source(folder))
    collator = Collator(processor, read_sizes(model.config, processor))
    return open_tuned(folder, model, precision.dtype), collator


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
        model, collator = open_published(folder, params)
        reply = {}
        with enough_memory("close other programs that use the GPU"):
            for clip in tqdm(clips, desc="check before publishing", unit="clip"):
                tokens = request["clips"][clip.id]
                reply[clip.id] = {
                    "text": text_of(collator, tokens),
                    "logits": logits_of(model, collator, clip, tokens),
                }
        replies.append(reply)
        if merge_into:
            model = model.merge_and_unload()
            with whole_folder(Path(merge_into)) as merged:
                model.save_pretrained(merged)
                collator.processor.save_pretrained(merged)
            folders.append(Path(merge_into))
            merge_into = None
        free(model)
    write_json(Path(request["reply"]), replies)
    return f"{counted(len(replies), 'model')} loaded, and heard {counted(len(clips), 'test clip')}"


if __name__ == "__main__":
    run("push", main)

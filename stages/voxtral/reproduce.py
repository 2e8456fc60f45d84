"""Load a model from the files that would be published, and hear test clips with it.

A process of its own: what it can do, somebody who downloads the files can do too. Started by stages/hub/artefact.py
with a request (JSON): `model` (folder), `clips` (ids), `merge_into` (folder or null), `reply` (file for {id: text}).
"""

from __future__ import annotations

import sys
from pathlib import Path

from stages.pipeline import paths
from stages.pipeline.files import read_json, whole_folder, write_json
from stages.pipeline.params import load_params
from stages.pipeline.stage import UserError, run
from stages.pipeline.wording import counted
from stages.speech.clips import read_clips
from stages.voxtral.adapters import ADAPTER_CONFIG, load_adapter
from stages.voxtral.loading import (
    ModelSource,
    enough_memory,
    find_model,
    load_model,
    load_processor,
    read_sizes,
    resolve_dtype,
)
from stages.voxtral.prompts import Prompter
from stages.voxtral.transcription import transcribe


def main() -> str:
    request = read_json(Path(sys.argv[1]))
    params = load_params()
    folder = Path(request["model"])
    clips = [clip for clip in read_clips(paths.SPLIT / "test.jsonl") if clip.id in set(request["clips"])]
    if missing := set(request["clips"]) - {clip.id for clip in clips}:
        raise UserError(f"clip {min(missing)} was evaluated, but is no test clip now: run 'dvc repro'")
    files = ModelSource(folder.name, None, folder, "")
    processor = load_processor(files)
    dtype = resolve_dtype(params.model.dtype)
    with enough_memory("use a machine with more, or set model.dtype to bfloat16"):
        if (folder / ADAPTER_CONFIG).exists():
            source = find_model(params.model)
            if read_json(paths.CHECKPOINTS / "training.json")["base_model_identity"] != source.identity:
                raise UserError(
                    f"the adapter was trained on another base than model.name {source.name}: run 'dvc repro'"
                )
            model = load_adapter(load_model(source, dtype), folder).merge_and_unload()
        else:
            model = load_model(files, dtype)
        prompter = Prompter(processor, read_sizes(model.config, processor), paths.PREPARED)
        texts = transcribe(model, prompter, clips, params.evaluate.batch_size, progress="check before publishing")
    if request["merge_into"]:
        with whole_folder(Path(request["merge_into"])) as merged:
            model.save_pretrained(merged)
            processor.save_pretrained(merged)
    write_json(Path(request["reply"]), {clip.id: text for clip, text in zip(clips, texts, strict=True)})
    return f"the files load, and heard {counted(len(clips), 'test clip')}"


if __name__ == "__main__":
    run("push", main)

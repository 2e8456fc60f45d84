"""What the base model hears, for `make align` and `make review`: each transcript is made once and kept in the cache.

The model is loaded only if a transcript is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version

import numpy as np

from stages.common.cache import ContentCache
from stages.common.code import code_hash
from stages.common.params import ModelParams
from stages.common.plurals import counted
from stages.speech.clips import Clip
from stages.voxtral.loading import device_name, enough_memory, find_model, resolve_dtype
from stages.voxtral.models import open_model
from stages.voxtral.transcription import transcribe

KEPT_AT_ONCE = 512  # transcripts that an interrupted run may lose


def base_transcripts(
    clips: Sequence[Clip],
    sound_keys: Sequence[Mapping],
    sound_of: Callable[[Clip], np.ndarray],
    model_params: ModelParams,
    batch_size: int,
) -> list[str]:
    """What the base model hears in each clip, in the order given; with a progress bar.

    sound_keys: everything that determines each clip's sound, the cache's key. sound_of: a clip's samples [frames].
    Raises: UserError if the model cannot be found or loaded, or a clip is longer than it reads.
    """
    source = find_model(model_params)
    made_by = {
        "model": source.identity,
        "dtype": str(resolve_dtype(model_params.dtype)),
        "device": device_name(),
        "code": code_hash("stages.voxtral.base_transcripts"),
        "libraries": [version(package) for package in ("torch", "transformers", "mistral-common")],
    }
    keys = [
        {**made_by, "sound": sound, "language": clip.language} for sound, clip in zip(sound_keys, clips, strict=True)
    ]
    cache = ContentCache("base-transcripts")
    entries = [cache.read(key) for key in keys]
    missing = [index for index, entry in enumerate(entries) if entry is None]
    print(f"base model: {len(clips) - len(missing)} of {counted(len(clips), 'transcript')} in the cache", flush=True)
    if missing:
        model, collator = open_model(source, resolve_dtype(model_params.dtype))
        collator = replace(collator, samples_of=sound_of)
        collator.check_lengths([clips[index] for index in missing])
    for done in range(0, len(missing), KEPT_AT_ONCE):
        part, title = missing[done : done + KEPT_AT_ONCE], f"base model, {done} of {len(missing)} done"
        with enough_memory("halve evaluate.batch_size"):
            heard = [clips[index] for index in part]
            texts = transcribe(model, collator, heard, batch_size, progress=title)
        for index, text in zip(part, texts, strict=True):
            entries[index] = text.encode()
            cache.write(keys[index], entries[index])
    return [entry.decode() for entry in entries]

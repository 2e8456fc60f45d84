"""What the base model and the tuned one hear in the test clips, for the evaluation: in the same way and precision."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version

from stages.common import paths
from stages.common.cache import ContentCache
from stages.common.code import code_hash
from stages.common.files import sha256_of_file
from stages.common.plurals import counted
from stages.speech import prepared
from stages.speech.clips import Clip
from stages.voxtral import processes
from stages.voxtral.collation import Collator
from stages.voxtral.loading import ModelSource, VoxtralForConditionalGeneration, device_name, enough_memory, free
from stages.voxtral.models import BEST, is_adapter, open_model, open_tuned
from stages.voxtral.precision import Precision
from stages.voxtral.transcription import transcripts_of


def transcribe_timed(
    model: VoxtralForConditionalGeneration, collator: Collator, clips: Sequence[Clip], batch_size: int, title: str
) -> list[dict]:
    """[{"text", "tokens", "logits", "seconds"}] of each clip; seconds: the mean over all clips."""
    began_s = time.monotonic()
    transcripts = transcripts_of(model, collator, clips, batch_size, progress=title)
    seconds = (time.monotonic() - began_s) / max(len(clips), 1)
    return [asdict(transcript) | {"seconds": seconds} for transcript in transcripts]


def transcribe_base(
    model: VoxtralForConditionalGeneration,
    collator: Collator,
    clips: Sequence[Clip],
    batch_size: int,
    identity: str,
    precision: Precision,
    title: str = "base model",
) -> list[dict]:
    """As transcribe_timed, from the cache if this model has transcribed the same clips before.

    All clips are one entry: in half precision a transcript can depend on the other clips of its batch.
    """
    cache = ContentCache("base-predictions")
    key = {
        "model": identity,
        "precision": precision.facts(),
        "device": device_name(),
        "batch_size": batch_size,
        "processes": processes.world_size(),
        "clips": [
            [prepared.sha256(paths.PREPARED / clip.audio_path), clip.language, clip.duration_s] for clip in clips
        ],
        "code": code_hash("stages.voxtral.transcription"),
        "libraries": [version(package) for package in ("torch", "transformers", "mistral-common", "bitsandbytes")],
    }
    entry = cache.read(key)
    # Each process must take the same way: together they transcribe, or none does.
    if all(processes.gather({processes.rank(): entry is not None}).values()):
        if clips:
            known = counted(len(clips), "transcript")
            print(f"evaluate: {known} of the base model from the cache", flush=True)
        return json.loads(entry)
    made = transcribe_timed(model, collator, clips, batch_size, title)
    cache.write(key, json.dumps(made).encode())
    return made


def transcribe_all(
    source: ModelSource, precision: Precision, quantisation: str | None, parts: Sequence[list[Clip]], batch_size: int
) -> dict[str, list[list[dict]]]:
    """{model: what it heard in each part's clips}, as transcribe_timed; base and tuned in the same precision.

    quantisation: the training's. parts: transcribed apart, so that no clip of one shares a batch with another's.
    """
    # What the training began with: a base in 4 bits may answer what is said instead of writing it down.
    bases = {"base_quantised": replace(precision, four_bit=True)} if quantisation and not precision.four_bit else {}
    heard = {}
    for name, how in (bases | {"base": precision}).items():
        with enough_memory(how.memory_remedy()):
            model, collator = open_model(source, how.dtype, how.four_bit)
        collator.check_lengths([clip for part in parts for clip in part])
        title = "base model" if name == "base" else quantisation
        with enough_memory(how.memory_remedy(batch_size)):
            heard[name] = [
                transcribe_base(model, collator, part, batch_size, source.identity, how, title) for part in parts
            ]
        if name != "base" or not is_adapter(BEST):
            free(model)
    with enough_memory(precision.memory_remedy()):
        model = open_tuned(BEST, model, precision.dtype, precision.four_bit)
    with enough_memory(precision.memory_remedy(batch_size)):
        heard["tuned"] = [transcribe_timed(model, collator, part, batch_size, "tuned model") for part in parts]
    return heard


def what_was_evaluated(clips: Sequence[Clip], tuned: Sequence[dict]) -> dict:
    """evaluated.json."""
    return {
        "weights": {path.name: sha256_of_file(path) for path in sorted(BEST.glob("*.safetensors"))},
        "clips": [
            {"id": clip.id, "tokens": made["tokens"], "logits": [round(logit, 5) for logit in made["logits"]]}
            for clip, made in zip(clips, tuned, strict=True)
        ],
    }

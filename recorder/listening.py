"""The half of "Try it" that holds the models, in the process that recorder/listener.py starts; says there how it talks.

Transcribes as the evaluation does, by the same functions: sound as prepare writes it, one clip at a time. Only the
adapter is switched on and off instead of merged, so that base and tuned model share one copy of the weights.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import threading
import time
import warnings
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
from torch import nn

from recorder.listener import Loaded
from stages.common import paths
from stages.common.files import read_json, sha256_of_file
from stages.common.params import ModelParams, load_params
from stages.common.stage import UserError
from stages.speech import audio
from stages.speech.clips import Clip
from stages.speech.languages import is_accepted
from stages.voxtral import encoder_cache
from stages.voxtral.collation import Collator
from stages.voxtral.loading import enough_memory, find_model, resolve_dtype
from stages.voxtral.models import BEST, check_base, is_adapter, open_model, open_tuned
from stages.voxtral.transcription import transcribe

TRAINING = paths.CHECKPOINTS / "training.json"
MEMORY_REMEDY = "close other programs that use the GPU, or wait until the training has ended"

_folder_use = threading.Lock()  # so that nothing is written into the folder once it is removed


@dataclass(frozen=True)
class Models:
    """Base and tuned model, one and the same object where an adapter is switched off and on; tuned None: not yet."""

    base: nn.Module
    tuned: nn.Module | None
    collator: Collator
    loaded: Loaded


def load_models(folder: Path) -> Models:
    """The models of data/checkpoints, or the base model of params.yaml where nothing is trained yet.

    folder: where the sounds will lie.
    Raises: UserError where a model is missing, or is not the one that the tuned one was trained from.
    """
    params = load_params().model
    training = read_json(TRAINING) if TRAINING.exists() else None
    source = find_model(base_of(training, params) if training else params)
    if training:
        check_base(source)
    dtype = resolve_dtype(params.dtype)
    model, collator = open_model(source, dtype, folder)
    if training is None:
        return Models(model, None, collator, Loaded(source.name, None, source.identity))
    identity = f"{source.identity} training:{sha256_of_file(TRAINING)}"
    tuned = open_tuned(BEST, model, dtype)
    if is_adapter(BEST):
        if "encoder" not in training["adapted_layers"]:
            encoder_cache.remember_last_sound(tuned)
        return Models(tuned, tuned, collator, Loaded(source.name, "LoRA adapter", identity))
    return Models(model, tuned, collator, Loaded(source.name, "full fine-tuning", identity))


def base_of(training: dict, params: ModelParams) -> ModelParams:
    """The base model that a training names, whatever params.yaml has been changed to since.

    Of a folder elsewhere on this machine it names the last part alone; params.yaml still knows the way there.
    """
    name, revision = training["base_model"], training["settings"]["model"]["revision"]
    folder = Path(params.name)
    if folder.is_dir() and folder.resolve().name == name:
        name = params.name
    return ModelParams(name=name, revision=revision, dtype=params.dtype)


def transcribe_both(models: Models, content: bytes, language: str | None) -> dict:
    """An answer to the page: {"base", "tuned", "seconds"}.

    Raises: UserError where the content is no sound, or longer than the model can read at once.
    """
    began_s = time.monotonic()
    if language is not None and not is_accepted(language):
        raise UserError(f"{language!r} is no language code such as en, de or hi.")
    try:
        samples, sample_rate_hz = audio.decode(content)
    except audio.UnreadableSound as error:
        raise UserError(f"This recording cannot be heard ({error}).") from None
    if not np.isfinite(samples).all():
        raise UserError("There is no sound in this recording. Record or export it again.")
    mono = audio.to_mono_16k(samples, sample_rate_hz, "mix")  # nothing is learned from it
    figures = {**audio.measure(mono), "clipped_fraction": audio.clipped_fraction(samples)}
    clip = Clip(
        id="recording",
        audio_path="recording.flac",
        text="",
        language=language,
        source="try it",
        recorded_file="recording",
        **figures,
    )
    collator = models.collator
    try:
        collator.check_lengths([clip])
    except UserError:
        raise UserError(f"{clip.duration_s:.0f} seconds are too long for the model. Say less at a time.") from None
    prepared = collator.folder / clip.audio_path
    try:
        with _folder_use:
            prepared.write_bytes(audio.encode_flac(mono))
        with enough_memory(MEMORY_REMEDY):
            with models.base.disable_adapter() if models.base is models.tuned else contextlib.nullcontext():
                [base] = transcribe(models.base, collator, [clip], batch_size=1)
            tuned = transcribe(models.tuned, collator, [clip], batch_size=1)[0] if models.tuned else None
    finally:
        prepared.unlink(missing_ok=True)
    return {"base": base, "tuned": tuned, "seconds": round(time.monotonic() - began_s, 2)}


def serve(requests: IO[bytes], answers: IO[bytes], folder: Path, idle_s: float) -> NoReturn:
    """Load, then answer one request after the other, until the input ends or none has come for `idle_s`."""
    warnings.simplefilter("ignore", FutureWarning)  # of libraries to each other; exact versions are pinned
    waiting: queue.Queue[dict] = queue.Queue()
    threading.Thread(target=_receive, args=(requests, waiting, folder), daemon=True).start()

    def say(answer: dict) -> None:
        with contextlib.suppress(BrokenPipeError):  # the page's server is gone; _receive knows it too, and ends this
            answers.write(json.dumps(answer).encode() + b"\n")

    _log("loading")
    try:
        with enough_memory(MEMORY_REMEDY):
            models = load_models(folder)
    except UserError as error:
        say({"error": str(error)})
        _leave(folder, f"not loaded: {error}", exit_code=1)
    say({"ready": True, **asdict(models.loaded)})
    _log(f"loaded {models.loaded}")
    while True:
        try:
            request = waiting.get(timeout=idle_s)
        except queue.Empty:
            _leave(folder, f"no request for {idle_s:g} s")
        sound = Path(request["audio"])
        try:
            content = sound.read_bytes()
            sound.unlink()
            say(transcribe_both(models, content, request["language"]))
        except UserError as error:
            say({"error": str(error)})
        except OSError as error:
            say({"error": f"The recording could not be kept for the model: {error.strerror}. Make room and try again."})


def _receive(requests: IO[bytes], waiting: queue.Queue[dict], folder: Path) -> None:
    """Read requests; at their end, whatever is going on, end the process. Runs in a thread."""
    for line in requests:
        waiting.put(json.loads(line))
    _leave(folder, "the page's server has ended")


def _leave(folder: Path, why: str, exit_code: int = 0) -> NoReturn:
    """End the process from any thread, leaving no sound behind."""
    with _folder_use:
        try:
            shutil.rmtree(folder, ignore_errors=True)
            _log(why)
        finally:
            os._exit(exit_code)


def _log(words: str) -> None:
    print(f"{datetime.now():%Y-%m-%d %H:%M:%S} listener {os.getpid()}: {words}", flush=True)

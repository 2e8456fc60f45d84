"""The models: found on the Hub or in a folder, loaded, and run.

A repository holds adapter_config.json (an adapter on a base model), config.json (a whole model) or merged/config.json
(a whole model with its adapter in it). Only safetensors are read. All sizes come from the model.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

try:
    import spaces  # on a ZeroGPU Space, where it must come before torch
except ImportError:
    spaces = None

import numpy as np
import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import AutoProcessor, VoxtralForConditionalGeneration, VoxtralProcessor

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# No speech is denser: 6 words a second, 4 tokens a word.
MAX_TOKENS_PER_S = 24
SPARE_TOKENS = 16
# A transcript whose last 48 tokens repeat the same 1 to 12 tokens is in an endless loop.
LONGEST_PERIOD = 12
LOOP_TOKENS = 48
# Time on ZeroGPU's card with the 3B, reasoned from its sizes and not measured, with room. Starting: 9.4 GB of weights
# are moved there. A part: the sound's spectrum on the CPU, and 5 TFLOP of encoder and prompt. A token: 7.2 GB of
# decoder are read (5 ms), while Python starts the kernels of 30 layers and their adapters one by one (30 ms).
START_S, PART_S, TOKEN_S = 10, 0.5, 0.04
# A visitor without an account has 2 minutes a day (the Hub's page on ZeroGPU): nobody could start a longer call.
LONGEST_CALL_S = 120
# Memory beside the weights: Python with its libraries, and a recording's own numbers.
SPARE_BYTES = 2e9
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of the container, cgroup v2
# On a CPU a larger model needs more than seconds for a sentence.
QUICK_PARAMETERS = 1e8

transformers.utils.logging.set_verbosity_error()


class SetupError(Exception):
    """Why there is no model, and how to fix it, in a sentence."""


def on_gpu(seconds: Callable[..., int]) -> Callable[[Callable], Callable]:
    """Decorator of a function that needs the GPU; `seconds` of its arguments says for how long."""
    return spaces.GPU(duration=seconds) if spaces else lambda function: function


@dataclass(frozen=True)
class Heard:
    """A transcript, and whether a part of it was cut off because it repeated itself."""

    text: str
    looped: bool


@dataclass(frozen=True)
class Recogniser:
    """A model with its processor; the base and the tuned one may share a model, the base without its adapter."""

    name: str
    model: nn.Module
    processor: VoxtralProcessor
    without_adapter: bool = False

    @property
    def sample_rate_hz(self) -> int:
        return self._audio.sampling_rate

    @property
    def is_slow(self) -> bool:
        """Whether a sentence takes minutes: a large model without a graphics card."""
        return (
            self.model.device.type == "cpu" and sum(one.numel() for one in self.model.parameters()) > QUICK_PARAMETERS
        )

    @property
    def window_samples(self) -> int:
        """Samples that the encoder hears at once."""
        return round(self._audio.chunk_length_s * self._audio.sampling_rate)

    @property
    def _audio(self):
        return self.processor.tokenizer.tokenizer.instruct_tokenizer.audio_encoder.audio_config

    def transcribe(self, parts: Sequence[np.ndarray], language: str | None) -> Heard:
        """What the model hears in the parts of a recording, [frames] each.

        language: ISO 639-1 code; None lets the model find out.
        """
        heard = [self._transcribe_part(part, language) for part in parts]
        return Heard(" ".join(one.text for one in heard if one.text), any(one.looped for one in heard))

    def _transcribe_part(self, part: np.ndarray, language: str | None) -> Heard:
        inputs = self.processor.apply_transcription_request(
            audio=[part],
            language=[language],
            model_id=self.name,
            sampling_rate=self.sample_rate_hz,
            format=["WAV"],
            audio_kwargs={
                "pad_to_multiple_of": self.window_samples,
                "max_source_positions": self.window_samples // self.processor.feature_extractor.hop_length,
            },
        ).to(self.model.device, dtype=self.model.dtype)
        prompt_length = inputs["input_ids"].shape[1]

        def is_looped(input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
            return torch.tensor([loop_period(input_ids[0, prompt_length:].tolist()) > 0], device=input_ids.device)

        tokenizer = self.processor.tokenizer
        with torch.inference_mode(), self.model.disable_adapter() if self.without_adapter else contextlib.nullcontext():
            generated = self.model.generate(
                **inputs,
                max_new_tokens=most_tokens(len(part), self.sample_rate_hz),
                do_sample=False,
                num_beams=1,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                stopping_criteria=[is_looped],
            )
        tokens = generated[0, prompt_length:].tolist()
        period = loop_period(tokens)
        if period:
            tokens = tokens[: len(tokens) - LOOP_TOKENS + period]
        [text] = self.processor.batch_decode([tokens], skip_special_tokens=True)
        return Heard(strip_language_tag(text), bool(period))


def load(model: str, base: str | None = None) -> tuple[Recogniser | None, Recogniser]:
    """Base and tuned model; no base for a whole model unless `base` names one.

    model, base: a folder, or a Hub id with or without @REVISION. `base` overrides an adapter's own.
    Raises: SetupError.
    """
    found = Source.named(model)
    folder = found.fetch("*.json")
    is_adapter, has_merged = (folder / ADAPTER_CONFIG).is_file(), (folder / "merged/config.json").is_file()
    if is_adapter:
        settings = json.loads((folder / ADAPTER_CONFIG).read_text())
        own_base = Source(settings["base_model_name_or_path"] or "", settings.get("revision"))
        base_source = Source.named(base) if base else own_base
        # The base may be a folder of the machine that it was trained on: then only the merged model can be shown.
        if base_source.is_there() or not has_merged:
            return _load_adapter(found, folder, base_source)
        base = None
    inside = "" if (folder / "config.json").is_file() and not is_adapter else "merged/"
    if not (folder / inside / "config.json").is_file():
        raise SetupError(f"{model} holds no model: neither {ADAPTER_CONFIG} nor config.json, nor merged/config.json.")
    tuned = Recogniser(found.name, *_load_whole(found, inside, models=2 if base else 1))
    if base is None:
        return None, tuned
    base_found = Source.named(base)
    return Recogniser(base_found.name, *_load_whole(base_found, models=2)), tuned


@dataclass(frozen=True)
class Source:
    """A folder of this machine, or a repository on the Hub."""

    name: str
    revision: str | None

    @classmethod
    def named(cls, text: str) -> Source:
        """From "NAME" or "NAME@REVISION"."""
        name, _, revision = text.partition("@")
        return cls(name, revision or None)

    def fetch(self, *patterns: str) -> Path:
        """The folder with these files, downloaded if it is not here.

        Raises: SetupError if there is neither, or the Hub refuses or cannot be reached.
        """
        if Path(self.name).is_dir():
            return Path(self.name)
        try:
            return Path(snapshot_download(self.name, revision=self.revision, allow_patterns=list(patterns)))
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise SetupError(
                f"The model {self.name} was not found, neither as a folder nor on the Hub, or may not be read "
                f"({_one_line(error)}). Check its name; a private one needs the secret HF_TOKEN."
            ) from None

    def is_there(self) -> bool:
        try:
            return (self.fetch("config.json") / "config.json").is_file()
        except SetupError:
            return False


def _load_whole(source: Source, inside: str = "", models: int = 1) -> tuple[nn.Module, VoxtralProcessor]:
    """A whole model, in evaluation mode and on the GPU if there is one, and its processor.

    inside: "" or the folder within the repository, with a slash at its end. models: how many of this size there will be
    in memory.
    """
    # Leaves out the second copy of the weights in Mistral's own format, and anything pickled.
    folder = source.fetch(f"{inside}*.json", f"{inside}model*.safetensors") / inside
    try:
        processor = AutoProcessor.from_pretrained(folder)
        device, dtype = placement(models * _parameters_in(folder))
        model, info = VoxtralForConditionalGeneration.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
        model = model.eval().to(device)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise SetupError(f"The model {source.name} does not load: {_one_line(error)}") from None
    if not isinstance(processor, VoxtralProcessor):
        raise SetupError(f"The model {source.name} is not a Voxtral: its processor is {type(processor).__name__}.")
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(problem):
            raise SetupError(f"The model {source.name} has {problem.replace('_', ' ')}: its files do not match.")
    return model, processor


def _parameters_in(folder: Path) -> int:
    """Number of weights in a folder's safetensors."""
    count = 0
    for path in folder.glob("model*.safetensors"):
        with safe_open(path, "pt") as weights:
            count += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return count


def placement(parameters: int) -> tuple[str, torch.dtype]:
    """Device and precision for models of so many parameters together.

    bfloat16 on a GPU, float16 on one that lacks it (Turing, such as a T4). On a CPU float32, or bfloat16 if that alone
    fits into the memory.
    Raises: SetupError if the memory is too small for either.
    """
    if os.environ.get("SPACES_ZERO_GPU"):  # while this module is imported its GPU is emulated: no question is answered
        return "cuda", torch.bfloat16
    if torch.cuda.is_available():
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return "cuda", torch.bfloat16 if has_bfloat16 else torch.float16
    available = memory_bytes()
    for dtype in (torch.float32, torch.bfloat16):
        needed = parameters * dtype.itemsize + SPARE_BYTES
        if needed <= available:
            return "cpu", dtype
    raise SetupError(
        f"The model needs {needed / 1e9:.1f} GB of memory, and this machine has {available / 1e9:.1f} GB: choose a "
        f"larger machine, or one with a GPU."
    )


def memory_bytes() -> int:
    """Memory of this machine, or of the container that this runs in if it has less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(machine, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return machine


def _load_adapter(source: Source, folder: Path, base_source: Source) -> tuple[Recogniser, Recogniser]:
    """One model in memory: the base is the tuned one with its adapter switched off."""
    model, processor = _load_whole(base_source)
    weights = source.fetch("*.json", ADAPTER_WEIGHTS) / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise SetupError(f"The adapter {source.name} holds no {ADAPTER_WEIGHTS}.")
    try:
        adapted = get_peft_model(model, PeftConfig.from_pretrained(folder))
        saved = load_file(weights)
    except (ValueError, TypeError, SafetensorError) as error:
        raise SetupError(f"The adapter {source.name} does not load: {_one_line(error)}") from None
    # PEFT only warns of unknown tensors, and would continue with untrained ones.
    expected = get_peft_model_state_dict(adapted)
    if {name: tensor.shape for name, tensor in saved.items()} != {name: part.shape for name, part in expected.items()}:
        raise SetupError(f"The adapter {source.name} was not made for {base_source.name}: its tensors do not match.")
    set_peft_model_state_dict(adapted, saved)
    adapted = adapted.eval().to(model.device)
    return (
        Recogniser(base_source.name, adapted, processor, without_adapter=True),
        Recogniser(source.name, adapted, processor),
    )


def gpu_seconds(samples: Sequence[int], sample_rate_hz: int, models: int) -> int:
    """Seconds of a GPU to ask ZeroGPU for, which ends the call after them; who asks for fewer waits less.

    samples: of each part of a recording. Enough for each model to write as many tokens as it may, as in a loop that
    nothing else ends: with two models 19 s for a recording of 3 s, 70 s for one of 30 s. From 55 s of sound on that
    would be too long a call; LONGEST_CALL_S is then enough for fast speech (6 tokens a second: 104 s for 3 minutes) and
    for loops that are recognised.
    """
    tokens = sum(most_tokens(part, sample_rate_hz) for part in samples)
    of_one_model = PART_S * len(samples) + TOKEN_S * tokens
    return min(math.ceil(START_S + models * of_one_model), LONGEST_CALL_S)


def most_tokens(samples: int, sample_rate_hz: int) -> int:
    """Tokens that a part of a recording may have, from its length."""
    return int(MAX_TOKENS_PER_S * samples / sample_rate_hz) + 1 + SPARE_TOKENS


def loop_period(tokens: Sequence[int]) -> int:
    """Number of tokens that the end of a transcript repeats again and again; 0: it does not."""
    end = list(tokens[-LOOP_TOKENS:])
    if len(end) < LOOP_TOKENS:
        return 0
    return next((period for period in range(1, LONGEST_PERIOD + 1) if end[period:] == end[:-period]), 0)


def strip_language_tag(text: str) -> str:
    """A transcript without the `lang:de` that a model may begin with if it is told no language."""
    return re.sub(r"^\s*lang:[a-z]{2}\s*", "", text).strip()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

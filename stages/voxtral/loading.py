"""Finding a Voxtral on this machine or on the Hub, and loading it with its processor.

All sizes (window, frames, audio tokens, ids) are read here, from the loaded configuration.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import peft.import_utils
import psutil
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoProcessor,
    BitsAndBytesConfig,
    VoxtralConfig,
    VoxtralForConditionalGeneration,
    VoxtralProcessor,
)
from transformers.utils import is_bitsandbytes_available
from transformers.utils import logging as transformers_logging

from stages.common.files import sha256_of_file
from stages.common.params import ModelParams
from stages.common.stage import UserError

# What transformers needs, without the second copy of the weights in Mistral's format and without pickles.
MODEL_FILES = ["*.json", "model*.safetensors"]
FOLDER = "folder:"  # begins the identity of a model in a folder
# The encoder's second convolution halves the mel frames.
FRAMES_PER_POSITION = 2
FOUR_BITS = "4 bits (NF4)"  # the decoder's linear layers

transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


@dataclass(frozen=True)
class ModelSource:
    """Where a model's files are, and `identity`, which changes with any of them."""

    name: str
    revision: str | None
    folder: Path
    identity: str


@dataclass(frozen=True)
class Sizes:
    """What a model expects of its input, read from its configuration."""

    window_samples: int  # of one encoder window
    window_frames: int  # mel frames of one window
    eos_token_id: int
    pad_token_id: int
    max_positions: int  # longest sequence of the decoder, in tokens


def find_model(params: ModelParams) -> ModelSource:
    """A folder on this machine, or the Hub's files of a name and revision, downloaded once.

    Raises: UserError for a missing folder, an unknown or closed repository, no network.
    """
    folder = Path(params.name)
    if folder.is_dir():
        # Results that may be published name the model, but no path on this machine.
        name = folder.resolve().name if folder.is_absolute() or ".." in folder.parts else params.name
        return ModelSource(name, None, folder, _identity_of(folder))
    snapshot = _download(params, MODEL_FILES)
    commit = snapshot.name
    return ModelSource(params.name, commit, snapshot, f"{params.name}@{commit}")


def read_config(params: ModelParams) -> VoxtralConfig:
    """The model's configuration; of a Hub model, a few kB are downloaded.

    Raises: UserError as find_model, and for another kind of model.
    """
    folder = Path(params.name) if Path(params.name).is_dir() else _download(params, ["config.json"])
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        raise UserError(f"model.name {params.name}: not a Voxtral: {_one_line(error)}") from None
    if not isinstance(config, VoxtralConfig):
        raise UserError(f"model.name {params.name}: not a Voxtral (its configuration is {type(config).__name__})")
    return config


def _download(params: ModelParams, files: list[str]) -> Path:
    """The folder with these files of a Hub model, downloaded once.

    Raises: UserError as find_model.
    """
    no_model = UserError(f"model.name {params.name}: no such folder, and not a Hub id (USER/NAME)")
    if "/" not in params.name:
        raise no_model
    try:
        snapshot = snapshot_download(params.name, revision=params.revision, allow_patterns=files)
    except HFValidationError:
        raise no_model from None
    except RepositoryNotFoundError:
        raise UserError(
            f"model.name {params.name}: neither a folder here nor a repository on the Hub that you may read: check the "
            f"name, or accept its terms on the Hub and log in with 'hf auth login'"
        ) from None
    except LocalEntryNotFoundError:
        raise UserError(
            f"model.name {params.name}: not on this machine, and the Hub cannot be reached: check the network, or set "
            f"model.name to a folder such as data/demo/voxtral-tiny"
        ) from None
    except (httpx2.HTTPError, OSError) as error:
        raise UserError(
            f"model.name {params.name}, model.revision {params.revision}: the download failed: {_one_line(error)}"
        ) from None
    return Path(snapshot)


def load_processor(source: ModelSource) -> VoxtralProcessor:
    """Tokenizer and feature extractor.

    Raises: UserError if the folder has another kind of model, or no tokenizer.
    """
    try:
        processor = AutoProcessor.from_pretrained(source.folder)
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        raise UserError(f"model.name {source.name}: its processor does not load: {_one_line(error)}") from None
    if not isinstance(processor, VoxtralProcessor):
        raise UserError(f"model.name {source.name}: not a Voxtral (its processor is {type(processor).__name__})")
    return processor


def load_model(
    source: ModelSource, dtype: torch.dtype, four_bit: bool = False, where: torch.device | None = None
) -> VoxtralForConditionalGeneration:
    """The model in `dtype`, for inference. Only safetensors are read, straight to where the weights belong.

    where: the device, this process' own if None; on meta, the weights have shapes only.
    four_bit: the decoder's linear layers in 4 bits (NF4, Dettmers et al. 2023, arXiv 2305.14314); encoder, projector
    and head stay as they are.
    Raises: UserError if weights are missing, unexpected or of another shape.
    """
    if four_bit:
        use_bitsandbytes()
    where = where or device()
    try:
        model, info = VoxtralForConditionalGeneration.from_pretrained(
            source.folder,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            quantization_config=_four_bit(dtype) if four_bit else None,
            device_map=None if where.type == "cpu" else {"": where},
        )
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise UserError(f"model.name {source.name}: its weights do not load: {_one_line(error)}") from None
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(problem):
            names = sorted(str(name) for name in info[problem])
            raise UserError(
                f"model.name {source.name}: {len(names)} {problem.replace('_', ' ')}, e.g. {names[0]}: "
                f"the weights do not belong to this configuration"
            )
    if four_bit:
        import bitsandbytes

        for module in model.modules():
            if isinstance(module, bitsandbytes.nn.Linear4bit):
                # Its fast path on some CPUs repacks the weights at the first use, and fails on widths such as 160.
                module.support_avx512bf16_for_cpu = False
    return model.eval()


def free(model: torch.nn.Module) -> None:
    """Give back the memory of a model's weights now, whatever still refers to the model (hooks, closures, caches)."""
    for module in model.modules():
        for weight in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            weight.data = torch.empty(0, dtype=weight.dtype, device=weight.device)
            if hasattr(weight, "quant_state"):  # of weights in 4 bits: their scales
                weight.quant_state = module.quant_state = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def read_sizes(config: AutoConfig, processor: VoxtralProcessor) -> Sizes:
    """All sizes that depend on the model."""
    audio = processor.tokenizer.tokenizer.instruct_tokenizer.audio_encoder.audio_config
    return Sizes(
        window_samples=round(audio.chunk_length_s * audio.sampling_rate),
        window_frames=FRAMES_PER_POSITION * config.audio_config.max_source_positions,
        eos_token_id=processor.tokenizer.eos_token_id,
        pad_token_id=processor.tokenizer.pad_token_id,
        max_positions=config.text_config.max_position_embeddings,
    )


def use_bitsandbytes() -> None:
    """Let transformers and peft find bitsandbytes, which stages/voxtral/__init__.py hides from them."""
    for check in (
        is_bitsandbytes_available,
        peft.import_utils.is_bnb_available,
        peft.import_utils.is_bnb_4bit_available,
    ):
        check.cache_clear()


def device() -> torch.device:
    """The GPU of this process, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def device_name() -> str:
    """The GPU's name, or cpu."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def total_memory_bytes() -> int:
    """All memory of this process' GPU, else this process' share of the machine's."""
    if device().type == "cuda":
        return torch.cuda.get_device_properties(device()).total_memory
    return psutil.virtual_memory().total // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


@contextlib.contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Turns running out of GPU memory into a UserError with what to do about it."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(f"the GPU's memory is too small: {remedy}") from None


def resolve_dtype(name: str) -> torch.dtype:
    """`model.dtype`; auto is bfloat16 on a GPU that computes in it, float16 on an older GPU, float32 on a CPU."""
    if name != "auto":
        return getattr(torch, name)
    return training_dtype(name) if device().type == "cuda" else torch.float32


def training_dtype(name: str) -> torch.dtype:
    """What training computes in for this `model.dtype`; unless that is float32, in mixed precision.

    bfloat16 on a machine that computes in it; else float16 on a GPU (Volta, Turing), float32 on a CPU, which would only
    be slower. float32 and float16 are taken at their word.
    """
    if name in ("float32", "float16"):
        return getattr(torch, name)
    if device().type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16", False) else torch.float32


def _four_bit(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["lm_head", "model.audio_tower", "model.multi_modal_projector"],
    )


def _identity_of(folder: Path) -> str:
    """sha256 over names and contents of a model folder's files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors")):
        digest.update(f"{path.name} {sha256_of_file(path)}\n".encode())
    return FOLDER + digest.hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

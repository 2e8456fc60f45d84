"""Several processes that train or transcribe together (accelerate): starting them, dividing work, gathering results.

With one process nothing here has an effect.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from stages.common.stage import UserError

LAUNCHED = "OWNVOICE_LAUNCHED"  # environment variable of the processes that accelerate has started
# FSDP 2 shards parameter by parameter: adapters and frozen weights may share a layer, which FSDP 1 refuses.
STRATEGIES = {
    "ddp": ["--multi_gpu"],
    "fsdp": [
        "--use_fsdp",
        "--fsdp_version=2",
        "--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP",
        "--fsdp_transformer_layer_cls_to_wrap=LlamaDecoderLayer",
        "--fsdp_state_dict_type=FULL_STATE_DICT",
    ],
}


def launch(stage: str, launcher: str) -> None:
    """Run `python -m stages.STAGE` again under accelerate if `train.launcher` asks for it.

    launcher: none, ddp, fsdp, or a file that `accelerate config --config_file` has written.
    Raises: UserError if the file is missing, or there is no GPU for ddp and fsdp.
    """
    if LAUNCHED in os.environ and not is_main():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  one process speaks; errors come from each
    if launcher == "none" or LAUNCHED in os.environ:
        return
    if launcher in STRATEGIES:
        gpus = torch.cuda.device_count()
        if gpus == 1:
            print(f"{stage}: train.launcher is {launcher}, but there is one GPU: one process", flush=True)
            return
        if not gpus:
            raise UserError(f"params.yaml: train.launcher is {launcher}, but this machine has no GPU: set it to none")
        how = [f"--num_processes={gpus}", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
        how += STRATEGIES[launcher]
    elif Path(launcher).is_file():
        how = [f"--config_file={launcher}"]
    else:
        raise UserError(
            f"params.yaml: train.launcher {launcher}: no such file; write one with 'accelerate config --config_file "
            f"{launcher}', or set it to none, ddp or fsdp"
        )
    os.environ[LAUNCHED] = "1"
    sys.stdout.flush()
    # Replaces this process, so that it still dies with DVC.
    os.execv(sys.executable, [sys.executable, "-m", "accelerate.commands.launch", *how, "-m", f"stages.{stage}"])


def is_main() -> bool:
    """Whether this is the process that writes files and prints."""
    return _state().is_main_process


def rank() -> int:
    return _state().process_index


def world_size() -> int:
    return _state().num_processes


def is_sharded() -> bool:
    """Whether the trained model is sharded (FSDP): every process must run it at the same time."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def wait_for_all() -> None:
    _state().wait_for_everyone()


def shard(items: Sequence) -> Sequence:
    """This process' share: every N-th item, starting with its rank."""
    state = _state()
    return items[state.process_index :: state.num_processes]


def gather(own: dict) -> dict:
    """The entries of all processes, in each of them."""
    if world_size() == 1:
        return own
    together: dict = {}
    for part in gather_object([own]):
        together |= part
    return together


def _state() -> PartialState:
    return PartialState(cpu=not torch.cuda.is_available())

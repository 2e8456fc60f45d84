"""Several processes that train or transcribe together (accelerate): starting them, dividing work, gathering results.

With one process nothing here has an effect.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import enable_fsdp_ram_efficient_loading, gather_object
from torch import nn
from torch.distributed.fsdp import FSDPModule

from stages.common.stage import UserError
from stages.voxtral.batches import in_batches

LAUNCHED = "OWNVOICE_LAUNCHED"  # environment variable of the processes that accelerate has started
# FSDP 2 shards parameter by parameter: adapters and frozen weights may share a layer, which FSDP 1 refuses.
STRATEGIES = {
    "ddp": ["--multi_gpu"],
    "fsdp": [
        "--use_fsdp",
        "--fsdp_version=2",
        "--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP",
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


def uses_fsdp() -> bool:
    """Whether a model that is trained will be sharded."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true" and world_size() > 1


def is_sharded(model: nn.Module) -> bool:
    """Whether each process has a part of the model: each pass needs all of them, so all must run it equally often."""
    return isinstance(model, FSDPModule)


def device_before_sharding() -> torch.device:
    """Where to load a model that accelerate will shard: in the memory of one process of each machine, from which it is
    sent to all GPUs shard by shard. The others need its shapes only (meta).
    """
    enable_fsdp_ram_efficient_loading()
    return torch.device("cpu" if _state().is_local_main_process else "meta")


def shard_by_layer(model: nn.Module) -> None:
    """Let accelerate shard each layer of this model by itself, unless the launcher's file says which."""
    layers = {type(layer).__name__ for part in model.modules() if isinstance(part, nn.ModuleList) for layer in part}
    os.environ.setdefault("FSDP_TRANSFORMER_CLS_TO_WRAP", ",".join(sorted(layers)))


def allocate_trained_weights(model: nn.Module) -> None:
    """Give trained weights on meta an address, by which accelerate tells them apart; the memory stays untouched."""
    for module in model.modules():
        if any(weight.is_meta and weight.requires_grad for weight in module.parameters(recurse=False)):
            module.to_empty(device="cpu", recurse=False)


def send_to_all(module: nn.Module, device: torch.device) -> None:
    """Put a module onto each process' device, with the values that it has in the first process."""
    if is_main():
        module.to(device)
    else:
        module.to_empty(device=device)
    for tensor in [*module.parameters(), *module.buffers()]:
        torch.distributed.broadcast(tensor.detach(), src=0)


def wait_for_all() -> None:
    _state().wait_for_everyone()


def shard(items: Sequence) -> Sequence:
    """This process' share: every N-th item, starting with its rank."""
    state = _state()
    return items[state.process_index :: state.num_processes]


def own_batches(items: Sequence, size: int, model: nn.Module) -> list[tuple[Sequence, bool]]:
    """This process' share of the items that the model is run on, in batches of `size`, each with whether it counts.

    Of a sharded model, a process with fewer batches than another gets some more, whose results do not count.
    """
    batches = [(batch, True) for batch in in_batches(shard(items), size)]
    if is_sharded(model):
        most = math.ceil(math.ceil(len(items) / world_size()) / size)
        batches += [(items[:1], False)] * (most - len(batches))
    return batches


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

"""Which clips go through the model together: in which order, and how many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import psutil
import torch
from torch import nn
from torch.utils.data import Sampler

from stages.voxtral.loading import device

UPDATES_SORTED_TOGETHER = 50  # enough for similar lengths, few enough for other updates in every epoch
# Memory of a step over that of the tensors kept for the backward pass (results, gaps of the allocator): a guess on the
# safe side, as too little memory ends a training and a smaller batch hardly slows it down.
ROOM = 1.5
USED_SHARE = 0.8  # of the free memory


def in_batches(items: Sequence, size: int) -> Iterator[Sequence]:
    """`items` in parts of `size`, the last perhaps smaller."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class SimilarLengths(Sampler[tuple[int, int]]):
    """(index, epoch) of every clip, once in an epoch; the order is random, with clips of similar length in an update.

    It depends on seed and epoch alone, not on how an update is divided among steps and devices. The index comes with
    the epoch because a data loader's worker does not know it.
    """

    def __init__(self, lengths: Sequence[int], clips_per_update: int, seed: int, epoch: Callable[[], float]) -> None:
        """epoch: returns how far the training is; in a resumed run `set_epoch` does not reach every sampler."""
        self.lengths, self.clips_per_update, self.seed, self.epoch = lengths, clips_per_update, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = int(self.epoch())
        random = torch.Generator().manual_seed(1_000_003 * self.seed + epoch)
        shuffled = torch.randperm(len(self.lengths), generator=random).tolist()
        updates: list[list[int]] = []
        for part in in_batches(shuffled, UPDATES_SORTED_TOGETHER * self.clips_per_update):
            # Stable, so that clips of one length stay shuffled; the longest first.
            by_length = sorted(part, key=lambda index: -self.lengths[index])
            updates += in_batches(by_length, self.clips_per_update)
        *whole, last = updates
        for at in torch.randperm(len(whole), generator=random).tolist():
            yield from ((index, epoch) for index in whole[at])
        yield from ((index, epoch) for index in last)  # the only one that may be smaller


def largest_batch(model: nn.Module, longest: dict, most: int) -> int:
    """How many clips like `longest` fit into the free memory in a training step: a divisor of `most`.

    longest: the training batch of one clip. Measures what its forward pass keeps for the backward pass (without
    gradient checkpointing) and adds gradients and optimizer.
    """
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    inputs = {name: value.to(device()) if isinstance(value, torch.Tensor) else value for name, value in longest.items()}
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model(**inputs)
    trained_bytes = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    for_clips = USED_SHARE * free_bytes() - 3 * trained_bytes  # a gradient and Adam's two moments
    fitting = int(for_clips / (ROOM * sum(kept.values())))
    return largest_divisor(most, fitting)


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of `number` up to `most`; at least 1."""
    return max(divisor for divisor in range(1, number + 1) if number % divisor == 0 and divisor <= max(most, 1))


def free_bytes() -> int:
    """Memory that this process can still allocate, on its GPU or on the machine."""
    if device().type != "cuda":
        return psutil.virtual_memory().available
    unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return torch.cuda.mem_get_info()[0] + unused

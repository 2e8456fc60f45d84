"""Which clips go through the model together, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import Sampler

UPDATES_SORTED_TOGETHER = 50  # enough for similar lengths, few enough for other updates in every epoch


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

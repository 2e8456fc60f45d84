"""Batches: every clip once, of similar length, in an order that seed and epoch decide."""

import itertools
from collections import Counter

import pytest
import torch

from stages.voxtral.batches import SimilarLengths, in_batches


def lengths(count: int) -> list[int]:
    random = torch.Generator().manual_seed(7)
    return torch.randint(380, 2000, (count,), generator=random).tolist()


@pytest.mark.parametrize(("count", "clips_per_update"), [(1, 8), (7, 8), (64, 8), (1003, 8), (50, 1)])
def test_every_clip_comes_once_in_each_epoch(count, clips_per_update):
    for epoch in (0.0, 1.0, 2.0):
        sampler = SimilarLengths(lengths(count), clips_per_update, 0, lambda epoch=epoch: epoch)
        assert len(sampler) == count
        assert Counter(sampler) == Counter((index, int(epoch)) for index in range(count))


def test_clips_of_an_update_are_of_like_length():
    all_lengths = lengths(800)
    order = [index for index, _ in SimilarLengths(all_lengths, 8, 0, lambda: 0.0)]

    def padding(order: list[int]) -> float:
        updates = [[all_lengths[index] for index in part] for part in in_batches(order, 8)]
        return sum(max(update) * len(update) - sum(update) for update in updates) / sum(all_lengths)

    grouped, shuffled = padding(order), padding(torch.randperm(800).tolist())
    assert grouped < 0.03 < 0.3 < shuffled
    # But not from long to short through the epoch: the updates are shuffled.
    firsts = [all_lengths[part[0]] for part in in_batches(order, 8)]
    assert sum(later > earlier for earlier, later in itertools.pairwise(firsts)) > 30

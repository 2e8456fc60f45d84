"""Batches: every clip once, of similar length, in an order that seed and epoch decide; as many as the memory holds."""

import itertools
from collections import Counter

import pytest
import torch

from stages.voxtral import batches
from stages.voxtral.batches import SimilarLengths, in_batches, largest_batch
from tests.tiny_model import open_adapted


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


@pytest.fixture(scope="module")
def trainee():
    return open_adapted("encoder", "projector", "decoder")


def size_with(trainee, clip, free_bytes: float, monkeypatch) -> int:
    monkeypatch.setattr(batches, "free_bytes", lambda: free_bytes)
    model, collator = trainee
    return largest_batch(model, collator.training_batch([clip]), most=24)


def test_batch_grows_with_the_free_memory_and_divides_the_update(trainee, demo_clips, monkeypatch):
    sizes = [size_with(trainee, demo_clips[0], free, monkeypatch) for free in (0, 4e7, 1e8, 2e8, 1e10)]
    assert sizes[0] == 1 and sizes[-1] == 24
    assert sizes == sorted(sizes) and len(set(sizes)) >= 4
    assert all(24 % size == 0 for size in sizes)


def test_batch_that_is_found_fits(trainee, demo_clips, monkeypatch):
    """The tensors that a step really keeps fit into the free memory, and fill a fifth of it."""
    model, collator = trainee
    free = 1.5e8
    size = size_with(trainee, demo_clips[0], free, monkeypatch)
    kept: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model(**collator.training_batch(demo_clips[:size]))
    weights = sum(parameter.nbytes for parameter in model.parameters())
    assert 0.2 * free < sum(kept.values()) - weights < free

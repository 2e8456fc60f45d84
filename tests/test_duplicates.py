"""Copies of a take: found by the likeness of their sounds."""

import numpy as np
import pytest

from stages.speech import quality
from stages.speech.duplicates import find_duplicates
from tests.test_filters import shape


@pytest.fixture
def many(make_clip):
    """1,300 clips, more than two blocks, with their fingerprints; two copies of others among them."""
    shapes = np.random.default_rng(0).integers(-127, 127, (1300, quality.SEGMENTS * quality.BANDS), dtype=np.int8)
    shapes[1299], shapes[700] = shapes[3], shapes[699]
    clips = [make_clip("x", id=f"{n:04d}", duration_s=1 + (n * 7919 % 1300) / 100) for n in range(1298)]
    clips += [make_clip("x", id=f"{n:04d}", duration_s=clips[3].duration_s + 0.2) for n in (1298, 1299)]
    clips[700] = make_clip("x", id="0700", duration_s=clips[699].duration_s - 0.2)
    return clips, {f"{n:04d}": quality.as_text(shapes[n]) for n in range(1300)}


def test_copies_are_found_among_many_clips_and_the_first_listed_is_the_original(many):
    clips, fingerprints = many
    assert list(find_duplicates(clips, fingerprints).items()) == [("0700", "0699"), ("1299", "0003")]
    assert list(find_duplicates(clips[::-1], fingerprints).items()) == [("0699", "0700"), ("0003", "1299")]


def test_all_pairs_are_compared_whatever_their_lengths(make_clip):
    """As by a plain loop over all pairs."""
    rng = np.random.default_rng(1)
    few = rng.integers(-127, 127, (40, quality.SEGMENTS * quality.BANDS), dtype=np.int8)
    numbers = rng.integers(40, size=1200)
    clips = [make_clip("x", id=f"{n:04d}", duration_s=round(float(rng.uniform(1, 3)), 3)) for n in range(1200)]
    fingerprints = {clip.id: quality.as_text(few[number]) for clip, number in zip(clips, numbers, strict=True)}
    expected = {}
    for n, clip in enumerate(clips):
        for first in range(n):
            if numbers[first] == numbers[n] and abs(clips[first].duration_s - clip.duration_s) <= 0.25:
                expected[clip.id] = clips[first].id
                break
    assert len(expected) > 500 and find_duplicates(clips, fingerprints) == expected


def test_three_copies_are_all_copies_of_the_first(make_clip):
    sound = quality.as_text(np.arange(quality.SEGMENTS * quality.BANDS, dtype=np.int8))
    clips = [make_clip("x", id=name, duration_s=2.0) for name in "cab"]
    assert find_duplicates(clips, dict.fromkeys("abc", sound)) == {"a": "c", "b": "c"}


def test_other_length_is_another_take(make_clip):
    sound = quality.as_text(np.arange(quality.SEGMENTS * quality.BANDS, dtype=np.int8))
    clips = [make_clip("x", id="a", duration_s=2.0), make_clip("x", id="b", duration_s=2.3)]
    assert find_duplicates(clips, dict.fromkeys("ab", sound)) == {}


def test_silence_and_a_steady_tone_are_like_nothing(make_clip):
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    for samples in (np.zeros(16_000), np.zeros(0), tone):
        fingerprint = shape(samples.astype(np.float32))
        clips = [make_clip("x", id="a"), make_clip("x", id="b")]
        assert find_duplicates(clips, {"a": fingerprint, "b": fingerprint}) == {}

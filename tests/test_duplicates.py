"""Copies of a take: found by the likeness of their sounds."""

import numpy as np

from stages.speech import quality
from stages.speech.duplicates import find_duplicates
from tests.test_filters import shape


def test_all_pairs_are_compared_whatever_their_lengths(make_clip):
    """As by a plain loop over all pairs. Catches: pairs missed between two blocks, and an original listed later."""
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


def test_copies_are_those_of_the_first_and_another_length_is_another_take(make_clip):
    """Catches: a copy of a copy, which would be kept when the copy itself is left out; two takes taken for one."""
    sound = quality.as_text(np.arange(quality.SEGMENTS * quality.BANDS, dtype=np.int8))
    clips = [make_clip("x", id=name, duration_s=2.0) for name in "cab"] + [make_clip("x", id="d", duration_s=2.3)]
    assert find_duplicates(clips, dict.fromkeys("abcd", sound)) == {"a": "c", "b": "c"}


def test_silence_and_a_steady_tone_are_like_nothing(make_clip):
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    for samples in (np.zeros(16_000), np.zeros(0), tone):
        fingerprint = shape(samples.astype(np.float32))
        clips = [make_clip("x", id="a"), make_clip("x", id="b")]
        assert find_duplicates(clips, {"a": fingerprint, "b": fingerprint}) == {}

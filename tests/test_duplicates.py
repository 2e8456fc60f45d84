"""Copies of a take: found by the likeness of sounds, each two clips compared once."""

import numpy as np
import pytest

from stages.common.cache import ContentCache
from stages.speech import duplicates, quality
from tests.sounds import find_copies
from tests.test_filters import shape

pytestmark = pytest.mark.usefixtures("workspace")


@pytest.fixture
def many(make_clip):
    """1,300 clips, more than two blocks, with their fingerprints; two copies of others among them."""
    shapes = np.random.default_rng(0).integers(-127, 127, (1300, quality.SEGMENTS * quality.BANDS), dtype=np.int8)
    shapes[1299], shapes[700] = shapes[3], shapes[699]
    clips = [make_clip("x", id=f"{n:04d}", duration_s=1 + (n * 7919 % 1300) / 100) for n in range(1298)]
    clips += [make_clip("x", id=f"{n:04d}", duration_s=clips[3].duration_s + 0.2) for n in (1298, 1299)]
    clips[700] = make_clip("x", id="0700", duration_s=clips[699].duration_s - 0.2)
    return clips, {f"{n:04d}": quality.as_text(shapes[n]) for n in range(1300)}


EXPECTED = [("0700", "0699"), ("1299", "0003")]


def test_copies_are_found_among_many_clips(many):
    assert list(find_copies(*many, {}).items()) == EXPECTED


@pytest.mark.parametrize("later", [["1299"], ["0003"], ["0003", "1299", "0700"], []])
def test_copies_are_the_same_however_clips_came(many, later):
    clips, fingerprints = many
    find_copies([clip for clip in clips if clip.id not in later], fingerprints, {})
    assert list(find_copies(clips, fingerprints, {}).items()) == EXPECTED
    without = [clip for clip in clips if clip.id != "0003"]
    assert list(find_copies(without, fingerprints, {}).items()) == EXPECTED[:1]
    assert list(find_copies(clips, fingerprints, {}).items()) == EXPECTED


def test_only_new_clips_are_compared(many, monkeypatch):
    clips, fingerprints = many
    compared = []
    original = duplicates._begin_to_find_alike
    monkeypatch.setattr(
        duplicates, "_begin_to_find_alike", lambda sounds, new: compared.append(new) or original(sounds, new)
    )
    find_copies(clips[:-1], fingerprints, {})
    find_copies(clips, fingerprints, {})
    find_copies(clips, fingerprints, {})
    assert [len(new) for new in compared] == [1299, 1] and compared[1] == {"1299"}
    assert find_copies(clips, fingerprints, {"code": "another"}) == dict(EXPECTED)  # measured in another way
    assert len(compared[2]) == 1300


def test_three_copies_are_all_copies_of_the_first(make_clip):
    sound = quality.as_text(np.arange(quality.SEGMENTS * quality.BANDS, dtype=np.int8))
    clips = [make_clip("x", id=name, duration_s=2.0) for name in "cab"]
    assert find_copies(clips, dict.fromkeys("abc", sound), {}) == {"a": "c", "b": "c"}


def test_other_length_is_another_take(make_clip):
    sound = quality.as_text(np.arange(quality.SEGMENTS * quality.BANDS, dtype=np.int8))
    clips = [make_clip("x", id="a", duration_s=2.0), make_clip("x", id="b", duration_s=2.3)]
    assert find_copies(clips, dict.fromkeys("ab", sound), {}) == {}


def test_broken_memory_is_made_again(many):
    clips, fingerprints = many
    find_copies(clips, fingerprints, {})
    (entry,) = ContentCache("copies").folder.glob("??/*")
    entry.write_bytes(entry.read_bytes()[:-5])
    assert list(find_copies(clips, fingerprints, {}).items()) == EXPECTED


def test_silence_and_a_steady_tone_are_like_nothing(make_clip):
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    for samples in (np.zeros(16_000), np.zeros(0), tone):
        fingerprint = shape(samples.astype(np.float32))
        clips = [make_clip("x", id="a"), make_clip("x", id="b")]
        assert find_copies(clips, {"a": fingerprint, "b": fingerprint}, {}) == {}

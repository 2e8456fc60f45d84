"""Variants of clips: the same for the same seed, clip and epoch; sane sound; each change does what it says."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from stages.speech import augment
from stages.speech.augment import Variant, change_sound, of_epoch
from stages.speech.clips import Clip
from tests.workspaces import DEMO_CLIPS

RATE_HZ = 16_000
CLIP = Clip(
    id="0" * 16, audio_path="audio/0.flac", text="one two", language="en", source="demo", recorded_file="demo/1.wav",
    duration_s=1.0, peak_dbfs=-3.0, level_dbfs=-20.0, snr_db=30.0, clipped_fraction=0.0,
)  # fmt: skip
EPOCHS = range(1, 31)


def variant(epoch: int = 1, seed: int = 0, clip_id: str = CLIP.id) -> Variant:
    return Variant(**vars(replace(CLIP, id=clip_id)), seed=seed, epoch=epoch)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Samples of a demo clip, 16 kHz mono."""
    name = json.loads((DEMO_CLIPS / "clips.jsonl").read_text().splitlines()[0])["audio_path"]
    samples, rate_hz = soundfile.read(DEMO_CLIPS / name, dtype="float32")
    assert rate_hz == RATE_HZ and samples.ndim == 1
    return samples


def tone(frequency_hz: float) -> np.ndarray:
    """Two seconds."""
    return (0.3 * np.sin(2 * np.pi * frequency_hz * np.arange(2 * RATE_HZ) / RATE_HZ)).astype(np.float32)


def test_seed_clip_and_epoch_each_make_another_variant_and_always_the_same(speech):
    others = [variant(), variant(2), variant(seed=1), variant(clip_id="1" * 16)]
    made = [change_sound(speech, other, 64_000).tobytes() for other in others]
    assert len(set(made)) == len(others)
    assert [change_sound(speech, other, 64_000).tobytes() for other in others[::-1]] == made[::-1]


def test_variants_are_sane_and_change_speed_with_pitch_as_a_tape_does(speech):
    """Finite, within full scale, as long as the speed makes them, and really both slower and faster."""
    loud, speeds = speech / np.abs(speech).max(), []
    for epoch in EPOCHS:
        changed = change_sound(loud, variant(epoch), longest=10 * len(speech))
        assert changed.dtype == np.float32 and changed.ndim == 1
        assert np.isfinite(changed).all() and 0.01 < np.abs(changed).max() <= 1
        speeds.append(len(speech) / len(changed))
        heard = change_sound(tone(400), variant(epoch), 64_000)
        spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
        strongest_hz = np.fft.rfftfreq(len(heard), 1 / RATE_HZ)[spectrum.argmax()]
        assert strongest_hz == pytest.approx(400 * speeds[-1], rel=0.005)
    assert 0.949 < min(speeds) < 0.975 and 1.025 < max(speeds) < 1.051


def test_mask_is_a_band_and_a_moment_no_wider_than_they_may_be():
    bins, frames = 80, 300
    bands = moments = 0
    for epoch in EPOCHS:
        mel = np.random.default_rng(0).normal(size=(bins, frames)).astype(np.float32)
        before = mel.copy()
        augment.mask(mel, variant(epoch), frames_per_s=100)
        changed = mel != before
        assert set(np.unique(mel[changed])) <= {before.mean()}
        whole_bins, whole_frames = changed.all(axis=1).sum(), changed.all(axis=0).sum()
        assert changed.sum() == whole_bins * frames + whole_frames * bins - whole_bins * whole_frames
        assert whole_bins <= 8 and whole_frames <= 5  # a tenth of the bins; 50 ms
        bands, moments = bands + whole_bins, moments + whole_frames
    assert bands > len(EPOCHS) and moments > len(EPOCHS)


def test_clip_itself_is_heard_in_the_first_of_five_epochs_and_always_without_augmentation(params):
    for level, expected in (("off", [0] * 7), ("light", [0, 1, 2, 3, 4, 0, 6])):
        train = params.train.model_copy(update={"augment": level})
        heard = [of_epoch(CLIP, epoch, train) for epoch in range(7)]
        assert [clip.epoch if isinstance(clip, Variant) else 0 for clip in heard] == expected
        assert {clip.text for clip in heard} == {CLIP.text}

"""Variants of clips: the same for the same seed, clip and number; sane sound; each change does what it says."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from stages.common.params import TrainParams, load_params
from stages.speech import augment
from stages.speech.augment import LEVELS, Variant, all_fixed, change_sound, of_epoch
from stages.speech.clips import Clip
from tests.workspaces import DEMO_CLIPS, ROOT

RATE_HZ = 16_000
CLIP = Clip(
    id="0" * 16, audio_path="audio/0.flac", text="one two", language="en", source="demo", recorded_file="demo/1.wav",
    duration_s=1.0, peak_dbfs=-3.0, level_dbfs=-20.0, snr_db=30.0, clipped_fraction=0.0,
)  # fmt: skip
NUMBERS = range(1, 31)


def variant(level: str = "strong", number: int = 1, seed: int = 0, clip_id: str = CLIP.id) -> Variant:
    return Variant(**vars(replace(CLIP, id=clip_id)), level=level, seed=seed, number=number)


def settings(level: str, variants: int, epochs: int = 15) -> TrainParams:
    train = load_params(ROOT / "params.yaml").train
    return train.model_copy(update={"augment": level, "augment_variants": variants, "epochs": epochs})


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Samples of a demo clip, 16 kHz mono."""
    name = json.loads((DEMO_CLIPS / "clips.jsonl").read_text().splitlines()[0])["audio_path"]
    samples, rate_hz = soundfile.read(DEMO_CLIPS / name, dtype="float32")
    assert rate_hz == RATE_HZ and samples.ndim == 1
    return samples


def tone(frequency_hz: float, seconds: float = 2.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def strongest_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / RATE_HZ)[spectrum.argmax()])


DIGESTS = """
import hashlib, sys, numpy as np
from stages.speech import augment
from tests.test_augment import NUMBERS, tone, variant
np.random.seed(int(sys.argv[1]))
for number in sorted(NUMBERS, reverse=sys.argv[1] == "2"):
    mel = np.arange(8000, dtype=np.float32).reshape(80, 100)
    augment.mask(mel, variant(number=number), frames_per_s=100)
    changed = augment.change_sound(tone(200), variant(number=number), 64_000)
    print(number, hashlib.sha256(changed.tobytes() + mel.tobytes()).hexdigest())
"""


def test_variant_is_the_same_bit_for_bit_in_another_process_and_order():
    runs = []
    for order in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", DIGESTS, order], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
        )
        runs.append(sorted(result.stdout.splitlines()))
    assert runs[0] == runs[1]
    assert len({line.split()[1] for line in runs[0]}) == len(NUMBERS)


def test_seed_clip_and_number_each_make_another_variant(speech):
    others = [variant(), variant(number=2), variant(seed=1), variant(clip_id="1" * 16), variant("light")]
    made = [change_sound(speech, other, 64_000) for other in others]
    assert len({sound.tobytes() for sound in made}) == len(others)
    keys = [json.dumps(other.key()) for other in [*others, variant()]]
    assert len(set(keys)) == len(others)


@pytest.mark.parametrize("level", LEVELS)
def test_variants_are_finite_within_full_scale_and_as_long_as_the_speed_makes_them(speech, level):
    loud = speech / np.abs(speech).max()
    reach = LEVELS[level].speed
    lengths = []
    for number in NUMBERS:
        changed = change_sound(loud, variant(level, number), longest=10 * len(speech))
        assert changed.dtype == np.float32 and changed.ndim == 1
        assert np.isfinite(changed).all() and 0.01 < np.abs(changed).max() <= 1
        lengths.append(len(changed) / len(speech))
    assert 1 / (1 + reach) - 0.001 <= min(lengths) < 1 - reach / 2
    assert 1 + reach / 2 < max(lengths) <= 1 / (1 - reach) + 0.001


@pytest.mark.parametrize("level", LEVELS)
def test_no_variant_is_longer_than_the_windows_of_its_clip(level):
    lengths = []
    for number in NUMBERS:
        changed = change_sound(np.zeros(1600, np.float32), variant(level, number), longest=1600)
        assert np.abs(changed).max() < 3e-3  # silence stays silence, but for the least steps of a codec
        lengths.append(len(changed))
    assert max(lengths) == 1600 and 1280 < min(lengths) < 1600


def test_light_changes_pitch_with_speed_as_a_tape_does_and_strong_apart_from_it():
    speeds, apart = [], {"light": [], "strong": []}
    for level, ratios in apart.items():
        for number in NUMBERS:
            changed = change_sound(tone(400), variant(level, number), 64_000)
            speeds.append(2 * RATE_HZ / len(changed))
            ratios.append(strongest_hz(changed) / 400 / speeds[-1])
    assert min(speeds) < 0.97 and max(speeds) > 1.03
    assert apart["light"] == pytest.approx([1] * len(NUMBERS), rel=0.005)
    assert min(apart["strong"]) < 0.9 and max(apart["strong"]) > 1.1


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_tempo_leaves_the_pitch_and_loses_no_sound(speech, rate):
    changed = augment.change_tempo(tone(300), rate)
    assert len(changed) == round(2 * RATE_HZ / rate)
    assert strongest_hz(changed) == pytest.approx(300, rel=0.01)
    energy = np.square(augment.change_tempo(speech, rate)).sum() / np.square(speech).sum()
    assert energy == pytest.approx(1 / rate, rel=0.1)


@pytest.mark.parametrize("snr_db", [5.0, 40.0])
def test_noise_is_as_far_below_the_speech_as_asked_and_of_several_colours(speech, snr_db):
    low_shares = []  # of the energy, below 1 kHz
    for seed in range(5):
        noise = augment.add_noise(speech, snr_db, np.random.default_rng(seed)) - speech
        measured = 10 * np.log10(np.square(speech).sum() / np.square(noise).sum())
        assert measured == pytest.approx(snr_db, abs=0.1)
        energies = np.square(np.abs(np.fft.rfft(noise)))
        low_shares.append(energies[: len(energies) // 8].sum() / energies.sum())
    assert max(low_shares) > 1.5 * min(low_shares)


def test_room_keeps_the_direct_sound_and_dies_away():
    click = np.zeros(RATE_HZ, np.float32)
    click[100] = 0.5
    for seed in range(5):
        heard = augment.put_in_room(click, np.random.default_rng(seed))
        assert len(heard) == len(click)
        assert heard[100] == pytest.approx(0.5, abs=1e-6) and np.abs(heard[:100]).max() < 1e-6
        energies = [np.square(part).sum() for part in np.split(heard[101 : 101 + 1600], 8)]  # of 12.5 ms each
        assert 0 < energies[-1] < 0.3 * energies[0]
        direct_db = -10 * np.log10(np.square(heard[101:]).sum() / 0.25)
        assert augment.ROOM_DIRECT_DB[0] - 1 < direct_db < augment.ROOM_DIRECT_DB[1] + 1


@pytest.mark.parametrize("codec", augment.CODECS, ids=lambda codec: codec[1])
def test_codec_changes_the_sound_but_neither_its_length_nor_its_place(speech, codec):
    heard = augment.transmit(speech, *codec)
    assert len(heard) == len(speech) and not np.array_equal(heard, speech)
    size = 2 * len(speech)
    together = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(speech, size)))
    assert abs((together.argmax() + len(speech)) % size - len(speech)) <= 2  # samples
    above = np.abs(np.fft.rfft(heard))[int(4100 / RATE_HZ * len(speech)) :]
    if codec[2] == 8_000:
        assert np.square(above).sum() < 1e-3 * np.square(np.abs(np.fft.rfft(heard))).sum()


@pytest.mark.parametrize("level", LEVELS)
def test_masks_are_bands_and_moments_no_wider_than_they_may_be(level):
    bins, frames, ours = 80, 300, LEVELS[level]
    bands = moments = 0
    for number in NUMBERS:
        mel = np.random.default_rng(0).normal(size=(bins, frames)).astype(np.float32)
        before = mel.copy()
        augment.mask(mel, variant(level, number), frames_per_s=100)
        changed = mel != before
        assert set(np.unique(mel[changed])) <= {before.mean()}
        whole_bins, whole_frames = changed.all(axis=1).sum(), changed.all(axis=0).sum()
        assert changed.sum() == whole_bins * frames + whole_frames * bins - whole_bins * whole_frames
        assert whole_bins <= ours.frequency_masks * ours.frequency_mask_share * bins
        assert whole_frames <= ours.time_masks * min(100 * ours.time_mask_s, frames / 10)
        bands, moments = bands + whole_bins, moments + whole_frames
    assert bands > len(NUMBERS) and moments > len(NUMBERS)


def test_fixed_variants_come_again_and_others_do_not_and_the_clip_itself_stands_among_both():
    assert all(of_epoch(CLIP, epoch, settings("off", 2), fixed=False) is CLIP for epoch in range(10))
    params = settings("light", variants=2)
    for fixed, expected in ((True, [0, 1, 2, 0, 1, 2, 0]), (False, [0, 1, 2, 0, 4, 5, 0])):
        heard = [of_epoch(CLIP, epoch, params, fixed=fixed) for epoch in range(7)]
        assert [clip.number if isinstance(clip, Variant) else 0 for clip in heard] == expected
        assert {clip.text for clip in heard} == {CLIP.text}


@pytest.mark.parametrize(("variants", "epochs", "expected"), [(2, 15, 3), (4, 3, 3), (1, 1, 1)])
def test_all_fixed_variants_are_those_that_training_hears(variants, epochs, expected):
    params = settings("strong", variants, epochs)
    clips = [CLIP, replace(CLIP, id="1" * 16)]
    heard = [of_epoch(clip, epoch, params, fixed=True) for epoch in range(epochs) for clip in clips]
    assert set(all_fixed(clips, params)) == set(heard)
    assert len(all_fixed(clips, params)) == expected * len(clips)

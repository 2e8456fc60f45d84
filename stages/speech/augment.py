"""Augmented training clips (`train.augment: light`): variants that follow from seed, clip and epoch alone.

A variant is the same bit for bit in any order, process or resumed run. Only training makes them (`of_epoch`), never of
validation or test clips. The transcript stays.

The ranges keep what is characteristic of a voice, also of an atypical one. Speed and pitch change together, as on a
tape (Ko et al. 2015, Audio augmentation for speech recognition), by no more than listeners just notice (about 5 %,
Quené 2007), so tremor, breaks and pauses stay in proportion. Noise is at least 25 dB below the voice: it neither hides
breathiness nor adds it. A time mask (Park et al. 2019, SpecAugment) is shorter than most sounds. No room, which fills
pauses; no codec, which models a healthy larynx; no pitch change without speed, which smooths irregular voice.

Samples are float32 in [-1, 1] at SAMPLE_RATE_HZ, mono, as in audio.py.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import soxr

from stages.common.params import TrainParams
from stages.speech.clips import Clip
from stages.speech.prepared import SAMPLE_RATE_HZ

PLAIN_EPOCH = 5  # the first epoch of every five hears the clips as they are
SPEED = 0.05  # largest change, as a fraction
GAIN_DB = 6  # most, louder or softer
NOISE_SHARE = 0.5  # of variants that have noise
NOISE_SNR_DB = (25, 40)
LOWEST_NOISE_HZ = 50  # below, noise is hardly heard, but would take most of the power
BAND_MASK_SHARE = 0.1  # widest mask, of all mel bins
TIME_MASK_S = 0.05  # longest mask; never more than a tenth of the sound


@dataclass(unsafe_hash=True, kw_only=True)
class Variant(Clip):
    """A clip that is heard changed, differently in each epoch."""

    seed: int
    epoch: int

    def random(self, purpose: str) -> np.random.Generator:
        drawn = hashlib.sha256(f"{purpose} {self.seed} {self.id} {self.epoch}".encode()).digest()
        return np.random.default_rng(int.from_bytes(drawn))


def of_epoch(clip: Clip, epoch: int, params: TrainParams) -> Clip:
    """A clip as training hears it in an epoch (from 0): itself or a variant."""
    if params.augment == "off" or epoch % PLAIN_EPOCH == 0:
        return clip
    return Variant(**vars(clip), seed=params.seed, epoch=epoch)


def change_sound(samples: np.ndarray, variant: Variant, longest: int) -> np.ndarray:
    """A variant's samples, at most `longest` (at least the clip's own length)."""
    random = variant.random("sound")
    speed = max(1 + random.uniform(-SPEED, SPEED), len(samples) / longest)
    changed = soxr.resample(samples, speed, 1.0, quality="HQ")[:longest]
    if random.random() < NOISE_SHARE:
        changed = add_noise(changed, random.uniform(*NOISE_SNR_DB), random)
    gain = 10 ** (random.uniform(-GAIN_DB, GAIN_DB) / 20)
    loudest = np.abs(changed).max(initial=0.0)
    return (changed * min(gain, 1 / max(loudest, 1e-6))).astype(np.float32)  # without clipping


def mask(mel: np.ndarray, variant: Variant, frames_per_s: float) -> None:
    """SpecAugment: a band and a moment of a log-mel [bins, frames] become its mean, in place."""
    random = variant.random("mask")
    bins, frames = mel.shape
    mean = mel.mean()
    width = random.integers(0, int(BAND_MASK_SHARE * bins), endpoint=True)
    start = random.integers(0, bins - width, endpoint=True)
    mel[start : start + width] = mean
    width = random.integers(0, int(min(TIME_MASK_S * frames_per_s, frames / 10)), endpoint=True)
    start = random.integers(0, frames - width, endpoint=True)
    mel[:, start : start + width] = mean


def add_noise(samples: np.ndarray, snr_db: float, random: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with frequency f as f^-slope (Timmer and König 1995): 0 is white, 2 brown."""
    slope = random.uniform(0, 2)
    frequencies_hz = np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ), LOWEST_NOISE_HZ)
    drawn = random.normal(size=(2, len(frequencies_hz)))
    noise = np.fft.irfft((drawn[0] + 1j * drawn[1]) * frequencies_hz ** (-slope / 2), len(samples))
    power, noise_power = (float(np.mean(np.square(sound, dtype=np.float64))) for sound in (samples, noise))
    return samples + noise * math.sqrt(power / noise_power / 10 ** (snr_db / 10))

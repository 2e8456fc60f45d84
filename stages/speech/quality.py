"""What a clip's sound tells beside its levels: how far its frequencies reach, and what it is alike."""

from __future__ import annotations

import binascii
from collections.abc import Iterable

import numpy as np

from stages.speech.prepared import SAMPLE_RATE_HZ

WINDOW = 512  # samples, 32 ms
STEP = 256  # samples, 16 ms
HANN = np.hanning(WINDOW).astype(np.float32)
BELOW_LOUDEST_DB = 60.0
EDGE = 0.01  # share of the energy
STEPS_PER_BEL = 32
SEGMENTS = 32
BANDS = 12
LOWEST_HZ, HIGHEST_HZ = 200.0, 3400.0  # what also a telephone passes on
FREQUENCIES_HZ = np.arange(WINDOW // 2 + 1) * SAMPLE_RATE_HZ / WINDOW
BAND_EDGES = np.searchsorted(FREQUENCIES_HZ, np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1))


def power_spectra(samples: np.ndarray) -> np.ndarray:
    """Power [frames, WINDOW // 2 + 1] of a mono clip [samples], a frame each STEP."""
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP]
    # In pieces: the frames of a long clip would take a hundred times its memory.
    pieces = (np.fft.rfft(frames[at : at + 500] * HANN, axis=1) for at in range(0, len(frames), 500))
    return np.concatenate([piece.real**2 + piece.imag**2 for piece in pieces]).astype(np.float32, copy=False)


def bandwidth_hz(spectra: np.ndarray) -> float:
    """The highest frequency whose mean power is within 60 dB of the loudest one's.

    A telephone ends at 3,400 to 4,000 Hz, whatever the rate that its sound was saved at.
    """
    power = spectra.mean(axis=0)
    reached = np.flatnonzero(power >= power.max() * 10 ** (-BELOW_LOUDEST_DB / 10))
    return float(FREQUENCIES_HZ[reached[-1]]) if power.max() > 0 else 0.0


def fingerprint(spectra: np.ndarray) -> str:
    """The shape of what is said, [SEGMENTS * BANDS] int8 in base64, like for copies in other formats or loudness.

    Log power in BANDS bands and SEGMENTS equal times, less each band's mean, without the first and the last hundredth
    of the energy: a fixed threshold would move with the noise. Two takes of a sentence differ in timing.
    """
    bands = np.add.reduceat(spectra[:, : BAND_EDGES[-1]], BAND_EDGES[:-1], axis=1)
    # The mean power of each of SEGMENTS equal times, by the difference of running sums.
    sums = np.concatenate([np.zeros((1, BANDS)), np.cumsum(bands, axis=0, dtype=np.float64)])
    energy = sums.sum(axis=1)
    first, last = np.interp([EDGE * energy[-1], (1 - EDGE) * energy[-1]], energy, np.arange(len(energy)))
    ends = np.linspace(first, last, SEGMENTS + 1)
    running = np.stack([np.interp(ends, np.arange(len(sums)), sums[:, band]) for band in range(BANDS)], axis=1)
    power = np.diff(running, axis=0)
    level = np.log10(np.maximum(power, power.max(initial=1e-20) * 1e-4))
    level -= level.mean(axis=0)
    return as_text(np.clip(np.round(level * STEPS_PER_BEL), -127, 127).astype(np.int8))


def as_text(shape: np.ndarray) -> str:
    """A fingerprint's int8 values in base64, as JSON can hold them."""
    return binascii.b2a_base64(shape, newline=False).decode()


def shapes_of(fingerprints: Iterable[str]) -> np.ndarray:
    """[fingerprints, SEGMENTS * BANDS] int8, all at once: they hold their bytes in threes, so none has padding."""
    return np.frombuffer(binascii.a2b_base64("".join(fingerprints)), np.int8).reshape(-1, SEGMENTS * BANDS)

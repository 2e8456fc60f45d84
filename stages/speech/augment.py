"""Augmented training clips: variants that follow from seed, clip and number alone.

A variant is the same bit for bit in any order, process or resumed run. Only training makes them (`of_epoch`), never of
validation or test clips. The transcript stays.

The ranges:

- light keeps what is characteristic of a voice, also of an atypical one. Speed and pitch change together, as on a tape
  (Ko et al. 2015, Audio augmentation for speech recognition), by no more than listeners just notice (about 5 %, Quené
  2007), so tremor, breaks and pauses stay in proportion. Noise is at least 25 dB below the voice: it neither hides
  breathiness nor adds it. A time mask (Park et al. 2019, SpecAugment) is shorter than most sounds. No room, which fills
  pauses; no codec, which models a healthy larynx; no pitch change without speed, which smooths irregular voice.
- strong is for a typical voice that will be used elsewhere than recorded: rooms, telephones, noise.

Samples are float32 in [-1, 1] at SAMPLE_RATE_HZ, mono, as in audio.py.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import soundfile
import soxr

from stages.common.params import TrainParams
from stages.speech.audio import SAMPLE_RATE_HZ
from stages.speech.clips import Clip

PACKAGES = ("numpy", "scipy", "soxr", "soundfile", "av")  # whose versions decide a variant's last bits
LOWEST_NOISE_HZ = 50  # below, noise is hardly heard, but would take most of the power
# libsndfile's format and subtype, sample rate in Hz: a telephone line, a mobile phone, a small MP3 (40 kbit/s).
CODECS = (("WAV", "ULAW", 8_000), ("WAV", "GSM610", 8_000), ("MP3", "MPEG_LAYER_III", 16_000))
MP3_COMPRESSION = 0.8  # of libsndfile's 0 to 1


@dataclass(frozen=True)
class Level:
    """Strength of augmentation. Values are drawn evenly from the ranges; shares are probabilities."""

    speed: float  # largest change, as a fraction
    pitch_semitones: float | None  # largest change up or down; None: follows the speed
    gain_db: float  # louder or softer
    noise_share: float
    noise_snr_db: tuple[float, float]
    room_share: float
    codec_share: float
    frequency_masks: int
    frequency_mask_share: float  # widest mask, of all mel bins
    time_masks: int
    time_mask_s: float  # longest mask; never more than a tenth of the sound


LEVELS = {
    "light": Level(
        speed=0.05, pitch_semitones=None, gain_db=6, noise_share=0.5, noise_snr_db=(25, 40), room_share=0,
        codec_share=0, frequency_masks=1, frequency_mask_share=0.1, time_masks=1, time_mask_s=0.05,
    ),
    "strong": Level(
        speed=0.15, pitch_semitones=2, gain_db=12, noise_share=0.8, noise_snr_db=(5, 30), room_share=0.5,
        codec_share=0.5, frequency_masks=2, frequency_mask_share=0.2, time_masks=2, time_mask_s=0.5,
    ),
}  # fmt: skip
ROOM_S = (0.15, 0.5)  # reverberation time (RT60): from a furnished room to a bare one
ROOM_DIRECT_DB = (0.0, 12.0)  # direct sound over reverberation: from far to close


@dataclass(unsafe_hash=True, kw_only=True)
class Variant(Clip):
    """A clip to be augmented by `level`, differently for each `number`."""

    level: str
    seed: int
    number: int

    def random(self, purpose: str) -> np.random.Generator:
        drawn = hashlib.sha256(f"{purpose} {self.seed} {self.id} {self.number}".encode()).digest()
        return np.random.default_rng(int.from_bytes(drawn))

    def key(self) -> dict:
        """Part of cache keys: all that decides the variant, besides the clip's sound and this code."""
        return {"id": self.id, "level": self.level, "seed": self.seed, "number": self.number, "libraries": _libraries()}


def of_epoch(clip: Clip, epoch: int, params: TrainParams, *, fixed: bool) -> Clip:
    """A clip as used in an epoch (from 0): unchanged in the first of every `augment_variants` + 1, else a variant.

    fixed: the same few variants are repeated (so they can be cached), instead of a new one each time.
    """
    turn = epoch % (params.augment_variants + 1)
    if params.augment == "off" or turn == 0:
        return clip
    return Variant(**vars(clip), level=params.augment, seed=params.seed, number=turn if fixed else epoch)


def all_fixed(clips: Sequence[Clip], params: TrainParams) -> list[Clip]:
    """The clips and all fixed variants that training will use."""
    turns = 1 if params.augment == "off" else min(params.epochs, params.augment_variants + 1)
    return [of_epoch(clip, turn, params, fixed=True) for turn in range(turns) for clip in clips]


def change_sound(samples: np.ndarray, variant: Variant, longest: int) -> np.ndarray:
    """A variant's samples, at most `longest` (at least the clip's own length)."""
    level, random = LEVELS[variant.level], variant.random("sound")
    speed = 1 + random.uniform(-level.speed, level.speed)
    speed = max(speed, len(samples) / longest)
    pitch = speed
    if level.pitch_semitones:
        pitch = 2 ** (random.uniform(-level.pitch_semitones, level.pitch_semitones) / 12)
    changed = soxr.resample(samples, pitch, 1.0, quality="HQ")
    if pitch != speed:
        changed = change_tempo(changed, speed / pitch)
    changed = changed[:longest]
    if random.random() < level.room_share:
        changed = put_in_room(changed, random)
    if random.random() < level.noise_share:
        changed = add_noise(changed, random.uniform(*level.noise_snr_db), random)
    if random.random() < level.codec_share:
        changed = transmit(changed, *CODECS[random.integers(len(CODECS))])
    gain = 10 ** (random.uniform(-level.gain_db, level.gain_db) / 20)
    loudest = np.abs(changed).max(initial=0.0)
    return (changed * min(gain, 1 / max(loudest, 1e-6))).astype(np.float32)  # without clipping


def mask(mel: np.ndarray, variant: Variant, frames_per_s: float) -> None:
    """SpecAugment: bands and moments of a log-mel [bins, frames] become its mean, in place."""
    level, random = LEVELS[variant.level], variant.random("mask")
    bins, frames = mel.shape
    mean = mel.mean()
    for _ in range(level.frequency_masks):
        width = random.integers(0, int(level.frequency_mask_share * bins), endpoint=True)
        start = random.integers(0, bins - width, endpoint=True)
        mel[start : start + width] = mean
    for _ in range(level.time_masks):
        width = random.integers(0, int(min(level.time_mask_s * frames_per_s, frames / 10)), endpoint=True)
        start = random.integers(0, frames - width, endpoint=True)
        mel[:, start : start + width] = mean


def change_tempo(samples: np.ndarray, rate: float) -> np.ndarray:
    """Faster by `rate` at the same pitch, by FFmpeg's atempo (overlapping pieces, WSOLA)."""
    import av  # imported here, as in audio.py

    graph = av.filter.Graph()
    source = graph.add_abuffer(format="flt", sample_rate=SAMPLE_RATE_HZ, layout="mono")
    graph.link_nodes(source, graph.add("atempo", repr(float(rate))), graph.add("abuffersink")).configure()
    padded = np.pad(samples, (0, SAMPLE_RATE_HZ // 10))  # it drops an incomplete last piece
    frame = av.AudioFrame.from_ndarray(padded[None], format="flt", layout="mono")
    frame.sample_rate = SAMPLE_RATE_HZ
    graph.push(frame)
    graph.push(None)
    pieces = []
    while True:
        try:
            pieces.append(graph.pull().to_ndarray()[0])
        except (av.BlockingIOError, av.EOFError):
            return np.concatenate(pieces)[: round(len(samples) / rate)]


def put_in_room(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Add the reverberation of a simulated room: exponentially decaying noise (Polack 1988)."""
    from scipy.signal import fftconvolve

    rt60_s = random.uniform(*ROOM_S)
    time_s = np.arange(int(rt60_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    impulse = random.normal(size=len(time_s)) * 10 ** (-3 * time_s / rt60_s)
    impulse *= 10 ** (-random.uniform(*ROOM_DIRECT_DB) / 20) / math.sqrt((impulse**2).sum())
    impulse[0] = 1.0
    return fftconvolve(samples, impulse)[: len(samples)]


def add_noise(samples: np.ndarray, snr_db: float, random: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with frequency f as f^-slope (Timmer and König 1995): 0 is white, 2 brown."""
    slope = random.uniform(0, 2)
    frequencies_hz = np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ), LOWEST_NOISE_HZ)
    drawn = random.normal(size=(2, len(frequencies_hz)))
    noise = np.fft.irfft((drawn[0] + 1j * drawn[1]) * frequencies_hz ** (-slope / 2), len(samples))
    power, noise_power = (float(np.mean(np.square(sound, dtype=np.float64))) for sound in (samples, noise))
    return samples + noise * math.sqrt(power / noise_power / 10 ** (snr_db / 10))


def transmit(samples: np.ndarray, file_format: str, subtype: str, sample_rate_hz: int) -> np.ndarray:
    """Encoded and decoded, at the same length."""
    compression = {"compression_level": MP3_COMPRESSION, "bitrate_mode": "CONSTANT"} if file_format == "MP3" else {}
    sent = np.clip(soxr.resample(samples, SAMPLE_RATE_HZ, sample_rate_hz), -1, 1)
    line = io.BytesIO()
    soundfile.write(line, sent, sample_rate_hz, format=file_format, subtype=subtype, **compression)
    line.seek(0)
    received, _ = soundfile.read(line, dtype="float32")
    received = soxr.resample(received, sample_rate_hz, SAMPLE_RATE_HZ)[: len(samples)]
    return np.pad(received, (0, len(samples) - len(received)))


@functools.cache
def _libraries() -> list[str]:
    return [version(package) for package in PACKAGES]

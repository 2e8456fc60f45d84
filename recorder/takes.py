"""A take: one recording of one phrase, measured, and what to say to the person about it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import soundfile

from stages.common.params import PrepareParams
from stages.speech import audio
from stages.speech.clips import ID_LENGTH

TOO_QUIET_DBFS = -45.0  # of the loudest parts; conversation close to a microphone reaches -15 to -30
NOISY_SNR_DB = 12.0  # below this, single sounds of speech are lost in it
HAS_PAUSES_S = 1.0  # a shorter recording may be all speech, with no pause to measure the noise in
CLIPPED_FRACTION = 0.001
# A recording that begins or ends louder than this is cut inside a word. START_S is one period of a low voice: a longer
# part would hold words that follow the start closely. Words begin suddenly and end slowly, so at the end a longer part
# and a lower level are as safe. A cut in a pause or in a soft sound is not found.
START_S, END_S = 0.01, 0.02
START_BELOW_SPEECH_DB, END_BELOW_SPEECH_DB = 7.0, 12.0
EDGE_ABOVE_NOISE_DB = 15.0
OVERSHOOT_S = 0.1  # the microphone stops this late at most when a recording reaches its longest time


@dataclass(frozen=True)
class Finding:
    """Something wrong with a take, in plain words with what to do; a blocking one forbids saving it."""

    code: str
    words: str
    blocking: bool = False


@dataclass(frozen=True, eq=False)
class Take:
    """A recording as it would be stored (`content`, a whole sound file) and as heard (`samples`, mono [frames])."""

    content: bytes
    suffix: str
    samples: np.ndarray
    sample_rate_hz: int
    figures: dict[str, float]
    findings: tuple[Finding, ...]

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(self.content).hexdigest()[:ID_LENGTH]

    @property
    def blocked(self) -> bool:
        return any(finding.blocking for finding in self.findings)


def from_recording(samples: np.ndarray, sample_rate_hz: int, limits: PrepareParams) -> Take:
    """A take from the microphone's samples [frames], kept without loss as 16-bit FLAC at the rate they came in."""
    longest = int(limits.max_duration_s * sample_rate_hz)
    if len(samples) - longest <= OVERSHOOT_S * sample_rate_hz:
        samples = samples[:longest]
    file = io.BytesIO()
    soundfile.write(file, np.clip(np.nan_to_num(samples), -1, 1), sample_rate_hz, format="FLAC", subtype="PCM_16")
    return _examined(file.getvalue(), ".flac", samples[:, None], sample_rate_hz, limits)


def from_file(content: bytes, suffix: str, limits: PrepareParams) -> Take:
    """A take from an uploaded file, which is kept byte for byte."""
    try:
        samples, sample_rate_hz = audio.decode(content)
    except audio.UnreadableSound as error:
        return _refused(content, suffix, "unreadable", f"This sound cannot be used: {error}.")
    return _examined(content, suffix, samples, sample_rate_hz, limits)


def _examined(content: bytes, suffix: str, samples: np.ndarray, sample_rate_hz: int, limits: PrepareParams) -> Take:
    if not np.isfinite(samples).all():
        return _refused(content, suffix, "unreadable", "Some samples are not numbers. Record or export it again.")
    try:
        mono = audio.to_mono(samples, sample_rate_hz, limits.channels)
    except audio.ChannelsDiffer as error:
        return _refused(content, suffix, "channels", f"It holds different sounds: {error}.")
    duration_s = len(mono) / sample_rate_hz
    if duration_s > limits.max_duration_s:
        # Not measured: an uploaded file may claim to last for years.
        words = (
            f"This is too long: {duration_s:.0f} seconds. "
            f"Up to {limits.max_duration_s:g} seconds can be used: say less at a time."
        )
        return Take(content, suffix, mono, sample_rate_hz, {}, (Finding("too_long", words, blocking=True),))
    figures = {
        **audio.measure(audio.to_mono_16k(mono[:, None], sample_rate_hz)),
        "clipped_fraction": audio.clipped_fraction(samples),
    }
    return Take(content, suffix, mono, sample_rate_hz, figures, tuple(_find(mono, sample_rate_hz, figures, limits)))


def _refused(content: bytes, suffix: str, code: str, words: str) -> Take:
    """A take without usable sound."""
    nothing = np.zeros(0, dtype=np.float32)
    return Take(content, suffix, nothing, audio.SAMPLE_RATE_HZ, {}, (Finding(code, words, blocking=True),))


def _find(
    samples: np.ndarray, sample_rate_hz: int, figures: dict[str, float], limits: PrepareParams
) -> Iterator[Finding]:
    """What is wrong with a take, the worst first; nothing if it is good."""
    level_dbfs, duration_s = figures["level_dbfs"], figures["duration_s"]
    if level_dbfs < limits.silence_dbfs:
        words = "Nothing can be heard. Check that the microphone is plugged in and switched on, then record again."
        yield Finding("silent", words, blocking=True)
        return
    if duration_s < limits.min_duration_s:
        words = "This is too short. Press record first, then speak, then press stop."
        yield Finding("too_short", words, blocking=True)
    if figures["clipped_fraction"] > CLIPPED_FRACTION:
        words = "This is too loud, and distorted. Move a little away from the microphone, or turn it down."
        yield Finding("clipped", words, blocking=figures["clipped_fraction"] > limits.max_clipped_fraction)
    elif level_dbfs < TOO_QUIET_DBFS:
        yield Finding("too_quiet", "This is too quiet. Come closer to the microphone, or turn it up.")
    if figures["snr_db"] < NOISY_SNR_DB and duration_s >= HAS_PAUSES_S:
        words = "There is much noise. Close the window, switch off fan, radio and television, and come closer."
        yield Finding("noisy", words)
        return  # the beginning of speech can be told from noise only if speech is clearly louder
    starts_dbfs, ends_dbfs = _edge_levels(audio.without_offset(samples, sample_rate_hz), sample_rate_hz)
    above_noise_dbfs = level_dbfs - figures["snr_db"] + EDGE_ABOVE_NOISE_DB
    if starts_dbfs > max(level_dbfs - START_BELOW_SPEECH_DB, above_noise_dbfs):
        yield Finding("cut_start", "The beginning is cut off. Press record, wait a moment, then speak.")
    if ends_dbfs > max(level_dbfs - END_BELOW_SPEECH_DB, above_noise_dbfs):
        yield Finding("cut_end", "The end is cut off. Wait a moment after the last word before you press stop.")


def _edge_levels(samples: np.ndarray, sample_rate_hz: int) -> tuple[float, float]:
    """RMS levels in dBFS of the first START_S and the last END_S."""
    start, end = (max(int(seconds * sample_rate_hz), 1) for seconds in (START_S, END_S))
    first, last = (np.sqrt((part.astype(np.float64) ** 2).mean()) for part in (samples[:start], samples[-end:]))
    return float(20 * np.log10(max(first, 1e-10))), float(20 * np.log10(max(last, 1e-10)))

"""Sound: decoding, resampling, trimming, measuring.

Samples are float32 in [-1, 1]: [frames, channels] as recorded, [frames] once mono.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr

from stages.speech import prepared

SAMPLE_RATE_HZ = 16_000  # of the features that Voxtral's encoder was trained on
FULL_SCALE = 0.999
QUIETEST_DBFS = -100.0
FRAME_S = 0.02
TRIM_BELOW_PEAK_DB = 40
TRIM_MARGIN_S = 0.1
# All channels counted: an hour of stereo at 48 kHz, 1.4 GB as float32. A clip is far shorter, and a small file may
# unpack to days of silence.
MAX_SAMPLES = 3600 * 48_000 * 2
# FFmpeg's demuxers that a file may choose by its content: those of sound and of common video files, and none that
# opens other files or addresses (playlists, concat, image sequences).
DEMUXERS = ("aac", "aiff", "amr", "asf", "au", "caf", "flac", "matroska", "mov", "mp3", "ogg", "w64", "wav")


class UnreadableSound(Exception):
    """A file that cannot be decoded; its words say in one line what is wrong and what to do."""


def decode(content: bytes) -> tuple[np.ndarray, int]:
    """Decode a sound file held in memory: by libsndfile, or by FFmpeg (M4A, WebM, a video's sound ...).

    Returns: samples [frames, channels] and the sample rate in Hz.
    Raises: UnreadableSound where the content is no sound that either of them reads, is damaged or is too long.
    """
    try:
        file = soundfile.SoundFile(io.BytesIO(content))
    except (soundfile.SoundFileError, TypeError):  # TypeError: for content that looks like headerless samples
        return _decode_by_ffmpeg(content)
    with file:
        if file.frames * file.channels > MAX_SAMPLES:
            # A header may claim any length (a streamed FLAC has none), and NumPy would take the memory for it.
            return _decode_by_ffmpeg(content)
        try:
            return file.read(dtype="float32", always_2d=True), file.samplerate
        except soundfile.SoundFileError as error:
            raise UnreadableSound("the file is damaged: record or export it again, as WAV or FLAC") from error


def _decode_by_ffmpeg(content: bytes) -> tuple[np.ndarray, int]:
    """The first audio stream, at its own rate; a damaged packet anywhere refuses the file."""
    import av  # imported here: most recordings do not need it

    options = {"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "none"}
    # Grows in place: a list of pieces would take the memory twice.
    samples = bytearray()
    channels = sample_rate_hz = 0
    to_float = av.AudioResampler(format="flt")  # interleaved float32; rate and channels stay
    try:
        with av.open(io.BytesIO(content), container_options=options, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise UnreadableSound("there is no sound in this file: record it again")
            for decoded in container.decode(container.streams.audio[0]):
                for frame in to_float.resample(decoded):
                    channels, sample_rate_hz = frame.layout.nb_channels, frame.sample_rate
                    samples += frame.to_ndarray().tobytes()
                if len(samples) > MAX_SAMPLES * np.dtype(np.float32).itemsize:
                    longest_min = MAX_SAMPLES / channels / sample_rate_hz / 60
                    raise UnreadableSound(f"longer than {longest_min:.0f} minutes at {sample_rate_hz} Hz: cut it")
    except (av.FFmpegError, ValueError) as error:  # ValueError: rate or channels change on the way
        reason = getattr(error, "strerror", None) or "its rate or channels change"
        raise UnreadableSound(f"not a sound file that can be read ({reason}): save it as WAV or FLAC") from error
    if not samples:
        raise UnreadableSound("there is no sound in this file: record it again")
    return np.frombuffer(samples, np.float32).reshape(-1, channels), sample_rate_hz


def encode_flac(samples: np.ndarray) -> bytes:
    """16-bit FLAC at SAMPLE_RATE_HZ."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1, 1), SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def read_prepared(path: Path) -> np.ndarray:
    """Samples [frames] of a file that prepare wrote."""
    samples, sample_rate_hz = soundfile.read(io.BytesIO(prepared.content(path)), dtype="float32")
    if sample_rate_hz != SAMPLE_RATE_HZ or samples.ndim != 1:
        raise ValueError(f"{path} is not {SAMPLE_RATE_HZ} Hz mono: it was not written by the prepare stage")
    return samples


def to_mono_16k(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Mean of the channels, resampled with soxr at its highest quality."""
    mono = samples[:, 0].copy()
    for channel in range(1, samples.shape[1]):  # six times as fast as a mean over such short rows
        mono += samples[:, channel]
    mono /= samples.shape[1]
    if sample_rate_hz == SAMPLE_RATE_HZ:
        return mono
    return soxr.resample(mono, sample_rate_hz, SAMPLE_RATE_HZ, quality="VHQ").astype(np.float32)


def trim_silence(samples: np.ndarray) -> np.ndarray:
    """Cut both ends where they are 40 dB below the loudest frame, leaving a tenth of a second."""
    import librosa  # imported here: it takes a second, and trimming is optional

    _, (start, end) = librosa.effects.trim(samples, top_db=TRIM_BELOW_PEAK_DB, frame_length=512, hop_length=128)
    margin = int(TRIM_MARGIN_S * SAMPLE_RATE_HZ)
    return samples[max(start - margin, 0) : end + margin]


def clipped_fraction(samples: np.ndarray) -> float:
    """Share of samples that stand at full scale beside another one that does.

    To be taken from the recording as it came: resampling rounds the flat tops off.
    """
    at_limit = np.abs(samples) >= FULL_SCALE
    in_run = at_limit.copy()
    in_run[:1] = False
    in_run[1:] &= at_limit[:-1]
    in_run[:-1] |= in_run[1:]
    return float(in_run.mean()) if samples.size else 0.0


def measure(samples: np.ndarray) -> dict[str, float]:
    """Levels of a mono clip [frames] in dBFS, and an estimate of its signal-to-noise ratio in dB.

    Level: the 95th percentile of the RMS of 20 ms frames; noise: their 10th percentile, so a clip without any pause
    is estimated noisier than it is.
    """
    frame_length = int(FRAME_S * SAMPLE_RATE_HZ)
    frame_count = max(len(samples) // frame_length, 1)
    frames = np.resize(samples, (frame_count, frame_length)) if len(samples) else np.zeros((1, frame_length))
    rms_dbfs = _dbfs(np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1)))
    level_dbfs, noise_dbfs = np.percentile(rms_dbfs, [95, 10])
    return {
        "duration_s": round(len(samples) / SAMPLE_RATE_HZ, 3),
        "peak_dbfs": round(float(_dbfs(np.abs(samples).max(initial=0.0))), 1),
        "level_dbfs": round(float(level_dbfs), 1),
        "snr_db": round(float(level_dbfs - noise_dbfs), 1),
    }


def _dbfs(amplitude: np.ndarray | float) -> np.ndarray | float:
    return np.maximum(20 * np.log10(np.maximum(amplitude, 1e-10)), QUIETEST_DBFS)

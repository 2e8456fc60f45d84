"""Sound files that tests make themselves, by libsndfile and by FFmpeg."""

from __future__ import annotations

import io

import av
import numpy as np
import soundfile


def speech_like(duration_s: float, rate_hz: int) -> np.ndarray:
    """A voice's harmonics whose pitch glides, so that only one delay fits."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    phase = 2 * np.pi * (200 * time_s + 50 * time_s**2)
    return sum(0.2 / number * np.sin(number * phase) for number in range(1, 11)).astype(np.float32)


def encode(samples: np.ndarray, rate_hz: int, kind: str, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=kind, subtype=subtype)
    return buffer.getvalue()


def packets_of(stream: av.AudioStream, samples: np.ndarray, rate_hz: int, channels: int) -> list[av.Packet]:
    """The right one of two channels is the left one turned over."""
    layout = "mono" if channels == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(np.stack([samples, -samples][:channels]), format="fltp", layout=layout)
    frame.sample_rate = rate_hz
    return [*stream.encode(frame), *stream.encode(None)]


def encode_by_ffmpeg(
    samples: np.ndarray,
    rate_hz: int,
    container: str,
    codec: str,
    channels: int = 1,
    bit_rate: int = 128_000,
    title: str | None = None,
) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        if title:
            output.metadata["title"] = title
        stream = output.add_stream(codec, rate=rate_hz, layout="mono" if channels == 1 else "stereo")
        stream.bit_rate = 7_950 if "amr" in codec else bit_rate
        output.mux(packets_of(stream, samples, rate_hz, channels))
    return buffer.getvalue()


def video(*sounds: np.ndarray) -> bytes:
    """A second of black pictures with these audio streams, at 48 kHz."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        pictures = output.add_stream("mpeg4", rate=10, width=64, height=64, pix_fmt="yuv420p")
        streams = [output.add_stream("aac", rate=48_000, layout="mono") for _ in sounds]
        for _ in range(10):
            output.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        output.mux(pictures.encode(None))
        for stream, samples in zip(streams, sounds, strict=True):
            output.mux(packets_of(stream, samples, 48_000, 1))
    return buffer.getvalue()

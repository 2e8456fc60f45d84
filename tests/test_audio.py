"""Sound: resampling keeps length, pitch and level; measuring gives the values of known signals."""

import io
import math
import socket
import subprocess
import sys
import textwrap
import tracemalloc

import av
import numpy as np
import pytest
import soundfile

from stages.speech import audio

RATE_HZ = audio.SAMPLE_RATE_HZ


def tone(hertz: float, peak: float, duration_s: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (peak * np.sin(2 * np.pi * hertz * time_s)).astype(np.float32)


def loudest_hertz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * RATE_HZ / len(samples)


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt((samples.astype(np.float64) ** 2).mean()))


def encode(samples: np.ndarray, rate_hz: int, kind: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=kind)
    return buffer.getvalue()


def speech_like(duration_s: float, rate_hz: int) -> np.ndarray:
    """A voice's harmonics whose pitch glides, so that only one delay fits."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    phase = 2 * np.pi * (200 * time_s + 50 * time_s**2)
    return sum(0.2 / number * np.sin(number * phase) for number in range(1, 11)).astype(np.float32)


def best_correlation(spoken: np.ndarray, heard: np.ndarray) -> float:
    """Of the middle half of what was spoken with what was heard, wherever it fits best."""
    quarter = len(spoken) // 4
    middle, frames = spoken[quarter : 3 * quarter], len(spoken) + len(heard)
    likeness = np.fft.irfft(np.fft.rfft(heard, frames) * np.conj(np.fft.rfft(middle, frames)))
    begin = int(np.argmax(likeness[: len(heard) - len(middle)]))
    return float(np.corrcoef(middle, heard[begin : begin + len(middle)])[0, 1])


def packets_of(stream: av.AudioStream, samples: np.ndarray, rate_hz: int, channels: int) -> list[av.Packet]:
    layout = "mono" if channels == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(np.stack([samples] * channels), format="fltp", layout=layout)
    frame.sample_rate = rate_hz
    return [*stream.encode(frame), *stream.encode(None)]


def encode_by_ffmpeg(
    samples: np.ndarray, rate_hz: int, container: str, codec: str, channels: int = 1, title: str | None = None
) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        if title:
            output.metadata["title"] = title
        stream = output.add_stream(codec, rate=rate_hz, layout="mono" if channels == 1 else "stereo")
        stream.bit_rate = 7_950 if "amr" in codec else 128_000
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


def with_flac_length(content: bytes, frames: int) -> bytes:
    """A FLAC file that claims so many frames; 0: unknown (RFC 9639, 8.2: 36 bits from the 22nd byte's lower half)."""
    fields = int.from_bytes(content[18:26], "big")
    return content[:18] + (fields >> 36 << 36 | frames).to_bytes(8, "big") + content[26:]


def test_rate_is_that_of_voxtrals_feature_extractor():
    # preprocessor_config.json of mistralai/Voxtral-Mini-3B-2507: "sampling_rate": 16000
    assert audio.SAMPLE_RATE_HZ == 16_000


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_stereo_becomes_mono_16k_with_the_same_length_pitch_and_level(rate_hz):
    stereo = np.stack([tone(440, 0.6, 2, rate_hz), tone(440, 0.2, 2, rate_hz)], axis=1)
    mono = audio.to_mono_16k(stereo, rate_hz)
    assert mono.shape == (2 * RATE_HZ,)
    assert mono.dtype == np.float32
    assert loudest_hertz(mono) == 440.0
    middle = mono[RATE_HZ // 2 : -RATE_HZ // 2]
    assert rms(middle) == pytest.approx(
        0.4 / math.sqrt(2), rel=1e-3
    )  # RMS of a sine is peak / sqrt 2; mean of 0.6, 0.2


def test_sound_above_8_khz_does_not_fold_down_into_speech():
    # 10 kHz lies above half of 16 kHz; without a filter it would come back at 16 - 10 = 6 kHz.
    mono = audio.to_mono_16k(tone(10_000, 0.5, 1, 48_000)[:, None], 48_000)
    middle = mono[RATE_HZ // 4 : -RATE_HZ // 4]
    assert rms(middle) < 0.5 / math.sqrt(2) * 10 ** (-90 / 20)


def test_sound_at_16_khz_is_not_resampled():
    samples = tone(440, 0.5, 1)
    assert np.array_equal(audio.to_mono_16k(samples[:, None], RATE_HZ), samples)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([0, 1, 1, 0, 1, 0, -1, -1, -1, 0], 5 / 10),  # the single 1 is a peak, not a flat top
        ([1, 1, 1, 1], 4 / 4),
        ([1, 0, 1, 0], 0 / 4),
        ([0.9, 0.9, 0.99, 0.99], 0 / 4),
        ([0, 0, 1, 1], 2 / 4),
        ([1], 0 / 1),
        ([], 0.0),
    ],
)
def test_clipped_fraction_counts_samples_that_stand_at_full_scale_together(samples, expected):
    assert audio.clipped_fraction(np.array(samples, dtype=np.float32)[:, None]) == expected


def test_clipped_fraction_looks_at_each_channel_by_itself():
    left, right = [1, 1, 0, 0], [0, 0, 1, 0]
    assert audio.clipped_fraction(np.array([left, right], dtype=np.float32).T) == 2 / 8


def test_clipped_fraction_of_a_cut_sine_is_the_share_of_its_flat_tops():
    # |2 sin x| >= 0.999 for all but 2 asin(0.4995) of each pi.
    cut = np.clip(tone(10, 2.0, 1), -1, 1)
    expected = 1 - 2 * math.asin(0.999 / 2) / math.pi
    assert audio.clipped_fraction(cut[:, None]) == pytest.approx(expected, abs=0.002)


def test_full_scale_16_bit_samples_count_as_clipped():
    samples, _ = audio.decode(encode(np.full(100, 32767, dtype=np.int16), RATE_HZ, "WAV"))
    assert audio.clipped_fraction(samples) == 1.0


@pytest.mark.parametrize(
    ("peak", "peak_dbfs", "level_dbfs"), [(1.0, 0.0, -3.0), (0.5, -6.0, -9.0), (0.1, -20.0, -23.0)]
)
def test_level_of_a_sine_is_3_db_below_its_peak(peak, peak_dbfs, level_dbfs):
    # 20 log10(1 / sqrt 2) = -3.01; 400 Hz has 8 whole periods in a frame of 20 ms, so every frame is alike.
    figures = audio.measure(tone(400, peak, 1.5))
    assert figures == {"duration_s": 1.5, "peak_dbfs": peak_dbfs, "level_dbfs": level_dbfs, "snr_db": 0.0}


def test_noise_is_the_level_of_the_pauses():
    # Peaks of 0.5 and 0.005 lie 20 log10(100) = 40 dB apart.
    figures = audio.measure(np.concatenate([tone(400, 0.5, 1), tone(400, 0.005, 1)]))
    assert figures["snr_db"] == 40.0
    assert figures["level_dbfs"] == -9.0


def test_silence_stands_at_the_lowest_level_and_nothing_is_infinite():
    silent = {"duration_s": 1.0, "peak_dbfs": -100.0, "level_dbfs": -100.0, "snr_db": 0.0}
    assert audio.measure(np.zeros(RATE_HZ, dtype=np.float32)) == silent
    assert audio.measure(np.zeros(0, dtype=np.float32)) == {**silent, "duration_s": 0.0}


def test_trim_leaves_a_tenth_of_a_second_around_the_sound():
    silence = np.zeros(RATE_HZ, dtype=np.float32)
    trimmed = audio.trim_silence(np.concatenate([silence, tone(440, 0.5, 1), silence]))
    # 1 s of tone, 0.1 s on both sides; librosa cuts at frames of 512 samples, 128 apart.
    assert len(trimmed) / RATE_HZ == pytest.approx(1.2, abs=2 * 512 / RATE_HZ)
    margin = int(0.1 * RATE_HZ)
    assert not trimmed[: margin - 512].any()
    assert not trimmed[-(margin - 512) :].any()
    assert rms(trimmed[margin + 512 : -margin - 512]) == pytest.approx(0.5 / math.sqrt(2), rel=1e-2)


def test_trim_leaves_sound_without_silence_as_it_is():
    samples = tone(440, 0.5, 1)
    assert np.array_equal(audio.trim_silence(samples), samples)


def test_trim_does_not_cut_a_pause_in_the_middle():
    pause = np.zeros(RATE_HZ, dtype=np.float32)
    samples = np.concatenate([tone(440, 0.5, 0.5), pause, tone(440, 0.5, 0.5)])
    assert np.array_equal(audio.trim_silence(samples), samples)


def test_flac_comes_back_within_one_step_of_16_bits(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, RATE_HZ).astype(np.float32)
    (tmp_path / "a.flac").write_bytes(audio.encode_flac(samples))
    back = audio.read_prepared(tmp_path / "a.flac")
    assert back.dtype == np.float32
    assert back.shape == samples.shape
    assert np.abs(back - samples).max() <= 1 / 2**15
    info = soundfile.info(tmp_path / "a.flac")
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16_000, 1)


def test_flac_cuts_off_what_is_louder_than_full_scale(tmp_path):
    (tmp_path / "a.flac").write_bytes(audio.encode_flac(np.array([1.5, -1.5, 0.0], dtype=np.float32)))
    assert audio.read_prepared(tmp_path / "a.flac") == pytest.approx([1.0, -1.0, 0.0], abs=1 / 2**15)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_decode_gives_frames_and_channels(kind):
    stereo = np.stack([tone(440, 0.5, 1, 44_100)] * 2, axis=1)
    samples, rate_hz = audio.decode(encode(stereo, 44_100, kind))
    assert rate_hz == 44_100
    assert samples.shape[1] == 2
    assert samples.dtype == np.float32
    assert len(samples) / rate_hz == pytest.approx(1.0, abs=0.1)  # MP3 pads with up to two frames of 1152 samples


# What telephones and browsers record by default; libsndfile reads none of them.
@pytest.mark.parametrize(
    ("container", "codec", "rate_hz", "channels"),
    [
        ("ipod", "aac", 44_100, 2),  # M4A
        ("ipod", "alac", 44_100, 1),
        ("mp4", "aac", 48_000, 1),
        ("mov", "aac", 16_000, 1),
        ("3gp", "aac", 16_000, 1),
        ("3gp", "libopencore_amrnb", 8_000, 1),
        ("amr", "libopencore_amrnb", 8_000, 1),
        ("adts", "aac", 44_100, 1),
        ("webm", "libopus", 48_000, 2),
        ("matroska", "aac", 44_100, 1),
        ("asf", "wmav2", 44_100, 1),  # WMA
    ],
)
def test_decode_gives_what_telephones_and_browsers_record(container, codec, rate_hz, channels):
    # AMR rebuilds a voice with other phases: only a tone keeps its shape.
    spoken = tone(440, 0.5, 2, rate_hz) if "amr" in codec else speech_like(2, rate_hz)
    content = encode_by_ffmpeg(spoken, rate_hz, container, codec, channels)
    with pytest.raises(soundfile.SoundFileError):
        soundfile.read(io.BytesIO(content))
    samples, decoded_rate_hz = audio.decode(content)
    assert decoded_rate_hz == rate_hz
    assert samples.dtype == np.float32
    assert samples.shape[1] == channels
    # Lossy codecs begin up to two of their frames late and end with a frame that is filled up.
    assert len(samples) / rate_hz == pytest.approx(2, abs=0.15)
    for channel in samples.T:
        assert best_correlation(spoken, channel) >= 0.99
        assert rms(channel) == pytest.approx(rms(spoken), rel=0.15)


def test_sound_of_a_video_is_its_first_audio_stream():
    samples, rate_hz = audio.decode(video(tone(440, 0.5, 1, 48_000), tone(880, 0.5, 1, 48_000)))
    assert rate_hz == 48_000
    assert loudest_hertz(audio.to_mono_16k(samples, rate_hz)[:RATE_HZ]) == 440


def test_video_without_sound_is_refused_in_words():
    with pytest.raises(audio.UnreadableSound, match=r"^there is no sound in this file: record it again$"):
        audio.decode(video())


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"RIFF\x00\x00\x00\x00WAVE", b"fLaC" + bytes(100), b"<html></html>"]
)
def test_decode_of_garbage_raises_one_line_that_says_what_to_do(content):
    with pytest.raises(
        audio.UnreadableSound, match=r"^not a sound file that can be read \(.+\): save it as WAV or FLAC$"
    ):
        audio.decode(content)


# The same words each time: they are written to rejected.jsonl, which DVC hashes.
def test_same_garbage_gives_the_same_words():
    words = set()
    for _ in range(2):
        with pytest.raises(audio.UnreadableSound) as caught:
            audio.decode(b"garbage")
        words.add(str(caught.value))
    assert len(words) == 1


@pytest.mark.parametrize("kind", ["FLAC", "ipod"])
@pytest.mark.parametrize("damage", ["middle", "end"])
def test_damaged_sound_is_refused_and_not_read_in_part(kind, damage):
    spoken = speech_like(2, 44_100)
    content = bytearray(
        encode(spoken, 44_100, kind) if kind == "FLAC" else encode_by_ffmpeg(spoken, 44_100, kind, "aac")
    )
    half = len(content) // 2
    if damage == "middle":
        content[half : half + 40] = b"\xa5" * 40
    else:
        del content[half:]
    with pytest.raises(audio.UnreadableSound, match="WAV or FLAC"):
        audio.decode(bytes(content))


def test_flac_that_was_streamed_and_names_no_length_is_read():
    spoken = speech_like(1, 16_000)
    samples, rate_hz = audio.decode(with_flac_length(encode(spoken, 16_000, "FLAC"), 0))
    assert rate_hz == 16_000
    assert samples[:, 0] == pytest.approx(spoken, abs=1 / 2**15)


def test_length_that_a_header_claims_takes_no_memory():
    # 2^36 - 1 samples, the most that FLAC can claim, would take 275 GB.
    content = with_flac_length(encode(tone(440, 0.5, 1), RATE_HZ, "FLAC"), 2**36 - 1)
    tracemalloc.start()
    try:
        samples, _ = audio.decode(content)
    except audio.UnreadableSound:
        samples = np.zeros((RATE_HZ, 1))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(samples) == RATE_HZ
    assert peak_bytes < 50e6


@pytest.mark.parametrize(("kind", "channels"), [("FLAC", 1), ("FLAC", 2), ("WAV", 1), ("ipod", 1), ("webm", 2)])
def test_sound_above_the_limit_is_refused_while_it_is_decoded(monkeypatch, kind, channels):
    # Both sides of the limit; the lossy ones add up to a tenth of a second.
    def content(duration_s: float) -> bytes:
        samples = tone(440, 0.5, duration_s, 48_000)
        if kind in ("ipod", "webm"):
            return encode_by_ffmpeg(samples, 48_000, kind, "aac" if kind == "ipod" else "libopus", channels)
        return encode(np.stack([samples] * channels, axis=1), 48_000, kind)

    monkeypatch.setattr(audio, "MAX_SAMPLES", 60 * 48_000 * channels)
    assert len(audio.decode(content(59.8))[0]) / 48_000 == pytest.approx(59.8, abs=0.15)
    with pytest.raises(audio.UnreadableSound, match=r"^longer than 1 minutes at 48000 Hz: cut it"):
        audio.decode(content(60.2))


@pytest.fixture
def local_sound(tmp_path, monkeypatch) -> str:
    """The name of a sound file in the working folder, which no upload may read."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("secret.wav", tone(440, 0.5, 1), RATE_HZ)
    return "secret.wav"


def test_list_that_names_a_local_file_is_refused_and_the_file_is_not_read(local_sound):
    content = f"ffconcat version 1.0\nfile {local_sound}\n".encode()
    # Without our list of demuxers FFmpeg reads it, from memory as well.
    with av.open(io.BytesIO(content)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == RATE_HZ
    with pytest.raises(audio.UnreadableSound):
        audio.decode(content)


def test_hls_playlist_that_names_a_local_file_is_refused_and_the_file_is_not_read(local_sound):
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXTINF:1.0,", local_sound, "#EXT-X-ENDLIST"]
    content = "\n".join(lines).encode()
    with pytest.raises(audio.UnreadableSound):
        audio.decode(content)
    assert "hls" not in audio.DEMUXERS


@pytest.mark.parametrize("scheme", ["http", "tcp", "rtsp"])
@pytest.mark.parametrize("kind", ["hls", "concat", "dash", "sdp"])
def test_no_address_in_a_file_is_called(scheme, kind):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        address = f"{scheme}://127.0.0.1:{port}/a.ts"
        content = {
            "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{address}\n#EXT-X-ENDLIST\n",
            "concat": f"ffconcat version 1.0\nfile {address}\n",
            "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>{address}</Period></MPD>',
            "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio {port} RTP/AVP 0\n",
        }[kind]
        with pytest.raises(audio.UnreadableSound):
            audio.decode(content.encode())
        with pytest.raises(TimeoutError):
            server.accept()


def test_demuxers_are_names_that_ffmpeg_knows_and_none_opens_other_files():
    known = {name for format_name in av.formats_available for name in format_name.split(",")}
    assert set(audio.DEMUXERS) <= known
    assert not {"concat", "hls", "dash", "image2", "sdp", "rtsp", "lavfi", "webm_dash_manifest"} & set(audio.DEMUXERS)


def test_title_that_is_no_utf_8_does_not_stop_the_decoding():
    content = encode_by_ffmpeg(tone(440, 0.5, 1, 44_100), 44_100, "ipod", "aac", title="Mueller")
    assert b"Mueller" in content
    assert len(audio.decode(content.replace(b"Mueller", b"M\xfcller!"))[0]) > 44_000


def test_ffmpeg_is_not_loaded_for_what_libsndfile_reads():
    code = """
        import io, sys, soundfile
        from stages.speech import audio
        buffer = io.BytesIO()
        soundfile.write(buffer, [0.5] * 100, 16_000, format="WAV")
        audio.decode(buffer.getvalue())
        print("av" in sys.modules)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize(("rate_hz", "channels"), [(44_100, 1), (16_000, 2)])
def test_file_that_prepare_did_not_write_is_refused(tmp_path, rate_hz, channels):
    soundfile.write(tmp_path / "a.flac", np.zeros((100, channels)), rate_hz)
    with pytest.raises(ValueError, match="not written by the prepare stage"):
        audio.read_prepared(tmp_path / "a.flac")

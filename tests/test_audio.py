"""Sound: resampling keeps length, pitch and level; measuring gives the values of known signals."""

import io
import math
import socket
import time
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.signal
import soundfile

from stages.speech import audio, ffmpeg, prepared, quality, unreadable
from tests.sounds import encode, encode_by_ffmpeg, packets_of, speech_like, video
from tests.workspaces import SPEECH

RATE_HZ = audio.SAMPLE_RATE_HZ


def tone(hertz: float, peak: float, duration_s: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (peak * np.sin(2 * np.pi * hertz * time_s)).astype(np.float32)


def loudest_hertz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * RATE_HZ / len(samples)


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt((samples.astype(np.float64) ** 2).mean()))


def late_by(spoken: np.ndarray, heard: np.ndarray) -> int:
    """By how many samples what is heard lags behind what was spoken."""
    frames = len(spoken) + len(heard)
    likeness = np.fft.irfft(np.fft.rfft(heard, frames) * np.conj(np.fft.rfft(spoken, frames)), frames)
    best = int(np.argmax(likeness))
    return best if best < len(heard) else best - frames


def best_correlation(spoken: np.ndarray, heard: np.ndarray) -> float:
    """Of the middle half of what was spoken with what was heard, wherever it fits best."""
    quarter = len(spoken) // 4
    middle = spoken[quarter : 3 * quarter]
    begin = late_by(middle, heard)
    return float(np.corrcoef(middle, heard[begin : begin + len(middle)])[0, 1])


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
def test_stereo_becomes_mono_16k_with_the_same_length_pitch_and_level(rate_hz):
    stereo = np.stack([tone(440, 0.6, 2, rate_hz), tone(440, 0.2, 2, rate_hz)], axis=1)
    mono = audio.to_mono_16k(stereo, rate_hz)
    assert (mono.shape, mono.dtype, loudest_hertz(mono)) == ((2 * RATE_HZ,), np.float32, 440.0)
    middle = mono[RATE_HZ // 2 : -RATE_HZ // 2]
    assert rms(middle) == pytest.approx(0.4 / math.sqrt(2), rel=1e-3)  # a sine: peak / sqrt 2; mean of 0.6, 0.2


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ([[0, 1, 1, 0, 1, 0, -1, -1, -1, 0]], 5 / 10),  # the single 1 is a peak, not a flat top
        ([[32_767 / 32_768] * 4], 4 / 4),  # the loudest of 16 bits
        ([[0.9, 0.9, 0.99, 0.99]], 0 / 4),
        ([[1, 1, 0, 0], [0, 0, 1, 0]], 2 / 8),
        ([[1]], 0 / 1),
        ([[]], 0.0),
    ],
)
def test_clipped_fraction_counts_samples_that_stand_at_full_scale_together(channels, expected):
    assert audio.clipped_fraction(np.array(channels, dtype=np.float32).T) == expected


# 20 log10(1 / sqrt 2) = -3.01; 400 Hz has 8 whole periods in a frame of 20 ms. Peaks of 0.5 and 0.005: 40 dB apart.
@pytest.mark.parametrize(
    ("samples", "figures"),
    [
        (tone(400, 1.0, 1.5), (1.5, 0.0, -3.0, 0.0)),
        (tone(400, 0.1, 1.5), (1.5, -20.0, -23.0, 0.0)),
        (np.concatenate([tone(400, 0.5, 1), tone(400, 0.005, 1)]), (2.0, -6.0, -9.0, 40.0)),
        (np.zeros(RATE_HZ, np.float32), (1.0, -100.0, -100.0, 0.0)),  # not infinite
        (np.zeros(0, np.float32), (0.0, -100.0, -100.0, 0.0)),
    ],
)
def test_measured_duration_peak_level_and_noise_are_those_of_known_signals(samples, figures):
    names = ("duration_s", "peak_dbfs", "level_dbfs", "snr_db")
    assert audio.measure(samples) == dict(zip(names, figures, strict=True))


def test_flac_comes_back_within_one_step_of_16_bits_and_is_cut_off_at_full_scale(tmp_path):
    samples = np.random.default_rng(0).uniform(-1.5, 1.5, RATE_HZ).astype(np.float32)
    (tmp_path / "a.flac").write_bytes(audio.encode_flac(samples))
    back = prepared.read_prepared(tmp_path / "a.flac")
    assert back.dtype == np.float32
    assert back == pytest.approx(samples.clip(-1, 1), abs=1 / 2**15)
    info = soundfile.info(tmp_path / "a.flac")
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16_000, 1)
    soundfile.write(tmp_path / "b.flac", samples, 44_100)
    with pytest.raises(ValueError, match="not written by the prepare stage"):
        prepared.read_prepared(tmp_path / "b.flac")


# What telephones and browsers record by default; libsndfile reads none of them.
@pytest.mark.parametrize(
    ("container", "codec", "rate_hz", "channels"),
    [("amr", "libopencore_amrnb", 8_000, 1), ("webm", "libopus", 48_000, 2), ("wv", "wavpack", 44_100, 2)],
)
def test_decode_gives_what_telephones_and_browsers_record(container, codec, rate_hz, channels):
    # AMR rebuilds a voice with other phases: only a tone keeps its shape.
    spoken = tone(440, 0.5, 2, rate_hz) if "amr" in codec else speech_like(2, rate_hz)
    content = encode_by_ffmpeg(spoken, rate_hz, container, codec, channels)
    with pytest.raises(soundfile.SoundFileError):
        soundfile.read(io.BytesIO(content))
    samples, decoded_rate_hz = audio.decode(content)
    assert (decoded_rate_hz, samples.dtype, samples.shape[1]) == (rate_hz, np.float32, channels)
    # Lossy codecs begin up to two of their frames late and end with a frame that is filled up.
    assert len(samples) / rate_hz == pytest.approx(2, abs=0.15)
    for sign, channel in zip((1, -1), samples.T, strict=False):
        assert best_correlation(spoken, sign * channel) >= 0.99
        assert rms(channel) == pytest.approx(rms(spoken), rel=0.15)


def test_sound_that_was_streamed_and_names_no_length_is_read():
    spoken = speech_like(1, RATE_HZ)
    wav = encode(spoken, RATE_HZ, "WAV")
    wav = wav[:4] + b"\x24\xf0\xff\x7f" + wav[8:40] + b"\x00\xf0\xff\x7f" + wav[44:]  # as espeak-ng writes to a pipe
    flac = encode(spoken, RATE_HZ, "FLAC")
    length_unknown = int.from_bytes(flac[18:26], "big") >> 36 << 36  # RFC 9639, 8.2: 36 bits that are 0
    for content in (wav, flac[:18] + length_unknown.to_bytes(8, "big") + flac[26:]):
        samples, _ = audio.decode(content)
        assert samples[:, 0] == pytest.approx(spoken, abs=1 / 2**15)


def test_mp3_of_changing_bit_rate_is_read_to_its_end():
    """libsndfile takes the length from the first frame's bit rate: 4.5 s here."""
    spoken, content = speech_like(4, 44_100), b""
    for bit_rate in (320_000, 32_000):
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp3", container_options={"write_xing": "0", "id3v2_version": "0"}) as output:
            stream = output.add_stream("libmp3lame", rate=44_100, layout="mono")
            stream.bit_rate = bit_rate
            output.mux(packets_of(stream, spoken, 44_100, 1))
        content += buffer.getvalue()
    samples, _ = audio.decode(content)
    assert len(samples) / 44_100 == pytest.approx(8, abs=0.15)
    assert best_correlation(spoken, samples[4 * 44_100 :, 0]) > 0.98


def test_sound_of_a_video_is_its_first_audio_stream():
    samples, rate_hz = audio.decode(video(tone(440, 0.5, 1, 48_000), tone(880, 0.5, 1, 48_000)))
    assert loudest_hertz(audio.to_mono_16k(samples, rate_hz)[:RATE_HZ]) == 440


WHOLE = encode(speech_like(1, RATE_HZ), RATE_HZ, "WAV")
CONCAT = "ffconcat version 1.0\nfile {}\n"
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"


# Catches: sound that is not there counts as sound, or words for rejected.jsonl (which DVC hashes) that change.
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html>\n<p>Log in</p>", "a text, not sound"),
        ("Grüße aus Köln".encode(), "a text, not sound"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"garb\x00age", "save it as WAV or FLAC"),
        (b"RIFF\x00\x00\x00\x00WAVE", "save it as WAV or FLAC"),
        (b"fLaC" + bytes(100), "save it as WAV or FLAC"),
        (encode(np.zeros(0, np.float32), 48_000, "WAV"), "no sound in this file"),
        (encode(np.zeros(0, np.float32), 48_000, "FLAC"), "the file is empty"),  # libsndfile writes nothing
        (video(), "no sound in this file"),
        (encode(tone(440, 0.5, 1), 1_092_676, "WAV"), "claims 1092676 samples a second"),
        (encode(tone(440, 0.5, 1), 1, "WAV"), "claims 1 samples a second"),
        (b"ID3\x04\0\0\0\0\x07\x68" + bytes(1000) + WHOLE, "save it as WAV or FLAC"),  # a tag before WAV
        (encode(np.full(RATE_HZ, np.nan, np.float32), RATE_HZ, "WAV", "FLOAT"), "not numbers"),
    ],
)
def test_what_is_no_sound_is_refused_in_the_same_words_each_time(content, words):
    found = set()
    for _ in range(2):
        with pytest.raises(audio.UnreadableSound, match=words) as caught:
            audio.decode(content)
        found.add(str(caught.value))
    assert len(found) == 1


# Catches: a text that says more than can be heard, because the end is missing or a damaged stretch is left out.
@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC", "MP3", "ipod", "webm", "avi", "wv", "adts"])
def test_file_that_is_cut_off_or_damaged_is_refused(kind):
    codec = {"webm": "libopus", "avi": "libmp3lame", "wv": "wavpack"}.get(kind, "aac")
    spoken = speech_like(4, 48_000)
    content = encode(spoken, 48_000, kind) if kind.isupper() else encode_by_ffmpeg(spoken, 48_000, kind, codec)
    assert len(audio.decode(content)[0]) / 48_000 == pytest.approx(4, abs=0.1)
    middle = len(content) // 2
    changed = [content[:middle], content[:middle] + b"\xa5" * 40 + content[middle + 40 :]]
    for broken in changed if kind in ("FLAC", "ipod") else changed[:1]:  # others have no checksums
        with pytest.raises(audio.UnreadableSound):
            audio.decode(broken)


# Catches: a long file, or one whose header claims a length, for which all memory is taken.
def test_sound_above_the_limit_is_refused_while_it_is_decoded(monkeypatch):
    monkeypatch.setattr(unreadable, "MAX_SAMPLES", 60 * RATE_HZ * 2)
    shorter, longer = (
        encode(np.stack([tone(440, 0.5, duration_s)] * 2, axis=1), RATE_HZ, "FLAC") for duration_s in (60.0, 60.2)
    )
    assert len(audio.decode(shorter)[0]) == 60 * RATE_HZ
    with pytest.raises(audio.UnreadableSound, match="longer than 1 minutes"):
        audio.decode(longer)


# Catches: a recording that makes FFmpeg read another file, or call an address.
@pytest.mark.parametrize("list_of", [CONCAT, HLS])
def test_file_or_address_that_a_list_names_is_not_opened(list_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("secret.wav", tone(440, 0.5, 1), RATE_HZ)
    with av.open(io.BytesIO(CONCAT.format("secret.wav").encode())) as container:  # without our list of demuxers
        assert sum(frame.samples for frame in container.decode(audio=0)) == RATE_HZ
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        for name in ("secret.wav", f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"):
            with pytest.raises(audio.UnreadableSound):
                audio.decode(list_of.format(name).encode())
        with pytest.raises(TimeoutError):
            server.accept()
    known = {name for format_name in av.formats_available for name in format_name.split(",")}
    assert set(ffmpeg.DEMUXERS) <= known
    assert not {"concat", "hls", "dash", "image2", "sdp", "rtsp", "lavfi", "webm_dash_manifest"} & set(ffmpeg.DEMUXERS)


def test_title_that_is_no_utf_8_does_not_stop_the_decoding():
    content = encode_by_ffmpeg(tone(440, 0.5, 1, 44_100), 44_100, "ipod", "aac", title="Mueller")
    assert b"Mueller" in content
    assert len(audio.decode(content.replace(b"Mueller", b"M\xfcller!"))[0]) > 44_000


# Two voices of other pitch and rhythm.
TIME_S = np.arange(2 * RATE_HZ) / RATE_HZ
ONE = (speech_like(2, RATE_HZ) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * TIME_S))).astype(np.float32)
OTHER = (speech_like(4, RATE_HZ)[-2 * RATE_HZ :] * (0.5 + 0.5 * np.sin(2 * np.pi * 4.3 * TIME_S))).astype(np.float32)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([ONE], ONE),
        ([ONE, 0.5 * ONE], 0.75 * ONE),
        ([0 * ONE, ONE], ONE),
        ([ONE, 0 * ONE + 0.2], ONE),  # a constant voltage is no sound
        ([ONE, 0.02 * OTHER], ONE),  # 34 dB softer: what one microphone hears of the other's speaker
        ([0.8 * ONE, -ONE], -ONE),  # turned over: the mean would be nearly silent
        ([0.8 * ONE, np.roll(ONE, 80)], np.roll(ONE, 80)),  # 5 ms apart: the mean would sound hollow
        ([ONE, *[0 * ONE] * 6, ONE], ONE),
        ([0 * ONE, 0 * ONE], 0 * ONE),
    ],
)
def test_channels_of_one_sound_become_that_sound(samples, expected):
    mono = audio.to_mono(np.stack(samples, axis=1).astype(np.float32), RATE_HZ)
    assert mono == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("samples", [[ONE, OTHER], [ONE, ONE, OTHER], [ONE, *[0 * ONE] * 6, 0.3 * OTHER]])
def test_channels_of_two_sounds_are_refused_in_words_until_one_is_chosen(samples):
    stacked = np.stack(samples, axis=1)
    with pytest.raises(audio.ChannelsDiffer, match="channels 1 and"):
        audio.to_mono(stacked, RATE_HZ)
    assert np.array_equal(audio.to_mono(stacked, RATE_HZ, "left"), samples[0])
    assert np.array_equal(audio.to_mono(stacked, RATE_HZ, "right"), samples[1])
    assert audio.to_mono(stacked, RATE_HZ, "mix") == pytest.approx(np.mean(samples, axis=0), abs=1e-6)


@pytest.mark.skipif(not SPEECH.is_dir(), reason="no real speech beside the checkout")
def test_real_speech_that_two_microphones_hear_is_one_sound():
    rng = np.random.default_rng(0)
    paths = sorted((SPEECH / "kathleen").rglob("*.flac"))[:8]
    assert len(paths) == 8
    for path in paths:
        one = audio.to_mono_16k(*audio.decode(path.read_bytes()))
        # A room of 0.3 s, its echoes half as strong as the voice; the microphones 20 cm apart.
        echoes = rng.standard_normal((2, 4_800)) * np.exp(-6.9 * np.arange(4_800) / 4_800)
        echoes /= 1.41 * np.sqrt((echoes**2).sum(axis=1, keepdims=True))
        echoes[0, 0] += 1
        echoes[1, 9] += 1
        heard = np.stack([scipy.signal.fftconvolve(one, echo)[: len(one)] for echo in echoes], axis=1)
        assert best_correlation(one, audio.to_mono(heard.astype(np.float32), RATE_HZ)) > 0.6


# Parts of long recordings.


def lecture(begins_s: float, ends_s: float, rate_hz: int) -> np.ndarray:
    """What is said in a part of a lecture: gliding voices, of another pitch every two seconds."""
    time_s = np.arange(round(begins_s * rate_hz), round(ends_s * rate_hz)) / rate_hz
    number, within_s = np.divmod(time_s, 2)
    phase = 2 * np.pi * ((200 + number * 37 % 300) * within_s + 50 * within_s**2)
    return (0.3 * np.sin(phase) + 0.2 * np.sin(2 * phase) + 0.1 * np.sin(3 * phase)).astype(np.float32)


def write_lecture(path: Path, duration_s: int, rate_hz: int, kind: str, codec: str | None = None) -> Path:
    samples = lecture(0, duration_s, rate_hz)
    if codec is None:
        with soundfile.SoundFile(path, "w", rate_hz, 1, format=kind) as file:
            for part in np.array_split(samples, duration_s):  # Vorbis crashes on large ones
                file.write(part)
        return path
    with av.open(str(path), "w", format=kind) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout="mono")
        stream.bit_rate = 96_000
        output.mux(packets_of(stream, samples, rate_hz, 1))
    return path


@pytest.mark.parametrize(
    ("kind", "codec", "rate_hz", "frame_samples"),
    [
        ("AIFF", None, 16_000, 0),
        ("FLAC", None, 24_000, 0),
        ("MP3", None, 44_100, 1_152),
        ("OGG", None, 44_100, 2_048),
        ("ipod", "aac", 44_100, 1_024),  # M4A
        ("webm", "libopus", 48_000, 960),
        ("adts", "aac", 44_100, 1_024),
        ("asf", "wmav2", 44_100, 2_048),  # WMA
    ],
)
def test_part_begins_where_it_should_to_a_codecs_frame(tmp_path, kind, codec, rate_hz, frame_samples):
    path = write_lecture(tmp_path / "lecture", 70, rate_hz, kind, codec)
    for begins_s, ends_s in [(0.0, 1.7), (3.2, 5.0), (33.3333, 36.1), (62.2, 64.4)]:
        with path.open("rb") as file:
            part, decoded_rate_hz = audio.decode(file, begins_s, ends_s)
        assert decoded_rate_hz == rate_hz
        assert len(part) == round(ends_s * rate_hz) - round(begins_s * rate_hz)
        spoken = lecture(begins_s, ends_s, rate_hz)
        assert abs(late_by(spoken, part[:, 0])) <= frame_samples
        assert best_correlation(spoken, part[:, 0]) > 0.98


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_part_of_an_mp3_is_whole_from_its_first_sample(tmp_path, rate_hz):
    """A frame of MP3 needs bits of the ones before it: the first quarter of a second was silent."""
    content = write_lecture(tmp_path / "lecture", 40, rate_hz, "MP3", None).read_bytes()
    whole, _ = audio.decode(content)
    part, _ = audio.decode(content, 33.3, 36.3)
    first = round(33.3 * rate_hz)
    assert np.abs(part - whole[first : first + len(part)]).max() < 1e-4


@pytest.mark.parametrize("kind", ["WAV", "ipod"])
@pytest.mark.parametrize("times", [(9.0, 12.0), (11.0, 12.0), (11.0, None)])
def test_part_that_lies_behind_the_end_is_refused(tmp_path, kind, times):
    path = write_lecture(tmp_path / "lecture", 10, 16_000, kind, "aac" if kind == "ipod" else None)
    with pytest.raises(audio.UnreadableSound, match="correct the times"):
        audio.decode(path.read_bytes(), *times)


@pytest.mark.parametrize(("kind", "codec"), [("FLAC", None), ("ipod", "aac")])
def test_recording_above_the_limit_is_read_in_parts_in_little_memory_and_time(monkeypatch, tmp_path, kind, codec):
    monkeypatch.setattr(unreadable, "MAX_DURATION_S", 240)
    path = write_lecture(tmp_path / "lecture", 300, 8_000, kind, codec)
    with path.open("rb") as file:
        with pytest.raises(audio.UnreadableSound, match="longer than 4 minutes"):
            audio.decode(file)
        tracemalloc.start()
        began_s = time.thread_time()
        for begins_s in np.arange(10) * 29.1 + 0.7:
            part, _ = audio.decode(file, begins_s, begins_s + 3)
            assert len(part) == 3 * 8_000
        taken_s = time.thread_time() - began_s
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < 4e6  # the whole takes 10e6
    assert taken_s < 10 * 0.2


def test_tag_before_flac_takes_none_of_it_away():
    spoken = speech_like(1, 48_000)
    content = b"ID3\x04\0\0\0\0\x07\x68" + bytes(1000) + encode(spoken, 48_000, "FLAC")  # its size by 7 bits
    part, _ = audio.decode(content, 0.3, 0.6)
    assert part[:, 0] == pytest.approx(spoken[14_400:28_800], abs=1e-4)


# Catches: each part of a long recording without an index is decoded from its beginning: time grows with the square.
def test_parts_of_a_recording_without_an_index_are_decoded_in_one_pass(tmp_path, monkeypatch):
    path = tmp_path / "talk.aac"
    path.write_bytes(encode_by_ffmpeg(speech_like(60, RATE_HZ), RATE_HZ, "adts", "aac"))
    whole, rate_hz = audio.decode(path.read_bytes())
    opened = []
    monkeypatch.setattr(ffmpeg, "_Opened", lambda *given, kind=ffmpeg._Opened: opened.append(1) or kind(*given))
    times = [(0.0, 2.0), (2.0, 3.5), (3.4, 6.0), (6.0, 6.5), (30.0, 33.3), (33.3, 59.0), (1.0, 2.0)]
    for begins_s, ends_s in times:
        with path.open("rb") as recorded:
            part, _ = audio.decode(recorded, begins_s, ends_s)
        assert (part == whole[round(begins_s * rate_hz) : round(ends_s * rate_hz)]).all()
    assert len(opened) == 2  # the last part lies before the others
    path.write_bytes(encode_by_ffmpeg(tone(440, 0.5, 60, RATE_HZ), RATE_HZ, "adts", "aac"))
    with path.open("rb") as recorded:
        part, _ = audio.decode(recorded, 40.0, 41.0)
    assert loudest_hertz(part[:, 0]) == 440


def with_drift(samples: np.ndarray) -> np.ndarray:
    """What a coupling capacitor that charges adds: 0.1, gone to a third after 0.3 s."""
    return samples + 0.1 * np.exp(-np.arange(len(samples)) / (0.3 * RATE_HZ))


OFFSETS = {
    "constant": lambda samples: samples + 0.03,
    "negative and large": lambda samples: samples - 0.4,
    "drifts": with_drift,
    "ramp": lambda samples: samples + np.linspace(0, 0.1, len(samples)),
}


@pytest.mark.parametrize("offset", OFFSETS)
def test_offset_changes_no_figure_and_no_bandwidth(offset):
    """Catches: direct current measured as sound, so that speech seems noisy and a dead microphone loud."""
    room = np.random.default_rng(0).normal(0, 3e-4, RATE_HZ)
    spoken = np.concatenate([room, 0.3 * speech_like(2, RATE_HZ), room])
    heard, shifted = (sound.astype(np.float32) for sound in (spoken, OFFSETS[offset](spoken)))
    figures, found = audio.measure(heard), audio.measure(shifted)
    assert found == pytest.approx(figures, abs=0.11) and figures["snr_db"] > 40
    # The dead microphone of both kinds is silence: its own noise of 1e-4 has -80 dBFS.
    dead = (room / 3).astype(np.float32)
    assert audio.measure(OFFSETS[offset](dead).astype(np.float32))["level_dbfs"] < -60
    spectra = [quality.power_spectra(audio.without_offset(sound)) for sound in (heard, shifted)]
    assert quality.bandwidth_hz(spectra[1]) == quality.bandwidth_hz(spectra[0])


def test_hum_of_the_mains_is_noise_and_no_offset():
    for hertz in (50, 60):
        level_dbfs = audio.measure(tone(hertz, 0.01, 2))["level_dbfs"]
        assert level_dbfs == pytest.approx(-43.0, abs=0.6)


@pytest.mark.parametrize("offset", OFFSETS)
def test_offset_in_one_channel_changes_nothing(offset):
    """Catches: a dead second channel with an offset taken for another sound, or mixed in."""
    spoken = 0.3 * speech_like(2, RATE_HZ)
    dead = OFFSETS[offset](np.random.default_rng(0).normal(0, 1e-5, len(spoken)))
    heard = audio.to_mono_16k(np.stack([spoken, dead], axis=1).astype(np.float32), RATE_HZ)
    assert (heard == spoken.astype(np.float32)).all()
    both = audio.to_mono_16k(np.stack([spoken, OFFSETS[offset](spoken)], axis=1).astype(np.float32), RATE_HZ)
    assert audio.measure(both) == pytest.approx(audio.measure(spoken.astype(np.float32)), abs=0.11)

"""Sound: resampling keeps length, pitch and level; measuring gives the values of known signals."""

import io
import math

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


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"RIFF\x00\x00\x00\x00WAVE", b"fLaC" + bytes(100), b"<html></html>"]
)
def test_decode_of_garbage_raises(content):
    with pytest.raises(soundfile.SoundFileError):
        audio.decode(content)


@pytest.mark.parametrize(("rate_hz", "channels"), [(44_100, 1), (16_000, 2)])
def test_file_that_prepare_did_not_write_is_refused(tmp_path, rate_hz, channels):
    soundfile.write(tmp_path / "a.flac", np.zeros((100, channels)), rate_hz)
    with pytest.raises(ValueError, match="not written by the prepare stage"):
        audio.read_prepared(tmp_path / "a.flac")

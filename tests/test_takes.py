"""Takes: what is wrong with a recording is found, a good one is not complained about, and nothing of it is lost."""

import csv
import io
from collections import Counter

import numpy as np
import pytest
import soundfile

from recorder import takes
from stages.speech import audio
from tests.recordings import DEMO_ROWS, limits, spoken
from tests.workspaces import SPEECH

PHRASE = 5  # of the demo clips; any will do
FALSE_ALARMS = 0.03  # more of them would drive a tired person mad


def judge(samples: np.ndarray, rate_hz: int) -> dict[str, bool]:
    """Codes of the findings, and whether each forbids saving."""
    take = takes.from_recording(samples.astype(np.float32), rate_hz, limits())
    assert take.blocked == any(finding.blocking for finding in take.findings)
    return {finding.code: finding.blocking for finding in take.findings}


def at_level(samples: np.ndarray, rate_hz: int, level_dbfs: float) -> np.ndarray:
    measured = audio.measure(audio.to_mono_16k(samples[:, None], rate_hz))["level_dbfs"]
    return samples * 10 ** ((level_dbfs - measured) / 20)


def with_noise(samples: np.ndarray, rate_hz: int, snr_db: float, seed: int = 0) -> np.ndarray:
    level_dbfs = audio.measure(audio.to_mono_16k(samples[:, None], rate_hz))["level_dbfs"]
    noise = np.random.default_rng(seed).standard_normal(len(samples))
    return samples + noise * 10 ** ((level_dbfs - snr_db) / 20)


def with_pauses(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    return np.pad(samples, round(0.4 * rate_hz))


def file_of(samples: np.ndarray, rate_hz: int, subtype: str = "FLOAT") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype=subtype)
    return file.getvalue()


def loudest_moment(samples: np.ndarray, rate_hz: int) -> int:
    """Middle of the loudest 20 ms of the recording's middle half, in frames."""
    frame = round(0.02 * rate_hz)
    power = np.convolve(samples.astype(np.float64) ** 2, np.ones(frame), mode="same")
    quarter = len(samples) // 4
    return quarter + int(power[quarter : 3 * quarter].argmax())


def test_good_recording_is_not_complained_about_and_every_sample_of_it_is_stored():
    for number in range(0, len(DEMO_ROWS), 4):
        samples, rate_hz = spoken(number)
        assert judge(samples, rate_hz) == {}, number
        assert judge(with_pauses(samples, rate_hz), rate_hz) == {}, number
    take = takes.from_recording(samples, rate_hz, limits())
    stored, stored_rate_hz = soundfile.read(io.BytesIO(take.content), dtype="int16")
    assert stored_rate_hz == rate_hz
    assert np.abs(stored - samples * 32768).max() <= 1


def false_alarms(recordings: list[bytes]) -> dict[str, float]:
    """The share of recordings that each finding is raised for."""
    counts = Counter(
        finding.code for content in recordings for finding in takes.from_file(content, ".wav", limits()).findings
    )
    return {code: count / len(recordings) for code, count in counts.items()}


@pytest.mark.skipif(not SPEECH.is_dir(), reason=f"no recordings of real people in {SPEECH.name}/ beside the checkout")
@pytest.mark.parametrize(
    ("folder", "speaker"),
    [("kathleen", None), ("digits", "jackson"), ("digits", "nicolas"), ("digits", "theo"), ("digits", "yweweler")],
)
def test_real_recordings_raise_few_false_alarms(folder, speaker):
    with (SPEECH / folder / "transcripts.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("speaker") == speaker]
    assert len(rows) == (150 if speaker is None else 500)
    rates = false_alarms([(SPEECH / folder / row["file"]).read_bytes() for row in rows])
    if speaker == "theo":
        assert rates.pop("too_quiet") < 0.05  # his recordings are: the median is at -39 dBFS, the lowest at -47
    assert all(rate <= FALSE_ALARMS for rate in rates.values()), rates


@pytest.mark.parametrize(
    ("level_dbfs", "expected"),
    [
        (-65, {"silent": True}),
        (-48, {"too_quiet": False}),
        (-42, {}),
        (-4, {"clipped": False}),
        (20, {"clipped": True}),
    ],
)
def test_too_quiet_and_too_loud_are_found_and_forbid_saving_only_where_nothing_can_be_used(level_dbfs, expected):
    samples, rate_hz = spoken(PHRASE)
    assert judge(at_level(samples, rate_hz, level_dbfs), rate_hz).items() >= expected.items()
    assert expected or judge(at_level(samples, rate_hz, level_dbfs), rate_hz) == {}


def test_silence_cannot_be_saved_and_a_single_sample_at_full_scale_is_no_distortion():
    for nothing in (np.zeros(48_000), np.full(0, 0.1), np.full(1, 0.1)):
        assert judge(nothing, 48_000) == {"silent": True}
    samples, rate_hz = spoken(PHRASE)
    cut = loudest_moment(samples, rate_hz)
    assert judge(samples[cut : cut + round(0.05 * rate_hz)], rate_hz)["too_short"] is True
    assert judge(samples / np.abs(samples).max(), rate_hz) == {}


@pytest.mark.parametrize("number", range(0, len(DEMO_ROWS), 20))
def test_noise_is_found_by_its_distance_from_the_voice(number):
    samples, rate_hz = spoken(number)
    samples = with_pauses(samples, rate_hz)
    assert judge(with_noise(samples, rate_hz, 8), rate_hz) == {"noisy": False}
    assert judge(with_noise(samples, rate_hz, 18), rate_hz) == {}


def test_recording_that_begins_or_ends_inside_a_word_is_found():
    found, in_rooms = Counter(), 0
    for number in range(len(DEMO_ROWS)):
        samples, rate_hz = spoken(number)
        samples = with_pauses(samples, rate_hz)
        cut = loudest_moment(samples, rate_hz)
        found.update(f"begins: {code}" for code in judge(samples[cut:], rate_hz))
        found.update(f"ends: {code}" for code in judge(samples[:cut], rate_hz))
        if number % 4 == 0:  # a room is never silent: noise 30 dB below the voice hides no cut
            room = with_noise(samples, rate_hz, 30, seed=number)
            assert judge(room, rate_hz) == {}
            in_rooms += "cut_start" in judge(room[cut:], rate_hz)
    assert in_rooms >= 0.9 * len(range(0, len(DEMO_ROWS), 4))
    assert set(found) == {"begins: cut_start", "ends: cut_end"}
    assert min(found.values()) >= 0.95 * len(DEMO_ROWS), found


def test_longer_than_prepare_allows_cannot_be_saved_but_the_microphone_may_stop_a_moment_late():
    samples, rate_hz = spoken(PHRASE)
    assert judge(np.resize(samples, 31 * rate_hz), rate_hz) == {"too_long": True}
    take = takes.from_recording(np.resize(samples, round(30.05 * rate_hz)), rate_hz, limits())
    assert not take.blocked
    assert take.figures["duration_s"] == 30.0
    assert len(audio.decode(take.content)[0]) == 30 * rate_hz


def test_uploaded_stereo_of_two_people_is_refused_until_a_channel_is_chosen():
    (one, rate_hz), (other, _) = spoken(PHRASE), spoken(PHRASE + 1)
    frames = min(len(one), len(other))
    content = file_of(np.stack([one[:frames], other[:frames]], axis=1), rate_hz, "PCM_16")
    (finding,) = takes.from_file(content, ".wav", limits()).findings
    assert finding.code == "channels" and finding.blocking
    left = limits().model_copy(update={"channels": "left"})
    take = takes.from_file(content, ".wav", left)
    assert not take.blocked
    assert take.samples == pytest.approx(one[:frames], abs=1 / 2**15)


def test_uploaded_file_is_kept_byte_for_byte_and_heard_as_mono():
    samples, rate_hz = spoken(PHRASE)
    content = file_of(np.stack([samples, np.zeros_like(samples)], axis=1), rate_hz, "PCM_16")
    take = takes.from_file(content, ".wav", limits())
    assert take.content == content and take.suffix == ".wav"
    assert take.samples.shape == samples.shape and take.findings == ()
    alone = takes.from_recording(samples, rate_hz, limits())
    assert take.figures["level_dbfs"] == pytest.approx(alone.figures["level_dbfs"], abs=0.1)  # without the dead channel


@pytest.mark.parametrize(
    "content",
    [b"", b"no sound at all", file_of(np.full(9000, np.nan), 16_000), file_of(np.zeros(1_000_000), 1)],
    ids=["empty", "text", "no numbers", "lasts for days"],
)
def test_file_that_holds_no_sound_cannot_be_saved_and_says_so(content):
    take = takes.from_file(content, ".wav", limits())
    (finding,) = take.findings
    assert finding.code == "unreadable" and take.blocked
    assert "\n" not in finding.words and finding.words.endswith(".")


def test_prepare_takes_what_may_be_saved(workspace, tmp_path, monkeypatch):
    # Otherwise somebody records for an hour and finds every clip rejected.
    from stages.prepare import check_figures
    from stages.speech.conversion import Part
    from stages.speech.sound_cache import SoundCache

    monkeypatch.setenv("OWNVOICE_CACHE", str(tmp_path / "cache"))
    samples, rate_hz = spoken(PHRASE)
    versions = [at_level(samples, rate_hz, level_dbfs) for level_dbfs in (-62, -58, -48, -20, -4, 0, 5, 10, 20)]
    versions += [
        np.resize(samples, round(duration_s * rate_hz)) for duration_s in (0.09, 0.11, 29.9, 30.0, 30.05, 30.2)
    ]
    for version in versions:
        take = takes.from_recording(version.astype(np.float32), rate_hz, limits())
        (tmp_path / "take.flac").write_bytes(take.content)
        [prepared] = SoundCache(limits()).convert_all([Part(tmp_path / "take.flac")])
        problem = check_figures(prepared.figures, limits()) if prepared.figures else prepared.reason
        assert take.blocked == bool(problem), (take.findings, problem)
        assert take.blocked or prepared.id == take.id


def test_direct_current_changes_no_verdict():
    """Catches: a dead microphone with an offset that is not silent, a good recording that is called noisy or cut."""
    dead = np.random.default_rng(0).normal(0, 1e-4, 48_000)
    drift = 0.1 * np.exp(-np.arange(10 * 48_000) / (0.3 * 48_000))
    samples, rate_hz = spoken(PHRASE)
    padded = with_pauses(samples, rate_hz)
    for offset in (0.0, 0.03, -0.4, drift):
        shift = offset if np.isscalar(offset) else offset[: len(dead)]
        assert judge(dead + shift, 16_000) == {"silent": True}, offset
        shift = offset if np.isscalar(offset) else offset[: len(padded)]
        assert judge(0.5 * padded + shift, rate_hz) == {}, offset

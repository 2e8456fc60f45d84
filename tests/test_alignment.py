"""Long recordings whose text comes in lines: each line on its own sound, or refused by name."""

import csv
import io
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from stages import prepare
from stages.common.files import read_jsonl
from stages.speech import alignment, audio, pieces
from stages.speech.clips import Clip, read_clips
from tests.workspaces import DEMO_CLIPS, SPEECH, TINY_MODEL

PREPARED = Path("data/prepared")
RATE_HZ = 16_000
# Demo clips that the tiny model understands, almost or wholly.
UNDERSTOOD = ["001", "002", "003", "007", "010", "013", "019", "020", "026", "028", "032", "037", "038", "041", "042"]
ABSENT = "we sailed along the coast for nine days"
TEXTS = {row["audio_path"][:3]: row["text"] for row in read_jsonl(DEMO_CLIPS / "clips.jsonl")}


def mono(path: Path) -> np.ndarray:
    return audio.to_mono_16k(*audio.decode(path.read_bytes()))


def joined(sounds: list[np.ndarray]) -> np.ndarray:
    """One after the other, in the soft noise of a room, with pauses of 0.6 to 1.2 s between them."""
    random = np.random.default_rng(0)
    pauses = [np.zeros(int(RATE_HZ * random.uniform(0.6, 1.2))) for _ in range(len(sounds) + 1)]
    quiet = np.concatenate([part for pair in zip(pauses, sounds, strict=False) for part in pair] + pauses[-1:])
    return (quiet + random.normal(0, 1e-3, len(quiet))).astype(np.float32)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Largest normalised cross-correlation."""
    length = len(one) + len(other)
    products = np.fft.irfft(np.fft.rfft(one, length) * np.conj(np.fft.rfft(other, length)), length)
    return float(products.max() / np.sqrt((one**2).sum() * (other**2).sum()))


def assert_on_its_own_sound(clip: Clip, sounds: dict[str, list[np.ndarray]]) -> None:
    found = audio.read_prepared(PREPARED / clip.audio_path)
    own = max(alike(found, sound) for sound in sounds[clip.text])
    others = max(alike(found, sound) for text in sounds if text != clip.text for sound in sounds[text])
    assert own > 0.95 > others, clip.text
    assert abs(len(found) - len(sounds[clip.text][0])) < 0.8 * RATE_HZ


@pytest.fixture
def talk(workspace, set_param) -> Path:
    """Where the recording is to be; lines are placed by the tiny model."""
    set_param("model.name", str(TINY_MODEL))
    set_param("model.revision", None)
    set_param("prepare.min_line_agreement", 0.7)
    path = workspace / "data/raw/tv/talk.wav"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def demo_talk(talk) -> dict[str, list[np.ndarray]]:
    """Demo clips one after the other, with their lines; {text: [sound]}."""
    sounds = {TEXTS[number]: [mono(DEMO_CLIPS / f"{number}.opus")] for number in UNDERSTOOD}
    soundfile.write(talk, joined([sound for (sound,) in sounds.values()]), RATE_HZ)
    talk.with_suffix(".txt").write_text("".join(f"{text}\n" for text in sounds))
    return sounds


def test_each_line_lands_on_its_own_sound_and_one_that_is_not_said_is_refused(talk, demo_talk, capsys):
    texts = list(demo_talk)
    written = [*texts[:5], "", ABSENT, *texts[5:9], *texts[10:]]  # one is said that no line has
    talk.with_suffix(".txt").write_text("\n".join(written))
    prepare.main()
    clips = read_clips(PREPARED / "clips.jsonl")
    assert len(clips) >= 12
    assert [clip.text for clip in clips] == [text for text in written if text in {clip.text for clip in clips}]
    for clip in clips:
        assert_on_its_own_sound(clip, demo_talk)
    assert {(clip.session, clip.recorded_file) for clip in clips} == {("talk.wav", "tv/talk.wav")}
    rejected = read_jsonl(PREPARED / "rejected.jsonl")
    refused = {row["file"]: row for row in rejected if row["reason"] == "line not found in sound"}
    assert len(refused) + len(clips) == len(texts)
    assert ABSENT in refused["tv/talk.wav line 7"]["remedy"]
    assert "by subtitles (.srt)" in refused["tv/talk.wav line 7"]["remedy"]
    (unsaid,) = [row for row in rejected if row["reason"] == "no line for sound"]
    assert texts[9] == "two four nine two zero" and "hears 'two four " in unsaid["remedy"]
    assert unsaid["file"].startswith("tv/talk.wav from ")
    capsys.readouterr()
    prepare.main()
    assert f"base model: 0 transcripts made, {len(texts)} from the cache" in capsys.readouterr().out


def test_text_longer_than_the_model_reads_is_no_hindrance(talk, demo_talk):
    text = talk.with_suffix(".txt")
    text.write_text(text.read_text() + f"{ABSENT}\n" * 300)
    prepare.main()
    assert len(read_clips(PREPARED / "clips.jsonl")) >= 12
    refused = [row for row in read_jsonl(PREPARED / "rejected.jsonl") if ABSENT in row["remedy"]]
    assert len(refused) == 300


@pytest.mark.skipif(not SPEECH.is_dir(), reason=f"no recordings of real people in {SPEECH.name}/ beside the checkout")
@pytest.mark.parametrize("speaker", [pytest.param("jackson", marks=pytest.mark.slow), "nicolas"])
def test_lines_of_a_real_speaker_are_on_their_own_sound_or_refused(talk, speaker):
    with (SPEECH / "digits/transcripts.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["speaker"] == speaker]
    random = np.random.default_rng(0)
    random.shuffle(rows)
    sounds: dict[str, list[np.ndarray]] = {}
    for start in range(0, 120, 3):
        digits = [np.pad(mono(SPEECH / "digits" / row["file"]), (0, 1600)) for row in rows[start : start + 3]]
        text = " ".join(row["text"] for row in rows[start : start + 3])
        sounds.setdefault(text, []).append(np.concatenate(digits))
    soundfile.write(talk, joined([sound for some in sounds.values() for sound in some]), RATE_HZ)
    talk.with_suffix(".txt").write_text("\n".join(text for text, some in sounds.items() for _ in some))
    prepare.main()
    clips = read_clips(PREPARED / "clips.jsonl")
    assert len(clips) >= 8
    for clip in clips:
        assert_on_its_own_sound(clip, sounds)


def test_without_the_setting_such_a_recording_is_refused_with_what_to_do(talk, demo_talk, set_param, record):
    set_param("prepare.min_line_agreement", None)
    record("tv/short.wav").with_suffix(".txt").write_text("short")
    prepare.main()
    (rejected,) = read_jsonl(PREPARED / "rejected.jsonl")
    assert (rejected["file"], rejected["reason"]) == ("tv/talk.wav", "too long")
    assert "subtitles (.srt) of the same name; or set prepare.min_line_agreement" in rejected["remedy"]


def test_short_recording_whose_text_has_lines_stays_whole(talk):
    soundfile.write(talk, mono(DEMO_CLIPS / "001.opus"), RATE_HZ)
    talk.with_suffix(".txt").write_text("turn off\nthe kitchen lights\n")
    prepare.main()
    (clip,) = read_clips(PREPARED / "clips.jsonl")
    assert (clip.text, clip.begins_s) == ("turn off the kitchen lights", None)


def placed(text: str, *heard: str, language: str = "en") -> list[tuple]:
    """(pieces from, to, agreement, ends heard) for each line; piece 3 lies from 3 s to 4 s."""
    pieces = [(float(number), number + 1.0) for number in range(len(heard))]
    found = alignment.place(alignment.lines_of(text), pieces, heard, language)
    return [(one.begins_s, one.ends_s, round(one.agreement, 2), one.ends_heard) for one in found]


def test_line_takes_all_pieces_that_hold_its_words():
    found = placed("the cat sat\non the mat\nand slept", "the cat", "", "sat", "on a mat", "and slept")
    assert found == [(0, 3, 1.0, True), (3, 4, 0.67, True), (4, 5, 1.0, True)]


def test_words_that_come_again_do_not_move_a_line():
    found = placed("one two\none two\nthree\none two", "one two", "one two", "three", "one two")
    assert found == [(0, 1, 1.0, True), (1, 2, 1.0, True), (2, 3, 1.0, True), (3, 4, 1.0, True)]


def test_two_lines_without_a_pause_between_them_are_both_not_placed_well():
    first, second, third = placed("good morning all\nhow are you\nfine", "good morning all how are you", "fine")
    assert first[2] < 0.5 and second == (None, None, 0.0, False) and third == (1, 2, 1.0, True)


def test_line_whose_beginning_was_not_heard_does_not_end_at_what_was():
    text = "please call me when you are at home tonight"
    assert placed(text, "", "call me when you are at home tonight")[0][2:] == (0.89, False)
    assert placed(text, "peas", "call me when you are at home tonight")[0] == (0, 2, 0.89, True)


def test_lines_of_a_language_without_spaces_are_placed_by_characters():
    assert placed("今日は天気\n明日は雨", "今日は天気", "明日は雪", language="ja")[1] == (1, 2, 0.75, True)


def test_nothing_heard_places_nothing():
    assert placed("one\ntwo", "", "") == [(None, None, 0.0, False)] * 2


def in_format(samples: np.ndarray, container: str) -> bytes:
    buffer = io.BytesIO()
    if container in ("WAV", "FLAC"):
        soundfile.write(buffer, samples, RATE_HZ, format=container)
        return buffer.getvalue()
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream({"ipod": "aac", "mp3": "libmp3lame", "webm": "libopus"}[container], rate=RATE_HZ)
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate = RATE_HZ
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return buffer.getvalue()


@pytest.mark.parametrize("container", ["WAV", "FLAC", "mp3", "ipod", "webm"])
def test_pieces_end_in_pauses_however_the_recording_is_read(container, monkeypatch):
    time_s = np.arange(40 * RATE_HZ) / RATE_HZ
    spoken = [(1.0, 4.0), (5.0, 9.5), (10.5, 20.0), (20.2, 30.0), (31.0, 39.0)]  # the third pause is too short
    loud = np.any([(begin <= time_s) & (time_s < end) for begin, end in spoken], axis=0)
    samples = loud * 0.2 * np.sin(2 * np.pi * 300 * time_s) + np.random.default_rng(0).normal(0, 1e-3, len(time_s))
    content = in_format(samples, container)
    for read_at_once_s in (600.0, 7.0, 40.0):
        monkeypatch.setattr(pieces, "READ_AT_ONCE_S", read_at_once_s)
        duration_s, found = pieces.find_pieces(io.BytesIO(content), "auto")
        assert duration_s == pytest.approx(40, abs=0.2)
        expected = [(0.8, 4.2), (4.8, 9.7), (10.3, 30.2), (30.8, 39.2)]
        assert np.array(found) == pytest.approx(np.array(expected), abs=0.1)


def test_recording_too_long_to_be_read_at_once_has_its_pieces(tmp_path):
    path = tmp_path / "lecture.wav"
    minute = np.concatenate([0.2 * np.sin(np.arange(58 * 8000)), np.zeros(2 * 8000)])
    with soundfile.SoundFile(path, "w", 8000, 1, "PCM_U8") as file:
        for _ in range(62):
            file.write(minute)
    with path.open("rb") as recorded, pytest.raises(audio.UnreadableSound, match="longer than 60 minutes"):
        audio.decode(recorded)
    with path.open("rb") as recorded:
        duration_s, found = pieces.find_pieces(recorded, "auto")
    assert duration_s == pytest.approx(62 * 60, abs=0.1) and len(found) == 62


def test_lines_are_those_with_words_under_the_numbers_of_the_file():
    text = "\n First line. \n\n...\r\nSecond\u200b line"
    assert [(line.number, line.text) for line in alignment.lines_of(text)] == [(2, "First line."), (5, "Second line")]

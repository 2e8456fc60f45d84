"""Lines of a text on the pieces of a long recording: each on its own sound, or nowhere."""

import io

import av
import numpy as np
import pytest
import soundfile

from stages.speech import alignment, audio

RATE_HZ = 16_000


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


def test_agreement_counts_single_digits_and_takes_contractions_as_they_are_scored():
    assert placed("two zero five\nI'm here", "two one five", "i am here") == [(0, 1, 0.67, True), (1, 2, 1.0, True)]


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
        monkeypatch.setattr(alignment, "READ_AT_ONCE_S", read_at_once_s)
        duration_s, found = alignment.find_pieces(io.BytesIO(content), "auto")
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
        duration_s, found = alignment.find_pieces(recorded, "auto")
    assert duration_s == pytest.approx(62 * 60, abs=0.1) and len(found) == 62


def test_lines_are_those_with_words_under_the_numbers_of_the_file():
    text = "\n First line. \n\n...\r\nSecond\u200b line"
    assert [(line.number, line.text) for line in alignment.lines_of(text)] == [(2, "First line."), (5, "Second line")]

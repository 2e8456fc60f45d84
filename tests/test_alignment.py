"""Lines of a text on the pieces of a long recording: each on its own sound, or nowhere."""

import io

import numpy as np
import pytest

from stages.speech import alignment
from tests.test_filters import encoded

RATE_HZ = 16_000


@pytest.mark.parametrize(
    ("text", "heard", "language", "found"),
    [
        pytest.param(
            "the cat sat\non the mat\nand slept", ["the cat", "", "sat", "on a mat", "and slept"], "en",
            [(0, 3, 1.0, True), (3, 4, 0.67, True), (4, 5, 1.0, True)], id="a line takes all pieces with its words",
        ),
        pytest.param(
            "one two\none two\nthree\none two", ["one two", "one two", "three", "one two"], "en",
            [(0, 1, 1.0, True), (1, 2, 1.0, True), (2, 3, 1.0, True), (3, 4, 1.0, True)],
            id="words that come again do not move a line",
        ),
        pytest.param(
            "good morning all\nhow are you\nfine", ["good morning all how are you", "fine"], "en",
            [(0, 1, 0.0, True), (None, None, 0.0, False), (1, 2, 1.0, True)], id="no pause between two lines",
        ),
        pytest.param(
            "please call me when you are at home tonight", ["", "call me when you are at home tonight"], "en",
            [(1, 2, 0.89, False)], id="its beginning was not heard",
        ),
        pytest.param(
            "please call me when you are at home tonight", ["peas", "call me when you are at home tonight"], "en",
            [(0, 2, 0.89, True)], id="its beginning was misheard",
        ),
        pytest.param(
            "今日は天気\n明日は雨", ["今日は天気", "明日は雪"], "ja", [(0, 1, 1.0, True), (1, 2, 0.75, True)],
            id="no spaces between words",
        ),
        pytest.param(
            "two zero five\nI'm here", ["two one five", "i am here"], "en", [(0, 1, 0.67, True), (1, 2, 1.0, True)],
            id="single digits, and contractions as they are scored",
        ),
        pytest.param("one\ntwo", ["", ""], "en", [(None, None, 0.0, False)] * 2, id="nothing heard"),
    ],
)  # fmt: skip
def test_lines_are_placed_on_their_own_words(text, heard, language, found):
    """Catches: a line on another line's sound, or cut before its last word. Piece 3 lies from 3 s to 4 s."""
    pieces = [(float(number), number + 1.0) for number in range(len(heard))]
    lines = alignment.place(alignment.lines_of(text), pieces, heard, language)
    assert [(line.begins_s, line.ends_s, round(line.agreement, 2), line.ends_heard) for line in lines] == found


@pytest.mark.parametrize("codec", [("wav", "pcm_s16le"), ("mp3", "libmp3lame"), ("webm", "libopus")])
def test_pieces_end_in_pauses_however_the_recording_is_read(codec, monkeypatch):
    """Catches: a cut within a word, whose rest is then learned under another text; a part that is left out or read
    twice where a long recording is read in several."""
    time_s = np.arange(40 * RATE_HZ) / RATE_HZ
    spoken = [(1.0, 4.0), (5.0, 9.5), (10.5, 20.0), (20.2, 30.0), (31.0, 39.0)]  # the third pause is too short
    loud = np.any([(begin <= time_s) & (time_s < end) for begin, end in spoken], axis=0)
    samples = loud * 0.2 * np.sin(2 * np.pi * 300 * time_s) + np.random.default_rng(0).normal(0, 1e-3, len(time_s))
    content = encoded(samples, *codec)
    for read_at_once_s in (600.0, 7.0, 40.0):
        monkeypatch.setattr(alignment, "READ_AT_ONCE_S", read_at_once_s)
        duration_s, found = alignment.find_pieces(io.BytesIO(content), "auto")
        assert duration_s == pytest.approx(40, abs=0.2)
        assert np.array(found) == pytest.approx(np.array([(0.8, 4.2), (4.8, 9.7), (10.3, 30.2), (30.8, 39.2)]), abs=0.1)

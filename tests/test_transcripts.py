"""What in a text is not said is removed where that is certain, and refused by name where it is not."""

import pytest

from stages.speech import subtitles
from stages.speech.clips import Rejection
from stages.speech.transcripts import transcript_of

# Catches: notes, markup and quotes of a table learnt as words, and words removed with them.
CLEANED = [
    ("[laughter] well, hello", "well, hello"),
    ("hello <noise> there *coughs*", "hello there"),
    ("gut (Lachen) ja", "gut ja"),
    ("(笑)そうです", "そうです"),
    ("<|0.00|> open the door<|2.00|>", "open the door"),
    ("[00:12.00] one [00:14.50] two", "one two"),
    ("<i>open</i> it &amp; <br/>wait", "open it & wait"),
    ('"""Stop,"" said he."', '"Stop," said he.'),
    ('"open the door"', "open the door"),
    ('she said ""no"" twice', 'she said "no" twice'),
    ("- hello", "hello"),
    (">> hello", "hello"),
    ("SPEAKER_00: hello", "hello"),
]
KEPT = ["OK", "A4", "NO", "7", "é", "none", "Null", "12:30", "at 10:15:30", "-5 degrees", "and/or", "24/7", "we are #1"]
KEPT += ["turn it off (please)", '"Ach", sagte er.', '"Yes," she said, "no"', "a < b > c", "2*3*4", "open readme.txt"]
KEPT += ["I <3 you", "None.", "Chapter XXX", "Ann: hello", "AT&T", "'tis"]
REFUSED = {
    "not a transcript": [
        *("[say ah]", "(inaudible)", "<noise>", "*coughs*", "♪", "♪ la la ♪", "[LAUGHTER] (applause)", "（笑）"),
        *("NaN", "None", "null", "N/A", "#NAME?", "#VALUE!"),
        *("00:00:00.100\t00:00:01.000\tturn off", "0:00 turn off\n0:01 the lights"),
        *("0.1;1.0;turn off\n1.0;1.6;the lights", "0 1000000 t\n1000000 2000000 er"),
        *("input/pictures/beach.jpg", "1.wav", "C:\\takes\\1.wav", "/home/ann"),
        *("00:01:02", "00:00:01,000 --> 00:00:02,000"),
        "0.100000\t1.200000\tturn off\n1.200000\t2.300000\tthe lights",
    ],
    "remark in text": [
        "I went (inaudible) home",
        "tear [as in tear up]",
        "*really* good",
        "la ♪ hello",
        "<v Ann>hello</v>",
    ],
    "words left out": ["xxx", "I want xxx now", "XXX"],
    "several voices": ["- Hi\n- Hello", ">> Hi\n>> Hello"],
}


@pytest.mark.parametrize(("text", "cleaned"), CLEANED + [(text, text) for text in KEPT])
def test_what_is_certainly_not_said_is_removed_and_nothing_else(text, cleaned):
    assert transcript_of(text) == transcript_of(cleaned) == (cleaned, None)


@pytest.mark.parametrize(("reason", "text"), [(reason, text) for reason, texts in REFUSED.items() for text in texts])
def test_what_is_not_a_transcript_is_refused_with_its_reason(reason, text):
    _, problem = transcript_of(text)
    assert problem[0] == reason and problem[1]


def test_null_is_zero_in_german():
    assert transcript_of("null", "de") == ("null", None)


def cues(folder, *texts: str) -> list[tuple[str | None, str]]:
    """(speaker, text) of each cue, or (None, reason)."""
    blocks = [f"00:{at:02}.000 --> 00:{at + 1:02}.000\n{text}\n" for at, text in enumerate(texts)]
    (folder / "a.vtt").write_text("\n".join(["WEBVTT\n", *blocks]))
    parts = subtitles.read(folder / "a.vtt", folder)
    return [(None, one.reason) if isinstance(one, Rejection) else (one["speaker"], one["text"]) for one in parts]


# Catches: a name learnt as a word, a word taken for a name, and two voices as one.
@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["Ann: hello"], [("Ann", "hello")]),
        (["Ann: hello", "Bob: hi"], [("Ann", "hello"), ("Bob", "hi")]),
        (["<v Ann>hello</v>", "well"], [("Ann", "hello"), (None, "well")]),
        (["ANN: hello", "well", "it is 12:30"], [("ANN", "hello"), (None, "well"), (None, "it is 12:30")]),
        (["Ann Lee:\nhello", "well", "Ann Lee: yes"], [("Ann Lee", "hello"), (None, "well"), ("Ann Lee", "yes")]),
        (["Remember: lock it", "well"], [(None, "remark in text"), (None, "well")]),
        (["Ann: hello\nBob: hi"], [(None, "several voices")]),
        (["- hello\n- hi", "well"], [(None, "several voices"), (None, "well")]),
        (["<v Ann>hello</v> <v Bob>hi</v>"], [(None, "several voices")]),
        (["NOTE-1 is not a comment"], [(None, "NOTE-1 is not a comment")]),
    ],
)
def test_name_before_a_cues_words_is_its_speaker_if_that_is_certain(tmp_path, texts, wanted):
    assert cues(tmp_path, *texts) == wanted

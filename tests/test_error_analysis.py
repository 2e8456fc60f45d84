"""What goes wrong: words and what they became, keywords, groups, empty and endless answers."""

import pytest

from stages.speech.error_analysis import flag, groups, keyword_recall, misheard_words
from stages.speech.scoring import score_clip


@pytest.fixture
def pairs(make_clip):
    """`pairs(("said", "heard"), ...)`: clips and what a model heard."""
    return lambda *texts, language="en": [(make_clip(said, language=language), heard) for said, heard in texts]


def test_word_is_listed_with_what_it_became_the_commonest_first(pairs):
    heard = pairs(
        ("turn the light on", "turn the night on"),
        ("the light is bright", "the night is bright"),
        ("light the fire", "right the fire"),
        ("light", "light"),
        ("close the door", "close the"),
    )
    assert misheard_words(heard, listed=10) == [
        {"word": "light", "said": 4, "wrong": 3, "became": [["night", 2], ["right", 1]]},
        {"word": "door", "said": 1, "wrong": 1, "became": [["", 1]]},
    ]
    assert [row["word"] for row in misheard_words(heard, listed=1)] == ["light"]
    assert misheard_words(pairs(("all right", "all right"), ("red blue", "red and blue")), listed=5) == []


@pytest.mark.parametrize(
    ("keyword", "texts", "language", "said", "heard"),
    [
        ("Marie", [("Call Marie, now", "call mary now"), ("Marie!", "marie")], "en", 2, 1),
        ("New York", [("to New York and back", "to new york and back"), ("New York", "new work")], "en", 2, 1),
        ("Straße", [("die Straße", "die strasse")], "de", 1, 1),
        ("天气", [("今天天气很好", "今天天汽很好"), ("天气好", "天气好")], "zh", 2, 1),
        ("never said", [("one two", "one two")], "en", 0, 0),
        ("insulin", [("insulin insulin", "insulin")], "en", 2, 1),
    ],
)
def test_keyword_is_counted_in_the_clips_that_have_it(pairs, keyword, texts, language, said, heard):
    [row] = keyword_recall(pairs(*texts, language=language), [keyword])
    assert row == {"keyword": keyword, "said": said, "heard": heard}


def test_groups_are_those_that_differ_with_their_own_rates(make_clip):
    clips = [
        make_clip("a b", duration_s=1.0),
        make_clip("a b", duration_s=3.0, speaker="ann"),
        make_clip("a b", duration_s=30.0, speaker="ann"),
    ]
    heard = {"base": ["x y", "a y", "a y"], "tuned": ["a b", "a b", "a y"]}
    scores = {
        model: [score_clip(clip.text, text) for clip, text in zip(clips, texts, strict=True)]
        for model, texts in heard.items()
    }
    assert [(row["kind"], row["group"], row["clips"], row["base"], row["tuned"]) for row in groups(clips, scores)] == [
        ("speaker", "ann", 2, 0.5, 0.25),
        ("speaker", "not said", 1, 1.0, 0.0),
        ("length", "below 2 s", 1, 1.0, 0.0),
        ("length", "2 to 5 s", 1, 0.5, 0.0),
        ("length", "10 s and more", 1, 0.5, 0.5),
    ]


@pytest.mark.parametrize(
    ("heard", "language", "expected"),
    [
        ("", "en", "empty"),
        (" … ", "de", "empty"),
        ("no no no no", "en", "endless"),
        ("go on and on and on and on and on", "en", "endless"),
        ("ha ha ha", "en", None),  # three may be meant
        ("天天天天", "zh", "endless"),
        ("weiter weiter weiter weiter weiter", None, "endless"),
    ],
)
def test_answer_that_is_no_transcript_is_flagged(heard, language, expected):
    assert flag(heard, language) == expected

"""What a person reads next."""

from recorder import reading
from recorder.inbox import StoredClip
from recorder.phrases import prompt_id

TEXTS = ["Good morning.", "Is anybody home?", "Thank you."]


def clip(text, speaker="Ann"):
    return StoredClip("recorded", f"{len(text)}.flac", text, "en", speaker, prompt_id=prompt_id("en", text))


def test_next_phrase_is_the_first_that_this_speaker_has_not_recorded():
    clips = [clip(TEXTS[0]), clip(TEXTS[1], speaker="Bob")]
    assert reading.next_phrase(TEXTS, "en", reading.recorded_counts(clips, "Ann")) == TEXTS[1]
    assert reading.next_phrase(TEXTS, "en", reading.recorded_counts(clips, "Bob")) == TEXTS[0]


def test_skipped_phrases_come_after_all_others_and_then_again():
    counts = reading.recorded_counts([clip(TEXTS[1])], "Ann")
    assert reading.next_phrase(TEXTS, "en", counts, [TEXTS[0]]) == TEXTS[2]
    assert reading.next_phrase(TEXTS, "en", counts, [TEXTS[2], TEXTS[0], TEXTS[1]]) == TEXTS[2]


def test_recorded_once_each_the_round_begins_again():
    clips = [clip(text) for text in TEXTS] + [clip(TEXTS[0])]
    assert reading.next_phrase(TEXTS, "en", reading.recorded_counts(clips, "Ann")) == TEXTS[1]
    assert reading.next_phrase([], "en", reading.recorded_counts(clips, "Ann")) is None


def test_own_phrases_are_kept_by_speaker_and_language(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert reading.own_phrases("Ann", "de") == []
    reading.save_own_phrases("Ann", "de", ["Hallo Jörg"])
    reading.save_own_phrases("Bob", "de", ["Moin"])
    reading.save_own_phrases("Ann", "en", ["Hi"])
    assert reading.own_phrases("Ann", "de") == ["Hallo Jörg"]
    assert reading.own_phrases("Bob", "de") == ["Moin"]
    assert reading.own_phrases("Bob", "en") == []

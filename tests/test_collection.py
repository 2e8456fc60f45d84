"""What the Clips page says of all recordings together, and that its way of erasing one for good does so."""

import pytest

from recorder import collection
from recorder.inbox import StoredClip
from stages.common.files import write_jsonl
from stages.common.stage import UserError
from stages.speech.clips import write_clips


def stored(text: str, name: str = "a.flac", source: str = "recorded", **fields: object) -> StoredClip:
    return StoredClip(source, name, text, **{"language": "en", "speaker": "Ann", **fields})


def test_newest_comes_first_across_sources_and_undated_ones_last():
    clips = [
        stored("undated"),
        stored("old", recorded_at="2026-01-01T10:00:00+01:00"),
        stored("same second, first", recorded_at="2026-01-03T10:00:00+01:00"),
        stored("same second, second", recorded_at="2026-01-03T10:00:00+01:00"),
        stored("between", source="uploaded", recorded_at="2026-01-02T10:00:00+01:00"),
    ]
    texts = [clip.text for clip in collection.newest_first(clips)]
    assert texts == ["same second, second", "same second, first", "between", "old", "undated"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", ["Straße frei", "turn on"]),
        ("STRASSE", ["Straße frei"]),
        ("deutsch", ["Straße frei"]),
        ("german bo", ["Straße frei"]),
        ("ann", ["turn on"]),
        ("ann straße", []),
    ],
)
def test_search_finds_texts_speakers_and_languages(words, found):
    clips = [stored("Straße frei", language="de", speaker="Bo"), stored("turn on")]
    assert [clip.text for clip in collection.search(clips, words)] == found


def test_minutes_are_counted_by_language_and_speaker():
    clips = [
        stored("x", duration_s=90.0),
        stored("x", duration_s=30.0),
        stored("x", duration_s=240.0, language="de"),
        stored("x", duration_s=None, speaker=None, language=None),
    ]
    assert collection.minutes_by_voice(clips) == [
        ("German · Ann", 4.0),
        ("English · Ann", 2.0),
        ("no language · no name", 0.0),
    ]


def test_other_folders_are_those_the_page_does_not_write(workspace, make_clip):
    assert collection.from_other_folders() == []
    clips = [make_clip("one", source="recorded"), make_clip("two", source="phone")]
    write_clips(workspace / "data/prepared/metadata.jsonl", clips)
    assert [clip.text for clip in collection.from_other_folders()] == ["two"]
    (workspace / "data/prepared/metadata.jsonl").write_text('{"id": ')
    with pytest.raises(UserError, match=r"data/prepared/metadata.jsonl is damaged"):
        collection.from_other_folders()


def test_rejected_recordings_that_were_deleted_since_are_left_out(workspace, record):
    record("recorded/orphan.wav")
    names = ["recorded/kept.flac", "recorded/gone.flac", "recorded/orphan.wav", "recorded/clips.jsonl:3", "phone/x.wav"]
    rows = [{"file": name, "reason": "silence", "remedy": "record it again"} for name in names]
    write_jsonl(workspace / "data/prepared/rejected.jsonl", rows)
    left = [row["file"] for row in collection.rejected([stored("x", "kept.flac")])]
    assert left == [name for name in names if name != "recorded/gone.flac"]

"""What the Clips page says of all recordings together, and that its way of erasing one for good does so."""

import pytest

from recorder import collection
from recorder.inbox import StoredClip
from stages.common.files import write_jsonl
from stages.common.stage import UserError


def stored(text: str, name: str = "a.flac", source: str = "recorded", **fields: object) -> StoredClip:
    return StoredClip(source, name, text, **{"language": "en", "speaker": "Ann", **fields})


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


def test_rejected_recordings_that_were_deleted_since_are_left_out(workspace, record):
    record("recorded/orphan.wav")
    names = ["recorded/kept.flac", "recorded/gone.flac", "recorded/orphan.wav", "recorded/clips.jsonl:3", "phone/x.wav"]
    rows = [{"file": name, "reason": "silence", "remedy": "record it again"} for name in names]
    write_jsonl(workspace / "data/prepared/rejected.jsonl", rows)
    left = [row["file"] for row in collection.rejected([stored("x", "kept.flac")])]
    assert left == [name for name in names if name != "recorded/gone.flac"]
    (workspace / "data/prepared/rejected.jsonl").write_text('{"file": ')
    with pytest.raises(UserError, match=r"data/prepared/rejected.jsonl is damaged"):
        collection.rejected([])

"""Parts of long recordings: the right sound, ids of their own, and times that cannot be."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages import prepare
from stages.common.files import read_jsonl
from stages.speech import prepared
from stages.speech.clips import clip_id, read_clips
from tests.test_audio import loudest_hertz

PREPARED = Path("data/prepared")
RATE_HZ = 16_000


@pytest.fixture
def talk(workspace) -> Path:
    """40 s in which every second has a tone of its own: 200 Hz in the first, 210 Hz in the next ..."""
    path = workspace / "data/raw/tv/talk.wav"
    path.parent.mkdir(parents=True)
    time_s = np.arange(40 * RATE_HZ) / RATE_HZ
    hertz = 200 + 10 * np.floor(time_s)
    soundfile.write(path, 0.2 * np.sin(2 * np.pi * hertz * time_s), RATE_HZ)
    return path


def write_rows(talk: Path, *parts: tuple[float | None, float | None]) -> None:
    rows = [
        {"audio_path": talk.name, "text": f"part {number}", "begins_s": begins_s, "ends_s": ends_s}
        for number, (begins_s, ends_s) in enumerate(parts)
    ]
    (talk.parent / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_part_holds_the_sound_between_its_times(talk):
    write_rows(talk, (6, 7))
    prepare.main()
    write_rows(talk, (5, 6), (12, 12.5), (39, None))  # moved times take no other part from the cache
    prepare.main()
    clips = read_clips(PREPARED / "metadata.jsonl")
    assert [(clip.text, clip.duration_s, clip.begins_s, clip.ends_s) for clip in clips] == [
        ("part 0", 1.0, 5.0, 6.0),
        ("part 1", 0.5, 12.0, 12.5),
        ("part 2", 1.0, 39.0, None),
    ]
    hertz = [loudest_hertz(prepared.read_prepared(PREPARED / clip.audio_path)) for clip in clips]
    assert hertz == pytest.approx([250, 320, 590], abs=2)
    assert {clip.recorded_file for clip in clips} == {"tv/talk.wav"}
    assert {clip.session for clip in clips} == {"talk.wav"}


def test_id_of_a_part_follows_from_the_bytes_and_both_times(talk):
    write_rows(talk, (5, 6), (5, 6.5), (7, 8), (5.0001, 6))
    prepare.main()
    digest = hashlib.sha256(talk.read_bytes()).hexdigest()
    expected = [hashlib.sha256(f"{digest} {times}".encode()).hexdigest()[:16] for times in ("5000-6500", "7000-8000")]
    assert [clip.id for clip in read_clips(PREPARED / "metadata.jsonl")] == expected
    twins = list(read_jsonl(PREPARED / "rejected.jsonl"))  # the same to the millisecond, with other words
    assert {row["reason"] for row in twins} == {"two transcripts"}
    assert all("from 5.000 s to 6.000 s" in row["file"] for row in twins)
    assert clip_id(digest, None, None) == digest[:16]


@pytest.mark.parametrize("times", [(38, 40.6), (40, 41), (50, None), (7, 6)])
def test_times_outside_of_the_recording_are_named(talk, times):
    write_rows(talk, (5, 6), times, (39, 40.4))  # half a second beyond its end is rounding
    prepare.main()
    clips = read_clips(PREPARED / "metadata.jsonl")
    assert [(clip.text, clip.duration_s) for clip in clips] == [("part 0", 1.0), ("part 2", 1.0)]
    (rejected,) = read_jsonl(PREPARED / "rejected.jsonl")
    assert rejected["reason"] == "cut out of range"
    assert rejected["file"].startswith(f"tv/talk.wav from {times[0]:.3f} s to ")


def test_overlapping_parts_are_kept_and_named(talk):
    write_rows(talk, (1, 5), (2, 3), (4.95, 6), (8, 9))
    prepare.main()
    assert len(read_clips(PREPARED / "metadata.jsonl")) == 4
    (row,) = [row for row in read_jsonl(PREPARED / "review.jsonl") if row["reason"] == "overlapping parts"]
    assert row["text"] == "part 1" and "tv/talk.wav from 1.000 s to 5.000 s" in row["listen_for"]

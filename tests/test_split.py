"""The split stage: a clip's part follows from its group alone, and no group is in two parts."""

import math
import random
from pathlib import Path

import pytest

from stages import split as stage
from stages.common.files import read_json
from stages.common.stage import UserError
from stages.speech.clips import group_of, read_clips, write_clips
from stages.split import PARTS, part_of, split


@pytest.fixture
def settings(params):
    """`settings(salt="x")`: the repository's split section with changes."""
    return lambda **changes: params.split.model_copy(update=changes)


def parts_by_id(parts: dict) -> dict[str, str]:
    return {clip.id: part for part, clips in parts.items() for clip in clips}


@pytest.fixture
def clips(make_clip):
    """300 texts, each recorded twice by one of 30 speakers in one of 60 sessions."""
    return [
        make_clip(f"text {n}", id=f"{n:015x}{take}", speaker=f"speaker {n % 30}", session=f"session {n % 60}")
        for n in range(300)
        for take in (0, 1)
    ]


@pytest.mark.parametrize("group_by", ["prompt", "clip", "session", "speaker"])
def test_no_group_is_in_two_parts_and_no_clip_is_lost(clips, settings, group_by):
    parts = split(clips, settings(group_by=group_by))
    groups = [{group_of(clip, group_by) for clip in parts[part]} for part in PARTS]
    assert all(groups)
    assert sum(len(group) for group in groups) == len(set.union(*groups))
    assert sorted(parts_by_id(parts)) == [clip.id for clip in clips]


def test_new_clip_never_moves_an_old_one_and_order_decides_nothing(clips, settings):
    """Catches: a test clip that is learned after the next recording."""
    after = parts_by_id(split(clips, settings()))
    for fewer in (clips[:400], random.Random(0).sample(clips, len(clips))):
        before = parts_by_id(split(fewer, settings()))
        assert {identity: after[identity] for identity in before} == before
    test = split(clips, settings())["test"]
    assert [clip.id for clip in test] == sorted(clip.id for clip in test)


def test_same_words_written_differently_stay_together(make_clip):
    texts = ["Turn on the light.", "turn on the light", "TURN ON,  the light!"]
    assert {group_of(make_clip(text), "prompt") for text in texts} == {"turn on the light"}
    assert group_of(make_clip("turn off the light"), "prompt") == "turn off the light"


# The part is the one that the files of every earlier run rest on: computed with sha256sum,
# printf 'ownvoice\0turn on the light' | sha256sum
def test_part_follows_from_the_sha256_of_salt_and_group(settings):
    point = int("137b84e47d0a5aad", 16) / 2**64
    for test, validation, part in [
        (point + 1e-6, 0.01, "test"),
        (point - 1e-6, 0.01, "validation"),
        (point - 0.02, 0.01, "train"),
    ]:
        assert part_of("turn on the light", settings(test_fraction=test, validation_fraction=validation)) == part


def test_fractions_are_met_and_another_salt_draws_other_parts(settings):
    """Catches: a hash of which only some bits are used, and a salt that is not hashed."""
    drawn = {salt: [part_of(f"group {n}", settings(salt=salt)) for n in range(2000)] for salt in ("ownvoice", "a")}
    for parts in drawn.values():
        for part, fraction in {"test": 0.15, "validation": 0.1, "train": 0.75}.items():
            # Binomial: 4 standard deviations of a share; exceeded by one draw in 16,000.
            assert abs(parts.count(part) / 2000 - fraction) < 4 * math.sqrt(fraction * (1 - fraction) / 2000)
    # Two independent draws agree in 0.15² + 0.1² + 0.75² = 0.595 of the groups.
    agreement = sum(one == other for one, other in zip(*drawn.values(), strict=True)) / 2000
    assert abs(agreement - 0.595) < 4 * math.sqrt(0.595 * 0.405 / 2000)


@pytest.mark.parametrize(
    ("filled", "empty", "more"),
    [
        # (1 - share) ** n is 0.05 at about 3 / share: 3 / 0.15, 3 / 0.1, 3 / 0.75
        (["train", "validation"], "test", 20),
        (["train"], "validation and test", 30),
        (["validation", "test"], "train", 4),
    ],
)
def test_empty_part_says_how_many_more_clips_are_needed(make_clip, settings, filled, empty, more):
    texts = [f"text {number}" for number in range(1000)]
    firsts = [next(text for text in texts if part_of(text, settings()) == part) for part in filled]
    with pytest.raises(UserError, match=rf"for {empty}, {len(filled)} in .*about {more} more clips"):
        split(list(map(make_clip, firsts)), settings())


@pytest.mark.parametrize("group_by", ["session", "speaker"])
def test_clip_without_the_field_of_group_by_is_named(make_clip, settings, group_by):
    clips = [make_clip("one", speaker="ann", session="monday"), make_clip("two", recorded_file="phone/two.wav")]
    with pytest.raises(UserError, match=rf"phone/two\.wav names no {group_by}"):
        split(clips, settings(group_by=group_by))


def test_rows_are_written_as_they_came_with_counts_and_minutes(workspace, clips):
    write_clips(Path("data/prepared/metadata.jsonl"), clips)
    stage.main()
    written = {part: read_clips(Path(f"data/split/{part}.jsonl")) for part in PARTS}
    by_id = {clip.id: clip for clip in clips}
    assert all(by_id[clip.id] == clip for part in PARTS for clip in written[part])
    counts = {part: len(written[part]) for part in PARTS}
    assert sum(counts.values()) == 600
    minutes = {part: round(count * 2 / 60, 2) for part, count in counts.items()}  # each clip lasts two seconds
    assert read_json(Path("data/split/summary.json")) == {"clips": counts, "minutes": minutes}


def test_what_cannot_be_split_is_one_line_and_writes_nothing(workspace, make_clip, run_stage):
    """Catches: an earlier split replaced by half of one, or a traceback before prepare has run."""
    result = run_stage("split")
    assert result.errors == ["split: data/prepared/metadata.jsonl is missing: run 'dvc repro'"]
    write_clips(workspace / "data/prepared/metadata.jsonl", [make_clip("one")])
    result = run_stage("split")
    assert (result.returncode, len(result.errors)) == (1, 1)
    assert not (workspace / "data/split").exists()

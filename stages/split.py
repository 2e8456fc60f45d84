"""Divide the clips into train, validation and test, in data/split.

    python -m stages.split          (or `dvc repro split`)

Reads data/prepared/metadata.jsonl. Writes train.jsonl, validation.jsonl, test.jsonl (rows as they came), summary.json.
A clip's part follows from a hash of its group alone: a new clip never moves an old one, and clips of one group (by
default: of the same words) are in the same part.
"""

from __future__ import annotations

import hashlib
import math

from stages.common import paths
from stages.common.files import whole_folder, write_json
from stages.common.params import SplitParams, load_params
from stages.common.plurals import counted
from stages.common.stage import UserError, announce, run
from stages.speech.clips import Clip, group_of, read_clips, write_clips

PARTS = ("train", "validation", "test")


def named_group(clip: Clip, group_by: str) -> str:
    """The name of the group, whose clips stay in one part.

    Raises: UserError for a clip without the field that `group_by` names.
    """
    group = group_of(clip, group_by)
    if group is None:
        raise UserError(
            f"split.group_by is {group_by}, but {clip.recorded_file} names no {group_by}: add it to its row, "
            f"or set split.group_by to prompt"
        )
    return group


def part_of(group: str, params: SplitParams) -> str:
    """The part of a group, by a point in [0, 1) from the salted hash of its name."""
    digest = hashlib.sha256(f"{params.salt}\0{group}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    if point < params.test_fraction:
        return "test"
    if point < params.test_fraction + params.validation_fraction:
        return "validation"
    return "train"


def split(clips: list[Clip], params: SplitParams) -> dict[str, list[Clip]]:
    """Clips by part, in their order.

    Raises: UserError if a part is empty, with the number of clips that probably fill it.
    """
    parts: dict[str, list[Clip]] = {part: [] for part in PARTS}
    groups = set()
    for clip in clips:
        group = named_group(clip, params.group_by)
        groups.add(group)
        parts[part_of(group, params)].append(clip)
    if empty := [part for part in PARTS if not parts[part]]:
        shares = {"test": params.test_fraction, "validation": params.validation_fraction}
        smallest = min(shares.get(part, 1 - sum(shares.values())) for part in empty)
        more = math.ceil(3 / smallest)  # of so many new groups, 5 of 100 draws leave the part empty
        raise UserError(
            f"too few different {params.group_by}s for {' and '.join(empty)}, {len(groups)} in "
            f"{counted(len(clips), 'clip')} (split.group_by): record about {more} more clips, each with another "
            f"{params.group_by}"
        )
    return parts


def main() -> str:
    params = load_params().split
    announce("split", **params.model_dump())
    parts = split(read_clips(paths.PREPARED / "metadata.jsonl"), params)
    with whole_folder(paths.SPLIT) as folder:
        for part, clips in parts.items():
            write_clips(folder / f"{part}.jsonl", clips)
        minutes = {part: round(sum(clip.duration_s for clip in clips) / 60, 2) for part, clips in parts.items()}
        counts = {part: len(clips) for part, clips in parts.items()}
        write_json(folder / "summary.json", {"clips": counts, "minutes": minutes})
    return ", ".join(f"{count} {part}" for part, count in counts.items()) + f" -> {paths.SPLIT}"


if __name__ == "__main__":
    run("split", main)

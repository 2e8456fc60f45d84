"""Clips: as a source lists them (RawClip), as every stage after prepare sees them (Clip), and why there is none.

Also ids, and the manifests (JSON lines) that hold clips.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from stages.common.files import read_jsonl, write_jsonl
from stages.speech.text import normalise

ID_LENGTH = 16
# A part may reach so far beyond the recording's end, or into the next part: times in manifests are rounded.
TOLERANCE_S = 0.1
HUB = "hf://datasets/"  # begins the source of a clip from a data set on the Hub


# Not to be changed, but not frozen: ten thousand frozen ones take three times as long to make.
@dataclass(unsafe_hash=True)
class RawClip:
    """A recording, or the part of it between two times, and what its source says about it.

    `recorded_file` is relative to data/raw and begins with the source. `begins_s` and `ends_s` are None for a whole
    recording; a part with `begins_s` alone ends with the recording.
    """

    source: str
    recorded_file: str
    text: str
    language: str | None = None
    speaker: str | None = None
    session: str | None = None
    prompt_id: str | None = None
    recorded_at: str | None = None
    begins_s: float | None = None
    ends_s: float | None = None

    @property
    def path_in_source(self) -> str:
        """The recording's path below its source's folder."""
        return self.recorded_file[len(self.source) + 1 :]

    @property
    def where(self) -> str:
        """The recording and the part of it, in words: different for any two clips."""
        if self.begins_s is None:
            return self.recorded_file
        ends = "its end" if self.ends_s is None else f"{self.ends_s:.3f} s"
        return f"{self.recorded_file} from {self.begins_s:.3f} s to {ends}"


@dataclass(unsafe_hash=True, kw_only=True)
class Clip(RawClip):
    """A clip with its converted sound: `audio_path` is relative to data/prepared.

    Levels are in dB relative to full scale; `snr_db` is an estimate (audio.measure).
    """

    id: str
    audio_path: str
    duration_s: float
    peak_dbfs: float
    level_dbfs: float
    snr_db: float
    clipped_fraction: float
    bandwidth_hz: float | None = None


@dataclass(frozen=True)
class Rejection:
    """A recording, row or file that does not become a clip: where, why, and what to do."""

    file: str
    reason: str
    remedy: str

    def row(self) -> dict[str, str]:
        return asdict(self)


def digest(recorded_sha256: str, begins_s: float | None, ends_s: float | None) -> str:
    """Hex digest that identifies a recording (its sha256) or a part of it (over that sha256 and both times in ms)."""
    if begins_s is None:
        return recorded_sha256
    times = f"{round(begins_s * 1000)}-{'' if ends_s is None else round(ends_s * 1000)}"
    return hashlib.sha256(f"{recorded_sha256} {times}".encode()).hexdigest()


def clip_id(recorded_sha256: str, begins_s: float | None, ends_s: float | None) -> str:
    """The first 16 hex digits of `digest`."""
    return digest(recorded_sha256, begins_s, ends_s)[:ID_LENGTH]


def group_of(clip: Clip, group_by: str) -> str | None:
    """The name of the prompt (same words), session, speaker or clip that a clip belongs to; None if it names none.

    Clips of one group are alike: they stay in one part of the split, and count as one in an evaluation's intervals.
    """
    if group_by == "prompt":
        return normalise(clip.text)
    return clip.id if group_by == "clip" else getattr(clip, group_by)


def overlapping(clips: list[Clip]) -> dict[Clip, Clip]:
    """{part: the earlier part of the same recording with which it shares more than TOLERANCE_S}."""
    by_file: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.begins_s is not None and clip.ends_s is not None:
            by_file.setdefault(clip.recorded_file, []).append(clip)
    found = {}
    for parts in by_file.values():
        parts.sort(key=lambda clip: (clip.begins_s, clip.ends_s))
        longest = parts[0]
        for before, clip in pairwise(parts):
            longest = max(longest, before, key=lambda one: one.ends_s)
            if longest.ends_s - clip.begins_s > TOLERANCE_S:
                found[clip] = longest
    return found


def read_clips(path: Path) -> list[Clip]:
    """Raises: UserError if the stage that writes `path` has not run."""
    return [Clip(audio_path=row.pop("file_name"), **row) for row in read_jsonl(path)]


def write_clips(path: Path, clips: list[Clip]) -> None:
    """Write rows that Hugging Face's audiofolder reads: `file_name` is the clip's audio_path."""
    write_jsonl(path, map(_row_of, clips))


def _row_of(clip: Clip) -> dict:
    row = {"file_name": clip.audio_path, **vars(clip)}  # asdict, which looks into each value, takes five times as long
    del row["audio_path"]
    return row

"""A clip as every stage after prepare sees it, and the manifests (JSON lines) that hold clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stages.common.files import read_jsonl, write_jsonl

ID_LENGTH = 16


# To be left as it is, but not frozen: ten thousands would take three times as long to make.
@dataclass(unsafe_hash=True)
class Clip:
    """One recording, or the part of one between two times, and what was said in it.

    `id` is the first 16 hex digits of the sha256 of the recorded file's bytes (for a part see cuts.clip_id);
    `audio_path` is relative to data/prepared. Levels are in dB relative to full scale; `snr_db` is an estimate (see
    audio.measure).
    """

    id: str
    audio_path: str
    text: str
    language: str
    source: str
    recorded_file: str
    duration_s: float
    peak_dbfs: float
    level_dbfs: float
    snr_db: float
    clipped_fraction: float
    speaker: str | None = None
    session: str | None = None
    prompt_id: str | None = None
    recorded_at: str | None = None
    begins_s: float | None = None
    ends_s: float | None = None
    bandwidth_hz: float | None = None

    @property
    def where(self) -> str:
        """The recorded file, and for a part of it between which times: no two clips share it."""
        return where(self.recorded_file, self.begins_s, self.ends_s)


def where(file: str, begins_s: float | None, ends_s: float | None) -> str:
    """A recording, or its part between two times, in words."""
    if begins_s is None:
        return file
    return f"{file} from {begins_s:.3f} s to " + ("its end" if ends_s is None else f"{ends_s:.3f} s")


def read_clips(path: Path) -> list[Clip]:
    """Raises: UserError where the stage that writes `path` has not run."""
    return [Clip(**row) for row in read_jsonl(path)]


def write_clips(path: Path, clips: list[Clip]) -> None:
    write_jsonl(path, map(vars, clips))  # asdict, which looks into each value, takes five times as long

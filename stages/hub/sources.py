"""Data sets on the Hub as sources of clips (prepare.sources): streamed once, then read from the content cache.

A row is known by data set, commit, configuration, split and number, so a cached row is never fetched again and never
out of date. Without the network, a run needs all its rows in the cache.
"""

from __future__ import annotations

import errno
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import soundfile

from stages.common.cache import ContentCache
from stages.common.params import HubSourceParams
from stages.common.plurals import counted
from stages.common.stage import UserError
from stages.hub import client
from stages.speech import audio
from stages.speech.clips import HUB, RawClip

CACHE = "hub"
COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT_S = 15.0


@dataclass(frozen=True)
class HubRecording:
    """The recorded bytes of one row, in the content cache; read like a file."""

    repo_id: str
    revision: str
    config: str | None
    split: str
    column: str
    index: int

    @property
    def key(self) -> dict:
        return vars(self)

    def sha256(self) -> str:
        """Hex digest of the recorded bytes. Raises: OSError if they are gone."""
        digest = ContentCache(CACHE).digest(self.key)
        if digest is None:
            raise _broken_entry()
        return digest

    def read_bytes(self) -> bytes:
        """Raises: OSError if its entry is gone or broken; the next run fetches it again."""
        content = ContentCache(CACHE).read(self.key)
        if content is None:
            ContentCache(CACHE).remove(self.key)
            raise _broken_entry()
        return content


def _broken_entry() -> OSError:
    return OSError(errno.EIO, "its copy in the cache is broken, run it again to fetch it anew")


@dataclass(frozen=True)
class Fetched:
    """Clips of a data set on the Hub with their recordings, and their commit."""

    clips: list[tuple[RawClip, HubRecording]]
    revision: str


def fetch(source: HubSourceParams, number: int) -> Fetched:
    """The clips that an entry of prepare.sources asks for, from the cache if it has them.

    Raises: UserError if the Hub cannot be reached and the cache lacks some, or if the data set holds no clips.
    """
    name = f"prepare.sources[{number}] {source.repo_id}"
    revision, away = _commit_of(source, name)
    rows = _Rows(source, revision)
    clips = list(rows.cached())
    if not rows.complete:
        if away is None:
            _, away = _ask(source, revision, name)
        if away is not None:
            asked = f"at most {counted(source.max_clips, 'clip')}" if source.max_clips else "an unknown number"
            raise UserError(
                f"{name}: {away}, and the cache holds {len(clips)} of {asked} at {revision[:8]}: run it again "
                f"with the network, or remove the entry from prepare.sources"
            )
        print(f"prepare: {name}: fetching from row {len(clips)} on, at {revision}", flush=True)
        client.call(name, rows.fetch_rest, name)
        rows = _Rows(source, revision)
        clips = list(rows.cached())
        if not rows.complete:
            raise UserError(f"{name}: the cache loses what was just written to it: look for a full or failing disk")
    elif away is not None:
        print(
            f"prepare: {name}: {away.upper()}: taken as of the last run, at {revision}; all of it, "
            f"{counted(len(clips), 'clip')}, is in the cache, newer ones would be missed",
            flush=True,
        )
    if not clips:
        raise UserError(f"{name}: split {source.split!r} has no rows")
    return Fetched(clips, revision)


class _Rows:
    """The first rows of a split, up to what the settings ask for."""

    def __init__(self, source: HubSourceParams, revision: str) -> None:
        self.source = source
        self.revision = revision
        self.cache = ContentCache(CACHE)
        self.count = 0
        self.hours = 0.0
        self.complete = False

    def cached(self) -> Iterator[tuple[RawClip, HubRecording]]:
        """The rows that are in the cache, from the first on without a gap."""
        while not self._enough():
            recording = self._recording(self.count)
            entry = self.cache.read(self._row_key(self.count))
            if entry is None or not self.cache.has(recording.key):
                end = self.cache.read(self._row_key("end"))
                self.complete = end is not None and json.loads(end) == self.count
                return
            row = json.loads(entry)
            self._add(row)
            yield self._clip(recording, row), recording
        self.complete = True

    def fetch_rest(self, name: str) -> None:
        """Stream the missing rows into the cache; called again after an error, it resumes."""
        self.count, self.hours = 0, 0.0
        for _ in self.cached():
            pass
        if self.complete:
            return
        columns = self.source.columns
        for values in _stream(self.source, self.revision, self.count, name):
            # A path beside it is not read: it would be one of this machine.
            sound = (values[columns.audio] or {}).get("bytes") or b""
            row = {"text": str(values[columns.text] or ""), "duration_s": _duration_s(sound)}
            for field in ("speaker", "language"):
                column = getattr(columns, field)
                row[field] = None if column is None or values[column] is None else str(values[column])
            self.cache.write(self._recording(self.count).key, sound)
            self.cache.write(self._row_key(self.count), json.dumps(row).encode())
            self._add(row)
            if self._enough():
                return
        self.cache.write(self._row_key("end"), json.dumps(self.count).encode())

    def _enough(self) -> bool:
        source = self.source
        by_count = source.max_clips is not None and self.count >= source.max_clips
        return by_count or (source.max_hours is not None and self.hours >= source.max_hours)

    def _add(self, row: dict) -> None:
        self.count += 1
        self.hours += row["duration_s"] / 3600

    def _recording(self, index: int) -> HubRecording:
        source = self.source
        return HubRecording(source.repo_id, self.revision, source.config, source.split, source.columns.audio, index)

    def _row_key(self, index: int | str) -> dict:
        return self._recording(0).key | {"index": index, "columns": self.source.columns.model_dump()}

    def _clip(self, recording: HubRecording, row: dict) -> RawClip:
        source = self.source
        return RawClip(
            source=HUB + source.repo_id,
            recorded_file=f"{HUB}{source.repo_id}/{source.config or 'default'}/{source.split}/{recording.index}",
            text=row["text"],
            language=row["language"] or source.language,
            speaker=row["speaker"],
        )


def _commit_of(source: HubSourceParams, name: str) -> tuple[str, str | None]:
    """The commit that a revision names now; or named in the last run, and why the Hub cannot be asked."""
    if source.revision is not None and COMMIT.fullmatch(source.revision):
        return source.revision, None
    cache, key = ContentCache(CACHE), {"repo_id": source.repo_id, "commit of": source.revision}
    commit, away = _ask(source, source.revision, name)
    if commit is not None:
        cache.write(key, commit.encode())
        return commit, None
    known = cache.read(key)
    if known is None:
        raise UserError(f"{name}: {away}, and nothing of it is in the cache: run it again with the network")
    return known.decode(), away


def _ask(source: HubSourceParams, revision: str | None, name: str) -> tuple[str | None, str | None]:
    """(commit of a revision, None), or (None, why the Hub cannot be asked now). Raises: UserError if it refuses."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return client.api().dataset_info(source.repo_id, revision=revision, timeout=TIMEOUT_S).sha, None
    except OfflineModeIsEnabled:
        return None, "HF_HUB_OFFLINE is set"
    except (HfHubHTTPError, HFValidationError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in client.TRY_AGAIN:
            return None, f"the Hub answers {error.response.status_code}"
        remedy = "check repo_id and revision, and log in with 'hf auth login' if it is private"
        raise UserError(f"{name}: the Hub does not give it ({client.one_line(error, 120)}): {remedy}") from None
    except (OSError, httpx2.HTTPError):
        return None, "the Hub cannot be reached"


def _stream(source: HubSourceParams, revision: str, first: int, name: str) -> Iterator[dict]:
    """Rows from number `first` on, their sound as it was recorded. Raises: UserError if there is none."""
    from datasets import Audio, load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError
    from datasets.packaged_modules.folder_based_builder.folder_based_builder import FolderBasedBuilder

    try:
        builder = load_dataset_builder(source.repo_id, source.config, revision=revision)
        rows = builder.as_streaming_dataset(split=source.split)
    except (ValueError, DatasetNotFoundError) as error:
        remedy = "check config and split"
        raise UserError(f"{name}: cannot be read ({client.one_line(error, 200)}): {remedy}") from None
    if isinstance(builder, FolderBasedBuilder):  # `datasets` reads these with torchcodec alone
        folder = source.repo_id.split("/")[-1]
        raise UserError(
            f"{name}: it is a folder of sound files: fetch it with 'hf download {source.repo_id} --repo-type dataset "
            f"--local-dir data/raw/{folder}' and remove the entry from prepare.sources"
        )
    if rows.features is None:
        rows = rows._resolve_features()
    columns = source.columns.model_dump(exclude_none=True)
    if missing := [column for column in columns.values() if column not in rows.features]:
        there = ", ".join(rows.features)
        raise UserError(f"{name}: there is no column {missing[0]!r}: name those of {there} in its columns")
    sound = rows.features[source.columns.audio]
    if not isinstance(sound, Audio | dict):
        raise UserError(
            f"{name}: column {source.columns.audio!r} only names recordings, their sound is not in the data set: name "
            f"another data set in prepare.sources"
        )
    rows = rows.select_columns(list(dict.fromkeys(columns.values())))
    if isinstance(sound, Audio):
        rows = rows.cast_column(source.columns.audio, Audio(decode=False))
    yield from rows.skip(first)


def _duration_s(sound: bytes) -> float:
    """Length of a recording; 0 if it cannot be read, which prepare reports."""
    try:
        return soundfile.info(io.BytesIO(sound)).duration
    except (soundfile.SoundFileError, TypeError):
        pass  # not one of libsndfile's formats
    try:
        samples, sample_rate_hz = audio.decode(sound)
    except audio.UnreadableSound:
        return 0.0
    return len(samples) / sample_rate_hz

"""Data sets on the Hub as sources of clips (prepare.sources): streamed once, then read from the content cache.

What an entry gives is known by its settings and the data set's commit, so it is never fetched again and never out of
date. Without the network, a run needs it in the cache.
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
from stages.common.stage import UserError
from stages.hub.client import Refused, api, call, one_line
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


def fetch(source: HubSourceParams, number: int) -> tuple[list[tuple[RawClip, HubRecording]], str]:
    """The clips that an entry of prepare.sources asks for, from the cache if it has them; and the data set's commit.

    Raises: UserError if the Hub cannot be reached and the cache lacks some, or if the data set holds no clips.
    """
    name = f"prepare.sources[{number}] {source.repo_id}"
    cache = ContentCache(CACHE)
    revision = _commit_of(source, name)
    key = {"rows of": source.model_dump(exclude={"language", "other_speakers"}), "revision": revision}
    rows = json.loads(cache.read(key) or b"[]")
    if not rows or not all(cache.has(_recording(source, revision, index).key) for index in range(len(rows))):
        print(f"prepare: {name}: fetching, at {revision}", flush=True)
        rows = call(name, _download, source, revision, name)
        cache.write(key, json.dumps(rows).encode())
    clips = [(_clip(source, index, row), _recording(source, revision, index)) for index, row in enumerate(rows)]
    return clips, revision


def _recording(source: HubSourceParams, revision: str, index: int) -> HubRecording:
    return HubRecording(source.repo_id, revision, source.config, source.split, source.columns.audio, index)


def _clip(source: HubSourceParams, index: int, row: dict) -> RawClip:
    return RawClip(
        source=HUB + source.repo_id,
        recorded_file=f"{HUB}{source.repo_id}/{source.config or 'default'}/{source.split}/{index}",
        text=row["text"],
        language=row["language"] or source.language,
        speaker=row["speaker"],
    )


def _commit_of(source: HubSourceParams, name: str) -> str:
    """The commit that a revision names now; if the Hub cannot be asked, the one that it named in the last run."""
    if source.revision is not None and COMMIT.fullmatch(source.revision):
        return source.revision
    cache, key = ContentCache(CACHE), {"repo_id": source.repo_id, "commit of": source.revision}
    options = {"revision": source.revision, "timeout": TIMEOUT_S}
    try:
        commit = call(name, api().dataset_info, source.repo_id, pauses_s=(), **options).sha
    except UserError as error:
        known = cache.read(key)
        if known is None or (isinstance(error, Refused) and error.status is not None):
            raise
        print(f"prepare: {error}. TAKEN AS OF THE LAST RUN, at {known.decode()}", flush=True)
        return known.decode()
    cache.write(key, commit.encode())
    return commit


def _download(source: HubSourceParams, revision: str, name: str) -> list[dict]:
    """Stream the rows that an entry asks for, their sound into the cache: [{text, speaker, language}].

    Raises: UserError if there are none.
    """
    api().dataset_info(source.repo_id, revision=revision, timeout=TIMEOUT_S)  # says plainly if the Hub refuses
    cache, columns = ContentCache(CACHE), source.columns
    rows, duration_s = [], 0.0
    for values in _stream(source, revision, name):
        # A path beside it is not read: it would be one of this machine.
        sound = (values[columns.audio] or {}).get("bytes") or b""
        cache.write(_recording(source, revision, len(rows)).key, sound)
        named = {field: values.get(getattr(columns, field)) for field in ("speaker", "language")}
        optional = {field: None if value is None else str(value) for field, value in named.items()}
        rows.append({"text": str(values[columns.text] or ""), **optional})
        duration_s += _duration_s(sound)
        if len(rows) == source.max_clips or (source.max_hours and duration_s >= 3600 * source.max_hours):
            break
    if not rows:
        raise UserError(f"{name}: split {source.split!r} has no rows")
    return rows


def _stream(source: HubSourceParams, revision: str, name: str) -> Iterator[dict]:
    """Rows, their sound as it was recorded. Raises: UserError if there is none."""
    from datasets import Audio, load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError
    from datasets.packaged_modules.folder_based_builder.folder_based_builder import FolderBasedBuilder

    try:
        builder = load_dataset_builder(source.repo_id, source.config, revision=revision)
        rows = builder.as_streaming_dataset(split=source.split)
    except (ValueError, DatasetNotFoundError) as error:
        raise UserError(f"{name}: cannot be read: check config and split ({one_line(error)})") from None
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
    return iter(rows.cast_column(source.columns.audio, Audio(decode=False)) if isinstance(sound, Audio) else rows)


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

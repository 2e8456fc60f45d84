"""The sound in data/prepared/audio: FLAC files in a few ZIP files, by the beginning of their clips' ids.

DVC looks at every file of a folder several times in each run, so a folder of 50,000 small files is slow; a file for all
of them would be written anew for each new clip. The ZIP files are not compressed (FLAC is): any archive tool opens
them, and `make listen CLIP=id` takes one clip out. Their bytes follow from their clips alone.

A clip's `audio_path` leads into them: audio/3f.zip/3f12...e0.flac.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from stages.common import paths
from stages.common.files import write_whole
from stages.common.stage import UserError, run
from stages.speech.clips import ID_LENGTH

CLIPS_IN_SHARD = 256  # on average, at most; some 15 MB of sentences
LOCAL_HEADER_BYTES = 30  # before the name, in a ZIP file without extra fields (PKWARE APPNOTE 4.3.7)


def shards(ids: Iterable[str]) -> dict[str, list[str]]:
    """Ids by the ZIP file that they belong into, both sorted: 16 files for up to 4,096 clips, 256 for up to 65,536."""
    ids = sorted(ids)
    digits = 1
    while len(ids) > CLIPS_IN_SHARD * 16**digits:
        digits += 1
    found: dict[str, list[str]] = defaultdict(list)
    for clip_id in ids:
        found[f"{clip_id[:digits]}.zip"].append(clip_id)
    return dict(found)


def write_shard(file: BinaryIO, ids: Iterable[str], sound_of: Callable[[str], bytes]) -> None:
    """A ZIP file of ID.flac for each id, one after the other; the same sounds give the same bytes."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for clip_id in ids:
            entry = zipfile.ZipInfo(f"{clip_id}.flac", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # as on Unix, wherever it is written
            archive.writestr(entry, sound_of(clip_id))


def is_in_shard(path: Path) -> bool:
    return path.parent.suffix == ".zip"


def content(path: Path) -> bytes:
    """The FLAC file with this path, in a shard or by itself.

    Raises: UserError where a shard is missing or damaged, or has no such file.
    """
    return content_in(path.parent, path.name) if is_in_shard(path) else path.read_bytes()


def content_in(shard: Path, name: str) -> bytes:
    """The FLAC file with this name in a shard. Raises: UserError where either is missing or damaged."""
    try:
        begins, size, checksum = _entries(shard)[name]
        with shard.open("rb") as file:
            file.seek(begins)
            found = file.read(size)
    except (OSError, KeyError):
        raise UserError(f"{shard}/{name} is missing: run 'dvc repro prepare'") from None
    except zipfile.BadZipFile:
        found, checksum = b"", None
    if zlib.crc32(found) != checksum:
        raise UserError(f"{shard} is damaged: remove it, and run 'dvc repro prepare'")
    return found


def size_of(path: Path) -> int:
    """Bytes of the FLAC file with this path."""
    return _entries(path.parent)[path.name][1] if is_in_shard(path) else path.stat().st_size


def sha256(path: Path) -> str:
    """Hex digest of the FLAC file with this path."""
    return hashlib.sha256(content(path)).hexdigest()


def path_of(clip_id: str) -> Path | None:
    """Where the sound of the clip with this id lies, None where it is not there."""
    for digits in range(1, ID_LENGTH):
        path = paths.PREPARED / f"audio/{clip_id[:digits]}.zip/{clip_id}.flac"
        if path.parent.is_file() and path.name in _entries(path.parent):
            return path
    return None


def _entries(shard: Path) -> dict[str, tuple[int, int, int]]:
    """{name: (first byte, size, checksum)}; the file itself is opened for each reading, as processes are forked."""
    state = shard.stat()
    return _entries_of(shard.absolute(), state.st_ino, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4096)
def _entries_of(shard: Path, *state: int) -> dict[str, tuple[int, int, int]]:
    with zipfile.ZipFile(shard) as archive:
        return {
            entry.filename: (
                entry.header_offset + LOCAL_HEADER_BYTES + len(entry.filename.encode()),
                entry.file_size,
                entry.CRC,
            )
            for entry in archive.infolist()
        }


def listen(clip_id: str) -> str:
    """Copy one clip's sound into this folder, as ID.flac. Raises: UserError where no clip has this id."""
    path = path_of(clip_id)
    if path is None:
        raise UserError(f"no clip has the id {clip_id!r}: {paths.PREPARED}/clips.jsonl names the ids")
    write_whole(Path(path.name), content(path))
    return f"{path.name} is the sound of {clip_id}"


if __name__ == "__main__":
    run("listen", lambda: listen("".join(sys.argv[1:])))

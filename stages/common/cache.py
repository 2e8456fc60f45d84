"""The content cache: results that took long, kept outside DVC's outs, which DVC deletes before each stage.

An entry's name is the hash of everything that its content depends on: with a complete key, a wrong hit is impossible.
An entry begins with the hash of its content: if a crash or a full disk broke it, it is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping

from stages.common import paths
from stages.common.files import write_whole

DIGEST_BYTES = hashlib.sha256().digest_size


def fingerprint(key: Mapping) -> str:
    """Hex sha256 of a key's canonical JSON."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class ContentCache:
    """Entries of one kind, in a folder of their own in the cache root."""

    def __init__(self, kind: str) -> None:
        self.folder = paths.cache_root() / kind

    def read(self, key: Mapping) -> bytes | None:
        """The content of an entry, None if it is missing or broken."""
        path = self._path(key)
        try:
            entry = path.read_bytes()
        except FileNotFoundError:
            return None
        digest, content = entry[:DIGEST_BYTES], entry[DIGEST_BYTES:]
        return content if hashlib.sha256(content).digest() == digest else None

    def digest(self, key: Mapping) -> str | None:
        """Hex sha256 of an entry's content when it was written, None if it is missing."""
        try:
            with self._path(key).open("rb") as entry:
                return entry.read(DIGEST_BYTES).hex()
        except FileNotFoundError:
            return None

    def has(self, key: Mapping) -> bool:
        """Whether there is an entry, intact or broken, without reading it. Counts as use."""
        try:
            os.utime(self._path(key))
        except FileNotFoundError:
            return False
        return True

    def remove_unused(self, after_s: float) -> None:
        """Remove entries that were neither written nor asked for by `has` in the last `after_s` seconds."""
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # a file that another run has renamed or removed
                if time.time() - path.stat().st_mtime > after_s:
                    path.unlink()

    def remove(self, key: Mapping) -> None:
        self._path(key).unlink(missing_ok=True)

    def write(self, key: Mapping, content: bytes) -> None:
        write_whole(self._path(key), hashlib.sha256(content).digest() + content)

    def _path(self, key: Mapping):
        name = fingerprint(key)
        return self.folder / name[:2] / name

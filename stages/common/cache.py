"""The content cache: results that cost time, outside DVC's outs, which DVC deletes before each stage.

An entry's name is the hash of everything that its content depends on, so a wrong hit is impossible as long as the key
is complete. An entry starts with the hash of its own content: one that a crash or a full disk broke is made again.
"""

from __future__ import annotations

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
    """One kind of entry, in a folder of its own below the cache root."""

    def __init__(self, kind: str) -> None:
        self.folder = paths.cache_root() / kind

    def read(self, key: Mapping) -> bytes | None:
        """The content stored under `key`; None where there is none or where it is broken."""
        path = self._path(key)
        try:
            entry = path.read_bytes()
        except FileNotFoundError:
            return None
        digest, content = entry[:DIGEST_BYTES], entry[DIGEST_BYTES:]
        return content if hashlib.sha256(content).digest() == digest else None

    def digest(self, key: Mapping) -> str | None:
        """Hex sha256 of the content under `key`, as it was when it was written; None where there is none."""
        try:
            with self._path(key).open("rb") as entry:
                return entry.read(DIGEST_BYTES).hex()
        except FileNotFoundError:
            return None

    def has(self, key: Mapping) -> bool:
        """Whether there is an entry, whole or broken: for what is too much to be read only to know. Counts as use."""
        try:
            os.utime(self._path(key))
        except FileNotFoundError:
            return False
        return True

    def remove_unused(self, after_s: float) -> None:
        """Remove entries that nothing has written or looked for (`has`) in so many seconds."""
        for path in self.folder.glob("??/*"):
            if time.time() - path.stat().st_mtime > after_s:
                path.unlink(missing_ok=True)

    def remove(self, key: Mapping) -> None:
        self._path(key).unlink(missing_ok=True)

    def write(self, key: Mapping, content: bytes) -> None:
        write_whole(self._path(key), hashlib.sha256(content).digest() + content)

    def _path(self, key: Mapping):
        name = fingerprint(key)
        return self.folder / name[:2] / name

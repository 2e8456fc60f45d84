"""Repositories of the local Hub: files, commits, tags, and what a Space has besides. All in memory."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StoredFile:
    """One version of a file; `lfs`: git holds only a pointer to it."""

    content: bytes = field(repr=False)
    lfs: bool = False

    @property
    def size(self) -> int:
        return len(self.content)

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git holds of a file in LFS."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @functools.cached_property
    def git_id(self) -> str:
        """Git's name for what it holds of this file."""
        held = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_id


@dataclass(frozen=True)
class Commit:
    oid: str
    message: str
    files: dict[str, StoredFile] = field(repr=False)  # all files after this commit, not only those that it changed


@dataclass
class Space:
    """What a Space has besides its files."""

    hardware: str = "cpu-basic"
    variables: dict[str, dict] = field(default_factory=dict)
    secrets: dict[str, dict] = field(default_factory=dict, repr=False)
    polls_left: int = 0  # how often it still says that it builds
    built_stage: str = "RUNNING"  # after building; or BUILD_ERROR, RUNTIME_ERROR, PAUSED


@dataclass
class Repository:
    kind: str  # model, dataset or space
    name: str  # "owner/name"
    private: bool = False
    space: Space | None = None
    commits: list[Commit] = field(default_factory=list)  # of main, newest last
    tags: dict[str, str] = field(default_factory=dict)  # tag -> commit

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    @property
    def files(self) -> dict[str, bytes]:
        """{path: content} of main."""
        return {path: file.content for path, file in self.head.files.items()}

    def at(self, revision: str) -> Commit | None:
        oid = self.head.oid if revision == "main" else self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit.oid == oid), None)

    def add_commit(self, files: dict[str, StoredFile], message: str) -> Commit:
        parent = self.head.oid if self.commits else ""
        listing = [(path, file.git_id) for path, file in sorted(files.items())]
        oid = hashlib.sha1(repr([self.kind, self.name, parent, message, listing]).encode()).hexdigest()
        self.commits.append(Commit(oid, message, dict(sorted(files.items()))))
        return self.head

"""What there was before: DVC's objects, and what git and DVC's experiments still name."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stages.common.stage import UserError
from stages.speech import prepared

if TYPE_CHECKING:
    from dvc.repo import Repo

EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")


class Objects:
    """DVC's objects on this machine, by their md5."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, md5: str) -> Path:
        return self.folder / md5[:2] / md5[2:]

    def content(self, md5: str) -> bytes | None:
        with contextlib.suppress(FileNotFoundError):
            return self.path(md5).read_bytes()
        return None

    def prepared(self, tree: dict[str, str], sound: str) -> bytes:
        """Converted sound in a version of data/prepared, by its audio_path; nothing where it is not here or damaged.

        Versions from before the sounds were put together in ZIP files have each by itself.
        """
        if sound in tree:
            return self.content(tree[sound]) or b""
        shard, _, name = sound.rpartition("/")
        with contextlib.suppress(UserError):
            return prepared.content_in(self.path(tree.get(shard, "")), name)
        return b""

    def tree(self, md5: str) -> dict[str, str] | None:
        """{path below the folder: md5} of a folder; None where this machine does not have it."""
        content = self.content(md5)
        return None if content is None else {entry["relpath"]: entry["md5"] for entry in json.loads(content)}

    def trees(self) -> Iterator[dict[str, str]]:
        for path in sorted(self.folder.glob("??/*.dir")):
            yield self.tree(path.parent.name + path.name)


def rows_of(content: bytes | None) -> list[dict]:
    """Rows of JSON lines; lines that are none are left out."""
    rows = []
    for line in (content or b"").split(b"\n"):
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line.decode("utf-8-sig")))
    return [row for row in rows if isinstance(row, dict)]


def local_remotes(repository: Repo) -> list[Path]:
    """Folders of DVC's remotes that lie on this machine."""
    addresses = [remote["url"] for remote in repository.config["remote"].values()]
    return [
        Path(address.removeprefix("file://")) for address in addresses if "://" not in address.removeprefix("file://")
    ]


def git(*arguments: str, answer_to: str = "") -> str | None:
    """What git prints; None where it fails, or where this folder is no git repository."""
    if not Path(".git").exists():
        return None
    done = subprocess.run(["git", *arguments], input=answer_to, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def versions_in_git(name: str) -> list[tuple[str, str]]:
    """(commit, content) of each version of a file in any branch, tag or experiment's base, the newest first."""
    commits = (git("log", "--branches", "--tags", "--remotes", "HEAD", "--format=%H", "--", name) or "").split()
    contents = ((commit, git("show", f"{commit}:./{name}")) for commit in commits)
    return [(commit, content) for commit, content in contents if content is not None]


def experiments() -> list[tuple[str, str]]:
    """(name, commit) of DVC's experiments."""
    lines = (git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps") or "").splitlines()
    found = [(EXPERIMENT.fullmatch(line.split()[0]), line.split()[1]) for line in lines]
    return [(match[1], commit) for match, commit in found if match]

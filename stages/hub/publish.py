"""Make a repository on the Hub hold exactly these files, in one atomic commit.

After an interruption, a lost reply or a commit by somebody else, publish again: each try reads what main holds, and
commits the difference on top of that very commit or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.common.files import sha256_of_file
from stages.common.stage import UserError
from stages.hub.client import Refused, api, call

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo, ModelInfo, RepoFile, SpaceInfo

    RepoInfo = ModelInfo | DatasetInfo | SpaceInfo

Kind = Literal["model", "dataset", "space"]
Files = Mapping[str, Path | bytes]

SECTIONS = {"model": "push", "dataset": "push.dataset", "space": "deploy"}  # of params.yaml
# Files that ownvoice publishes: removed when they are no longer published. All others stay.
OURS = {
    "model": (
        "README.md", "*.json", "*.jinja", "adapter_model*.safetensors", "model*.safetensors", "curve.csv", "merged/*",
    ),
    "dataset": ("README.md", "*.parquet"),
    "space": ("*",),
}  # fmt: skip
OF_THE_HUB = (".gitattributes",)
# A tag on every repository that ownvoice made: nothing is written over somebody's other work by a mistyped name.
MARK = "ownvoice"
UNMARKED = (*OF_THE_HUB, "README.md", "LICENSE", "LICENSE.md")  # what the Hub's own page puts into a new repository
ROUNDS = 5


@dataclass(frozen=True)
class Published:
    """Where the files are now; `commit` is main's."""

    repo_id: str
    url: str
    commit: str
    private: bool
    tag: str | None
    files: list[dict]


@dataclass(frozen=True)
class Opened:
    """A repository that may be written to; `made` is True if it is new."""

    private: bool
    tags: set[str]
    made: bool


def listing(files: Files) -> list[dict]:
    """[{"path", "size", "sha256"}] of files to publish, by path."""
    return [
        {
            "path": path,
            "size": len(content) if isinstance(content, bytes) else content.stat().st_size,
            "sha256": hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256_of_file(content),
        }
        for path, content in sorted(files.items())
    ]


def publish(
    repo_id: str,
    kind: Kind,
    files: Files,
    *,
    private: bool,
    message: str,
    tag: str | None,
    create: Mapping[str, Any] = {},
) -> Published:
    """Make main of a repository, created if missing, hold `files`, and tag that commit.

    create: further arguments of `HfApi.create_repo`. A tag that exists stays where it is: name it after the content.
    Raises: UserError for a public repository that should be private, one with somebody's other files, a token that may
    not write, a Hub that cannot be reached.
    """
    opened = open_repository(repo_id, kind, private, create)
    listed = listing(files)
    what = f"publishing {repo_id}"
    for _ in range(ROUNDS):
        # Reading, comparing and committing are retried as one: after a lost reply the commit may be there.
        head, committed = call(what, _converge, repo_id, kind, files, listed, message)
        if not committed:
            break
    else:
        raise UserError(f"{what}: {head} on the Hub differs from what was sent, {ROUNDS} times: is it being edited?")
    if tag and tag not in opened.tags:
        call(what, api().create_tag, repo_id, tag=tag, revision=head, repo_type=kind, exist_ok=True)
    return Published(repo_id, address(repo_id, kind), head, opened.private, tag, listed)


def held(repo_id: str, kind: Kind, files: Files, *, private: bool) -> bool:
    """Whether main holds these files already, and none that should go. Changes nothing.

    Raises: UserError if the repository is public and should be private.
    """
    what = f"looking at {repo_id}"
    info = _info(what, repo_id, kind)
    if info is None:
        return False
    _check_private(info, repo_id, kind, private)
    return not any(_differences(kind, files, listing(files), call(what, _tree, repo_id, kind, info.sha)))


def open_repository(repo_id: str, kind: Kind, private: bool, create: Mapping[str, Any] = {}) -> Opened:
    """The repository, created if missing, and marked as ours.

    Raises: UserError if it is public and should be private, or holds somebody's other files.
    """
    what = f"opening {repo_id}"
    info, made = _info(what, repo_id, kind), False
    if info is None:
        # exist_ok: the reply to a first try may have been lost. It hides an existing public one: hence looking again.
        call(what, api().create_repo, repo_id, repo_type=kind, private=private, exist_ok=True, **create)
        info, made = call(what, api().repo_info, repo_id, repo_type=kind), True
    _check_private(info, repo_id, kind, private)
    return Opened(bool(info.private), _marked(repo_id, kind, info.sha), made)


def address(repo_id: str, kind: Kind) -> str:
    folder = "" if kind == "model" else f"{kind}s/"
    return f"{api().endpoint}/{folder}{repo_id}"


def _info(what: str, repo_id: str, kind: Kind) -> RepoInfo | None:
    """None if there is no such repository, or this token may not see it."""
    if repo_id.count("/") != 1:
        raise UserError(f"params.yaml: {SECTIONS[kind]}: {repo_id!r} is not a name on the Hub: write USER/NAME")
    try:
        return call(what, api().repo_info, repo_id, repo_type=kind)
    except Refused as refusal:
        if refusal.status != 404:
            raise
        return None


def _check_private(info: RepoInfo, repo_id: str, kind: Kind, private: bool) -> None:
    if private and not info.private:
        section = SECTIONS[kind]
        raise UserError(
            f"{repo_id} on the Hub is public, and {section}.private is true: make it private there, choose another "
            f"name, or set {section}.private to false"
        )


def _marked(repo_id: str, kind: Kind, head: str) -> set[str]:
    """The tags of a repository, which gets our mark. Raises: UserError if it has none, and holds files."""
    what = f"opening {repo_id}"
    tags = {tag.name for tag in call(what, api().list_repo_refs, repo_id, repo_type=kind).tags}
    if MARK in tags:
        return tags
    if others := sorted(set(call(what, _tree, repo_id, kind, head)) - set(UNMARKED)):
        raise UserError(
            f"{repo_id} on the Hub was not made by ownvoice and holds {others[0]}: choose another name, or hand it "
            f"over with 'hf repos tag create {repo_id} {MARK} --type {kind}'"
        )
    call(what, api().create_tag, repo_id, tag=MARK, revision=head, repo_type=kind, exist_ok=True)
    return tags


def _tree(repo_id: str, kind: Kind, commit: str) -> dict[str, RepoFile]:
    from huggingface_hub.hf_api import RepoFile

    entries = api().list_repo_tree(repo_id, recursive=True, revision=commit, repo_type=kind)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _converge(repo_id: str, kind: Kind, files: Files, listed: list[dict], message: str) -> tuple[str, bool]:
    """(head, False) if main's checksums are those of `files`; else commits the difference: (new head, True)."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    head = api().repo_info(repo_id, repo_type=kind).sha
    changed, gone = _differences(kind, files, listed, _tree(repo_id, kind, head))
    if not changed and not gone:
        return head, False
    operations = [
        *(CommitOperationAdd(path, files[path]) for path in changed),
        *(CommitOperationDelete(path) for path in gone),
    ]
    commit = api().create_commit(repo_id, operations, commit_message=message, repo_type=kind, parent_commit=head)
    return commit.oid, True


def _differences(
    kind: Kind, files: Files, listed: list[dict], remote: Mapping[str, RepoFile]
) -> tuple[list[str], list[str]]:
    """(paths to send, paths to remove)."""
    changed = [entry["path"] for entry in listed if not _is_same(remote.get(entry["path"]), entry, files)]
    gone = [
        path
        for path in sorted(remote)
        if path not in files and path not in OF_THE_HUB and any(fnmatch(path, pattern) for pattern in OURS[kind])
    ]
    return changed, gone


def _is_same(remote: RepoFile | None, entry: dict, files: Files) -> bool:
    """Compares size and checksum: sha256 of large files, git's own of small ones."""
    from huggingface_hub.utils.sha import git_hash

    if remote is None or remote.size != entry["size"]:
        return False
    if remote.lfs:
        return remote.lfs.sha256 == entry["sha256"]
    content = files[entry["path"]]
    return remote.blob_id == git_hash(content if isinstance(content, bytes) else content.read_bytes())

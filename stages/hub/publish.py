"""Make a repository on the Hub hold exactly these files, in one atomic commit.

After an interruption, a lost reply or a commit by somebody else, publish again: each try reads what main holds, and
commits the difference on top of that very commit or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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


@dataclass(frozen=True)
class Published:
    """Where the files are now; `commit` is main's."""

    repo_id: str
    url: str
    commit: str
    private: bool
    tag: str | None
    files: list[dict]


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
    tag: str | None = None,
    check: Callable[[], object] = lambda: None,
) -> Published:
    """Make main of a repository, created if missing, hold `files`, and tag that commit.

    tag: one that exists stays where it is, so name it after the content. check: called before anything is created or
    sent, unless main holds these files already.
    Raises: UserError for a public repository that should be private, one with somebody's other files, a token that may
    not write, a Hub that cannot be reached; and what `check` raises.
    """
    what = f"publishing {repo_id}"
    listed = listing(files)
    info = _find(repo_id, kind, private)
    if info is None or any(call(what, _differences, repo_id, kind, info.sha, files, listed)):
        check()
    is_private = open_repository(repo_id, kind, private)
    # Reading, comparing and committing are retried as one: after a lost reply the commit may be there.
    head = call(what, _converge, repo_id, kind, files, listed, message)
    if tag and tag not in _tags(what, repo_id, kind):
        call(what, api().create_tag, repo_id, tag=tag, revision=head, repo_type=kind, exist_ok=True)
    return Published(repo_id, address(repo_id, kind), head, is_private, tag, listed)


def open_repository(repo_id: str, kind: Kind, private: bool) -> bool:
    """Create a repository if it is missing, mark it as ours, and return whether it is private.

    Raises: UserError if it is public and should be private, or holds somebody's other files.
    """
    what = f"opening {repo_id}"
    info = _find(repo_id, kind, private)
    if info is None:
        sdk = {"space_sdk": "gradio"} if kind == "space" else {}
        # exist_ok: the reply to a first try may have been lost. It hides an existing public one: hence looking again.
        call(what, api().create_repo, repo_id, repo_type=kind, private=private, exist_ok=True, **sdk)
        info = call(what, api().repo_info, repo_id, repo_type=kind)
        _check_private(info, repo_id, kind, private)
    if MARK not in _tags(what, repo_id, kind):
        if others := sorted({file.rfilename for file in info.siblings} - set(UNMARKED)):
            raise UserError(
                f"{repo_id} on the Hub was not made by ownvoice and holds {others[0]}: choose another name, or hand it "
                f"over with 'hf repos tag create {repo_id} {MARK} --type {kind}'"
            )
        call(what, api().create_tag, repo_id, tag=MARK, revision=info.sha, repo_type=kind, exist_ok=True)
    return bool(info.private)


def address(repo_id: str, kind: Kind) -> str:
    folder = "" if kind == "model" else f"{kind}s/"
    return f"{api().endpoint}/{folder}{repo_id}"


def _find(repo_id: str, kind: Kind, private: bool) -> RepoInfo | None:
    """None if there is no such repository, or this token may not see it.

    Raises: UserError if it is public and should be private.
    """
    if repo_id.count("/") != 1:
        raise UserError(f"params.yaml: {SECTIONS[kind]}: {repo_id!r} is not a name on the Hub: write USER/NAME")
    try:
        info = call(f"looking at {repo_id}", api().repo_info, repo_id, repo_type=kind)
    except Refused as refusal:
        if refusal.status != 404:
            raise
        return None
    _check_private(info, repo_id, kind, private)
    return info


def _check_private(info: RepoInfo, repo_id: str, kind: Kind, private: bool) -> None:
    if private and not info.private:
        section = SECTIONS[kind]
        raise UserError(
            f"{repo_id} on the Hub is public, and {section}.private is true: make it private there, choose another "
            f"name, or set {section}.private to false"
        )


def _tags(what: str, repo_id: str, kind: Kind) -> set[str]:
    return {tag.name for tag in call(what, api().list_repo_refs, repo_id, repo_type=kind).tags}


def _converge(repo_id: str, kind: Kind, files: Files, listed: list[dict], message: str) -> str:
    """Commit how `files` differ from main, if they do; returns main's commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    head = api().repo_info(repo_id, repo_type=kind).sha
    changed, gone = _differences(repo_id, kind, head, files, listed)
    if not changed and not gone:
        return head
    operations = [
        *(CommitOperationAdd(path, files[path]) for path in changed),
        *(CommitOperationDelete(path) for path in gone),
    ]
    return api().create_commit(repo_id, operations, commit_message=message, repo_type=kind, parent_commit=head).oid


def _differences(
    repo_id: str, kind: Kind, commit: str, files: Files, listed: list[dict]
) -> tuple[list[str], list[str]]:
    """(paths to send, paths to remove) for this commit to hold `files`."""
    from huggingface_hub.hf_api import RepoFile

    entries = api().list_repo_tree(repo_id, recursive=True, revision=commit, repo_type=kind)
    remote = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
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

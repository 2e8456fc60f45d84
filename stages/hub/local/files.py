"""Files of the local Hub: listed, downloaded, uploaded by git-LFS, and committed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import yaml

from stages.hub.local.messages import Refused, Reply, Request, as_json, not_found, refusal
from stages.hub.local.repositories import Commit, Repository, StoredFile

if TYPE_CHECKING:
    from stages.hub.local.server import HubServer

# Sent by LFS, as larger and binary files are.
LFS_SUFFIXES = (".safetensors", ".parquet", ".flac", ".wav", ".png")
LARGE_BYTES = 10 * 1024 * 1024
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()


def tree(_: HubServer, request: Request, __: Repository, commit: Commit, path: str) -> Reply:
    start = f"{path.strip('/')}/" if path else ""
    below = [name for name in commit.files if name.startswith(start)]
    if path and not below:
        return not_found("Entry")
    folders = {parent.as_posix() for name in below for parent in PurePosixPath(name).parents}
    paths = sorted(folder for folder in folders if folder != "." and folder.startswith(start)) + sorted(below)
    if request.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
        paths = [name for name in paths if name.count("/") == start.count("/")]
    return as_json(_entries(commit, paths))


def paths_info(_: HubServer, request: Request, __: Repository, commit: Commit) -> Reply:
    return as_json(_entries(commit, parse_qs(request.body.decode()).get("paths", [])))


def _entries(commit: Commit, paths: list[str]) -> list[dict]:
    """The files and folders among `paths`, as the Hub lists them."""
    entries: list[dict] = []
    for path in paths:
        if file := commit.files.get(path):
            entries.append({"type": "file", "path": path, "size": file.size, "oid": file.git_id})
            if file.lfs:
                entries[-1]["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
        elif any(name.startswith(f"{path}/") for name in commit.files):
            entries.append({"type": "directory", "path": path, "size": 0, "oid": StoredFile(path.encode()).git_id})
    return entries


def download(_: HubServer, request: Request, __: Repository, commit: Commit, path: str) -> Reply:
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    file = commit.files.get(path)
    if file is None:
        reply = not_found("Entry")
        reply.headers |= headers
        return reply
    headers |= {"ETag": f'"{file.etag}"', "Content-Type": "application/octet-stream"}
    if file.lfs:
        headers |= {"X-Linked-ETag": f'"{file.etag}"', "X-Linked-Size": str(file.size)}
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not wanted:
        return Reply(200, file.content, headers)
    first, last = int(wanted[1]), min(int(wanted[2] or file.size), file.size - 1)
    headers["Content-Range"] = f"bytes {first}-{last}/{file.size}"
    return Reply(206, file.content[first : last + 1], headers)


def preupload(_: HubServer, request: Request, __: Repository, commit: Commit) -> Reply:
    """How each file is to be sent, and what is there already."""
    listed = []
    for asked in request.json()["files"]:
        known = commit.files.get(asked["path"])
        is_binary = b"\0" in base64.b64decode(asked["sample"])
        by_lfs = asked["path"].endswith(LFS_SUFFIXES) or asked["size"] > LARGE_BYTES or is_binary
        listed.append(
            {
                "path": asked["path"],
                "uploadMode": "lfs" if by_lfs else "regular",
                "shouldIgnore": False,
                "oid": known.etag if known else None,
            }
        )
    return as_json({"files": listed, "commitOid": commit.oid})


def lfs_batch(hub: HubServer, request: Request, _: Repository) -> Reply:
    """Where to send what the Hub does not hold yet."""
    objects = [{"oid": wanted["oid"], "size": wanted["size"]} for wanted in request.json()["objects"]]
    for one in objects:
        if one["oid"] not in hub.lfs_objects:
            one["actions"] = {"upload": {"href": f"{hub.url}/lfs-storage/{one['oid']}"}}
    return as_json({"transfer": "basic", "objects": objects})


def lfs_put(hub: HubServer, request: Request, sha256: str) -> Reply:
    if hashlib.sha256(request.body).hexdigest() != sha256:
        return refusal(400, "The content does not match its checksum")
    hub.lfs_objects[sha256] = request.body
    return Reply(200, b"", {"ETag": f'"{sha256}"'})


def validate_yaml(_: HubServer, request: Request) -> Reply:
    """Whether the Hub takes the block of metadata at the head of a README."""
    metadata = re.match(r"---\n(.*?)\n---", request.json()["content"], re.DOTALL)
    try:
        yaml.safe_load(metadata[1] if metadata else "")
    except yaml.YAMLError as error:
        return as_json({"errors": [{"message": f"Invalid YAML in README.md: {error}"}], "warnings": []}, 400)
    return as_json({"errors": [], "warnings": []})


def commit_changes(hub: HubServer, request: Request, repository: Repository, commit: Commit) -> Reply:
    """All of a commit's lines or none."""
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit") not in (None, repository.head.oid):
        return refusal(412, "A commit has happened since. Please refresh and try again.")
    files = dict(commit.files)
    for line in lines:
        _apply(line["key"], line["value"], files, hub.lfs_objects)
    made = repository.add_commit(files, header["summary"])
    if repository.space:
        repository.space.polls_left = hub.build_polls
    url = f"{hub.address_of(repository.kind, repository.name)}/commit/{made.oid}"
    return as_json({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})


def _apply(key: str, value: dict, files: dict[str, StoredFile], lfs_objects: dict[str, bytes]) -> None:
    """Apply one line of a commit to `files`. LFS files were sent before."""
    path = value.get("path", "")
    if key == "file":
        files[path] = StoredFile(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if value["oid"] not in lfs_objects:
            raise Refused(refusal(400, f"{path}: the LFS object {value['oid']} was not uploaded"))
        files[path] = StoredFile(lfs_objects[value["oid"]], lfs=True)
    elif key == "deletedFile":
        if files.pop(path, None) is None:
            raise Refused(refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound"))
    elif key != "header":
        raise Refused(refusal(400, f"{key} is not served here"))


_REPOSITORY = r"(?P<repository>[^/]+/[^/]+)"
API = rf"/api/(?P<kind>model|dataset|space)s/{_REPOSITORY}"
_GIT = rf"/((?P<kind>dataset|space)s/)?{_REPOSITORY}"
REVISION = r"(?P<revision>[^/]+)"
ROUTES = [
    ("GET", rf"{API}/tree/{REVISION}(/(?P<path>.+))?", "read", tree),
    ("POST", rf"{API}/paths-info/{REVISION}", "read", paths_info),
    ("GET", rf"{_GIT}/resolve/{REVISION}/(?P<path>.+)", "read", download),
    ("POST", rf"{API}/preupload/{REVISION}", "write", preupload),
    ("POST", rf"{_GIT}\.git/info/lfs/objects/batch", "write", lfs_batch),
    ("PUT", r"/lfs-storage/(?P<sha256>[0-9a-f]{64})", "any", lfs_put),
    ("POST", r"/api/validate-yaml", "any", validate_yaml),
    ("POST", rf"{API}/commit/{REVISION}", "write", commit_changes),
]

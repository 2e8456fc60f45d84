"""Files of the local Hub: listed, downloaded, uploaded by git-LFS, and committed."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from stages.hub.local.messages import Refused, Reply, Request, as_json, not_found, refusal
from stages.hub.local.repositories import Commit, Repository, StoredFile
from stages.hub.local.spaces import readme_errors

if TYPE_CHECKING:
    from stages.hub.local.server import HubServer

# Larger files must be sent by LFS, whatever .gitattributes says.
REGULAR_LIMIT_BYTES = 10 * 1024 * 1024
# Those patterns of the real Hub's first commit that matter here.
LFS_ENDINGS = ("safetensors", "parquet", "bin", "pt", "npy", "gz", "zip", "flac", "mp3", "ogg", "wav", "png")
GITATTRIBUTES = "".join(f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LFS_ENDINGS).encode()


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
    by_json = request.headers.get("content-type", "").startswith("application/json")
    paths = request.json()["paths"] if by_json else parse_qs(request.body.decode()).get("paths", [])
    return as_json(_entries(commit, paths))


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
        by_lfs = _needs_lfs(commit, asked["path"], asked["size"], base64.b64decode(asked["sample"]))
        listed.append(
            {
                "path": asked["path"],
                "uploadMode": "lfs" if by_lfs else "regular",
                "shouldIgnore": False,
                "oid": known.etag if known else None,
            }
        )
    return as_json({"files": listed, "commitOid": commit.oid})


def _needs_lfs(commit: Commit, path: str, size: int, sample: bytes) -> bool:
    attributes = commit.files[".gitattributes"].content.decode() if ".gitattributes" in commit.files else ""
    patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
    named = any(fnmatch.fnmatch(path.split("/")[-1], pattern) for pattern in patterns)
    return named or size > REGULAR_LIMIT_BYTES or b"\0" in sample


def lfs_batch(hub: HubServer, request: Request, repository: Repository) -> Reply:
    """Where to send what the Hub does not hold yet."""
    objects = [{"oid": wanted["oid"], "size": wanted["size"]} for wanted in request.json()["objects"]]
    for one in objects:
        if one["oid"] not in hub.lfs_objects:
            verify = f"{hub.address_of(repository.kind, repository.name)}.git/info/lfs/objects/verify"
            one["actions"] = {"upload": {"href": f"{hub.url}/lfs-storage/{one['oid']}"}, "verify": {"href": verify}}
    return as_json({"transfer": "basic", "objects": objects})


def lfs_put(hub: HubServer, request: Request, sha256: str) -> Reply:
    if hashlib.sha256(request.body).hexdigest() != sha256:
        return refusal(400, "The content does not match its checksum")
    hub.lfs_objects[sha256] = request.body
    return Reply(200, b"", {"ETag": f'"{sha256}"'})


def lfs_verify(hub: HubServer, request: Request, _: Repository) -> Reply:
    wanted = request.json()
    found = len(hub.lfs_objects.get(wanted["oid"], b"")) == wanted["size"]
    return as_json({}) if found else refusal(404, "Object not found")


def validate_yaml(_: HubServer, request: Request) -> Reply:
    wanted = request.json()
    errors = [{"message": message} for message in readme_errors(wanted["content"], wanted.get("repoType", "model"))]
    return as_json({"errors": errors, "warnings": []}, 400 if errors else 200)


def commit_changes(hub: HubServer, request: Request, repository: Repository, commit: Commit) -> Reply:
    """All of a commit's lines or none."""
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if commit is not repository.head or "create_pr" in request.query:
        return refusal(400, "Only main can be committed to here")
    if header.get("parentCommit") not in (None, repository.head.oid):
        return refusal(412, "A commit has happened since. Please refresh and try again.")
    files = dict(commit.files)
    for line in lines:
        _apply(line["key"], line["value"], files, hub.lfs_objects)
    readme = files["README.md"].content.decode(errors="replace") if "README.md" in files else ""
    if errors := readme_errors(readme, repository.kind):
        return refusal(400, "Invalid metadata in README.md: " + "; ".join(errors))
    made = repository.add_commit(files, header["summary"])
    if repository.space:
        repository.space.polls_left = hub.build_polls
    url = f"{hub.address_of(repository.kind, repository.name)}/commit/{made.oid}"
    return as_json({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})


def _apply(key: str, value: dict, files: dict[str, StoredFile], lfs_objects: dict[str, bytes]) -> None:
    """Apply one line of a commit to `files`. LFS files were sent before."""
    path = value.get("path", "")
    if key == "file":
        content = base64.b64decode(value["content"])
        if len(content) > REGULAR_LIMIT_BYTES:
            raise Refused(refusal(400, f"{path} is larger than 10 MiB and must be sent with LFS"))
        files[path] = StoredFile(content)
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
    ("POST", rf"{_GIT}\.git/info/lfs/objects/verify", "write", lfs_verify),
    ("PUT", r"/lfs-storage/(?P<sha256>[0-9a-f]{64})", "any", lfs_put),
    ("POST", r"/api/validate-yaml", "any", validate_yaml),
    ("POST", rf"{API}/commit/{REVISION}", "write", commit_changes),
]

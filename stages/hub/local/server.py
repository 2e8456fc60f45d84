"""A Hugging Face Hub on this machine for tests and `make demo`: what the real, unchanged clients need, over HTTP.

    with HubServer({("dataset", "me/clips"): {"README.md": b"..."}}) as hub:
        subprocess.run(..., env=hub.environment(tmp_path, token="write-token"))
        hub.repository("model", "me/voice").files

    python -m stages.hub.local.server FOLDER [PORT]    keeps what was pushed in FOLDER; prints its address

It serves models, data sets and Spaces: creating, settings, deleting, uploads by git-LFS and by xet, commits, trees,
downloads, tags, the life of a Space. The clients read HF_ENDPOINT and the rest when they are imported, so they run in a
process with `environment()`.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import hmac
import html
import itertools
import json
import os
import random
import re
import secrets
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import yaml

KINDS = ("model", "dataset", "space")
REPOSITORY = r"(?P<repository>[^/]+/[^/]+)"
API = rf"/api/(?P<kind>model|dataset|space)s/{REPOSITORY}"
GIT = rf"/((?P<kind>dataset|space)s/)?{REPOSITORY}"
SPACE = rf"/api/(?P<kind>space)s/{REPOSITORY}"
REVISION = r"(?P<revision>[^/]+)"

# Larger files must go up as LFS, whatever .gitattributes says.
REGULAR_LIMIT_BYTES = 10 * 1024 * 1024
# The patterns of the real Hub's first commit that matter here.
LFS_PATTERNS = (
    "*.7z *.arrow *.bin *.bz2 *.ckpt *.gz *.h5 *.joblib *.model *.msgpack *.npy *.npz *.onnx *.ot *.parquet *.pb"
    " *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar.* *.tar *.tflite *.tgz *.wasm *.xz *.zip"
    " *.zst *tfevents* *.flac *.mp3 *.ogg *.wav *.m4a *.jpg *.jpeg *.png *.webp"
)
GITATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS.split()).encode()
SPACE_COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SPACE_SDKS = ("gradio", "docker", "static", "streamlit")


# What a repository holds


@dataclass(frozen=True)
class StoredFile:
    """One version of a file; the bytes lie among the hub's blobs under `sha256`."""

    sha256: str
    size: int
    git_id: str  # of the content, for a regular file; of the pointer, for one in LFS
    lfs: bool = False
    xet_hash: str | None = None  # None: it came over HTTP

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_id


@dataclass(frozen=True)
class Commit:
    oid: str
    message: str
    description: str
    author: str
    date: str
    files: dict[str, StoredFile] = field(repr=False)  # all files after this commit, not only those it changed


@dataclass
class Space:
    """What a Space has beside its files. `polls_left`: how often `runtime` still says that it builds."""

    sdk: str
    hardware: str = "cpu-basic"
    requested_hardware: str = "cpu-basic"
    sleep_time_s: int | None = None
    variables: dict[str, dict] = field(default_factory=dict)
    secrets: dict[str, dict] = field(default_factory=dict, repr=False)  # values are never written to the folder
    polls_left: int = 0
    has_run: bool = False
    paused: bool = False
    restarts: int = 0


@dataclass
class Repository:
    kind: str
    name: str  # "owner/name"
    blobs: Blobs = field(repr=False)
    private: bool = False
    commits: list[Commit] = field(default_factory=list)  # of main, newest last
    tags: dict[str, str] = field(default_factory=dict)  # tag -> commit
    space: Space | None = None

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    @property
    def files(self) -> dict[str, bytes]:
        """{path: content} of main."""
        return {path: self.blobs.read(file.sha256) for path, file in self.head.files.items()}

    def at(self, revision: str) -> Commit | None:
        revision = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        oid = self.head.oid if revision == "main" else self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit.oid == oid), None)

    def add_commit(self, files: dict[str, StoredFile], message: str, description: str, author: str) -> Commit:
        parent = self.head.oid if self.commits else ""
        listing = [(path, file.git_id) for path, file in sorted(files.items())]
        oid = hashlib.sha1(repr([self.kind, self.name, parent, message, listing]).encode()).hexdigest()
        self.commits.append(Commit(oid, message, description, author, now(), dict(sorted(files.items()))))
        return self.head


class Blobs:
    """Contents by their sha256, as files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, sha256: str) -> bool:
        return (self.folder / sha256).is_file()

    def read(self, sha256: str) -> bytes:
        return (self.folder / sha256).read_bytes()

    def size(self, sha256: str) -> int:
        return (self.folder / sha256).stat().st_size

    def add(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in self:
            write_bytes(self.folder / sha256, content)
        return sha256

    def regular(self, content: bytes) -> StoredFile:
        return StoredFile(self.add(content), len(content), blob_id(content))


# Faults, requests and replies


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD /path" `match` finds.

    kind: status (reply with `status` and `headers`), drop (close the connection before the request is read), lost (do
    what was asked, then close the connection instead of replying), slow (the reply's body in small pieces over
    `seconds`; without a body, the reply after them). The first `skip` matching requests pass, then `times` fail
    (None: all).
    """

    match: str
    kind: str = "status"
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    times: int | None = 1
    skip: int = 0
    seconds: float = 0.5
    happened: int = 0

    def strikes(self, request: str) -> bool:
        if not re.search(self.match, request) or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        self.happened += 1
        return True


@dataclass
class SpaceFailure:
    stage: str = "BUILD_ERROR"  # or RUNTIME_ERROR
    log: list[str] = field(default_factory=lambda: ["ERROR: No matching distribution found for nonsense==1.0"])


@dataclass(frozen=True)
class Caller:
    """Who asks: role "write", "read" or "none" (no token), and the namespaces that are theirs ("*": all)."""

    role: str = "none"
    name: str = ""
    namespaces: tuple[str, ...] = ()

    def owns(self, repository: str) -> bool:
        return "*" in self.namespaces or repository.split("/")[0] in self.namespaces

    def may_read(self, repository: Repository) -> bool:
        return not repository.private or self.owns(repository.name)


@dataclass
class Request:
    method: str
    path: str  # as it came, with %2F and the like
    query: dict[str, list[str]]
    headers: dict[str, str] = field(repr=False)  # names in small letters; they hold the token: never print them
    body: bytes = field(repr=False)
    caller: Caller = Caller()

    def json(self) -> dict:
        return json.loads(self.body or b"{}")

    def flag(self, name: str) -> bool:
        return self.query.get(name, ["false"])[0].lower() in ("true", "1")


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def as_json(content: object, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(content).encode(), {"Content-Type": "application/json", **headers})


def refusal(status: int, message: str, code: str | None = None, **more: object) -> Reply:
    """The client tells errors apart by `code` in a header: RepoNotFound, RevisionNotFound, EntryNotFound."""
    reply = as_json({"error": message, **more}, status, **{"X-Error-Message": message})
    if code:
        reply.headers["X-Error-Code"] = code
    return reply


def not_found(what: str) -> Reply:
    """`what`: Repo, Revision or Entry."""
    name = {"Repo": "Repository", "Revision": "Revision", "Entry": "Entry"}[what]
    return refusal(404, f"{name} not found", f"{what}NotFound")


class Refused(Exception):
    """Raised below an action to end it with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class HubServer:
    """A Hub, served while used as a context manager.

    Args:
        repositories: public ones that are there from the start, {(kind, "owner/name"): {path: content}}. Kinds are
            model, dataset and space.
        folder: keeps all that was pushed, for a server started on it again; else it is gone with the server.
        tokens: {token: "role:name[,namespace...]"}; role is write or read, the name is the user's and a namespace of
            theirs ("*": all namespaces). Only "write" or "read": the user "me".
        port: 0 takes a free one.

    To be read: `url`, `requests` ("METHOD /path" of all that was asked), `asked` (the same with headers and callers),
    `unserved` (those that no route here answers), `errors` (tracebacks of our own mistakes, which also fail the test at
    the end of the context). To be set at any time: `faults`, `failure_rate`,
    `space_failures`, `build_polls`, `page_size`.
    """

    def __init__(
        self,
        repositories: dict[tuple[str, str], dict[str, bytes]] | None = None,
        folder: Path | None = None,
        tokens: dict[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.own_folder = tempfile.TemporaryDirectory(prefix="hub-") if folder is None else None
        self.folder = Path(self.own_folder.name if self.own_folder else folder).absolute()
        self.blobs = Blobs(self.folder / "blobs")
        self.callers = {
            token: caller_of(description)
            for token, description in (tokens or {"write-token": "write", "read-token": "read"}).items()
        }
        self.port = port
        self.lock = threading.RLock()
        self.requests: list[str] = []
        self.asked: list[Request] = []
        self.unserved: list[str] = []
        self.errors: list[str] = []
        self.faults: list[Fault] = []
        self.failure_rate = 0.0  # of all requests; a third each: 503, dropped, reply lost
        self.random = random.Random(0)
        self.space_failures: dict[str, SpaceFailure] = {}  # by "owner/name", also before the Space is there
        self.build_polls = 2  # how often a Space's runtime says BUILDING before it runs
        self.page_size = 1000
        self.key = secrets.token_hex(16)  # signs the addresses that files are sent to
        self.numbers = itertools.count(time.time_ns())  # no folder of a former server is taken again
        self.shards: dict[Path, dict[str, tuple[str, int]]] = {}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self._load()
        for (kind, name), files in (repositories or {}).items():
            repository = Repository(kind, name, self.blobs, space=Space("gradio") if kind == "space" else None)
            repository.add_commit(
                {path: self.blobs.regular(content) for path, content in files.items()}, "initial commit", "", "me"
            )
            self.repositories[kind, name] = repository
            self._save(repository)
        self.routes = self._routes()

    def _routes(self) -> list[tuple[str, str, str, Callable[..., Reply]]]:
        """Method, path, who may (any, user: with a token; read, write: this repository), and what answers."""
        return [
            ("GET", r"/api/whoami-v2", "user", self.whoami),
            ("POST", r"/api/repos/create", "user", self.create),
            ("DELETE", r"/api/repos/delete", "user", self.delete),
            ("POST", r"/api/validate-yaml", "any", self.validate_yaml),
            ("GET", r"/api/(?P<kind>model|dataset|space)s", "any", self.list_repositories),
            ("GET", rf"{API}(/revision/{REVISION})?", "read", self.info),
            ("GET", rf"{API}/auth-check", "read", self.nothing),
            ("GET", rf"{API}/auth-check/write", "write", self.nothing),
            ("PUT", rf"{API}/settings", "write", self.settings),
            ("GET", rf"{API}/tree/{REVISION}(/(?P<path>.+))?", "read", self.tree),
            ("POST", rf"{API}/paths-info/{REVISION}", "read", self.paths_info),
            ("GET", rf"{GIT}/resolve/{REVISION}/(?P<path>.+)", "read", self.download),
            ("GET", rf"{API}/commits/{REVISION}", "read", self.list_commits),
            ("GET", rf"{API}/refs", "read", self.refs),
            ("POST", rf"{API}/tag/{REVISION}", "write", self.tag),
            ("DELETE", rf"{API}/tag/(?P<tag>[^/]+)", "write", self.delete_tag),
            ("POST", rf"{API}/preupload/{REVISION}", "write", self.preupload),
            ("POST", rf"{GIT}\.git/info/lfs/objects/batch", "write", self.lfs_batch),
            ("POST", rf"{GIT}\.git/info/lfs/objects/verify", "write", self.lfs_verify),
            ("PUT", r"/lfs-storage/(?P<sha256>[0-9a-f]{64})/(?P<signature>[0-9a-f]+)", "any", self.lfs_put),
            ("GET", rf"{API}/xet-write-token/{REVISION}", "write", self.xet_write_token),
            ("GET", rf"{API}/xet-read-token/{REVISION}", "read", self.xet_read_token),
            ("POST", rf"{API}/commit/{REVISION}", "write", self.commit_changes),
            ("GET", rf"{SPACE}/runtime", "read", self.runtime),
            ("GET", rf"{SPACE}/logs/(?P<log>build|run)", "write", self.space_log),
            ("GET", rf"{SPACE}/(?P<what>variables|secrets)", "write", self.space_values),
            ("POST", rf"{SPACE}/(?P<what>variables|secrets)", "write", self.set_space_value),
            ("DELETE", rf"{SPACE}/(?P<what>variables|secrets)", "write", self.delete_space_value),
            ("POST", rf"{SPACE}/(?P<what>hardware|sleeptime|restart|pause)", "write", self.steer_space),
            ("GET", GIT, "read", self.page),
        ]

    # Serving

    def __enter__(self) -> HubServer:
        self.server = Server(self)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        self.server.close_connections()
        with self.lock:  # what is being answered comes to its end
            if self.own_folder:
                self.own_folder.cleanup()
        if self.errors:
            message = "The test hub made mistakes:\n" + "\n".join(self.errors)
            if error is None:
                raise AssertionError(message)
            error.add_note(message)

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """Of this process, with the clients pointed to this server and their own files in `home`."""
        return clean_environment(home, HF_ENDPOINT=self.url, **({"HF_TOKEN": token} if token else {}))

    def repository(self, kind: str, name: str) -> Repository:
        return self.repositories[kind, name]

    def commit(self, kind: str, name: str) -> str:
        """The id of the repository's newest commit."""
        return self.repositories[kind, name].head.oid

    def fault_for(self, request: str) -> Fault | None:
        """The fault that strikes this request, "METHOD /path"."""
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.strikes(request):
                    return fault
            if self.failure_rate and self.random.random() < self.failure_rate:
                return Fault("", self.random.choice(["status", "drop", "lost"]))
            return None

    def answer(self, request: Request) -> Reply:
        """Find the route of a request; a HEAD goes where the GET goes, whose body is not sent."""
        method = "GET" if request.method == "HEAD" else request.method
        with self.lock:
            try:
                request.caller = self._caller(request)
                self.asked.append(replace(request, body=b""))
                for route_method, pattern, right, action in self.routes:
                    if method == route_method and (match := re.fullmatch(pattern, request.path)):
                        groups = {name: unquote(value or "") for name, value in match.groupdict().items()}
                        return self._answer_where_allowed(action, right, request, groups)
            except Refused as error:
                return error.reply
            except Exception:  # noqa: BLE001 - a mistake of ours must reach the test, not a thread's stderr
                self.errors.append(traceback.format_exc())
                return refusal(500, "The test hub made a mistake: see its errors.")
        self.unserved.append(f"{request.method} {request.path}")
        return refusal(404, f"{self.unserved[-1]} is not served here")

    def _caller(self, request: Request) -> Caller:
        token = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not token:
            return Caller()
        if token not in self.callers:
            raise Refused(refusal(401, "Invalid credentials in Authorization header"))
        return self.callers[token]

    def _answer_where_allowed(self, action: Callable, right: str, request: Request, groups: dict) -> Reply:
        if right == "any" or (right == "user" and request.caller.role != "none"):
            return action(request, **groups)
        if right == "user":
            return refusal(401, "Invalid username or password.")
        key = (groups.pop("kind") or "model", groups.pop("repository"))
        repository = self.repositories.get(key)
        if repository is None or not request.caller.may_read(repository):
            return not_found("Repo")
        if right == "write":
            if request.caller.role == "none":
                return refusal(401, "Invalid username or password.")
            self._check_write(request.caller, repository.name)
        if "revision" in groups:
            groups["commit"] = repository.at(groups.pop("revision") or "main")
            if groups["commit"] is None:
                return not_found("Revision")
        reply = action(request, repository, **groups)
        if request.method not in ("GET", "HEAD") and reply.status < 400:
            self._save(repository)
        return reply

    def _check_write(self, caller: Caller, name: str) -> None:
        if caller.role != "write":
            raise Refused(refusal(403, "You have read access but not the required permissions for this operation"))
        if not caller.owns(name):
            raise Refused(refusal(403, f"You don't have the rights to write under the namespace {name.split('/')[0]}"))

    # Accounts and repositories

    def whoami(self, request: Request) -> Reply:
        caller = request.caller
        organisations = [{"type": "org", "name": name} for name in caller.namespaces if name not in ("*", caller.name)]
        access = {"type": "access_token", "accessToken": {"displayName": "test", "role": caller.role}}
        return as_json(
            {"type": "user", "id": caller.name, "name": caller.name, "fullname": caller.name, "orgs": organisations}
            | {"isPro": False, "auth": access}
        )

    def create(self, request: Request) -> Reply:
        wanted = request.json()
        kind = wanted.get("type") or "model"
        name = f"{wanted.get('organization') or request.caller.name}/{wanted['name']}"
        self._check_write(request.caller, name)
        url = self.page_url(kind, name)
        if (kind, name) in self.repositories:
            return refusal(409, f"You already created this {kind} repo: {name}", url=url)
        repository = Repository(kind, name, self.blobs, private=wanted.get("visibility", "public") != "public")
        files = {".gitattributes": self.blobs.regular(GITATTRIBUTES)}
        if kind == "space":
            hardware = wanted.get("hardware") or "cpu-basic"
            repository.space = Space(wanted["sdk"], hardware, hardware, wanted.get("sleepTimeSeconds"))
            for what in ("variables", "secrets"):
                for value in wanted.get(what) or []:
                    self._set_value(repository.space, what, value)
            readme = f"---\ntitle: {wanted['name']}\nsdk: {wanted['sdk']}\napp_file: app.py\n---\n"
            files["README.md"] = self.blobs.regular(readme.encode())
        repository.add_commit(files, "initial commit", "", request.caller.name)
        self.repositories[kind, name] = repository
        self._save(repository)
        return as_json({"url": url, "name": name, "id": f"{kind}-{name}"})

    def delete(self, request: Request) -> Reply:
        wanted = request.json()
        kind = wanted.get("type") or "model"
        name = f"{wanted.get('organization') or request.caller.name}/{wanted['name']}"
        repository = self.repositories.get((kind, name))
        if repository is None or not request.caller.may_read(repository):
            return not_found("Repo")
        self._check_write(request.caller, name)
        del self.repositories[kind, name]
        self._state_file(repository).unlink()
        shutil.rmtree(self._xet_folder(repository), ignore_errors=True)
        kept = {sha256 for other in self.repositories.values() for sha256 in contents_of(other)}
        for sha256 in contents_of(repository) - kept:
            (self.blobs.folder / sha256).unlink()
        return as_json({})

    def settings(self, request: Request, repository: Repository) -> Reply:
        wanted = request.json()
        if "visibility" in wanted:
            repository.private = wanted["visibility"] != "public"
        return as_json({"private": repository.private})

    def nothing(self, *_: object) -> Reply:
        return as_json({})

    def validate_yaml(self, request: Request) -> Reply:
        wanted = request.json()
        errors, warnings = readme_problems(wanted["content"], wanted.get("repoType", "model"))
        listed = {
            "errors": [{"message": message} for message in errors],
            "warnings": [{"message": message} for message in warnings],
        }
        return as_json(listed, 400 if errors else 200)

    def list_repositories(self, request: Request, kind: str) -> Reply:
        author, search = (request.query.get(name, [""])[0] for name in ("author", "search"))
        found = [
            self._described(repository, repository.head)
            for (of_kind, name), repository in sorted(self.repositories.items())
            if of_kind == kind
            and request.caller.may_read(repository)
            and (not author or name.startswith(f"{author}/"))
            and search in name
        ]
        return self._page(request, found)

    def info(self, request: Request, repository: Repository, commit: Commit) -> Reply:
        content = self._described(repository, commit)
        for sibling in content["siblings"] if request.flag("blobs") else []:
            file = commit.files[sibling["rfilename"]]
            sibling |= {"size": file.size, "blobId": file.git_id}
            if file.lfs:
                sibling["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": len(pointer(file))}
        return as_json(content)

    def _described(self, repository: Repository, commit: Commit) -> dict:
        owner, short_name = repository.name.split("/")
        content = {
            "id": repository.name,
            "author": owner,
            "sha": commit.oid,
            "createdAt": repository.commits[0].date,
            "lastModified": repository.head.date,
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "tags": [],
            "siblings": [{"rfilename": path} for path in commit.files],
        }
        if repository.space:
            content |= {"sdk": repository.space.sdk, "subdomain": f"{owner}-{short_name}".lower()}
            content["runtime"] = self._runtime(repository)
        return content

    def refs(self, _: Request, repository: Repository) -> Reply:
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.head.oid}
        tags = [
            {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": oid}
            for tag, oid in sorted(repository.tags.items())
        ]
        return as_json({"branches": [main], "converts": [], "tags": tags, "pullRequests": []})

    def list_commits(self, request: Request, repository: Repository, commit: Commit) -> Reply:
        up_to = repository.commits[: repository.commits.index(commit) + 1]
        listed = [
            {
                "id": one.oid,
                "title": one.message,
                "message": one.description,
                "authors": [{"user": one.author}],
                "date": one.date,
            }
            for one in reversed(up_to)
        ]
        return self._page(request, listed)

    def tag(self, request: Request, repository: Repository, commit: Commit) -> Reply:
        name = request.json()["tag"]
        if name in repository.tags:
            return refusal(409, f"Tag {name} already exists")
        repository.tags[name] = commit.oid
        return as_json({"name": name, "ref": f"refs/tags/{name}"})

    def delete_tag(self, _: Request, repository: Repository, tag: str) -> Reply:
        return as_json({}) if repository.tags.pop(tag, None) else not_found("Revision")

    def page(self, _: Request, repository: Repository) -> Reply:
        """What a browser sees of a repository: its files."""
        base = f"{self.page_url(repository.kind, repository.name)}/resolve/main"
        rows = "".join(
            f'<li><a href="{base}/{quote(path)}">{html.escape(path)}</a> {file.size} bytes</li>'
            for path, file in repository.head.files.items()
        )
        title = html.escape(repository.name)
        body = f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><ul>{rows}</ul>"
        return Reply(200, body.encode(), {"Content-Type": "text/html; charset=utf-8"})

    def page_url(self, kind: str, name: str) -> str:
        return f"{self.url}/{'' if kind == 'model' else f'{kind}s/'}{name}"

    # Reading

    def tree(self, request: Request, repository: Repository, commit: Commit, path: str) -> Reply:
        files = commit.files
        start = f"{path.strip('/')}/" if path else ""
        below = [name for name in files if name.startswith(start)]
        if path and not below:
            return not_found("Entry")
        depth = start.count("/")
        folders = {
            "/".join(parts[:length])
            for parts in (name.split("/") for name in below)
            for length in range(depth + 1, len(parts))
        }
        paths = sorted(folders) + sorted(below)
        if not request.flag("recursive"):
            paths = [name for name in paths if name.count("/") == depth]
        return self._page(request, self._entries(repository, commit, paths, request.flag("expand")))

    def paths_info(self, request: Request, repository: Repository, commit: Commit) -> Reply:
        if request.headers.get("content-type", "").startswith("application/json"):
            wanted = request.json()
            paths, expand = wanted["paths"], bool(wanted.get("expand"))
        else:
            form = parse_qs(request.body.decode())
            paths, expand = form.get("paths", []), form.get("expand", [""])[0].lower() == "true"
        return as_json(self._entries(repository, commit, paths, expand))

    def _entries(self, repository: Repository, commit: Commit, paths: list[str], expand: bool) -> list[dict]:
        """Files and folders among `paths`, as the Hub lists them; what is neither is left out."""
        entries: list[dict] = []
        for path in paths:
            file = commit.files.get(path)
            if file:
                entry: dict = {"type": "file", "path": path, "size": file.size, "oid": file.git_id}
                if file.lfs:
                    entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(pointer(file))}
                if file.xet_hash:
                    entry["xetHash"] = file.xet_hash
            elif any(name.startswith(f"{path}/") for name in commit.files):
                entry = {"type": "directory", "path": path, "size": 0, "oid": blob_id(path.encode())}
            else:
                continue
            if expand:
                changed = last_change(repository, commit, path)
                entry["lastCommit"] = {"id": changed.oid, "title": changed.message, "date": changed.date}
            entries.append(entry)
        return entries

    def _page(self, request: Request, entries: list[dict]) -> Reply:
        """One page of a list, and where the next one is."""
        size = min(int(request.query.get("limit", [self.page_size])[0]), self.page_size)
        first = int(request.query.get("cursor", [0])[0])
        reply = as_json(entries[first : first + size])
        if first + size < len(entries):
            query = urlencode({**request.query, "cursor": [first + size]}, doseq=True)
            reply.headers["Link"] = f'<{self.url}{request.path}?{query}>; rel="next"'
        return reply

    def download(self, request: Request, repository: Repository, commit: Commit, path: str) -> Reply:
        headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        file = commit.files.get(path)
        if file is None:
            reply = not_found("Entry")
            reply.headers |= headers
            return reply
        headers |= {"ETag": f'"{file.etag}"', "Content-Type": "application/octet-stream"}
        if file.lfs:
            headers |= {"X-Linked-ETag": f'"{file.etag}"', "X-Linked-Size": str(file.size)}
        if file.xet_hash:
            headers["X-Xet-Hash"] = file.xet_hash
            route = f"{self.url}/api/{repository.kind}s/{repository.name}/xet-read-token/{commit.oid}"
            headers["Link"] = f'<{route}>; rel="xet-auth"'
        content = self.blobs.read(file.sha256)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if not wanted:
            return Reply(200, content, headers)
        first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
        if first >= len(content):
            return Reply(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return Reply(206, content[first : last + 1], headers)

    # Writing

    def preupload(self, request: Request, repository: Repository, commit: Commit) -> Reply:
        """How each file is to be sent, what is there already, and what .gitignore keeps out."""
        wanted = request.json()
        ignored = wanted.get("gitIgnore")
        if ignored is None and ".gitignore" in commit.files:
            ignored = self.blobs.read(commit.files[".gitignore"].sha256).decode()
        listed = []
        for asked in wanted["files"]:
            path, known = asked["path"], commit.files.get(asked["path"])
            by_lfs = self._goes_to_lfs(commit, path, asked["size"], base64.b64decode(asked["sample"]))
            listed.append(
                {
                    "path": path,
                    "uploadMode": "lfs" if by_lfs else "regular",
                    "shouldIgnore": is_ignored(path, ignored or ""),
                    "oid": known.etag if known else None,
                }
            )
        return as_json({"files": listed, "commitOid": commit.oid})

    def _goes_to_lfs(self, commit: Commit, path: str, size: int, sample: bytes) -> bool:
        patterns: list[str] = []
        if ".gitattributes" in commit.files:
            lines = self.blobs.read(commit.files[".gitattributes"].sha256).decode().splitlines()
            patterns = [line.split()[0] for line in lines if "filter=lfs" in line]
        named = any(fnmatch.fnmatch(path if "/" in pattern else path.split("/")[-1], pattern) for pattern in patterns)
        return named or size > REGULAR_LIMIT_BYTES or b"\0" in sample

    def lfs_batch(self, request: Request, repository: Repository) -> Reply:
        objects = []
        for wanted in request.json()["objects"]:
            sha256, size = wanted["oid"], wanted["size"]
            one = {"oid": sha256, "size": size}
            if sha256 not in self.blobs:
                base = f"{self.page_url(repository.kind, repository.name)}.git/info/lfs/objects"
                one["actions"] = {
                    "upload": {"href": f"{self.url}/lfs-storage/{sha256}/{self._signature(sha256)}"},
                    "verify": {"href": f"{base}/verify"},
                }
            objects.append(one)
        return as_json({"transfer": "basic", "objects": objects})

    def _signature(self, sha256: str) -> str:
        return hmac.new(self.key.encode(), sha256.encode(), "sha256").hexdigest()

    def lfs_put(self, request: Request, sha256: str, signature: str) -> Reply:
        if not hmac.compare_digest(signature, self._signature(sha256)):
            return refusal(403, "Request has expired")
        if hashlib.sha256(request.body).hexdigest() != sha256:
            return refusal(400, "The content does not match its checksum")
        self.blobs.add(request.body)
        return Reply(200, b"", {"ETag": f'"{sha256}"'})

    def lfs_verify(self, request: Request, _: Repository) -> Reply:
        wanted = request.json()
        if wanted["oid"] in self.blobs and self.blobs.size(wanted["oid"]) == wanted["size"]:
            return as_json({})
        return refusal(404, "Object not found")

    def commit_changes(self, request: Request, repository: Repository, commit: Commit) -> Reply:
        lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if commit is not repository.head or "create_pr" in request.query:
            return refusal(400, "Only main can be committed to here")
        if header.get("parentCommit") not in (None, repository.head.oid):
            return refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(commit.files)
        by_xet = self._sent_by_xet(repository, {line["value"]["oid"] for line in lines if line["key"] == "lfsFile"})
        for line in lines:
            self._apply(line["key"], line["value"], files, by_xet)
        if "README.md" in files:
            readme = self.blobs.read(files["README.md"].sha256)
            errors, _ = readme_problems(readme.decode(errors="replace"), repository.kind)
            if errors:
                return refusal(400, "Invalid metadata in README.md: " + "; ".join(errors))
        made = repository.add_commit(files, header["summary"], header.get("description", ""), request.caller.name)
        self._build(repository)
        url = f"{self.page_url(repository.kind, repository.name)}/commit/{made.oid}"
        return as_json({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})

    def _apply(self, key: str, value: dict, files: dict[str, StoredFile], by_xet: dict[str, str]) -> None:
        """One line of a commit, to `files`. LFS files were sent before, over HTTP or by xet."""
        path = value.get("path", "")
        if key == "file":
            content = base64.b64decode(value["content"])
            if len(content) > REGULAR_LIMIT_BYTES:
                raise Refused(refusal(400, f"{path} is larger than 10 MiB and must be sent with LFS"))
            files[path] = self.blobs.regular(content)
        elif key == "lfsFile":
            sha256 = value["oid"]
            if sha256 not in self.blobs:
                raise Refused(refusal(400, f"{path}: the LFS object {sha256} was not uploaded"))
            file = StoredFile(sha256, self.blobs.size(sha256), "", lfs=True, xet_hash=by_xet.get(sha256))
            files[path] = replace(file, git_id=blob_id(pointer(file)))
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise Refused(refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound"))
        elif key == "deletedFolder":
            for name in [name for name in files if name.startswith(path.rstrip("/") + "/")]:
                del files[name]
        elif key != "header":
            raise Refused(refusal(400, f"{key} is not served here"))

    # What a restarted server knows

    def _state_file(self, repository: Repository) -> Path:
        return self.folder / "repositories" / f"{repository.kind}s" / f"{repository.name}.json"

    def _save(self, repository: Repository) -> None:
        state = {
            "private": repository.private,
            "tags": repository.tags,
            "commits": [asdict(commit) for commit in repository.commits],
        }
        if repository.space:
            space = asdict(repository.space)
            space["secrets"] = {name: {**value, "value": None} for name, value in space["secrets"].items()}
            state["space"] = space
        write_bytes(self._state_file(repository), json.dumps(state).encode())

    def _load(self) -> None:
        for file in sorted(self.folder.glob("repositories/*/*/*.json")):
            kind, name = file.parts[-3].removesuffix("s"), f"{file.parts[-2]}/{file.stem}"
            state = json.loads(file.read_bytes())
            repository = Repository(kind, name, self.blobs, state["private"], tags=state["tags"])
            for commit in state["commits"]:
                files = {path: StoredFile(**stored) for path, stored in commit.pop("files").items()}
                repository.commits.append(Commit(**commit, files=files))
            if "space" in state:
                repository.space = Space(**state["space"])
            self.repositories[kind, name] = repository

    # Xet: the client writes to and reads from folders of this machine that stand for the storage server. It locks a
    # folder while it has it open, so each token names a folder of its own.

    def _xet_folder(self, repository: Repository) -> Path:
        return self.folder / "xet" / f"{repository.kind}s" / repository.name

    def _xet_token(self, folder: Path) -> Reply:
        expires_at = int(time.time()) + 24 * 3600
        token = secrets.token_hex(8)
        return as_json(
            {"accessToken": token, "exp": expires_at, "casUrl": f"local://{folder}"},
            **{
                "X-Xet-Cas-Url": f"local://{folder}",
                "X-Xet-Access-Token": token,
                "X-Xet-Token-Expiration": str(expires_at),
            },
        )

    def xet_write_token(self, _: Request, repository: Repository, commit: Commit) -> Reply:
        folder = self._xet_folder(repository) / f"written-{next(self.numbers)}"
        folder.mkdir(parents=True)
        return self._xet_token(folder)

    def xet_read_token(self, _: Request, repository: Repository, commit: Commit) -> Reply:
        hashes = {file.sha256: file.xet_hash for file in commit.files.values() if file.xet_hash}
        of_commit = self._xet_folder(repository) / f"of-{commit.oid}"
        if not of_commit.exists():
            making = of_commit.with_suffix(".part")
            shutil.rmtree(making, ignore_errors=True)
            if xet_store({sha256: self.blobs.read(sha256) for sha256 in hashes}, making) != hashes:
                raise ValueError(f"xet names the files of {repository.name} differently than before")
            making.rename(of_commit)
        folder = self._xet_folder(repository) / f"read-{next(self.numbers)}"
        copy_xet_folder(of_commit, folder)
        return self._xet_token(folder)

    def _sent_by_xet(self, repository: Repository, wanted: set[str]) -> dict[str, str]:
        """{sha256: xet hash} of those in `wanted` that were sent so, ever; the contents become blobs."""
        known = {file.sha256: file.xet_hash for commit in repository.commits for file in commit.files.values()}
        found = {sha256: xet_hash for sha256 in wanted if (xet_hash := known.get(sha256))}
        for shard in sorted(self._xet_folder(repository).glob("written-*/xet/xorbs/shards/*.mdb"), reverse=True):
            if wanted <= found.keys():
                break
            if shard not in self.shards:
                self.shards[shard] = dict(files_in_shard(shard.read_bytes()))
            listed = {sha256: self.shards[shard][sha256] for sha256 in self.shards[shard].keys() & wanted}
            missing = {sha256: stored for sha256, stored in listed.items() if sha256 not in self.blobs}
            for sha256, content in xet_contents(shard.parents[3], missing).items() if missing else ():
                if self.blobs.add(content) != sha256:
                    raise ValueError(f"xet delivered other bytes for {sha256}")
            found |= {sha256: xet_hash for sha256, (xet_hash, _) in listed.items()}
        return found

    # Spaces

    def _space(self, repository: Repository) -> Space:
        assert repository.space is not None  # the route takes Spaces alone
        return repository.space

    def _build(self, repository: Repository) -> None:
        if repository.space:
            repository.space.polls_left = self.build_polls

    def _stage(self, repository: Repository) -> str:
        space = self._space(repository)
        readme = repository.head.files.get("README.md")
        card = front_matter(self.blobs.read(readme.sha256).decode(errors="replace")) if readme else None
        if space.paused:
            return "PAUSED"
        if not isinstance(card, dict) or card.get("sdk") not in SPACE_SDKS:
            return "CONFIG_ERROR"
        if card["sdk"] in ("gradio", "streamlit") and card.get("app_file", "app.py") not in repository.head.files:
            return "NO_APP_FILE"
        if space.polls_left:
            return ("RUNNING_" if space.has_run else "") + ("BUILDING" if space.polls_left > 1 else "APP_STARTING")
        failure = self.space_failures.get(repository.name)
        return failure.stage if failure else "RUNNING"

    def _runtime(self, repository: Repository) -> dict:
        space, stage = self._space(repository), self._stage(repository)
        return {
            "stage": stage,
            "hardware": {"current": space.hardware if space.has_run else None, "requested": space.requested_hardware},
            "storage": None,
            "gcTimeout": space.sleep_time_s,
            "errorMessage": self._error_message(repository, stage),
        }

    def _error_message(self, repository: Repository, stage: str) -> str | None:
        if stage in ("BUILD_ERROR", "RUNTIME_ERROR"):
            return self.space_failures[repository.name].log[-1]
        return {"CONFIG_ERROR": "Missing configuration in README", "NO_APP_FILE": "No application file"}.get(stage)

    def runtime(self, _: Request, repository: Repository) -> Reply:
        """Each asking brings a build one step on."""
        space, reply = self._space(repository), as_json(self._runtime(repository))
        if self._stage(repository) == "RUNNING":
            space.has_run, space.hardware = True, space.requested_hardware
        space.polls_left = max(0, space.polls_left - 1)
        self._save(repository)
        return reply

    def space_log(self, _: Request, repository: Repository, log: str) -> Reply:
        """Server-sent events, a line each."""
        failure = self.space_failures.get(repository.name)
        lines = ["===== Build Queued =====", "Installing requirements"] if log == "build" else ["===== Application"]
        if failure and (failure.stage == "BUILD_ERROR") == (log == "build"):
            lines += failure.log
        events = "".join(f"data: {json.dumps({'data': line, 'timestamp': now()})}\n\n" for line in lines)
        return Reply(200, events.encode(), {"Content-Type": "text/event-stream"})

    def space_values(self, _: Request, repository: Repository, what: str) -> Reply:
        """Variables with their values, secrets without."""
        values = getattr(self._space(repository), what)
        if what == "secrets":
            values = {name: {**value, "value": None} for name, value in values.items()}
        return as_json(values)

    def _set_value(self, space: Space, what: str, value: dict) -> None:
        kept = {"key": value["key"], "value": value["value"], "description": value.get("description")}
        getattr(space, what)[value["key"]] = {**kept, "updatedAt": now()}

    def set_space_value(self, request: Request, repository: Repository, what: str) -> Reply:
        self._set_value(self._space(repository), what, request.json())
        self._build(repository)
        return self.space_values(request, repository, what)

    def delete_space_value(self, request: Request, repository: Repository, what: str) -> Reply:
        getattr(self._space(repository), what).pop(request.json()["key"], None)
        self._build(repository)
        return self.space_values(request, repository, what)

    def steer_space(self, request: Request, repository: Repository, what: str) -> Reply:
        """hardware, sleeptime, restart or pause."""
        space, wanted = self._space(repository), request.json()
        space.sleep_time_s = wanted.get("sleepTimeSeconds", wanted.get("seconds", space.sleep_time_s))
        space.requested_hardware = wanted.get("flavor", space.requested_hardware)
        if what != "sleeptime":
            space.paused = what == "pause"
            space.restarts += what == "restart"
            self._build(repository)
        return as_json(self._runtime(repository))


# HTTP


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: HubServer) -> None:
        self.hub = hub
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", hub.port), Handler)

    def close_connections(self) -> None:
        """The clients keep them open; without this a stopped server would still answer."""
        for connection in list(self.connections):
            end(connection)

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            self.hub.errors.append(traceback.format_exc())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two packets: 40 ms a reply without this
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def respond(self) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        fault = hub.fault_for(f"{self.command} {unquote(url.path)}")
        kind = fault.kind if fault else None
        if kind == "drop":
            self.end_connection()
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.read_body(headers)
        if body is None:
            self.end_connection()
            return
        request = Request(self.command, url.path, parse_qs(url.query, keep_blank_values=True), headers, body)
        if fault and kind == "status":
            reply = refusal(fault.status, "Something went wrong: try again")
            reply.headers |= fault.headers
        else:
            reply = hub.answer(request)
        if kind == "lost":
            self.end_connection()
            return
        if fault and kind == "slow" and not reply.body:
            time.sleep(fault.seconds)
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            for piece in pieces(reply.body, 10 if kind == "slow" else 1):
                self.wfile.write(piece)
                if fault and kind == "slow":
                    time.sleep(fault.seconds / 10)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = respond

    def read_body(self, headers: dict[str, str]) -> bytes | None:
        """None: the client died while it sent this, and half a request is none."""
        if headers.get("transfer-encoding", "").lower() != "chunked":
            size = int(headers.get("content-length", 0))
            body = self.rfile.read(size)
            return body if len(body) == size else None
        body = b""
        while line := self.rfile.readline():
            size = int(line.split(b";")[0], 16)
            chunk = self.rfile.read(size)
            if not self.rfile.readline() or len(chunk) < size:
                return None
            if not size:
                return body
            body += chunk
        return None

    def end_connection(self) -> None:
        self.close_connection = True
        end(self.connection)

    def log_message(self, *_: object) -> None:
        """Says nothing: `requests` has it."""


def end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client was faster


def pieces(content: bytes, count: int) -> Iterator[bytes]:
    size = max(1, -(-len(content) // count))
    return (content[first : first + size] for first in range(0, len(content), size))


# Small things


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def blob_id(content: bytes) -> str:
    """Git's name for a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def pointer(file: StoredFile) -> bytes:
    """What git holds of a file in LFS."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.sha256}\nsize {file.size}\n".encode()


def contents_of(repository: Repository) -> set[str]:
    return {file.sha256 for commit in repository.commits for file in commit.files.values()}


def last_change(repository: Repository, commit: Commit, path: str) -> Commit:
    """The newest commit up to `commit` that changed this file or folder."""

    def version(of: Commit) -> dict[str, StoredFile]:
        return {name: file for name, file in of.files.items() if name == path or name.startswith(f"{path}/")}

    changed = commit
    for older in reversed(repository.commits[: repository.commits.index(commit)]):
        if version(older) != version(commit):
            break
        changed = older
    return changed


def caller_of(description: str) -> Caller:
    """Of "write", "read:me" or "write:me,team"."""
    role, _, names = description.partition(":")
    namespaces = tuple(names.split(",")) if names else ("me",)
    return Caller(role, namespaces[0], namespaces)


def is_ignored(path: str, gitignore: str) -> bool:
    """By the patterns without exceptions (!) that a .gitignore is made of for the most part."""
    parts = path.split("/")
    for line in gitignore.splitlines():
        pattern = line.strip().strip("/")
        if not pattern or pattern.startswith(("#", "!")):
            continue
        names = parts if "/" not in pattern else ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        if any(fnmatch.fnmatch(name, pattern) for name in names):
            return True
    return False


def front_matter(readme: str) -> object:
    """The YAML block at the head of a README, None without one. Raises yaml.YAMLError."""
    found = re.match(r"---\r?\n(.*?)\r?\n---\s*(\r?\n|$)", readme, re.DOTALL)
    return yaml.safe_load(found[1]) if found else None


def readme_problems(readme: str, kind: str) -> tuple[list[str], list[str]]:
    """Errors and warnings, as the Hub finds them in the metadata of a README."""
    try:
        card = front_matter(readme)
    except yaml.YAMLError as error:
        return [f"Invalid YAML in README.md: {error}"], []
    if card is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(card, dict):
        return ["The metadata must be an object"], []
    errors = []
    if kind == "space":
        if card.get("sdk") not in SPACE_SDKS:
            errors.append(f'"sdk" must be one of {", ".join(SPACE_SDKS)}')
        for key in ("colorFrom", "colorTo"):
            if card.get(key, "red") not in SPACE_COLOURS:
                errors.append(f'"{key}" must be one of {", ".join(SPACE_COLOURS)}')
        if not isinstance(card.get("python_version", ""), str):
            errors.append('"python_version" must be a string')
    return errors, []


def files_in_shard(content: bytes) -> Iterator[tuple[str, tuple[str, int]]]:
    """(sha256, (xet hash, size)) of the files that a shard of xet lists.

    The format: a header of 48 bytes, then for each file a block of 48 bytes (hash, flags, number of its segments), as
    many blocks of segments, as many of checksums (flag 31) and one with the sha256 (flag 30).
    """

    def in_hex(start: int) -> str:
        return "".join(f"{word:016x}" for word in struct.unpack_from("<4Q", content, start))

    start = 48
    while content[start : start + 32] != b"\xff" * 32:
        flags, count = struct.unpack_from("<II", content, start + 32)
        size = sum(struct.unpack_from("<I", content, start + 48 * number + 36)[0] for number in range(1, count + 1))
        end = start + 48 * (1 + count * (2 if flags >> 31 else 1))
        if flags >> 30 & 1:
            yield in_hex(end), (in_hex(start), size)
            end += 48
        start = end


def copy_xet_folder(source: Path, target: Path) -> None:
    """Blocks of data, which never change, are linked."""
    shutil.copytree(
        source, target, copy_function=lambda one, two: (os.link if "default." in one else shutil.copy2)(one, two)
    )


def xet_contents(folder: Path, files: dict[str, tuple[str, int]]) -> dict[str, bytes]:
    """{sha256: content} of what lies in a folder of xet; `files` is {sha256: (xet hash, size)}."""
    import hf_xet

    with tempfile.TemporaryDirectory() as name:
        copy_xet_folder(folder, Path(name) / "copy")  # the client may still have its own open
        target = Path(name) / "contents"
        target.mkdir()
        group = hf_xet.XetSession().new_file_download_group(
            endpoint=f"local://{name}/copy", token="unused", token_expiry_unix_secs=2**32
        )
        with group:
            for sha256, (xet_hash, size) in files.items():
                group.start_download_file(hf_xet.XetFileInfo(xet_hash, size), str(target / sha256))
        return {sha256: (target / sha256).read_bytes() for sha256 in files}


def xet_store(contents: dict[str, bytes], folder: Path) -> dict[str, str]:
    """Write {sha256: content} as xet does. {sha256: xet hash}"""
    import hf_xet

    folder.mkdir(parents=True)
    upload = hf_xet.XetSession().new_upload_commit(
        endpoint=f"local://{folder}", token="unused", token_expiry_unix_secs=2**32
    )
    with upload:
        started = {sha256: upload.start_upload_bytes(content, sha256=sha256) for sha256, content in contents.items()}
    return {sha256: handle.result().xet_info.hash for sha256, handle in started.items()}


def write_bytes(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    temporary.write_bytes(content)
    temporary.replace(path)


def clean_environment(home: Path, **variables: str) -> dict[str, str]:
    """Of this process, without a token or settings for the Hub or proxies from outside."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "HUGGING", "OWNVOICE_", "DVC_")) and not name.lower().endswith("_proxy")
    }
    return {**kept, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", **variables}


def main() -> None:
    """Serve until stopped. The token to use is "local-token"."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m stages.hub.local.server FOLDER [PORT]")
    port = int(sys.argv[2]) if len(sys.argv) == 3 else 0
    with HubServer(folder=Path(sys.argv[1]), tokens={"local-token": "write:local,*"}, port=port) as hub:
        print(hub.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()

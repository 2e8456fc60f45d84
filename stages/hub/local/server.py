"""A Hugging Face Hub on this machine: what the real, unchanged clients need, over HTTP.

    with HubServer({("dataset", "me/clips"): {"README.md": b"..."}}) as hub:
        subprocess.run(..., env=hub.environment(tmp_path, token="write-token"))
        hub.repository("model", "me/voice").files

The clients read HF_ENDPOINT and the rest when they are imported, so they run in a process with `environment()`.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from stages.hub.local import files, spaces
from stages.hub.local.files import API, REVISION
from stages.hub.local.messages import Refused, Reply, Request, as_json, not_found, refusal
from stages.hub.local.repositories import Commit, Repository, Space, StoredFile

Route = tuple[str, str, str, Callable[..., Reply]]


class HubServer:
    """A Hub, served while used as a context manager; what was sent is gone with it.

    Args:
        repositories: public ones that are there from the start, {(kind, "owner/name"): {path: content}}. Kinds are
            model, dataset and space.
        tokens: {token: "role:user"}; role is write or read, of all repositories. Only a role: the user "me".

    Attributes: `url`, `requests` ("METHOD /path" of each), `errors` (tracebacks of its own faults; any of them fails
    the end of the context), `build_polls` (how often a Space's runtime says that it builds before it runs).
    """

    def __init__(
        self,
        repositories: dict[tuple[str, str], dict[str, bytes]] | None = None,
        tokens: dict[str, str] | None = None,
    ) -> None:
        self.tokens = tokens or {"write-token": "write", "read-token": "read"}
        self.lock = threading.RLock()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.build_polls = 2
        self.lfs_objects: dict[str, bytes] = {}  # by sha256
        self.repositories: dict[tuple[str, str], Repository] = {}
        for (kind, name), contents in (repositories or {}).items():
            repository = Repository(kind, name, space=Space() if kind == "space" else None)
            repository.add_commit({path: StoredFile(content) for path, content in contents.items()}, "initial commit")
            self.repositories[kind, name] = repository
        # Method, path, who may (any; user: with a token; read, write: this repository), and what answers.
        self.routes: list[Route] = [*ROUTES, *files.ROUTES, *spaces.ROUTES]
        self.handler = Handler

    def __enter__(self) -> HubServer:
        self.server = Server(self, self.handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        if self.errors and error is None:
            raise AssertionError("the local Hub failed:\n" + "\n".join(self.errors))

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """Of this process, with the clients pointed to this server and their own files in `home`."""
        return clean_environment(home, HF_ENDPOINT=self.url, **({"HF_TOKEN": token} if token else {}))

    def repository(self, kind: str, name: str) -> Repository:
        return self.repositories[kind, name]

    def commit(self, kind: str, name: str) -> str:
        """The id of the repository's newest commit."""
        return self.repositories[kind, name].head.oid

    def address_of(self, kind: str, name: str) -> str:
        return f"{self.url}/{'' if kind == 'model' else f'{kind}s/'}{name}"

    def answer(self, request: Request) -> Reply:
        """Find the route of a request; a HEAD takes that of the GET."""
        method = "GET" if request.method == "HEAD" else request.method
        with self.lock:
            try:
                self._recognise(request)
                for route_method, pattern, right, action in self.routes:
                    if method == route_method and (match := re.fullmatch(pattern, request.path)):
                        groups = {name: unquote(value or "") for name, value in match.groupdict().items()}
                        return self._answer_if_allowed(action, right, request, groups)
            except Refused as error:
                return error.reply
            except Exception:  # noqa: BLE001 - a fault of ours must reach the caller, not a thread's stderr
                self.errors.append(traceback.format_exc())
                return refusal(500, "the local Hub failed: see its errors")
        return refusal(404, f"{request.method} {request.path} is not served here")

    def _recognise(self, request: Request) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not token:
            return
        if token not in self.tokens:
            raise Refused(refusal(401, "Invalid credentials in Authorization header"))
        request.role, _, name = self.tokens[token].partition(":")
        request.user = name or "me"

    def _answer_if_allowed(self, action: Callable, right: str, request: Request, groups: dict) -> Reply:
        if right == "user" and request.role == "none":
            return refusal(401, "Invalid username or password.")
        if right in ("any", "user"):
            return action(self, request, **groups)
        repository = self.repositories.get((groups.pop("kind") or "model", groups.pop("repository")))
        if repository is None or (repository.private and request.role == "none"):
            return not_found("Repo")
        if right == "write":
            request.check_write()
        if "revision" in groups:
            groups["commit"] = repository.at(groups.pop("revision") or "main")
            if groups["commit"] is None:
                return not_found("Revision")
        return action(self, request, repository, **groups)


# Accounts and repositories


def whoami(_: HubServer, request: Request) -> Reply:
    return as_json({"type": "user", "name": request.user, "orgs": [], "auth": {"type": "access_token"}})


def _named(request: Request) -> tuple[str, str]:
    """(kind, "owner/name") of the repository that a request asks to create or delete."""
    wanted = request.json()
    return wanted.get("type") or "model", f"{wanted.get('organization') or request.user}/{wanted['name']}"


def create(hub: HubServer, request: Request) -> Reply:
    wanted, (kind, name) = request.json(), _named(request)
    request.check_write()
    if (kind, name) in hub.repositories:
        return as_json({"error": f"You already created {name}", "url": hub.address_of(kind, name)}, 409)
    private = wanted.get("visibility", "public") != "public"
    repository = Repository(kind, name, private, Space() if kind == "space" else None)
    repository.add_commit({".gitattributes": StoredFile(files.GITATTRIBUTES)}, "initial commit")
    hub.repositories[kind, name] = repository
    return as_json({"url": hub.address_of(kind, name), "name": name, "id": f"{kind}-{name}"})


def delete(hub: HubServer, request: Request) -> Reply:
    request.check_write()
    return as_json({}) if hub.repositories.pop(_named(request), None) else not_found("Repo")


def info(_: HubServer, __: Request, repository: Repository, commit: Commit) -> Reply:
    siblings = [{"rfilename": path} for path in commit.files]
    private = repository.private
    return as_json({"id": repository.name, "sha": commit.oid, "private": private, "tags": [], "siblings": siblings})


def refs(_: HubServer, __: Request, repository: Repository) -> Reply:
    main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.head.oid}
    tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": oid} for tag, oid in repository.tags.items()]
    return as_json({"branches": [main], "converts": [], "tags": tags, "pullRequests": []})


def add_tag(_: HubServer, request: Request, repository: Repository, commit: Commit) -> Reply:
    name = request.json()["tag"]
    if name in repository.tags:
        return refusal(409, f"Tag {name} already exists")
    repository.tags[name] = commit.oid
    return as_json({"name": name, "ref": f"refs/tags/{name}"})


ROUTES: list[Route] = [
    ("GET", r"/api/whoami-v2", "user", whoami),
    ("POST", r"/api/repos/create", "user", create),
    ("DELETE", r"/api/repos/delete", "user", delete),
    ("GET", rf"{API}(/revision/{REVISION})?", "read", info),
    ("GET", rf"{API}/refs", "read", refs),
    ("POST", rf"{API}/tag/{REVISION}", "write", add_tag),
]


# HTTP


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two packets: 40 ms a reply without this
    server: Server

    def do_GET(self) -> None:
        self.server.hub.requests.append(f"{self.command} {unquote(urlsplit(self.path).path)}")
        self.respond()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def respond(self) -> None:
        if request := self.read_request():
            self.send(self.server.hub.answer(request))

    def read_request(self) -> Request | None:
        """None if the client died while it sent this: half a request is not one."""
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        size = int(headers.get("content-length", 0))
        body = self.rfile.read(size)
        query = parse_qs(url.query, keep_blank_values=True)
        return Request(self.command, url.path, query, headers, body) if len(body) == size else None

    def send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        """Says nothing: `requests` has it."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: HubServer, handler: type[Handler]) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, *_: object) -> None:
        """A client that went away is not an error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            self.hub.errors.append(traceback.format_exc())


def clean_environment(home: Path, **variables: str) -> dict[str, str]:
    """Of this process, without a token or settings for the Hub or proxies from outside."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "HUGGING", "OWNVOICE_", "DVC_")) and not name.lower().endswith("_proxy")
    }
    return {**kept, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", **variables}

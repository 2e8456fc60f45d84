"""A Hugging Face Hub on this machine for tests: what the real clients need to read repositories over HTTP.

    with HubServer({("dataset", "me/clips"): {"README.md": b"..."}}) as hub:
        subprocess.run(..., env=hub.environment(tmp_path))

The clients read HF_ENDPOINT and the rest when they are imported, so they run in a process with `environment()`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY = r"(?P<repository>[^/]+/[^/]+)"
API = rf"/api/(?P<kind>model|dataset|space)s/{REPOSITORY}"


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]  # names in small letters
    body: bytes


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def as_json(content: object, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(content).encode(), {"Content-Type": "application/json", **headers})


def not_found(what: str) -> Reply:
    """`what`: Repo, Revision or Entry. The client tells them apart by this header alone."""
    return as_json({"error": f"{what} not found"}, 404, **{"X-Error-Code": f"{what}NotFound"})


class HubServer:
    """Serves `repositories`, {(type, "owner/name"): {path: content}}, while used as a context manager.

    Types are model, dataset and space. `requests` collects "METHOD path" of all that was asked.
    """

    def __init__(self, repositories: dict[tuple[str, str], dict[str, bytes]] | None = None) -> None:
        self.repositories = repositories or {}
        self.requests: list[str] = []
        self.routes: list[tuple[str, str, Callable[..., Reply]]] = [
            ("GET", rf"{API}(/revision/(?P<revision>[^/]+))?", self.info),
            ("GET", rf"{API}/tree/(?P<revision>[^/]+)(/(?P<path>.+))?", self.tree),
            ("POST", rf"{API}/paths-info/(?P<revision>[^/]+)", self.paths_info),
            (
                "GET",
                rf"/((?P<kind>dataset|space)s/)?{REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
                self.download,
            ),
        ]

    def __enter__(self) -> HubServer:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                url = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                request = Request(
                    self.command, unquote(url.path), parse_qs(url.query, keep_blank_values=True), headers, body
                )
                reply = hub.answer(request)
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                """Says nothing: `requests` has it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """Of this process, with the clients pointed to this server and their own files in `home`."""
        return clean_environment(home, HF_ENDPOINT=self.url)

    def answer(self, request: Request) -> Reply:
        """Find the route of a request; a HEAD goes where the GET goes, whose body is not sent."""
        self.requests.append(f"{request.method} {request.path}")
        method = "GET" if request.method == "HEAD" else request.method
        for route_method, pattern, action in self.routes:
            if method == route_method and (match := re.fullmatch(pattern, request.path)):
                return self._answer_in_repository(action, request, match.groupdict())
        return as_json({"error": f"{request.method} {request.path} is not served here"}, 404)

    def _answer_in_repository(self, action: Callable[..., Reply], request: Request, groups: dict) -> Reply:
        key = (groups.get("kind") or "model", groups["repository"])
        if key not in self.repositories:
            return not_found("Repo")
        if groups.get("revision") not in (None, "main", self.commit(*key)):
            return not_found("Revision")
        return action(request, *key, **({"path": groups["path"] or ""} if "path" in groups else {}))

    def commit(self, kind: str, repository: str) -> str:
        """The commit hash of what the repository holds now."""
        files = sorted(self.repositories[kind, repository].items())
        return hashlib.sha1(repr([(path, blob_id(content)) for path, content in files]).encode()).hexdigest()

    # What is served

    def info(self, _: Request, kind: str, repository: str) -> Reply:
        files = self.repositories[kind, repository]
        return as_json(
            {
                "id": repository,
                "sha": self.commit(kind, repository),
                "private": False,
                "siblings": [{"rfilename": path} for path in sorted(files)],
            }
        )

    def tree(self, request: Request, kind: str, repository: str, path: str) -> Reply:
        files = self.repositories[kind, repository]
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
        entries = self.entries(files, sorted(folders) + sorted(below))
        if request.query.get("recursive", ["false"])[0].lower() != "true":
            entries = [entry for entry in entries if entry["path"].count("/") == depth]
        return as_json(entries)

    def paths_info(self, request: Request, kind: str, repository: str) -> Reply:
        if request.headers.get("content-type", "").startswith("application/json"):
            paths = json.loads(request.body)["paths"]
        else:
            paths = parse_qs(request.body.decode()).get("paths", [])
        return as_json(self.entries(self.repositories[kind, repository], paths))

    def entries(self, files: dict[str, bytes], paths: list[str]) -> list[dict]:
        """Files and folders among `paths`, as the Hub lists them; what is neither is left out."""
        entries: list[dict] = []
        for path in paths:
            if path in files:
                size, oid = len(files[path]), blob_id(files[path])
                entries.append({"type": "file", "path": path, "size": size, "oid": oid})
            elif any(name.startswith(f"{path}/") for name in files):
                entries.append({"type": "directory", "path": path, "size": 0, "oid": blob_id(path.encode())})
        return entries

    def download(self, request: Request, kind: str, repository: str, path: str) -> Reply:
        content = self.repositories[kind, repository].get(path)
        headers = {"X-Repo-Commit": self.commit(kind, repository), "Accept-Ranges": "bytes"}
        if content is None:
            reply = not_found("Entry")
            reply.headers |= headers
            return reply
        headers["ETag"] = f'"{blob_id(content)}"'
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if not wanted:
            return Reply(200, content, headers)
        first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
        if first >= len(content):
            return Reply(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return Reply(206, content[first : last + 1], headers)


def blob_id(content: bytes) -> str:
    """Git's name for a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def clean_environment(home: Path, **variables: str) -> dict[str, str]:
    """Of this process, without a token or settings for the Hub or proxies from outside."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "HUGGING", "OWNVOICE_", "DVC_")) and not name.lower().endswith("_proxy")
    }
    return {**kept, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", **variables}

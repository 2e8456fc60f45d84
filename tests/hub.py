"""The local Hub for tests of publishing: with bad moments on request, and with uploads by xet."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from urllib.parse import unquote

from stages.hub.local import server
from stages.hub.local.files import API, REVISION
from stages.hub.local.messages import Reply, Request, as_json, refusal
from stages.hub.local.repositories import Commit, Repository
from tests.workspaces import ROOT

TOKEN = "hf_PlantedTokenThatMustNotBeSeenAnywhere"
READER = "hf_ReaderReaderReader"


@dataclass
class Fault:
    """What goes wrong with the first `times` requests whose "METHOD /path" `match` finds (None: all).

    kind: status (reply with `status`), drop (close the connection before the request is read), lost (do
    what was asked, then close the connection instead of replying).
    """

    match: str
    kind: str = "status"
    status: int = 503
    times: int | None = 1
    happened: int = 0

    def strikes(self, request: str) -> bool:
        if not re.search(self.match, request) or self.happened == self.times:
            return False
        self.happened += 1
        return True


class HubServer(server.HubServer):
    """Set `faults` at any time."""

    def __init__(self, *arguments, **named) -> None:
        super().__init__(*arguments, **named)
        self.faults: list[Fault] = []
        self.handler = FaultyHandler
        self.xet_folder = tempfile.TemporaryDirectory(prefix="hub-xet-")
        self.numbers = itertools.count()
        self.routes.append(("GET", rf"{API}/xet-write-token/{REVISION}", "write", xet_write_token))

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        self.xet_folder.cleanup()

    def fault_for(self, request: str) -> Fault | None:
        with self.lock:
            return next((fault for fault in self.faults if fault.strikes(request)), None)

    def run(self, folder: Path, *arguments: str, token: str | None = TOKEN, **extra: str) -> CompletedProcess:
        """Run Python in a folder to its end, as somebody who is logged in; the token must not be on the screen."""
        kept = self.environment(folder.parent / "home", token) | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
        kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        command = [sys.executable, *arguments]
        result = subprocess.run(command, cwd=folder, env=kept | extra, capture_output=True, text=True, timeout=600)
        assert token is None or token not in result.stdout + result.stderr
        return result

    def refusal(self, folder: Path, *arguments: str, **options: str | None) -> str:
        """The last line of what must fail."""
        result = self.run(folder, *arguments, **options)
        assert result.returncode == 1 and "Traceback" not in result.stderr, result.stdout[-2000:] + result.stderr
        return result.stderr.strip().splitlines()[-1]

    def answer(self, request: Request) -> Reply:
        if "/commit/" in request.path:
            with self.lock:
                self.lfs_objects |= sent_by_xet(Path(self.xet_folder.name), set(self.lfs_objects))
        return super().answer(request)


class FaultyHandler(server.Handler):
    def respond(self) -> None:
        hub = self.server.hub
        fault = hub.fault_for(f"{self.command} {unquote(self.path.partition('?')[0])}")
        kind = fault.kind if fault else None
        request = None if kind == "drop" else self.read_request()
        if request is None:
            end(self.connection)
            return
        reply = refusal(fault.status, "Something went wrong: try again") if kind == "status" else hub.answer(request)
        if kind == "lost":
            end(self.connection)
        else:
            self.send(reply)


def held(commit: Commit) -> dict[str, str]:
    """{path: sha256} of a commit, without what the Hub itself puts there."""
    return {path: file.sha256 for path, file in commit.files.items() if path != ".gitattributes"}


def end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client was faster
        connection.shutdown(socket.SHUT_RDWR)


# Xet: the client writes to a folder of this machine that stands for the storage server. It locks a folder while it has
# it open, so each token names a folder of its own.


def xet_write_token(hub: HubServer, _: Request, __: Repository, commit: Commit) -> Reply:
    folder = Path(hub.xet_folder.name, f"written-{next(hub.numbers)}")
    folder.mkdir()
    expires_at = int(time.time()) + 24 * 3600
    token = {"accessToken": "unused", "exp": expires_at, "casUrl": f"local://{folder}"}
    headers = {
        "X-Xet-Cas-Url": f"local://{folder}",
        "X-Xet-Access-Token": "unused",
        "X-Xet-Token-Expiration": str(expires_at),
    }
    return as_json(token, **headers)


def sent_by_xet(folder: Path, known: set[str]) -> dict[str, bytes]:
    """{sha256: content} of the files that were sent by xet to any of these folders, except the known ones."""
    import hf_xet

    contents = {}
    for shard in folder.glob("written-*/xet/xorbs/shards/*.mdb"):
        missing = {sha256: stored for sha256, *stored in files_in_shard(shard.read_bytes()) if sha256 not in known}
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as target:
            group = hf_xet.XetSession().new_file_download_group(
                endpoint=f"local://{shard.parents[3]}", token="unused", token_expiry_unix_secs=2**32
            )
            with group:
                for sha256, (xet_hash, size) in missing.items():
                    group.start_download_file(hf_xet.XetFileInfo(xet_hash, size), f"{target}/{sha256}")
            contents |= {sha256: Path(target, sha256).read_bytes() for sha256 in missing}
    return contents


def files_in_shard(content: bytes) -> Iterator[tuple[str, str, int]]:
    """(sha256, xet hash, size) of the files that a shard of xet lists.

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
            yield in_hex(end), in_hex(start), size
            end += 48
        start = end

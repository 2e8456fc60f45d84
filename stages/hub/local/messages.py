"""Requests to the local Hub, its replies and refusals."""

from __future__ import annotations

import json
from dataclasses import dataclass, field


@dataclass
class Request:
    method: str
    path: str  # as it came, with %2F and the like
    query: dict[str, list[str]]
    headers: dict[str, str] = field(repr=False)  # names in small letters; they hold the token: never print them
    body: bytes = field(repr=False)
    role: str = "none"  # of who asks: "write", "read" or "none" (no token)
    user: str = ""

    def json(self) -> dict:
        return json.loads(self.body or b"{}")

    def check_write(self) -> None:
        """Raises: Refused if who asks may not write."""
        if self.role == "none":
            raise Refused(refusal(401, "Invalid username or password."))
        if self.role != "write":
            raise Refused(refusal(403, "You have read access but not the required permissions for this operation"))


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    """Ends an action with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def as_json(content: object, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(content).encode(), {"Content-Type": "application/json", **headers})


def refusal(status: int, message: str, code: str | None = None) -> Reply:
    """The client tells errors apart by `code` in a header: RepoNotFound, RevisionNotFound, EntryNotFound."""
    reply = as_json({"error": message}, status, **{"X-Error-Message": message})
    if code:
        reply.headers["X-Error-Code"] = code
    return reply


def not_found(what: str) -> Reply:
    """`what`: Repo, Revision or Entry."""
    return refusal(404, f"{what} not found", f"{what}NotFound")

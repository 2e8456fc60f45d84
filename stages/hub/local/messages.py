"""Requests to the local Hub, its replies and refusals."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from stages.hub.local.repositories import Repository


@dataclass(frozen=True)
class Caller:
    """Who asks: role "write", "read" or "none" (no token), and the namespaces that are theirs ("*": all)."""

    role: str = "none"
    name: str = ""
    namespaces: tuple[str, ...] = ()

    @classmethod
    def of(cls, description: str) -> Caller:
        """Of "write" (the user "me"), "read:ann" or "write:ann,team"."""
        role, _, names = description.partition(":")
        namespaces = tuple(names.split(",")) if names else ("me",)
        return cls(role, namespaces[0], namespaces)

    def owns(self, repository: str) -> bool:
        return "*" in self.namespaces or repository.split("/")[0] in self.namespaces

    def may_read(self, repository: Repository) -> bool:
        return not repository.private or self.owns(repository.name)

    def check_write(self, name: str) -> None:
        """Raises: Refused if this caller may not write to a repository of this name."""
        if self.role == "none":
            raise Refused(refusal(401, "Invalid username or password."))
        if self.role != "write":
            raise Refused(refusal(403, "You have read access but not the required permissions for this operation"))
        if not self.owns(name):
            namespace = name.split("/")[0]
            raise Refused(refusal(403, f"You don't have the rights to write under the namespace {namespace}"))


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

"""Spaces of the local Hub: how they build, their variables, secrets and hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.hub.local.messages import Reply, Request, as_json
from stages.hub.local.repositories import Repository

if TYPE_CHECKING:
    from stages.hub.local.server import HubServer


def runtime(_: HubServer, __: Request, repository: Repository) -> Reply:
    """Each request brings a build one step on."""
    reply = as_json(described(repository))
    repository.space.polls_left = max(0, repository.space.polls_left - 1)
    return reply


def described(repository: Repository) -> dict:
    space = repository.space
    hardware = {"current": space.hardware, "requested": space.hardware}
    return {"stage": "BUILDING" if space.polls_left else space.built_stage, "hardware": hardware}


def values(_: HubServer, __: Request, repository: Repository, what: str) -> Reply:
    """Variables with their values, secrets without."""
    shown = getattr(repository.space, what)
    if what == "secrets":
        shown = {name: {**value, "value": None} for name, value in shown.items()}
    return as_json(shown)


def change_value(hub: HubServer, request: Request, repository: Repository, what: str) -> Reply:
    wanted, kept = request.json(), getattr(repository.space, what)
    if request.method == "DELETE":
        kept.pop(wanted["key"], None)
    else:
        kept[wanted["key"]] = {"value": wanted["value"], "description": wanted.get("description")}
    repository.space.polls_left = hub.build_polls
    return values(hub, request, repository, what)


def change_hardware(hub: HubServer, request: Request, repository: Repository) -> Reply:
    repository.space.hardware = request.json()["flavor"]
    repository.space.polls_left = hub.build_polls
    return as_json(described(repository))


_SPACE = r"/api/(?P<kind>space)s/(?P<repository>[^/]+/[^/]+)"
ROUTES = [
    ("GET", rf"{_SPACE}/runtime", "read", runtime),
    ("GET", rf"{_SPACE}/(?P<what>variables|secrets)", "write", values),
    ("POST", rf"{_SPACE}/(?P<what>variables|secrets)", "write", change_value),
    ("DELETE", rf"{_SPACE}/(?P<what>variables|secrets)", "write", change_value),
    ("POST", rf"{_SPACE}/hardware", "write", change_hardware),
]

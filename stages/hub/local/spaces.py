"""Spaces of the local Hub: how they build and run, their variables, secrets, hardware and logs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import yaml

from stages.hub.local.messages import Reply, Request, as_json
from stages.hub.local.repositories import Repository, Space, now

if TYPE_CHECKING:
    from stages.hub.local.server import HubServer

COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SDKS = ("gradio", "docker", "static")


def set_value(space: Space, what: str, value: dict) -> None:
    """Set one of the `what` (variables or secrets)."""
    kept = {"key": value["key"], "value": value["value"], "description": value.get("description")}
    getattr(space, what)[value["key"]] = {**kept, "updatedAt": now()}


def _stage(repository: Repository) -> str:
    """The Hub's word for what the Space does now."""
    space = repository.space
    if space.paused:
        return "PAUSED"
    card = front_matter(repository.files.get("README.md", b"").decode(errors="replace"))
    if not isinstance(card, dict) or card.get("sdk") not in SDKS:
        return "CONFIG_ERROR"
    if card["sdk"] == "gradio" and card.get("app_file", "app.py") not in repository.head.files:
        return "NO_APP_FILE"
    if space.polls_left:
        return ("RUNNING_" if space.has_run else "") + ("BUILDING" if space.polls_left > 1 else "APP_STARTING")
    return space.built_stage


def described(repository: Repository) -> dict:
    space = repository.space
    return {
        "stage": _stage(repository),
        "hardware": {"current": space.hardware if space.has_run else None, "requested": space.requested_hardware},
        "storage": None,
        "gcTimeout": None,
    }


def runtime(_: HubServer, __: Request, repository: Repository) -> Reply:
    """Each request brings a build one step on."""
    space, reply = repository.space, as_json(described(repository))
    if _stage(repository) == "RUNNING":
        space.has_run, space.hardware = True, space.requested_hardware
    space.polls_left = max(0, space.polls_left - 1)
    return reply


def log(_: HubServer, __: Request, repository: Repository, which: str) -> Reply:
    """Server-sent events, a line each; an error's lines are in the log of building or of running."""
    built = repository.space.built_stage != "BUILD_ERROR"
    lines = repository.space.log if (which == "run") == built else ["Installing requirements"]
    events = "".join(f"data: {json.dumps({'data': line, 'timestamp': now()})}\n\n" for line in lines)
    return Reply(200, events.encode(), {"Content-Type": "text/event-stream"})


def values(_: HubServer, __: Request, repository: Repository, what: str) -> Reply:
    """Variables with their values, secrets without."""
    shown = getattr(repository.space, what)
    if what == "secrets":
        shown = {name: {**value, "value": None} for name, value in shown.items()}
    return as_json(shown)


def change_value(hub: HubServer, request: Request, repository: Repository, what: str) -> Reply:
    if request.method == "DELETE":
        getattr(repository.space, what).pop(request.json()["key"], None)
    else:
        set_value(repository.space, what, request.json())
    repository.space.polls_left = hub.build_polls
    return values(hub, request, repository, what)


def change_hardware(hub: HubServer, request: Request, repository: Repository) -> Reply:
    repository.space.requested_hardware = request.json()["flavor"]
    repository.space.polls_left = hub.build_polls
    return as_json(described(repository))


def front_matter(readme: str) -> object:
    """The YAML block at the head of a README, None without one. Raises: yaml.YAMLError."""
    found = re.match(r"---\r?\n(.*?)\r?\n---\s*(\r?\n|$)", readme, re.DOTALL)
    return yaml.safe_load(found[1]) if found else None


def readme_errors(readme: str, kind: str) -> list[str]:
    """What the Hub refuses in the metadata of a README."""
    try:
        card = front_matter(readme)
    except yaml.YAMLError as error:
        return [f"Invalid YAML in README.md: {error}"]
    if card is None or kind != "space":
        return []
    errors = [] if card.get("sdk") in SDKS else [f'"sdk" must be one of {", ".join(SDKS)}']
    for key in ("colorFrom", "colorTo"):
        if card.get(key, "red") not in COLOURS:
            errors.append(f'"{key}" must be one of {", ".join(COLOURS)}')
    if not isinstance(card.get("python_version", ""), str):
        errors.append('"python_version" must be a string')
    return errors


_SPACE = r"/api/(?P<kind>space)s/(?P<repository>[^/]+/[^/]+)"
ROUTES = [
    ("GET", rf"{_SPACE}/runtime", "read", runtime),
    ("GET", rf"{_SPACE}/logs/(?P<which>build|run)", "write", log),
    ("GET", rf"{_SPACE}/(?P<what>variables|secrets)", "write", values),
    ("POST", rf"{_SPACE}/(?P<what>variables|secrets)", "write", change_value),
    ("DELETE", rf"{_SPACE}/(?P<what>variables|secrets)", "write", change_value),
    ("POST", rf"{_SPACE}/hardware", "write", change_hardware),
]

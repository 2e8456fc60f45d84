"""The demo Space: a copy of demo_voxtral/, whose variables name the model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stages.common.params import DeployParams
from stages.common.plurals import counted
from stages.common.stage import UserError
from stages.hub.client import LOGIN, Refused, api, call, one_line
from stages.hub.publish import Published, address, open_repository, publish

if TYPE_CHECKING:
    from huggingface_hub import SpaceRuntime

FOLDER = Path("demo_voxtral")
LEFT_BY_PYTHON = "__pycache__"
POLL_S = 2.0
UP = ("RUNNING", "SLEEPING")  # a visitor wakes it
# GB that the demo can use on a machine of the Hub: of one GPU, on those without one of the machine's memory. From the
# Hub's documentation of 2026-08, pages spaces-gpus and spaces-zerogpu (there the smaller of the cards it has had).
MEMORY_GB = {
    "cpu-basic": 16, "cpu-upgrade": 32, "zero-a10g": 48, "t4-small": 16, "t4-medium": 16, "l4x1": 24, "l4x4": 24,
    "a10g-small": 24, "a10g-large": 24, "a10g-largex2": 24, "a10g-largex4": 24, "l40sx1": 48, "l40sx4": 48,
    "l40sx8": 48, "a100-large": 80, "a100x4": 80, "a100x8": 80, "rtx-pro-6000": 96, "rtx-pro-6000x2": 96,
    "rtx-pro-6000x4": 96, "rtx-pro-6000x8": 96,
}  # fmt: skip
# Of the demo on every machine, at the least: demo_voxtral/recogniser.py.
BYTES_PER_PARAMETER, SPARE_BYTES = 2, 2e9


def folder_files(folder: Path = FOLDER) -> dict[str, Path]:
    """{path on the Hub: file here}, all of the folder but what is hidden, such as .env or gradio's .gradio.

    Raises: UserError if it is not a Space.
    """
    if not (folder / "app.py").is_file():
        raise UserError(f"{folder}/app.py is missing: restore the folder with 'git checkout {folder}'")
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): path
        for name, path in files.items()
        if not any(part == LEFT_BY_PYTHON or part.startswith(".") for part in name.parts)
    }


def publish_space(params: DeployParams, variables: Mapping[str, str], needs_token: bool, version: str) -> Published:
    """Give the Space these variables, secret, hardware and files. Only differences are sent: each change restarts it.

    needs_token: give it the client's token as the secret HF_TOKEN, to read a private model with.
    Raises: UserError.
    """
    files = folder_files()
    secret = _token_secret() if needs_token else None
    open_repository(params.space_id, "space", params.private)
    _set_up(params, variables, secret)  # before the files: its first build knows the model
    return publish(params.space_id, "space", files, private=params.private, message=f"Demo ({version})")


def check_hardware(hardware: str, parameters: int) -> None:
    """Raises: UserError if models of so many parameters together do not fit. Machines that are not known here pass."""
    needed_gb, available_gb = (BYTES_PER_PARAMETER * parameters + SPARE_BYTES) / 1e9, MEMORY_GB.get(hardware)
    if available_gb is not None and needed_gb > available_gb:
        raise UserError(
            f"deploy.hardware {hardware} is too small: the demo needs {needed_gb:.1f} GB of memory, and it has "
            f"{available_gb}: choose a larger one"
        )


def wait_until_running(space_id: str, minutes: float) -> None:
    """Raises: UserError if the Space does not build or run, or takes longer."""
    print(f"deploy: waiting until {space_id} runs, at most {counted(minutes, 'minute')}", flush=True)
    stage = call(f"waiting for {space_id}", _wait, space_id, minutes).stage
    if stage not in UP:
        which = "build" if stage in ("BUILD_ERROR", "CONFIG_ERROR", "NO_APP_FILE") else "container"
        raise UserError(f"the Space does not run ({stage}): see {address(space_id, 'space')}?logs={which}")


def _wait(space_id: str, minutes: float) -> SpaceRuntime:
    """The state of the Space after building and starting."""
    try:
        return api().wait_for_space(space_id, timeout=60 * minutes, poll_interval=POLL_S)
    except TimeoutError as error:
        raise UserError(
            f"{one_line(error)}: run 'dvc repro deploy' to wait again, or raise deploy.wait_minutes"
        ) from None


def _set_up(params: DeployParams, variables: Mapping[str, str], secret: dict[str, str] | None) -> None:
    """Variables, secret and hardware of a Space."""
    space_id, what = params.space_id, f"setting up {params.space_id}"
    present = call(what, api().get_space_variables, space_id)
    for key, value in variables.items():
        if key not in present or present[key].value != value:
            call(what, api().add_space_variable, space_id, key, value)
    known = call(what, api().get_space_secrets, space_id).get("HF_TOKEN")
    if secret and (known is None or known.description != secret["description"]):
        call(what, api().add_space_secret, space_id, **secret)
    if known and not secret:
        call(what, api().delete_space_secret, space_id, "HF_TOKEN")
    runtime = call(what, api().get_space_runtime, space_id)
    if params.hardware not in (runtime.requested_hardware, runtime.hardware):
        call(what, api().request_space_hardware, space_id, params.hardware)


def _token_secret() -> dict[str, str]:
    """The secret HF_TOKEN. A secret cannot be read back: its description tells whether it is still this one."""
    from huggingface_hub import get_token

    token = get_token()
    if token is None:
        raise Refused(f"no token for the Space to read the private model with: {LOGIN}", 401)
    digest = hashlib.sha256(token.encode()).hexdigest()[:8]
    return {"key": "HF_TOKEN", "value": token, "description": f"reads the private model ({digest})"}

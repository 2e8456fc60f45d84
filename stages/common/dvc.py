"""DVC as a child process, the one way to call it. (`Repo.reproduce` resolves paths against the process's folder.)"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from stages.common.stage import UserError


def dvc_command(*arguments: str) -> list[str]:
    """The command line of `dvc ARGUMENTS` with this Python's DVC."""
    return [sys.executable, "-m", "dvc", *arguments]


def dvc_environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment variables for DVC: stages call `python`, so this Python comes first on the search path."""
    return {**variables, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{variables.get('PATH', '')}"}


def run_dvc(
    *arguments: str,
    folder: Path | None = None,
    variables: Mapping[str, str] = os.environ,
    limit_s: float | None = None,
    to_screen: bool = False,
) -> str:
    """Run dvc to its end.

    Args:
        folder: where it runs, by default here.
        variables: its environment, before `dvc_environment`.
        to_screen: show its output at once instead of returning it.

    Returns: what it prints.
    Raises: UserError with DVC's own words if it fails, or takes longer than `limit_s`.
    """
    # Files, not pipes: the worker that `queue start` leaves behind would hold a pipe open until its runs are over.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        streams = {} if to_screen else {"stdout": output, "stderr": errors}
        streams["stdin"] = subprocess.DEVNULL
        environment = dvc_environment(variables)
        try:
            done = subprocess.run(
                dvc_command(*arguments), cwd=folder, env=environment, timeout=limit_s, check=False, **streams
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"'dvc {' '.join(arguments)}' took more than {limit_s:g} seconds") from None
        printed, complaints = (_content(file) for file in (output, errors))
    if done.returncode != 0:
        where = f" in {folder}" if folder else ""
        why = "see above" if to_screen else _reason(complaints)
        raise UserError(f"'dvc {' '.join(arguments)}' failed{where} with exit code {done.returncode}: {why}")
    return printed


def _content(file) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _reason(complaints: str) -> str:
    """DVC's own words in one line: from its first ERROR on, without the warnings before it."""
    if "Git repositor" in complaints or "not a git repo" in complaints.lower():
        return "experiments are kept with git, and this folder is not a git repository: run 'git init'"
    _, found, reason = complaints.partition("ERROR: ")
    return " ".join((reason if found else complaints).split()) or "it printed no reason"

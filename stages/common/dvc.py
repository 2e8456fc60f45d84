"""DVC: the one way to run a dvc command, who else runs one, and the repository locked against all of them.

Commands run in a child process, because `Repo.reproduce` resolves paths against the process's own folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from ruamel.yaml import YAML

from stages.common import paths
from stages.common.files import write_whole
from stages.common.plurals import counted
from stages.common.stage import UserError

if TYPE_CHECKING:
    from dvc.repo import Repo

TRACKED = paths.RAW.with_suffix(".dvc")
DVC_LOCK = Path("dvc.lock")
RUNNING_STAGES = Path(".dvc/tmp/rwlock")


def refuse_shrunk_recordings() -> None:
    """Undo and refuse what a bare `dvc repro` does if recordings are missing: it notes the smaller set in data/raw.dvc
    before the first stage, and the next commit would lose the others' hashes.

    For the first stage. A set that was noted before this run (`dvc add`, the pages, `make forget`) is meant.

    Raises: UserError if the DVC that runs this stage has just noted fewer files than the last run read.
    """
    if "DVC_STAGE" not in os.environ or not (TRACKED.exists() and DVC_LOCK.exists()):
        return
    yaml = YAML()
    locked = yaml.load(DVC_LOCK).get("stages", {}).get("prepare", {}).get("deps", [])
    before = next((dict(entry) for entry in locked if entry["path"] == paths.RAW.as_posix()), None)
    tracked = yaml.load(TRACKED)
    now = tracked["outs"][0]
    was_noted_before = TRACKED.stat().st_mtime < psutil.Process(os.getppid()).create_time()
    if before is None or was_noted_before or now.get("nfiles", 0) >= before.get("nfiles", 0):
        return
    present = now.get("nfiles", 0)
    now |= before | {"path": now["path"]}
    buffer = io.BytesIO()
    yaml.dump(tracked, buffer)
    write_whole(TRACKED, buffer.getvalue())
    raise UserError(
        f"{paths.RAW} holds {counted(present, 'file')}, the last run read {before['nfiles']}: run 'make pull' to fetch "
        f"them, or, if you removed some on purpose, 'dvc add {paths.RAW}'"
    )


class Busy(Exception):
    """Another dvc command is running; the text says which one, if known."""


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
    to_screen: bool = False,
) -> str:
    """Run dvc to its end.

    Args:
        folder: where it runs, by default here.
        variables: its environment, before `dvc_environment`.
        to_screen: show its output at once instead of returning it.

    Returns: what it prints.
    Raises: UserError with DVC's own words if it fails.
    """
    # Files, not pipes: a process that DVC leaves behind would hold a pipe open.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        streams = {} if to_screen else {"stdout": output, "stderr": errors}
        streams["stdin"] = subprocess.DEVNULL
        environment = dvc_environment(variables)
        process = subprocess.Popen(dvc_command(*arguments), cwd=folder, env=environment, **streams)
        try:
            exit_code = process.wait()
        except KeyboardInterrupt:  # Ctrl-C ends DVC too, which then removes its copy of this folder
            process.wait()
            raise
        printed, complaints = (_content(file) for file in (output, errors))
    if exit_code != 0:
        where = f" in {folder}" if folder else ""
        why = "see above" if to_screen else _reason(complaints)
        raise UserError(f"'dvc {' '.join(arguments)}' failed{where} with exit code {exit_code}: {why}")
    return printed


def running_commands() -> list[str]:
    """Commands in DVC's list of readers and writers, as `process 123 (dvc repro)`.

    Raises: UserError if the list is damaged.
    """
    gives_up_at_s = time.monotonic() + 2
    while True:
        try:
            lists = json.loads(RUNNING_STAGES.read_text(encoding="utf-8"))
            break
        except FileNotFoundError:
            return []
        except ValueError:
            if time.monotonic() < gives_up_at_s:  # DVC is writing it
                time.sleep(0.02)
                continue
            reason = "is damaged, because DVC was killed while writing it"
            raise UserError(f"{RUNNING_STAGES} {reason}: check that no dvc command runs, then delete it") from None
    holders = [*lists.get("write", {}).values(), *(one for many in lists.get("read", {}).values() for one in many)]
    running = {holder["pid"]: holder["cmd"].split() for holder in holders}
    return [f"process {pid} ({_shown(command)})" for pid, command in running.items() if _is_running(pid, command)]


def _is_running(pid: int, command: list[str]) -> bool:
    """Whether the process still runs this command: after a restart its number may be another program's."""
    try:
        words = " ".join(psutil.Process(pid).cmdline()).split()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    except psutil.AccessDenied:
        return True
    arguments = command[1:]  # before them, the same program may have several names
    return words[len(words) - len(arguments) :] == arguments


@contextlib.contextmanager
def locked_repository() -> Iterator[Repo]:
    """DVC's repository, locked against every other dvc command, while no stage runs.

    DVC gives up its lock while a stage's command runs, but lists the stage as reader or writer before. So with the
    lock held and an empty list, nobody reads data/raw and nobody can begin to.

    Raises: Busy if another command runs, UserError if this folder is not a repository or DVC fails.
    """
    if commands := running_commands():  # without the lock, so that a waiting process does not disturb others
        raise Busy(", ".join(commands))
    from dvc.exceptions import DvcException, NotDvcRepoError  # 100 MB, which a waiting process does not need
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    logging.getLogger("dvc").setLevel(logging.ERROR)  # its hints and warnings are for a person who types dvc commands
    try:
        with Repo() as repository, lock_repo(repository):
            if commands := running_commands():
                raise Busy(", ".join(commands))
            RUNNING_STAGES.unlink(missing_ok=True)  # DVC would wait for whatever has the number of a killed process
            yield repository
    except LockError:
        raise Busy("another dvc command") from None
    except NotDvcRepoError:
        raise UserError(
            "this folder is not a DVC repository: run 'dvc init' here, or go to the project's folder"
        ) from None
    except DvcException as error:
        raise UserError(f"DVC failed: {' '.join(str(error).split())}") from None


def remove_cut_off_files(repository: Repo) -> bool:
    """Remove files that DVC was killed in the middle of writing: it refuses to run until they are gone.

    Nothing is lost: data/raw is to be added again, and without dvc.lock DVC finds all results in its run cache.

    Returns: whether there were any.
    Raises: UserError if a file has git's conflict marks.
    """
    from dvc.dvcfile import Lockfile
    from dvc.utils.strictyaml import YAMLSyntaxError, YAMLValidationError

    for path in (TRACKED, DVC_LOCK):
        if path.exists() and b"<<<<<<<" in path.read_bytes():
            raise UserError(f"{path} is half merged: finish the merge in git, then try again")
    cut_off = [TRACKED] if TRACKED.exists() and TRACKED.stat().st_size == 0 else []
    try:
        Lockfile(repository, str(DVC_LOCK)).load()
    except (YAMLSyntaxError, YAMLValidationError):
        cut_off.append(DVC_LOCK)
    for path in cut_off:
        print(f"{path} was cut off when DVC was killed: it is made anew", flush=True)
        path.unlink()
    return bool(cut_off)


def _shown(command: list[str]) -> str:
    program, *arguments = command
    return " ".join([os.path.basename(program).replace("__main__.py", "dvc"), *arguments])


def _content(file) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _reason(complaints: str) -> str:
    """DVC's own words in one line: from its first ERROR on, without the warnings before it."""
    if "Git repositor" in complaints or "not a git repo" in complaints.lower():
        return "experiments are kept with git, and this folder is not a git repository: run 'git init'"
    _, found, reason = complaints.partition("ERROR: ")
    return " ".join((reason if found else complaints).split()) or "it printed no reason"

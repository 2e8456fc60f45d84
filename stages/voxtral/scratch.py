"""A training's folder in the cache: its checkpoints, and its result once it has finished.

The folder is named after everything that the result depends on. DVC deletes a stage's outs before it runs, so nothing
there would survive a crash; and it runs the stage again for a comment, where the result is only copied.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from stages.common import paths
from stages.common.files import read_json, sha256_of_file, whole_folder, write_json
from stages.common.locks import lock
from stages.common.stage import UserError
from stages.voxtral import processes

COMPLETE = "complete"  # marks a checkpoint whose every file is written
RESULT = "result"  # what data/checkpoints gets
DIGESTS = "result.json"  # sha256 of each file of the result
KEPT_OTHERS = 3  # trainings beside the one that begins: their results, or checkpoints if they were interrupted


@contextlib.contextmanager
def scratch_folder(run: str) -> Iterator[Path]:
    """The folder of a training; one process at a time has it, with the others that accelerate has started with it.

    Raises: UserError if the same training is running.
    """
    folder = (paths.cache_root() / "training" / run).resolve()
    if not processes.is_main():
        yield folder
        return
    with lock(folder.with_suffix(".lock")) as held:
        if held is None:
            raise UserError("the same training is already running: wait for it, or stop it first")
        folder.mkdir(exist_ok=True)
        _remove_old(folder)
        yield folder


def _remove_old(own: Path) -> None:
    """Remove all other trainings but the newest, unless they run."""
    others = [folder for folder in own.parent.glob("*/") if folder != own]
    for folder in sorted(others, key=_used_at_s, reverse=True)[KEPT_OTHERS:]:
        with lock(folder.with_suffix(".lock"), patience_s=0) as held:  # the file stays: another may wait for it
            if held is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _used_at_s(folder: Path) -> float:
    with contextlib.suppress(FileNotFoundError):  # another training may have removed it
        return folder.stat().st_mtime
    return 0


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; incomplete ones are removed."""
    complete = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / COMPLETE).exists():
            complete.append(checkpoint)
        elif processes.is_main():
            shutil.rmtree(checkpoint)
    processes.wait_for_all()
    return max(complete, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


@contextlib.contextmanager
def new_result(folder: Path) -> Iterator[Path]:
    """A folder to write the result into; once it is whole, the checkpoints go."""
    with whole_folder(folder / RESULT) as partial:
        yield partial
        digests = _digests(partial)
    write_json(folder / DIGESTS, digests)
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def has_result(folder: Path) -> bool:
    """Whether the training has finished and its result is as it was written."""
    if not (folder / DIGESTS).exists() or read_json(folder / DIGESTS) != _digests(folder / RESULT):
        return False
    if processes.is_main():
        os.utime(folder)
    return True


def copy_result(folder: Path, target: Path) -> None:
    with whole_folder(target) as partial:
        shutil.copytree(folder / RESULT, partial, dirs_exist_ok=True)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in files}

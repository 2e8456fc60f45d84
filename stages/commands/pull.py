"""Fetch recordings from a remote (docs/remotes.md), and refuse to work with fewer than data/raw.dvc says.

    python -m stages.commands.pull           (what `make pull` does)
    python -m stages.commands.pull check     (before commands that read data/raw)

DVC takes the folder as it is. In a fresh clone whose recordings were not pulled it would note an empty set, and the
next commit would lose the recordings' hashes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.common import paths
from stages.common.dvc import TRACKED, run_dvc
from stages.common.plurals import counted
from stages.common.stage import UserError, run
from stages.speech.sources import walk_raw


def count_files() -> int:
    """How many files of data/raw DVC stores (its `nfiles`), without those in .dvcignore.

    Raises: UserError if a folder is a git or DVC repository of its own.
    """
    from dvc.fs import localfs  # imported here: these take 0.2 s
    from dvc.ignore import DvcIgnoreFilter

    stored = DvcIgnoreFilter(localfs, os.getcwd())
    count = 0
    for folder, folders, files in walk_raw(paths.RAW):
        # DVC would skip repositories; walk_raw refuses them.
        folders[:], files = stored(folder, folders, files, ignore_subrepos=False)
        count += sum(os.path.isfile(f"{folder}/{name}") for name in files)
    return count


def check_complete(removed: int = 0) -> int:
    """Compare data/raw, which is made if missing, with data/raw.dvc; `removed` files were deleted on purpose.

    Returns: how many files there are.
    Raises: UserError if files are missing, data/raw.dvc is damaged, or a folder is a git or DVC repository of its own.
    """
    paths.RAW.mkdir(parents=True, exist_ok=True)
    present = count_files()
    if not TRACKED.exists():
        return present
    try:
        expected = YAML(typ="safe").load(TRACKED)["outs"][0].get("nfiles", 0)
    except (YAMLError, KeyError, TypeError, IndexError):
        raise UserError(f"{TRACKED} is damaged or half merged: restore it with 'git checkout {TRACKED}'") from None
    if present + removed < expected:
        raise UserError(
            f"{paths.RAW} holds {counted(present, 'file')}, {TRACKED} names {expected}: run 'make pull' to fetch them, "
            f"or, if you removed some on purpose, 'dvc add {paths.RAW}'"
        )
    return present


def pull() -> str:
    """Fetch the recordings of data/raw.dvc; recordings that are in data/raw are neither removed nor changed.

    Raises: UserError if there is no remote, it cannot be read, recordings would be lost, or a folder is a git or DVC
        repository of its own.
    """
    count_files()
    if not run_dvc("remote", "list").strip():
        raise UserError("there is no remote to fetch recordings from: set one up as in docs/remotes.md")
    run_dvc("fetch", str(TRACKED))
    changes = json.loads(run_dvc("data", "status", "--granular", "--json")).get("uncommitted", {})
    changed = [name for kind in ("added", "modified") for name in changes.get(kind, []) if not name.endswith("/")]
    changed += [renamed["new"] for renamed in changes.get("renamed", [])]
    here = sorted(name for name in changed if Path(name).is_relative_to(paths.RAW))
    if here:
        raise UserError(
            f"{counted(len(here), 'file')} in {paths.RAW} would be lost, because they are not in {TRACKED} or differ "
            f"from it, such as {here[0]}: move them elsewhere, and after 'make pull' back under other names"
        )
    run_dvc("checkout", str(TRACKED))
    return check()


def check() -> str:
    """How many files there are. Raises: UserError as `check_complete`."""
    return f"{counted(check_complete(), 'file')} in {paths.RAW}"


if __name__ == "__main__":
    run("raw", check) if sys.argv[1:] == ["check"] else run("pull", pull)

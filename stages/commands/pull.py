"""Refuse to go on with fewer recordings than data/raw.dvc says; fetch them from a remote (docs/remotes.md).

    python -m stages.commands.pull           (what `make pull` does)
    python -m stages.commands.pull check     (before what would run on too few)

DVC takes the folder as it finds it. In a fresh clone whose recordings were not pulled it would note an empty set, and
the next commit would forget where the recordings are.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ruamel.yaml import YAML

from stages.common import paths
from stages.common.dvc import TRACKED, run_dvc
from stages.common.plurals import counted
from stages.common.stage import UserError, run
from stages.speech.sources import walk_raw


def count_files() -> int:
    """How many files of data/raw DVC stores: as its `nfiles`, without what .dvcignore names.

    Raises: UserError if a folder is a git or DVC repository of its own.
    """
    from dvc.fs import localfs  # imported here: these take 0.2 s
    from dvc.ignore import DvcIgnoreFilter

    stored = DvcIgnoreFilter(localfs, os.getcwd())
    count = 0
    for folder, folders, files in walk_raw(paths.RAW):
        # Repositories are not left out unseen: walk_raw refuses them.
        folders[:], files = stored(folder, folders, files, ignore_subrepos=False)
        count += sum(os.path.isfile(f"{folder}/{name}") for name in files)
    return count


def check_complete(removed: int = 0) -> int:
    """Compare data/raw, which is made where it is missing, with data/raw.dvc; `removed` files are known to be gone.

    Returns: how many files there are.
    Raises: UserError if files are missing, or if a folder is a git or DVC repository of its own.
    """
    paths.RAW.mkdir(parents=True, exist_ok=True)
    present = count_files()
    if not TRACKED.exists():
        return present
    expected = YAML(typ="safe").load(TRACKED)["outs"][0].get("nfiles", 0)
    if present + removed < expected:
        raise UserError(
            f"{paths.RAW} holds {counted(present, 'file')}, {TRACKED} names {expected}: run 'make pull' to fetch them, "
            f"or, if you removed some on purpose, 'dvc add {paths.RAW}'"
        )
    return present


def pull() -> str:
    """Fetch the recordings that data/raw.dvc names; no recording that lies in data/raw is removed or changed.

    Raises: UserError where there is no remote, where it cannot be read, or where recordings would be lost; or if a
        folder is a git or DVC repository of its own.
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
            f"{counted(len(here), 'file')} in {paths.RAW} would be lost, not in {TRACKED} or different from it, such "
            f"as {here[0]}: move them elsewhere, and after 'make pull' back under other names"
        )
    run_dvc("checkout", str(TRACKED))
    return check()


def check() -> str:
    """How many files there are. Raises: UserError as `check_complete`."""
    return f"{counted(check_complete(), 'file')} in {paths.RAW}"


if __name__ == "__main__":
    run("raw", check) if sys.argv[1:] == ["check"] else run("pull", pull)

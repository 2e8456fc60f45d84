"""Erase a speaker, or one recording, from this folder with all copies: `make forget SPEAKER=name` or `CLIP=id`.

    python -m recorder.forget --speaker NAME | --clip ID [--yes] [--hub]

Says first what it has found and what will go, and asks. Then, with DVC, the inbox and the pipeline held still: the
recordings and their rows, all that was made with them, DVC's older versions here and in its remotes, the caches; with
--hub also what was published. Ends by searching for what is left. A list of what is to be done lies in data/recorder
until all of it is: killed at any point, the same command ends right, though the recordings may be gone by then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from recorder import inbox, runs
from recorder.erasing.explaining import explain
from recorder.erasing.finding import find, published, speakers
from recorder.erasing.removing import EXPERIMENTS, delete_on_hub, erase
from recorder.erasing.searching import search
from recorder.erasing.todo import ERASING_FILES, Repository, Todo, Wanted, read_todo, write_todo
from recorder.erasing.versions import Objects
from stages.commands import pull
from stages.common import paths
from stages.common.dvc import DVC_LOCK, Busy, locked_repository
from stages.common.locks import is_locked, lock
from stages.common.stage import UserError, run
from stages.speech.clips import ID_LENGTH
from stages.speech.text import clean

if TYPE_CHECKING:
    from dvc.repo import Repo

PATIENCE_S = 30.0


def forget(wanted: Wanted, yes: bool, hub: bool) -> str:
    """Raises: UserError for a name that nobody has, for another answer than the name, and where something is left."""
    begun = read_todo(wanted.todo_file)
    if begun:
        print(f"Going on with what was begun: {wanted.name} is being erased.", flush=True)
        if hub and not begun.repositories:
            begun.repositories = choose_repositories(wanted, yes)
        finish(begun, is_begun=True)
    else:
        finish(propose(wanted, yes, hub))
    for path in sorted(runs.FOLDER.glob(ERASING_FILES)):
        print(f"Not yet ended: make forget for {read_todo(path).wanted.name}. Run that again, too.")
    return f"{wanted.name} is erased; nothing found"


def propose(wanted: Wanted, yes: bool, hub: bool) -> Todo:
    """Say what there is and what will go, and ask.

    Raises: UserError for a name or an id that nothing has, and for another answer than the name.
    """
    with _repository() as repository:
        objects = Objects(Path(repository.cache.local.path))
        todo = find(wanted, objects)
        if not todo.is_anything and wanted.speaker not in (known := speakers()):
            if wanted.speaker is None:
                raise UserError(
                    f"no recording has the id {wanted.clip}: the Clips page and data/prepared/clips.jsonl name the ids"
                )
            names = ", ".join(known) or "nobody"
            raise UserError(f"no recording, consent or phrase is of {wanted.speaker!r}: known here: {names}")
        explain(todo, objects, repository, hub)
    if not yes and not ask(f"Type {wanted.name} to erase all this, anything else to leave it:", wanted.name):
        raise UserError("nothing was erased: the answer was another one")
    if hub and todo.versioned:
        todo.repositories = choose_repositories(wanted, yes)
    return todo


def ask(question: str, expected: str) -> bool:
    """Raises: UserError where nobody is there to answer."""
    try:
        return input(f"{question} ").strip() == expected
    except EOFError:
        raise UserError("nothing was erased: nobody answered. Add YES=1 (--yes) to erase without a question") from None


def choose_repositories(wanted: Wanted, yes: bool) -> list[Repository]:
    """Which repositories to delete on the Hub: asked for each; without questions those that are surely ours."""
    chosen = []
    for one in published(wanted.speaker):
        question = f"Delete {one.kind} {one.repo_id} on the Hub for good? Type its name:"
        if one.is_certain if yes else ask(question, one.repo_id):
            chosen.append(one)
        else:
            print(f"stays on the Hub: {one.kind} {one.repo_id}, {one.address}")
    return chosen


def finish(todo: Todo, is_begun: bool = False) -> None:
    """Erase, then search. Raises: UserError where something is left; the list of what to do then stays."""
    with at_rest() as repository:
        if not is_begun:
            deleted = [change for change in inbox.pending() if change.kind == "delete"]
            there = {inbox._kept(change.source, change.row["audio_path"]) for change in deleted}
            pull.check_complete(removed=sum(path is not None and not path.exists() for path in there))
        todo.join(find(todo.wanted, Objects(Path(repository.cache.local.path))))  # what came since it was asked
        write_todo(todo)
        problems = erase(todo, repository)
        if todo.repositories:
            problems += delete_on_hub(todo)
        print("searching for what is left", flush=True)
        problems += search(todo, repository)
        names_and_hashes = Path(repository.site_cache_dir)
    shutil.rmtree(names_and_hashes, ignore_errors=True)  # DVC makes its list of files and hashes again
    if problems:
        for problem in problems:
            print(f"still there: {problem}")
        raise UserError(f"not ended, {len(problems)} to be done by hand: see above, then run this again")
    todo.wanted.todo_file.unlink()
    if inbox.waiting():
        inbox.start_moving()
    if todo.versioned and Path(".git").exists():
        print(f"Commit {pull.TRACKED} and {DVC_LOCK}: git still has them as they were. They hold no recordings.")


@contextlib.contextmanager
def at_rest() -> Iterator[Repo]:
    """DVC's repository with everything held still that reads or writes recordings.

    Raises: UserError where something is at work and does not end soon.
    """
    gives_up_at_s = time.monotonic() + PATIENCE_S
    said = ""
    while True:
        with contextlib.ExitStack() as stack:
            busy = ""
            if stack.enter_context(lock(runs.RUN_LOCK)) is None:
                newest = runs.current()
                busy = f"the pipeline (since {newest.started_at})" if newest else "the pipeline"
            elif at_work := [*_experiments_at_work(), *_cache_users_at_work()]:
                busy = at_work[0]
            else:
                try:
                    repository = stack.enter_context(locked_repository())
                except Busy as error:
                    busy = str(error)
                else:
                    yield repository
                    return
        if time.monotonic() > gives_up_at_s:
            raise UserError(f"at work: {busy}. Wait for its end, or cancel it on the Train page; then run this again")
        if busy != said:
            print(f"waiting for {busy}", flush=True)
            said = busy
        time.sleep(inbox.PAUSE_S)


def _experiments_at_work() -> list[str]:
    """Processes in experiments' own copies of this folder, which DVC's list here does not name."""
    found = []
    place = EXPERIMENTS.resolve()
    for process in psutil.process_iter(["pid", "cwd"]):
        if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(place):
            found.append(f"an experiment (process {process.info['pid']})")
    for path in EXPERIMENTS.glob("celery/*.json"):
        worker = json.loads(path.read_text(encoding="utf-8"))
        if worker.get("returncode") is None and psutil.pid_exists(worker["pid"]):
            found.append(f"DVC's queue (process {worker['pid']}; 'dvc queue stop')")
    return found


def _cache_users_at_work() -> list[str]:
    """Trainings and data sets in the making, whoever started them."""
    locks = [*(paths.cache_root() / "training").glob("*.lock"), paths.cache_root() / "dataset/.lock"]
    return [f"what holds {path}" for path in locks if is_locked(path)]


def _repository():
    """DVC's repository, to read from. Raises: UserError where this folder is none."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        return Repo()
    except NotDvcRepoError:
        raise UserError("this folder is no DVC repository: go to the project's folder") from None


def main() -> str:
    parser = argparse.ArgumentParser(prog="make forget", description=__doc__.split("\n")[0])
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--speaker", help="everything of this person")
    who.add_argument("--clip", help="one recording, by its id of 16 letters and digits")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--hub", action="store_true", help="delete what was published, too")
    options = parser.parse_args()
    if options.clip is not None and not re.fullmatch(f"[0-9a-f]{{{ID_LENGTH}}}", options.clip):
        raise UserError(f"--clip {options.clip!r} is no id: it has {ID_LENGTH} of the signs 0-9 and a-f")
    speaker = None if options.speaker is None else clean(options.speaker)
    if speaker == "":
        raise UserError("the name is empty: make forget SPEAKER=name")
    return forget(Wanted(speaker, options.clip), options.yes, options.hub)


if __name__ == "__main__":
    run("forget", main, outlives_parent=True)

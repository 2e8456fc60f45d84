"""Erase a speaker, or one recording, from this folder with all copies: `make forget SPEAKER=name` or `CLIP=id`.

    python -m recorder.forget --speaker NAME | --clip ID [--yes] [--hub]

Shows what there is and what will be erased, and asks. Then, while DVC, the inbox and the pipeline are locked, it erases
the recordings and their rows, all that was made with them, DVC's older versions here and in its remotes, and the
caches; with --hub also what was published. At the end it searches for what is left. What is to be erased is written
into data/recorder first, and stays there until nothing is found: after an interruption, run the same command again.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from recorder import erasing, inbox, runs
from recorder.erasing import ERASURE_FILES, EXPERIMENTS, RESULTS, Todo, erase, find, git, read_todo
from recorder.searching import search
from stages.commands import pull
from stages.common import paths
from stages.common.dvc import DVC_LOCK, Busy, locked_repository
from stages.common.locks import is_locked, lock
from stages.common.params import PARAMS_FILE, load_params
from stages.common.plurals import counted
from stages.common.stage import UserError, run
from stages.hub.publish import address
from stages.speech.clips import ID_LENGTH
from stages.speech.text import clean

if TYPE_CHECKING:
    from dvc.repo import Repo

PATIENCE_S = 30.0
RECEIPTS = {"push": "model", "dataset": "dataset", "deploy": "space"}
PERHAPS = "perhaps"


def forget(speaker: str | None, clip: str | None, yes: bool, hub: bool) -> str:
    """Raises: UserError for an unknown name, if the answer is another one than the name, and if something is left."""
    todo = read_todo(Todo(speaker, clip).path)
    if is_begun := todo is not None:
        print(f"Erasing {todo.name} was interrupted, or not finished: it resumes.", flush=True)
    else:
        todo = propose(speaker, clip, yes, hub)
    if hub and todo.versioned and not todo.repositories:
        todo.repositories = choose_repositories(speaker, yes)
    finish(todo, is_begun)
    for path in sorted(runs.FOLDER.glob(ERASURE_FILES)):
        print(f"Not finished: make forget for {read_todo(path).name}. Run it again, too.")
    return f"{todo.name} is erased; nothing found"


def propose(speaker: str | None, clip: str | None, yes: bool, hub: bool) -> Todo:
    """Show what there is and what will be erased, and ask.

    Raises: UserError for an unknown name or id, and if the answer is another one than the name.
    """
    with at_rest() as repository:
        todo = find(speaker, clip, Path(repository.cache.local.path))
        if not (todo.files or todo.waiting or todo.older or todo.texts):
            if clip is not None:
                raise UserError(f"no recording has the id {clip}: the Clips page shows the ids")
            if speaker not in (known := erasing.speakers()):
                names = ", ".join(known) or "nobody"
                raise UserError(f"no recording, consent or phrase is of {speaker!r}; known are: {names}")
        explain(todo, repository, hub)
    if not yes and not ask(f"Type {todo.name} to erase all this, anything else to keep it:", todo.name):
        raise UserError("nothing was erased: the answer was another one")
    return todo


def explain(todo: Todo, repository: Repo, hub: bool) -> None:
    """Print what was found and what will be erased."""
    print(f"Recordings of {todo.name}:" if todo.speaker else f"Recording {todo.clip}:")
    states = {"": todo.files, ", saved but not yet in data/raw": todo.waiting, ", in older versions only": todo.older}
    for state, names in states.items():
        for source, count in Counter(name.split("/")[0] for name in names).items():
            print(f"  {paths.RAW / source}: {count}{state}")
    if todo.speaker is not None:
        print("  Also their consent, own phrases and pseudonym.")
        if PARAMS_FILE.exists() and (sentence := load_params().card.speaker):
            print(f"  params.yaml, card.speaker, stays: {sentence!r}. If it is about them, change it.")
        if unnamed := sum(clip.speaker is None for clip in erasing.clips_in_raw()):
            others = counted(unnamed, "other recording")
            print(f"  No speaker is named by {others}. If some are theirs: make forget CLIP=id, for each.")
    if todo.versioned:
        print("Erased with them, also what is others':")
        if todo.results:
            print("  The present model, its evaluation, report and card. 'make repro' makes new ones without them.")
        elif any(folder.exists() for folder in RESULTS):
            print("  Not the present model and results: they were made without them.")
        print(f"  All experiments, and the caches in {paths.cache_root()}, which are made again when needed.")
        print(f"  In DVC's cache ({repository.cache.local.path}): all versions but the present one.")
        for name, remote in repository.config["remote"].items():
            print(f"  In DVC's remote {name} ({remote['url']}): everything that the present version does not use.")
        if not Path(repository.cache.local.path).is_relative_to(repository.root_dir):
            print("  DVC's cache is outside this folder: other projects that share it lose what only they use.")
    if found := published(todo.speaker) if todo.versioned else {}:
        print("On the Hub, where older versions of a repository stay readable until it is deleted:")
        for (kind, repo_id), why in found.items():
            print(f"  {kind} {repo_id}: {address(repo_id, kind)} ({why})")
        if not hub:
            print("  They stay. To delete them, add HUB=1 to make forget (--hub), or use Settings at the address.")
    print("Out of reach: copies on other machines, backups, and what others have downloaded.")


def ask(question: str, expected: str) -> bool:
    """Raises: UserError if nobody is there to answer."""
    try:
        return input(f"{question} ").strip() == expected
    except EOFError:
        raise UserError("nothing was erased: nobody answered. Add YES=1 (--yes) to erase without a question") from None


def finish(todo: Todo, is_begun: bool) -> None:
    """Erase, then search. Raises: UserError if something is left; the to-do file then stays."""
    with at_rest() as repository:
        if not is_begun:
            deleted = [change for change in inbox.pending() if change.kind == "delete"]
            there = {inbox._kept(change.source, change.row["audio_path"]) for change in deleted}
            pull.check_complete(removed=sum(path is not None and not path.exists() for path in there))
        todo.join(find(todo.speaker, todo.clip, Path(repository.cache.local.path)))  # what came since it was asked
        todo.write()
        problems = erase(todo, repository) + delete_on_hub(todo)
        print("searching for what is left", flush=True)
        problems += search(todo, repository)
        names_and_hashes = Path(repository.site_cache_dir)
    shutil.rmtree(names_and_hashes, ignore_errors=True)  # DVC makes its list of files and hashes again
    if problems:
        print(*(f"still there: {problem}" for problem in problems), sep="\n")
        raise UserError(
            f"not finished, {counted(len(problems), 'place')} to clear by hand: see above. Remove the file, or in a "
            "table the row; then run this again"
        )
    todo.path.unlink()
    if todo.versioned and Path(".git").exists():
        print(f"Commit {pull.TRACKED} and {DVC_LOCK}: git has their earlier state, which holds no recordings.")


@contextlib.contextmanager
def at_rest() -> Iterator[Repo]:
    """DVC's repository, while all that reads or writes recordings is locked out.

    Raises: UserError if something is at work and does not end soon.
    """
    remedy = "Wait for its end, or cancel it on the Train page; then run this again"
    with contextlib.ExitStack() as stack:
        if is_locked(runs.RUN_LOCK):
            print("waiting for the pipeline", flush=True)
        if stack.enter_context(lock(runs.RUN_LOCK, PATIENCE_S)) is None:
            raise UserError(f"at work: the pipeline. {remedy}")
        # What DVC's own list does not name: experiments in their copies of this folder, and users of the caches.
        processes = [process.info for process in psutil.process_iter(["pid", "cwd"])]
        copies = EXPERIMENTS.resolve()
        busy = [f"process {one['pid']}" for one in processes if Path(one["cwd"] or "/").is_relative_to(copies)]
        locks = [path for pattern in ("*.lock", "training/*.lock") for path in paths.cache_root().glob(pattern)]
        if busy := busy + [f"the holder of {path}" for path in locks if is_locked(path)]:
            raise UserError(f"at work: {', '.join(busy)}. {remedy}")
        try:
            repository = stack.enter_context(locked_repository())
        except Busy as error:
            raise UserError(f"at work: {error}. {remedy}") from None
        yield repository


# On the Hub


def published(speaker: str | None) -> dict[tuple[str, str], str]:
    """{(kind, name): how we know} of repositories on the Hub: from receipts, pseudonyms, params.yaml and older ones."""
    found: dict[tuple[str, str], str] = {}
    for stage, stage_kind in RECEIPTS.items():
        path = paths.RECEIPTS / f"{stage}.json"
        receipt = erasing.read_dict(path)
        for kind, part in ((stage_kind, receipt), ("dataset", receipt.get("dataset") or {})):
            if part.get("published") and (name := part.get("repo_id") or part.get("space_id")):
                found.setdefault((kind, name), str(path))
    for name, known in erasing.read_dict(paths.PSEUDONYMS).items():
        if speaker in map(clean, known["speakers"]):
            found.setdefault(("dataset", name), str(paths.PSEUDONYMS))
    commits = git("log", "--branches", "--tags", "--remotes", "HEAD", "--format=%H", "--", str(PARAMS_FILE)).split()
    texts = {f"{PARAMS_FILE} of {commit[:7]}": git("show", f"{commit}:./{PARAMS_FILE}") for commit in commits}
    if PARAMS_FILE.exists():
        texts = {str(PARAMS_FILE): PARAMS_FILE.read_text(encoding="utf-8")} | texts
    for where, text in texts.items():
        with contextlib.suppress(YAMLError, AttributeError, KeyError, TypeError):  # older ones may have another form
            values = YAML(typ="safe").load(text)
            push, deploy = values["push"], values["deploy"]
            sections = {"model": push, "dataset": push.get("dataset") or {}, "space": deploy}
            for kind, section in sections.items():
                name = section.get("space_id" if kind == "space" else "repo_id")
                if section.get("enabled") and name:
                    found.setdefault((kind, name), f"{PERHAPS}: {where} names it")
    return found


def choose_repositories(speaker: str | None, yes: bool) -> list[str]:
    """`kind name` of what to delete on the Hub: asks for each; without questions, those that are surely ours."""
    chosen = []
    for (kind, name), why in published(speaker).items():
        question = f"Delete {kind} {name} on the Hub for good? Type its name:"
        if not why.startswith(PERHAPS) if yes else ask(question, name):
            chosen.append(f"{kind} {name}")
        else:
            print(f"stays on the Hub: {kind} {name}, {address(name, kind)}")
    return chosen


def delete_on_hub(todo: Todo) -> list[str]:
    """Delete the chosen repositories for good; returns what could not be deleted."""
    from stages.hub.client import Refused, api, call

    problems = []
    for repository in list(todo.repositories):
        kind, name = repository.split(" ")
        try:
            call(f"deleting {name}", api().delete_repo, name, repo_type=kind)
            print(f"deleted on the Hub: {kind} {name}")
        except UserError as error:
            if not (isinstance(error, Refused) and error.status == 404):
                problems.append(f"{kind} {name} on the Hub ({error}); or delete it at {address(name, kind)}")
                continue
            # Deleted before, or private to somebody else: the Hub answers the same.
            print(f"not found on the Hub: {kind} {name}. If {address(name, kind)} still shows it, delete it there")
        todo.repositories.remove(repository)
        todo.write()
    return problems


def main() -> str:
    parser = argparse.ArgumentParser(prog="make forget", description=__doc__.split("\n")[0])
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--speaker", help="everything of this person")
    who.add_argument("--clip", help="one recording, by its id of 16 letters and digits")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--hub", action="store_true", help="delete what was published, too")
    options = parser.parse_args()
    if options.clip is not None and not re.fullmatch(f"[0-9a-f]{{{ID_LENGTH}}}", options.clip):
        raise UserError(f"--clip {options.clip!r} is not an id: an id has {ID_LENGTH} of the characters 0-9 and a-f")
    speaker = None if options.speaker is None else clean(options.speaker)
    if speaker == "":
        raise UserError("the name is empty: make forget SPEAKER=name")
    return forget(speaker, options.clip, options.yes, options.hub)


if __name__ == "__main__":
    run("forget", main, outlives_parent=True)

"""Erase a speaker, or one recording, from this folder with all copies: `make forget SPEAKER=name` or `CLIP=id`.

    python -m recorder.forget --speaker NAME | --clip ID [--yes] [--hub]

Shows what there is and what will be erased, and asks. Then, while DVC, the inbox and the pipeline are locked, it erases
the recordings and their rows, all results and experiments, DVC's older versions here and in its remotes, and the
caches; with --hub also what was published. At the end it searches for what is left. What is to be erased is written
into data/recorder first, and stays there until nothing is found: after an interruption, run the same command again.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from recorder import erasing, inbox, runs
from recorder.erasing import EXPERIMENTS, Erasure, find, read_dict, read_erasure
from recorder.searching import files_below, search, search_files, speaker_ways
from stages.commands import pull
from stages.common import paths
from stages.common.dvc import DVC_LOCK, Busy, locked_repository, remove_cut_off_files
from stages.common.locks import lock
from stages.common.plurals import counted
from stages.common.stage import UserError, run
from stages.hub.publish import address
from stages.speech.clips import ID_LENGTH
from stages.speech.text import clean

if TYPE_CHECKING:
    from dvc.repo import Repo


def forget(speaker: str | None, clip: str | None, yes: bool, hub: bool) -> str:
    """Raises: UserError for an unknown name, if the answer is another one than the name, and if something is left."""
    if erasure := read_erasure(Erasure(speaker, clip).path):
        print(f"Erasing {erasure.name} was interrupted, or not finished: it resumes.", flush=True)
    else:
        erasure = propose(speaker, clip, yes, hub)
    if hub:
        delete_on_hub(published(speaker))  # first: the table of pseudonyms, which is erased, names data sets
    finish(erasure)
    return f"{erasure.name} is erased; nothing found"


def propose(speaker: str | None, clip: str | None, yes: bool, hub: bool) -> Erasure:
    """Show what there is and what will be erased, and ask.

    Raises: UserError for an unknown name or id, and if the answer is another one than the name.
    """
    with at_rest(), locked_repository() as repository:
        inbox.move(repository)
        pull.check_complete()
        erasure = find(speaker, clip)
        words = dict.fromkeys(speaker_ways(speaker) if speaker else [clip], "known")
        places = files_below([paths.RAW, runs.FOLDER, Path(repository.cache.local.path)])
        if not (erasure.files or search_files(places, erasure, words)):
            raise UserError(f"no recording, consent or phrase is of {erasure.name}: the Clips page shows names and ids")
        explain(erasure, repository, hub)
    if not yes:
        try:
            answer = input(f"Type {erasure.name} to erase all this, anything else to keep it: ")
        except EOFError:
            answer = "none: add YES=1 (--yes) to erase without a question"
        if answer.strip() != erasure.name:
            raise UserError(f"nothing was erased: the answer was {answer}")
    return erasure


def explain(erasure: Erasure, repository: Repo, hub: bool) -> None:
    """Print what was found and what will be erased."""
    cache = Path(repository.cache.local.path)
    print(f"{counted(len(erasure.files), 'recording')} of {erasure.name} will be erased, and with them:")
    if erasure.speaker is not None:
        print("  Their consent, own phrases and pseudonym.")
        if unnamed := sum(clip.speaker is None for clip in erasing.clips_in_raw()):
            others = counted(unnamed, "other recording")
            print(f"  Not {others} without a speaker. If some are theirs: make forget CLIP=id, for each.")
    print("  The present model, its evaluation, report and card. 'make repro' makes new ones without them.")
    print(f"  All experiments, the logs of runs, and the caches in {paths.cache_root()}.")
    print(f"  In DVC's cache ({cache}): all versions but the present one, also of others' recordings.")
    if not cache.is_relative_to(repository.root_dir):
        print("    It is outside this folder: other projects that share it lose what only they use.")
    for name, remote in repository.config["remote"].items():
        print(f"  In DVC's remote {name} ({remote['url']}): everything that the present version does not use.")
    for kind, name in published(erasure.speaker):
        outcome = "all versions of it" if hub else "it stays, unless you add HUB=1 to make forget (--hub)"
        print(f"  On the Hub, {kind} {name}, {address(name, kind)}: {outcome}.")
    print("Out of reach: copies on other machines, backups, what others have downloaded, and repositories on the Hub")
    print("that this folder does not name any more.")


def finish(erasure: Erasure) -> None:
    """Erase, then search. Raises: UserError if something is left; the file that it resumes from then stays."""
    with at_rest():
        with locked_repository() as repository:
            if erasure.path.exists():  # it resumes: recordings may be gone, and data/raw.dvc half written
                remove_cut_off_files(repository)
                repository.add(str(paths.RAW))
            inbox.move(repository)
            erasure.add(find(erasure.speaker, erasure.clip))  # what came since it was asked
            erasure.write()
            erasing.erase(erasure)
            repository.add(str(paths.RAW))
        with locked_repository() as repository:  # another one: the first remembers the outputs that it had found
            problems = erasing.collect_garbage(repository)
            print("searching for what is left", flush=True)
            problems += search(erasure, repository)
            names_and_hashes = Path(repository.site_cache_dir)
        shutil.rmtree(names_and_hashes, ignore_errors=True)  # DVC makes its list of files and hashes again
    if problems:
        print(*(f"still there: {problem}" for problem in problems), sep="\n")
        raise UserError(
            f"not finished, {counted(len(problems), 'place')} to clear by hand: see above. Remove the file, the row "
            "with any recording that it still names, or in params.yaml the id; then run this again"
        )
    erasure.path.unlink()
    if Path(".git").exists():
        print(f"Commit {pull.TRACKED} and {DVC_LOCK}: git has their earlier state, which holds no recordings.")


@contextlib.contextmanager
def at_rest() -> Iterator[None]:
    """Keep the pipeline from running. Raises: UserError if it runs, or another command that uses the recordings."""
    here, copies = Path.cwd(), EXPERIMENTS.resolve()
    try:
        with lock(runs.RUN_LOCK) as held:
            if held is None:
                raise Busy("the pipeline")
            # What DVC's own list does not name: experiments in their copies of this folder, and stages run by hand.
            for process in psutil.process_iter(["cwd", "cmdline"]):
                place, words = Path(process.info["cwd"] or "/"), process.info["cmdline"] or []
                is_stage = place == here and any(word.startswith("stages.") for word in words)
                if is_stage or place.is_relative_to(copies):
                    raise Busy(f"process {process.pid} ({' '.join(words)[-60:]})")
            yield
    except Busy as error:
        raise UserError(
            f"at work: {error}. Wait for its end, or cancel it on the Train page; then run this again"
        ) from None


# On the Hub


def published(speaker: str | None) -> list[tuple[str, str]]:
    """(kind, name) of repositories on the Hub: from receipts, and data sets that have a pseudonym of the speaker."""
    push, dataset, deploy = (read_dict(paths.RECEIPTS / f"{stage}.json") for stage in ("push", "dataset", "deploy"))
    parts = (("model", push), ("dataset", push.get("dataset") or {}), ("dataset", dataset), ("space", deploy))
    found = [(kind, part.get("repo_id") or part["space_id"]) for kind, part in parts if part.get("published")]
    for name, known in read_dict(paths.PSEUDONYMS).items():
        if speaker in map(clean, known["speakers"]):
            found.append(("dataset", name))
    return list(dict.fromkeys(found))


def delete_on_hub(repositories: list[tuple[str, str]]) -> None:
    """Delete repositories for good. Raises: UserError if the Hub refuses or does not answer."""
    from stages.hub.client import Refused, api, call

    for kind, name in repositories:
        place = f"{kind} {name} ({address(name, kind)})"
        try:
            call(f"deleting {name}", api().delete_repo, name, repo_type=kind)
            print(f"deleted on the Hub: {place}")
        except UserError as error:
            if not (isinstance(error, Refused) and error.status == 404):
                raise UserError(f"{place} is still there: {error}; or delete it there, and leave out HUB=1") from None
            # Deleted before, or private to somebody else: the Hub answers the same.
            print(f"not found on the Hub: {place}. If you can still see it there, delete it there")


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

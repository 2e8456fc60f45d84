"""What was found and what will go, in words, before anything does."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from recorder import runs
from recorder.erasing.finding import RESULTS, clips_in_raw, learned_from, published
from recorder.erasing.todo import Recording, Todo
from recorder.erasing.versions import Objects, experiments, git, versions_in_git
from stages.common import paths
from stages.common.dvc import DVC_LOCK
from stages.common.params import PARAMS_FILE, load_params
from stages.common.plurals import counted, lasting

if TYPE_CHECKING:
    from dvc.repo import Repo


def explain(todo: Todo, objects: Objects, repository: Repo, hub: bool) -> None:
    """Print what was found and what will be done."""
    wanted = todo.wanted
    print(f"Recordings of {wanted.speaker}:" if wanted.speaker is not None else f"Recording {wanted.clip}:")
    groups: dict[tuple[str, str], list[Recording]] = {}
    for one in todo.recordings:
        groups.setdefault((one.place, one.file.split("/")[0]), []).append(one)
    for (place, source), group in groups.items():
        words = {"raw": "", "inbox": ", saved but not yet in data/raw", "older": ", in older versions only"}[place]
        known_s = [one.duration_s for one in group if one.duration_s is not None]
        total_s = sum(known_s)
        length = lasting(total_s)
        length += "" if len(known_s) == len(group) else " or more"
        languages = ", ".join(sorted({one.language for one in group if one.language})) or "no language named"
        print(f"  {paths.RAW / source}: {len(group)} ({length}; {languages}){words}")
    if not todo.recordings:
        print("  none with sound; rows, phrases or the note that they agreed")
    if wanted.speaker is not None:
        unnamed = sum(clip.speaker is None for clip in clips_in_raw())
        print("  The note that they agreed goes too, and their own phrases and pseudonym: they hold the name.")
        if PARAMS_FILE.exists() and (sentence := load_params().card.speaker):
            print(f"  params.yaml, card.speaker, stays: {sentence!r}. If it speaks of them, change it.")
        if unnamed:
            others = counted(unnamed, "other recording")
            print(f"  No speaker is named by {others}. If some are theirs: make forget CLIP=id, for each.")
    if todo.versioned:
        _explain_made_with(todo, objects)
        print("Copies that go as well:")
        print(f"  DVC's cache ({objects.folder}): all versions but the present one, also of other speakers and models.")
        for name, remote in repository.config["remote"].items():
            print(f"  DVC's remote {name} ({remote['url']}): everything that the present version does not use.")
        print(f"  The caches in {paths.cache_root()}: converted sound, transcripts, half-finished trainings.")
        if not objects.folder.is_relative_to(repository.root_dir):
            print("  DVC's cache lies outside this folder: other projects that share it lose what only they use.")
    if repositories := published(wanted.speaker) if todo.versioned else []:
        print("On the Hub, where older versions of a repository stay readable until it is deleted:")
        for one in repositories:
            print(f"  {one.kind} {one.repo_id}: {one.address} ({one.why})")
        if not hub:
            print("  They stay. To delete them, add HUB=1 to make forget (--hub), or do it in Settings at the address.")
    print("Out of reach: copies of this folder on other machines, backups, and what others have downloaded.")


def _explain_made_with(todo: Todo, objects: Objects) -> None:
    print("Made with them:")
    made = []
    if todo.results:
        made.append("the present model, its evaluation, report and card: removed; 'make repro' makes new ones without")
    elif any(folder.exists() for folder in RESULTS):
        made.append("not the present model and results: these stay")
    first = min((one.since for one in todo.recordings), default=None)
    for past in reversed(runs.history()):
        if first is not None and datetime.fromisoformat(past.started_at).timestamp() >= first:
            settings = ", ".join(f"{key} {value}" for key, value in past.settings.items() if value is not None)
            made.append(f"training of {past.started_at}, {past.outcome} ({settings})")
    for name, commit in experiments():
        lock_text = git("show", f"{commit}:./{DVC_LOCK}")
        with_them = lock_text is None or learned_from(todo, lock_text, objects)
        what = "made with them" if with_them else "made without them, but its results go with DVC's older versions"
        made.append(f"experiment {name} ({commit[:7]}): removed; {what}")
    locks = versions_in_git(str(DVC_LOCK))
    versions = [commit[:7] for commit, text in locks if learned_from(todo, text, objects)]
    if versions:
        some = ", ".join(versions[:8]) + (" ..." if len(versions) > 8 else "")
        made.append(
            f"{counted(len(versions), 'version')} in git ({some}): the commits stay, they hold hashes; their data goes"
        )
    for line in made:
        print(f"  {line}")

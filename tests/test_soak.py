"""Soak: two tabs save 200 clips while runs are started and killed; all clips arrive, once, and nothing is broken."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from recorder import inbox, mover, runs
from stages.common.dvc import RUNNING_STAGES, running_commands
from stages.common.stage import UserError
from tests.recordings import broken_cache_objects, enter, make_take, processes_in, track_recordings, wait_until
from tests.workspaces import dvc, make_workspace, read_rows

SEED = int(os.environ.get("SOAK_SEED", "1"))
CLIPS = 200
WAYS = ("page", "make", "plain")
KILLED = {
    "dvc": ["-m", "dvc"],
    "stage": ["-m", "stages."],
    "supervisor": ["-m", "recorder.runs"],
    "mover": ["-m", "recorder.inbox"],
    "tab": ["-c", "tests.recordings"],
}
# A tab of the page: every clip that it has confirmed is noted, so that a killed one resumes.
TAB = """
import random, sys, time
from pathlib import Path
from recorder import inbox, mover
from tests.recordings import make_take, text_of
first, seed = int(sys.argv[1]), int(sys.argv[2])
confirmed = Path(f"confirmed-{first}.txt")
begin = len(confirmed.read_text().split()) if confirmed.exists() else 0
chance = random.Random(f"{seed} {first} {begin}")
for number in range(first + 2 * begin, CLIPS, 2):
    clip_id, _ = inbox.save_clip(make_take(number), text=text_of(number), language="en", speaker=f"tab {first}")
    with confirmed.open("a") as file:
        file.write(clip_id + "\\n")
    mover.start_moving()
    time.sleep(chance.uniform(0, 0.6))
""".replace("CLIPS", str(CLIPS))

pytestmark = [pytest.mark.kill, pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning:dvc")]


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    """The real pipeline, cut to its first two stages so that a run takes seconds."""
    folder = make_workspace(tmp_path)
    yaml = YAML()
    pipeline = yaml.load(folder / "dvc.yaml")
    yaml.dump({"stages": {name: pipeline["stages"][name] for name in ("prepare", "split")}}, folder / "dvc.yaml")
    (folder / "data/evaluation").mkdir()
    (folder / "data/evaluation/metrics.json").write_text('{"base": {"wer": 0.5}, "tuned": {"wer": 0.25}}')
    enter(folder, monkeypatch)
    track_recordings(folder)
    yield folder
    for process in processes_in(folder):
        process.kill()


def processes(kind: str | None = None) -> list[psutil.Process]:
    return processes_in(Path.cwd(), *KILLED.get(kind, []))


def start_tab(first: int, seed: int) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", TAB, str(first), str(seed)], start_new_session=True)


def start_a_run(way: str) -> subprocess.Popen | None:
    if way == "page":
        try:
            runs.start("page")
        except UserError as error:
            assert "already running" in str(error)
        return None
    command = {"make": ["recorder.runs"], "plain": ["dvc", "repro"]}[way]
    with Path(f"{way}.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", *command], stdout=log, stderr=log, start_new_session=True)


def confirmed_ids() -> set[str]:
    return {clip_id for path in Path().glob("confirmed-*.txt") for clip_id in path.read_text().split()}


def test_all_clips_arrive_once_whoever_runs_and_is_killed_meanwhile(workspace):
    chance = random.Random(SEED)
    tabs = {first: start_tab(first, SEED) for first in (0, 1)}
    started: Counter[str] = Counter()
    killed: Counter[str] = Counter()
    terminals: list[subprocess.Popen] = []
    next_kill_s = time.monotonic() + 3
    while len(confirmed_ids()) < CLIPS:
        for first, tab in tabs.items():
            if tab.poll() not in (None, 0):
                assert tab.returncode == -signal.SIGKILL
                tabs[first] = start_tab(first, SEED)
        at_work = processes("dvc") + processes("supervisor")
        if not at_work or chance.random() < 0.05:
            way = WAYS[sum(started.values()) % len(WAYS)]
            terminals += [run for run in [start_a_run(way)] if run]
            started[way] += 1
        if time.monotonic() > next_kill_s:
            alive = {kind: found for kind in KILLED if (found := processes(kind))}
            if alive:
                kind = min(alive, key=lambda kind: (killed[kind], chance.random()))
                chance.choice(alive[kind]).kill()
                killed[kind] += 1
            next_kill_s = time.monotonic() + chance.uniform(0.2, 2.5)
        for terminal in terminals:
            terminal.poll()  # leaves no dead entry in the list of processes
        confirmed = confirmed_ids()
        assert confirmed <= {clip.id for clip in inbox.stored_clips()}  # at any time
        time.sleep(chance.uniform(0, 0.3))
    for process in [*tabs.values(), *terminals]:
        assert process.wait(60) is not None
    print(f"seed {SEED}: started {dict(started)}, killed {dict(killed)}, runs {outcomes()}")

    wait_until(lambda: not processes())
    try:
        running_commands()
    except UserError:  # DVC was killed while it wrote this file: a person is told to delete it
        RUNNING_STAGES.unlink()
    runs.start("page")
    wait_until(lambda: not processes())
    assert runs.history()[0].outcome == "done", runs.history()[0].why

    ids = {make_take(number).id for number in range(CLIPS)}
    assert len(ids) == CLIPS
    assert inbox.waiting() == 0 and mover.problem() is None
    prepared = [row["id"] for row in read_rows(Path("data/prepared/metadata.jsonl"))]
    assert len(prepared) == CLIPS and set(prepared) == ids
    assert read_rows(Path("data/prepared/rejected.jsonl")) == []
    files = {str(path.relative_to("data/raw")) for path in Path("data/raw").rglob("*") if path.is_file()}
    assert files == {f"recorded/{clip_id}.flac" for clip_id in ids} | {"recorded/clips.jsonl"}
    for number in range(CLIPS):
        take = make_take(number)
        assert Path(f"data/raw/recorded/{take.id}.flac").read_bytes() == take.content
    assert broken_cache_objects(workspace) == []
    assert "up to date" in dvc(workspace, "status").stdout
    # It was a soak: all ways of starting, and kills of all kinds.
    assert sum(started.values()) >= 6
    assert len(killed) >= 4 and sum(killed.values()) >= 10


def outcomes() -> dict[str, int]:
    return dict(Counter(run.outcome for run in runs.history()))

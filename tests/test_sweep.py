"""Experiments, a sweep and a learning curve on the real pipeline: run, read back, resumed after an interruption."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workspaces import DEMO_CLIPS, copy_project, dvc, environment, git, read_json, read_rows

pytestmark = pytest.mark.slow
GRID = ("train.learning_rate=1.0e-3,4.0e-3",)


@pytest.fixture(scope="module")
def repository(trained_project, tmp_path_factory):
    """A git and DVC repository in which the pipeline has run once, with a training of a few seconds."""
    folder = tmp_path_factory.mktemp("experiments") / "project"
    workspace = copy_project(trained_project, folder, train__epochs=1, train__max_clips=16)
    dvc(workspace, "repro")
    git(workspace, "commit", "--quiet", "--all", "--amend", "-m", "a shorter training")
    return workspace


def start(workspace: Path, module: str, *words: str) -> subprocess.Popen:
    """A command in a process group of its own, as in a terminal, where Ctrl-C reaches DVC and its stage too."""
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.commands.{module}", *words],
        cwd=workspace, env=environment(workspace), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in a shell's background ignore it
    )  # fmt: skip


def run(workspace: Path, module: str, *words: str) -> tuple[int, str]:
    """(exit code, screen) of a command."""
    process = start(workspace, module, *words)
    screen, _ = process.communicate(timeout=600)
    return process.returncode, screen


def names(workspace: Path) -> set[str]:
    [commit] = [row for row in json.loads(dvc(workspace, "exp", "show", "--json").stdout) if row["experiments"]]
    return {one["name"] for one in commit["experiments"]}


def test_interrupted_sweep_resumes_with_what_is_missing(repository):
    """Catches: a sweep that begins anew, loses a finished run, or leaves copies of the recordings behind."""
    first = start(repository, "sweep", *GRID)
    gives_up_at_s = time.monotonic() + 240
    for words in ("run 2 of 2", "Running stage 'train'"):
        while words not in first.stdout.readline():
            assert time.monotonic() < gives_up_at_s and first.poll() is None, f"no {words!r} in four minutes"
    os.killpg(first.pid, signal.SIGINT)
    screen, _ = first.communicate()
    assert screen.splitlines()[-1] == "sweep: stopped; run it again to resume"
    assert not list((repository / ".dvc/tmp/exps/standalone").glob("tmp*/data"))
    before = names(repository)
    assert len(before) == 1

    code, screen = run(repository, "sweep", *GRID)
    assert code == 0, screen
    assert "\n1 of 2 runs to do; the last training took " in f"\n{screen}"
    assert before < names(repository) and len(names(repository)) == 2
    table = [line for line in screen.splitlines() if line.startswith("| sweep-")]
    assert len(table) == 2 and "| train.learning_rate |" in screen
    assert "sweep: 2 experiments, best by validation: sweep-" in screen

    assert run(repository, "sweep", *GRID)[1].startswith("0 of 2 runs to do\n")
    code, compared = run(repository, "compare")
    assert code == 0 and all(line in compared for line in table)


def test_run_that_fails_does_not_keep_the_others_from_running(repository):
    """Catches: a night lost to one wrong value, or a failed run that is not named."""
    code, screen = run(repository, "sweep", "train.seed=-1,7")
    assert code == 1 and "train.seed: input should be greater" in screen
    assert "sweep: 1 of 2 runs failed, see above: sweep-" in screen.splitlines()[-1]
    assert "0 of 1 run to do" in run(repository, "sweep", "train.seed=7")[1]


def test_learning_curve_runs_over_growing_parts(repository):
    """Catches: a curve through other sizes than those that were asked for."""
    available = len(read_rows(repository / "data/split/train.jsonl"))
    code, screen = run(repository, "learning_curve", "6", "12", "24", str(available + 1))
    assert code == 0, screen
    lines = (repository / "data/experiments/learning_curve.csv").read_text().splitlines()
    assert lines[0] == "clips,minutes,wer,wer_low,wer_high"
    assert [int(line.split(",")[0]) for line in lines[1:]] == [6, 12, 24, available]
    minutes = [float(line.split(",")[1]) for line in lines[1:]]
    assert minutes == sorted(minutes) and minutes[0] < minutes[-1] / 3
    assert screen.splitlines()[-1].startswith("learning-curve: ")


def test_folder_without_git_is_one_line(repository, tmp_path):
    """Catches: a traceback, or DVC's own advice, which does not say what to do."""
    (tmp_path / "stages").symlink_to(repository / "stages")
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    code, screen = run(tmp_path, "compare")
    assert code == 1 and len(screen.splitlines()) == 1 and "experiments are kept with git" in screen


def test_experiment_publishes_nothing_even_where_params_say_so(repository):
    dvc(repository, "exp", "run", "-S", "push.enabled=true", "-S", "deploy.enabled=true")
    for stage in ("push", "deploy"):
        receipt = read_json(repository / f"data/receipts/{stage}.json")
        assert receipt["published"] is False and receipt["reason"].startswith("experiments publish nothing")
    git(repository, "checkout", "--", "params.yaml", "dvc.lock")


def test_one_more_clip_runs_only_what_depends_on_it(repository):
    dvc(repository, "repro")
    folder = repository / "data/raw/recorded"
    shutil.copy(DEMO_CLIPS / "100.opus", folder / "new.opus")
    [text] = [row["text"] for row in read_rows(DEMO_CLIPS / "clips.jsonl") if row["audio_path"] == "100.opus"]
    row = json.dumps({"audio_path": "new.opus", "text": text, "language": "en", "speaker": "Ann"})
    (folder / "clips.jsonl").write_text((folder / "clips.jsonl").read_text() + row + "\n")
    before = set((repository / ".cache/prepared").rglob("*"))
    result = dvc(repository, "repro")
    assert re.findall(r"Running stage '(\w+)'", result.stdout)[:2] == ["prepare", "split"]
    assert "61 clips" in result.stdout
    new = {path for path in (repository / ".cache/prepared").rglob("*") if path.is_file()} - before
    assert len(new) == 2  # the clip's entry, and the index of this folder, a copy of the one that prepare ran in

"""A sweep and a learning curve on the real pipeline: queued, run, read back, and gone on with after an interruption."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.commands import experiments
from tests.test_experiments import repository  # noqa: F401  a fixture
from tests.workspaces import dvc, environment, read_json, read_rows

pytestmark = pytest.mark.slow


def run(workspace: Path, module: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", f"stages.commands.{module}", *words],
        cwd=workspace, env=environment(workspace), capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def names(workspace: Path) -> set[str]:
    [commit] = [row for row in json.loads(dvc(workspace, "exp", "show", "--json").stdout) if row["experiments"]]
    return {one["name"] for one in commit["experiments"]}


GRID = ("train.learning_rate=1.0e-3,4.0e-3",)


def test_interrupted_sweep_goes_on_with_what_is_missing(repository):  # noqa: F811
    command = [sys.executable, "-m", "stages.commands.sweep", *GRID]
    first = subprocess.Popen(
        command,
        cwd=repository,
        env=environment(repository),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    gives_up_at_s = time.monotonic() + 240
    for state in ("running", "success"):
        while f": {state}" not in first.stdout.readline():
            assert time.monotonic() < gives_up_at_s and first.poll() is None, f"no run was {state} in four minutes"
        # Told while it is so, not when all is over.
        assert "Running" in dvc(repository, "queue", "status").stdout
    first.send_signal(signal.SIGINT)
    first.wait()
    before = names(repository)

    again = run(repository, "sweep", *GRID)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 runs, 1 of them done or queued before" in again.stdout or "2 of them done" in again.stdout
    assert "the last training took" in again.stdout or "2 of them" in again.stdout
    assert before <= names(repository) and len(names(repository)) == 2
    table = [line for line in again.stdout.splitlines() if line.startswith("| sweep-")]
    assert len(table) == 2 and "| train.learning_rate |" in again.stdout
    assert "sweep: 2 experiments, best by validation: sweep-" in again.stdout

    third = run(repository, "sweep", *GRID)
    assert "2 runs, 2 of them done or queued before\n" in third.stdout
    compared = run(repository, "compare")
    assert compared.returncode == 0 and all(line in compared.stdout for line in table)


def test_learning_curve_runs_over_growing_parts(repository):  # noqa: F811
    available = len(read_rows(repository / "data/split/train.jsonl"))
    result = run(repository, "learning_curve", "6", "12", "24", str(available + 1))
    assert result.returncode == 0, result.stdout + result.stderr
    lines = (repository / "data/experiments/learning_curve.csv").read_text().splitlines()
    assert lines[0] == "clips,minutes,wer,wer_low,wer_high"
    assert [int(line.split(",")[0]) for line in lines[1:]] == [6, 12, 24, available]
    minutes = [float(line.split(",")[1]) for line in lines[1:]]
    assert len(minutes) == 4 and minutes == sorted(minutes) and minutes[0] < minutes[-1] / 3
    assert re.findall(r"^ +(\d+) clips +\d+\.\d min +\d", result.stdout, re.MULTILINE) == [
        "6",
        "12",
        "24",
        str(available),
    ]
    assert (repository / "data/experiments/learning_curve.svg").exists()
    assert result.stdout.splitlines()[-1].startswith("learning-curve: ")


@pytest.mark.parametrize("module", ["sweep", "compare", "learning_curve"])
def test_folder_without_git_is_one_line(repository, tmp_path, module):  # noqa: F811
    (tmp_path / "data/split").mkdir(parents=True)
    (tmp_path / "data/split/train.jsonl").write_text("{}\n" * 60)
    (tmp_path / "stages").symlink_to(repository / "stages")
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    result = run(tmp_path, module)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1 and "experiments are kept with git" in result.stderr
    assert read_json(repository / "data/checkpoints/validation.json")["train_clips"] > 0


def test_worker_that_ends_before_its_queue_is_empty_is_started_again(repository, monkeypatch):  # noqa: F811
    monkeypatch.chdir(repository)
    for name, value in environment(repository).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(experiments, "LONGEST_REST", 1)
    starts = []

    def dvc_whose_first_worker_ends_at_once(*arguments: str) -> str:
        starts.extend([arguments] if arguments == ("queue", "start") else [])
        return "" if arguments == ("queue", "start") and len(starts) == 1 else run_dvc(*arguments)

    run_dvc = experiments.run_dvc
    monkeypatch.setattr(experiments, "run_dvc", dvc_whose_first_worker_ends_at_once)
    [experiment] = experiments.run_all("again", [{"train.learning_rate": 2.0e-3}])
    assert experiment.name in names(repository) and len(starts) >= 2

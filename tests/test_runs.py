"""Runs: one at a time, remembered by how they ended, and none leaves anything behind that blocks the next."""

import csv
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from recorder import inbox, runs
from recorder.run_log import finished, read_progress
from stages.common.stage import UserError
from tests.recordings import enter, processes_in, recorder_environment, repro_beside, save, track_recordings, wait_until
from tests.workspaces import add_demo_clips, make_workspace, read_json, read_rows, set_params

STAGES = ["prepare", "split", "train", "evaluate", "card", "push", "deploy"]
CLIPS = 6
# In place of the training: takes as long as the test wants, but ends with DVC like any stage.
WAITING_STAGE = """
import time
from pathlib import Path
from stages.common.stage import run

def main():
    Path("began").touch()
    while not Path("go-on").exists():
        time.sleep(0.02)
    Path("data/checkpoints").mkdir(parents=True)
    Path("data/checkpoints/weights").write_text("trained")
    return "done waiting"

run("train", main)
"""

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning:dvc")


def run_in_terminal(workspace: Path, **extra: str) -> subprocess.CompletedProcess:
    """As `make repro` does."""
    return subprocess.run(
        [sys.executable, "-m", "recorder.runs"],
        cwd=workspace, env=recorder_environment(workspace, **extra), capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A workspace in which the whole pipeline has run once, from the terminal: screen.txt is what it printed."""
    workspace = make_workspace(tmp_path_factory.mktemp("trained"), train__epochs=3)
    add_demo_clips(workspace, 20)
    (workspace / "data/raw/demo").rename(workspace / "data/raw/recorded")
    track_recordings(workspace)
    result = run_in_terminal(workspace)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    (workspace / "screen.txt").write_text(result.stdout)
    return workspace


@pytest.fixture(scope="module")
def log(trained) -> str:
    (path,) = trained.glob("data/recorder/runs/*/log.txt")
    return path.read_bytes().decode()


@pytest.fixture(scope="module")
def quick_template(tmp_path_factory) -> Path:
    """A workspace with a pipeline of seconds: the real first stage, and one that waits."""
    workspace = make_workspace(tmp_path_factory.mktemp("quick"))
    yaml = YAML()
    pipeline = yaml.load(workspace / "dvc.yaml")
    train = {
        "cmd": pipeline["stages"]["train"]["cmd"],
        "deps": ["data/prepared/metadata.jsonl"],
        "outs": ["data/checkpoints"],
    }
    yaml.dump({"stages": {"prepare": pipeline["stages"]["prepare"], "train": train}}, workspace / "dvc.yaml")
    (workspace / "stages/train.py").write_text(WAITING_STAGE)
    (workspace / "data/evaluation").mkdir()
    (workspace / "data/evaluation/metrics.json").write_text('{"base": {"wer": 0.5}, "tuned": {"wer": 0.25}}')
    return workspace


@pytest.fixture
def quick(quick_template, tmp_path, monkeypatch) -> Path:
    """That workspace with recordings, as the working folder. What still runs in it after the test is killed."""
    workspace = tmp_path / "quick"
    shutil.copytree(quick_template, workspace)
    enter(workspace, monkeypatch)
    track_recordings(workspace)
    for number in range(CLIPS):
        save(number)
    yield workspace
    for process in processes_in(workspace):
        process.kill()


def wait_until_training(quick: Path) -> runs.Run:
    wait_until(lambda: (quick / "began").exists())
    return runs.current()


def wait_until_over() -> runs.Run:
    wait_until(lambda: runs.current() is None and not runs.is_locked(runs.RUN_LOCK))
    return runs.history()[0]


# What a log tells


def test_terminal_shows_the_run_and_it_is_remembered(trained, log, monkeypatch):
    monkeypatch.chdir(trained)
    screen = (trained / "screen.txt").read_text().splitlines()
    assert "\n".join(screen[:-1]) == "\n".join(log.splitlines())
    metrics = read_json(trained / "data/evaluation/metrics.json")
    before, after = (metrics[model]["wer"] for model in ("base", "tuned"))
    assert f"{before:.1%} before, {after:.1%} after" in screen[-1]
    (run,) = runs.history()
    assert (run.outcome, run.why, run.started_by, run.clips) == ("done", "", "make", 20)
    assert run.settings["model.name"] == "data/demo/voxtral-tiny" and run.settings["train.epochs"] == 3
    assert (run.wer_base, run.wer_tuned) == (before, after)
    assert run.started_at < run.ended_at
    assert runs.current() is None


def test_log_cut_anywhere_has_one_running_stage_and_the_others_before_or_after_it(log):
    content = log.encode()
    seen = []
    for end in range(0, len(content), 40):  # also in the middle of a line, or of a letter
        progress = read_progress(content[:end].decode(errors="replace"), STAGES)
        order = [{"done": 0, "running": 1, "waiting": 2}[state] for state in progress.stages.values()]
        assert order == sorted(order) and order.count(1) == (progress.current is not None)
        assert progress.error == ""
        assert progress.fraction is None or 0 <= progress.fraction <= 1
        if progress.current not in seen:
            seen.append(progress.current)
    assert seen == [None, *STAGES]
    whole = finished(read_progress(log, STAGES))
    assert whole.stages == dict.fromkeys(STAGES, "done") and whole.error == ""


def test_curve_and_bar_of_the_training_are_read_from_its_log(trained, log):
    with (trained / "data/checkpoints/curve.csv").open() as file:
        expected = [float(row["validation_wer"]) for row in csv.DictReader(file)]
    curve = read_progress(log, STAGES).curve
    assert [point["wer"] for point in curve] == pytest.approx(expected, abs=0.0005)
    assert [point["epoch"] for point in curve] == [1.0, 2.0, 3.0]
    half = log[: log.index("train: epoch 2.0")]
    progress = read_progress(half, STAGES)
    assert progress.current == "train" and len(progress.curve) == 1
    assert 0.3 < progress.fraction < 0.9
    assert progress.left
    after = read_progress(log[: log.index("> exec python -m stages.evaluate")], STAGES)
    assert (after.current, after.fraction, after.left) == ("evaluate", None, "")
    bar = log[: log.index("train: 0step")] + "\rtrain:  50%|#####     | 5/10 [00:10<1:01:05,  1.00step/s]"
    assert (read_progress(bar, STAGES).fraction, read_progress(bar, STAGES).left) == (0.5, "1:01:05")


def test_second_run_skips_what_is_done(trained, monkeypatch):
    monkeypatch.chdir(trained)
    assert run_in_terminal(trained).returncode == 0
    newest, first = runs.history()
    assert newest.started_at >= first.ended_at
    expected = dict.fromkeys(STAGES[:5], "skipped") | dict.fromkeys(STAGES[5:], "done")
    assert finished(read_progress(newest.log, STAGES)).stages == expected
    assert newest.wer_tuned == first.wer_tuned


@pytest.mark.parametrize(
    ("said", "code", "why"),
    [
        ("train: lr=1\ntrain: too little memory: halve the batch\n", 1, "train: too little memory: halve the batch"),
        ("train: lr=1\nTraceback (most recent call last):\n  File\nKeyError: 'x'\n", 1, "KeyError: 'x'"),
        ("train: lr=1\n\rtrain:  50%|#  | 1/2 [00:01<00:01]", -9, "train was killed, often because"),
        ("train: lr=1\n", 3, "failed to reproduce 'train': failed to run: exec python -m stages.train, exited with 3"),
    ],
)
def test_reason_of_a_failure_is_what_the_stage_said_last(said, code, why):
    error = f"ERROR: failed to reproduce 'train': failed to run: exec python -m stages.train, exited with {code}\n"
    skipped = "Stage 'prepare' didn't change, skipping\n"
    progress = read_progress(f"{skipped}Running stage 'train':\n> exec python -m stages.train\n{said}{error}", STAGES)
    assert progress.error.startswith(why)
    assert [progress.stages[stage] for stage in ("prepare", "train", "evaluate")] == ["skipped", "failed", "waiting"]
    before_any = read_progress("ERROR: you are not inside of a DVC repository\n", STAGES)
    assert before_any.error == "you are not inside of a DVC repository"


# Starting, and ending well


def test_started_twice_is_one_run_and_a_message(quick):
    runs.start("page")
    run = runs.current()
    assert run.outcome == "running" and run.started_by == "page" and run.clips == CLIPS
    with pytest.raises(UserError, match=r"^The training is already running\."):
        runs.start("page")
    again = run_in_terminal(quick)
    assert again.returncode == 1
    assert again.stderr.startswith(f"repro: the pipeline is already running since {run.started_at}")
    wait_until_training(quick)
    progress = read_progress(run.log, runs.stage_names())
    assert progress.stages == {"prepare": "done", "train": "running"}
    save(CLIPS)  # during the run: moved at its end, for the next one
    (quick / "go-on").touch()
    ended = wait_until_over()
    assert (ended.id, ended.outcome, ended.wer_base, ended.wer_tuned) == (run.id, "done", 0.5, 0.25)
    assert len(runs.history()) == 1
    assert len(read_rows(Path("data/prepared/metadata.jsonl"))) == CLIPS
    wait_until(lambda: not processes_in(quick))
    assert inbox.waiting() == 0 and len(read_rows(Path("data/raw/recorded/clips.jsonl"))) == CLIPS + 1


# Ending badly


def test_failed_stage_is_told_in_its_own_words(quick):
    set_params(quick, prepare__min_duration_s=20.0)
    words = f"prepare: no usable clip in data/raw, all {CLIPS} rejected: {CLIPS} too short; "
    words += "see data/prepared/rejected.jsonl"
    result = run_in_terminal(quick)
    run = runs.history()[0]
    assert (result.returncode, result.stderr) == (1, f"repro: {words}\n")
    assert (run.outcome, run.why) == ("failed", words)
    progress = read_progress(run.log, runs.stage_names())
    assert progress.error == words
    assert progress.stages == {"prepare": "failed", "train": "waiting"}


def test_missing_recordings_are_told_before_anything_runs(quick):
    inbox.bring_in()
    tracked = Path("data/raw.dvc").read_text()
    shutil.rmtree("data/raw/recorded")
    result = run_in_terminal(quick)
    assert result.returncode == 1
    assert result.stderr.startswith(f"repro: data/raw holds 0 files, data/raw.dvc names {CLIPS + 1}: run 'make pull'")
    assert result.stderr.count("\n") == 1
    assert runs.history()[0].outcome == "failed" and runs.history()[0].log == ""
    assert Path("data/raw.dvc").read_text() == tracked


@pytest.mark.parametrize("broken", ["params.yaml", "dvc.yaml"])
def test_broken_file_is_one_line(quick, broken):
    Path(broken).write_text("stages: [")
    result = run_in_terminal(quick)
    assert result.returncode == 1
    assert result.stderr.startswith("repro: ") and broken in result.stderr and result.stderr.count("\n") == 1
    if broken == "params.yaml":
        with pytest.raises(UserError, match=r"^params\.yaml is not valid YAML"):
            runs.start("page")


def test_ctrl_c_in_the_terminal_cancels(quick):
    process = subprocess.Popen(
        [sys.executable, "-m", "recorder.runs"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_until_training(quick)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.startswith("repro: Stopped by hand.") and errors.count("\n") == 1
    assert runs.history()[0].outcome == "cancelled"
    assert processes_in(quick) == []


# DVC runs a stage through the shell that SHELL names.
@pytest.mark.parametrize(
    ("killed", "shell"),
    [
        ("dvc", "/bin/sh"),
        pytest.param("dvc", "/bin/bash", marks=pytest.mark.slow),
        ("supervisor", "/bin/sh"),
        ("machine", "/bin/sh"),
    ],
)
def test_run_that_is_killed_is_told_and_the_next_one_ends_well(quick, monkeypatch, killed, shell):
    """A stage that trains on beside the next run, or a lock that blocks it for ever."""
    monkeypatch.setenv("SHELL", shell)
    runs.start("page")
    run = wait_until_training(quick)
    dvc_pid = read_json(runs.RUNS / run.id / "run.json")["dvc_pid"]
    is_killed = {
        "dvc": lambda process: process.pid == dvc_pid,
        "supervisor": lambda process: process in processes_in(quick, "recorder.runs"),
        "machine": lambda process: True,
    }[killed]
    for process in filter(is_killed, processes_in(quick)):
        process.kill()
    if killed == "supervisor":  # dvc goes on, and can be stopped
        time.sleep(1)
        assert runs.current().id == run.id
        with pytest.raises(UserError, match=r"^The training is already running\."):
            runs.start("page")
        runs.cancel(run.id)
    ended = wait_until_over()
    assert ended.outcome == ("failed" if killed == "dvc" else "interrupted") and ended.why
    wait_until(lambda: not processes_in(quick))
    runs.start("page")
    runs.cancel(run.id)  # from a page that was not loaded again since: ends no other run
    (quick / "go-on").touch()
    assert wait_until_over().outcome == "done"
    assert [run.outcome for run in runs.history()] == ["done", ended.outcome]


# Beside other commands of DVC


@pytest.fixture
def plain_repro(quick) -> subprocess.Popen:
    """`dvc repro` from another terminal, at its waiting stage."""
    inbox.bring_in()
    with repro_beside() as process:
        wait_until(lambda: (quick / "began").exists())
        yield process


def test_run_waits_for_another_repro_and_then_takes_what_came_meanwhile(quick, plain_repro):
    save(CLIPS)
    runs.start("page")
    wait_until(lambda: runs.current().waits_for)
    assert runs.current().waits_for == f"process {plain_repro.pid} (dvc repro)"
    assert runs.current().log == ""
    runs.cancel(runs.current().id)
    assert (wait_until_over().outcome, plain_repro.poll()) == ("cancelled", None)
    runs.start("page")
    wait_until(lambda: runs.current().waits_for)
    (quick / "go-on").touch()
    assert plain_repro.wait(60) == 0
    run = wait_until_over()
    assert (run.outcome, run.waits_for) == ("done", None)
    assert len(read_rows(Path("data/prepared/metadata.jsonl"))) == CLIPS + 1


# By itself


def test_training_is_due_after_so_many_new_clips_since_the_last_one(quick):
    set_params(quick, recorder__train_after_clips=3)
    assert runs.is_due()
    set_params(quick, prepare__min_duration_s=20.0)
    runs.start("page")
    assert wait_until_over().outcome == "failed"
    for number, due in ((CLIPS, False), (CLIPS + 1, False), (CLIPS + 2, True)):
        save(number)  # not tried again until there is more
        assert runs.is_due() == due
    set_params(quick, recorder__train_after_clips=None)
    assert not runs.is_due()


def test_what_was_recorded_meanwhile_is_trained_on_afterwards(quick):
    set_params(quick, recorder__train_after_clips=3)
    runs.start("page")
    wait_until_training(quick)
    for number in range(CLIPS, CLIPS + 3):
        save(number)
    assert not runs.is_due()  # one is running
    (quick / "go-on").touch()
    wait_until(lambda: len(runs.history()) == 2)
    assert wait_until_over().outcome == "done"
    newest, first = runs.history()
    assert (first.started_by, first.clips) == ("page", CLIPS)
    assert (newest.started_by, newest.clips) == ("new recordings", CLIPS + 3)
    assert len(read_rows(Path("data/prepared/metadata.jsonl"))) == CLIPS + 3


# A real training


@pytest.mark.slow
def test_cancelled_training_leaves_nothing_running_and_resumes_the_next_time(trained, tmp_path, monkeypatch):
    workspace = tmp_path / "workspace"
    shutil.copytree(trained, workspace)
    enter(workspace, monkeypatch)
    set_params(workspace, train__epochs=40, train__early_stopping_patience=None)
    runs.start("page")
    wait_until(lambda: len(read_progress(runs.history()[0].log, STAGES).curve) >= 2)
    run = runs.current()
    runs.cancel(run.id)
    cancelled = wait_until_over()
    assert (cancelled.id, cancelled.outcome) == (run.id, "cancelled")
    wait_until(lambda: not processes_in(workspace))
    progress = read_progress(cancelled.log, STAGES)
    assert progress.stages["train"] == "failed" and progress.stages["evaluate"] == "waiting"
    runs.start("page")
    wait_until(lambda: runs.current() is None, 120)
    assert runs.history()[0].outcome == "done", runs.history()[0].why
    assert read_json(Path("data/checkpoints/training.json"))["resumed_from_step"] > 0

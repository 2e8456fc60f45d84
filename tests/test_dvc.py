"""The wrapper of DVC: its output or its reason, who else runs it, and files that it was killed in."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.common.dvc import DVC_LOCK, RUNNING_STAGES, TRACKED, Busy, locked_repository, remove_cut_off_files, run_dvc
from stages.common.stage import UserError
from tests.workspaces import environment, init_dvc

STAGE = """
stages:
  read:
    cmd: touch began; ls data/raw > heard.txt
    deps: [data/raw]
    outs: [heard.txt]
"""

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning:dvc")


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """The working folder: a repository with one stage, which has run."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/a.wav").write_bytes(b"sound")
    init_dvc(tmp_path)
    Path("dvc.yaml").write_text(STAGE)
    run_dvc("add", "--quiet", "data/raw")
    run_dvc("repro", "--quiet")
    Path("began").unlink()
    return tmp_path


def test_output_is_returned_and_a_failure_is_one_line_in_dvcs_words(repository, capfd):
    assert "up to date" in run_dvc("status", folder=repository)
    with pytest.raises(UserError, match=r"^'dvc repro nothing' failed with exit code 255: [^\n]*nothing[^\n]*$"):
        run_dvc("repro", "nothing")
    with pytest.raises(UserError, match=r"run 'git init'"):
        run_dvc("exp", "show")
    capfd.readouterr()
    assert run_dvc("status", to_screen=True) == "" and "up to date" in capfd.readouterr().out


def test_stages_use_this_python_whatever_the_search_path_says(repository):
    Path("dvc.yaml").write_text("stages:\n  which:\n    cmd: command -v python > python.txt\n    outs: [python.txt]\n")
    run_dvc("repro", variables={**os.environ, "PATH": "/usr/bin:/bin"})
    assert Path("python.txt").read_text().strip() == str(Path(sys.executable).with_name("python"))


def test_another_holder_of_the_lock_is_busy_and_a_damaged_list_is_named(repository):
    with locked_repository(), pytest.raises(Busy), locked_repository():
        pass
    RUNNING_STAGES.write_text('{"read": {"/x": [{"pi')  # DVC writes it in place
    with pytest.raises(UserError, match=r"^\.dvc/tmp/rwlock is damaged"), locked_repository():
        pass
    write_reader("/x", os.getpid(), " ".join(sys.argv))
    with pytest.raises(Busy, match=rf"^process {os.getpid()} "), locked_repository():
        pass


def write_reader(path: str, pid: int, command: str) -> None:
    RUNNING_STAGES.parent.mkdir(parents=True, exist_ok=True)
    RUNNING_STAGES.write_text(json.dumps({"read": {path: [{"pid": pid, "cmd": command}]}}))


def test_killed_command_whose_number_another_program_has_blocks_nobody(repository):
    """As after a power cut, or in a container, whose numbers begin anew: DVC itself would wait for ever."""
    other = subprocess.Popen(["sleep", "60"])
    write_reader(str(Path("data/raw").absolute()), other.pid, "/a/dvc/__main__.py repro")
    with locked_repository() as held:
        held.add("data/raw")
    other.kill()
    other.wait()


@pytest.mark.parametrize("cut_at", ["", "deps"])
def test_files_that_dvc_was_killed_in_are_made_anew_and_no_stage_runs_again(repository, cut_at):
    whole, tracked = DVC_LOCK.read_text(), TRACKED.read_text()
    DVC_LOCK.write_text(whole[: whole.index(cut_at) + len(cut_at)])
    if not cut_at:
        TRACKED.write_text("")
    with pytest.raises(UserError):
        run_dvc("repro")  # by itself, DVC does not get over it
    with locked_repository() as held:
        assert remove_cut_off_files(held)
        held.add("data/raw")
    assert TRACKED.read_text() == tracked
    run_dvc("repro")
    assert DVC_LOCK.read_text() == whole and not Path("began").exists()


@pytest.mark.parametrize("path", [TRACKED, DVC_LOCK])
def test_half_merged_file_is_left_to_the_person(repository, path):
    path.write_text("<<<<<<< HEAD\nouts: []\n=======\nouts: 1\n>>>>>>> other\n")
    before = path.read_text()
    with locked_repository() as held, pytest.raises(UserError, match=rf"^{path} is half merged"):
        remove_cut_off_files(held)
    assert path.read_text() == before

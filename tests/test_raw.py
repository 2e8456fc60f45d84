"""A fresh clone whose recordings were not pulled: they are not forgotten."""

import subprocess
import sys

import pytest

from stages.pipeline.raw import check_complete
from stages.pipeline.stage import UserError
from tests.workspaces import ROOT, add_demo_clips, dvc, environment, make_workspace


def test_fewer_recordings_than_tracked_are_refused_until_told_otherwise(tmp_path, monkeypatch):
    workspace = make_workspace(tmp_path)
    monkeypatch.chdir(workspace)
    add_demo_clips(workspace, 5)
    dvc(workspace, "init", "--no-scm", "--quiet")
    dvc(workspace, "add", "--quiet", "data/raw")
    check_complete()
    tracked = (workspace / "data/raw.dvc").read_text()
    (workspace / "data/raw/demo/001.opus").unlink()
    with pytest.raises(UserError, match=r"^data/raw holds 5 files, data/raw\.dvc names 6: run 'make pull'"):
        check_complete()
    refused = subprocess.run(
        [sys.executable, "-m", "stages.pipeline.raw", "check"],
        cwd=workspace, env=environment(workspace), capture_output=True, text=True,
    )  # fmt: skip
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1 and "names 6" in refused.stderr
    check_complete(removed=1)
    assert (workspace / "data/raw.dvc").read_text() == tracked
    dvc(workspace, "add", "--quiet", "data/raw")
    check_complete()


def test_missing_folder_of_an_empty_set_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw.dvc").write_text("outs:\n- path: raw\n  nfiles: 0\n")
    check_complete()
    assert (tmp_path / "data/raw").is_dir()


def test_publishing_recordings_begins_with_that_check():
    make = subprocess.run(["make", "-n", "push-dataset"], cwd=ROOT, capture_output=True, text=True, check=True)
    commands = [line for line in make.stdout.splitlines() if line.startswith(("python", "dvc"))]
    assert commands[-3:] == ["python -m stages.pipeline.raw check", "dvc repro split", "python -m stages.hub.dataset"]

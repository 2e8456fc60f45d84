"""A fresh clone whose recordings were not pulled: they are not forgotten."""

import pytest

from stages.pipeline.raw import check_complete
from stages.pipeline.stage import UserError
from tests.workspaces import add_demo_clips, dvc, make_workspace


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

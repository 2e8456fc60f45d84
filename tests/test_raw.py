"""`make repro` in a fresh clone: recordings that were not pulled are not forgotten."""

from tests.workspaces import add_demo_clips, dvc, make_workspace, run_stage


def test_fewer_recordings_than_tracked_are_refused_until_told_otherwise(tmp_path):
    workspace = make_workspace(tmp_path)
    add_demo_clips(workspace, 5)
    dvc(workspace, "init", "--no-scm", "--quiet")
    dvc(workspace, "add", "--quiet", "data/raw")
    assert run_stage(workspace, "pipeline.raw").returncode == 0
    tracked = (workspace / "data/raw.dvc").read_text()
    (workspace / "data/raw/demo/001.opus").unlink()
    result = run_stage(workspace, "pipeline.raw")
    assert result.returncode == 1
    assert result.stderr.startswith("data/raw: data/raw holds 5 files, data/raw.dvc names 6: run 'dvc pull'")
    assert (workspace / "data/raw.dvc").read_text() == tracked
    dvc(workspace, "add", "--quiet", "data/raw")
    assert run_stage(workspace, "pipeline.raw").returncode == 0


def test_missing_folder_of_an_empty_set_is_made(tmp_path):
    workspace = make_workspace(tmp_path)
    (workspace / "data/raw").mkdir()
    dvc(workspace, "init", "--no-scm", "--quiet")
    dvc(workspace, "add", "--quiet", "data/raw")
    (workspace / "data/raw").rmdir()
    assert run_stage(workspace, "pipeline.raw").returncode == 0
    assert (workspace / "data/raw").is_dir()

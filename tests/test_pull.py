"""A fresh clone whose recordings were not pulled: they are not forgotten."""

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.commands.pull import check, check_complete, pull
from stages.common.stage import UserError
from tests.workspaces import ROOT, add_demo_clips, dvc, environment, init_dvc, make_workspace


@pytest.fixture
def tracked(tmp_path, monkeypatch) -> Path:
    """A workspace in which DVC knows data/raw."""
    workspace = make_workspace(tmp_path)
    monkeypatch.chdir(workspace)
    add_demo_clips(workspace, 3)
    init_dvc(workspace)
    dvc(workspace, "add", "--quiet", "data/raw")
    return workspace


def test_fewer_recordings_than_tracked_are_refused_until_told_otherwise(tracked):
    check_complete()
    before = Path("data/raw.dvc").read_text()
    Path("data/raw/demo/001.opus").unlink()
    with pytest.raises(UserError, match=r"^data/raw holds 3 files, data/raw\.dvc names 4: run 'make pull'"):
        check_complete()
    refused = subprocess.run(
        [sys.executable, "-m", "stages.commands.pull", "check"],
        env=environment(tracked), capture_output=True, text=True,
    )  # fmt: skip
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1 and "names 4" in refused.stderr
    check_complete(removed=1)
    assert Path("data/raw.dvc").read_text() == before
    dvc(tracked, "add", "--quiet", "data/raw")
    check_complete()
    Path("data/raw.dvc").write_text("<<<<<<< HEAD\nouts: []\n=======\n")
    with pytest.raises(UserError, match="half merged"):
        check_complete()


def put(*names: str) -> None:
    for path in map(Path, names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)


# Catches: files that DVC does not store hide that recordings are missing.
def test_files_are_counted_as_dvc_counts_them(tracked):
    (tracked / ".dvcignore").write_text("__pycache__\n*.log\n")
    put("data/raw/demo/.DS_Store", "data/raw/demo/.hidden/a", "data/raw/deep/er/a.wav")
    put(*(f"data/raw/demo/{name}" for name in (".hg/a", "__pycache__/a", "deep/a.log")))
    dvc(tracked, "add", "--quiet", "data/raw")
    stored = YAML(typ="safe").load(tracked / "data/raw.dvc")["outs"][0]["nfiles"]
    assert stored == 3 + 1 + 3
    assert check_complete() == stored
    (tracked / "data/raw/demo/001.opus").unlink()
    with pytest.raises(UserError, match=f"holds {stored - 1} files"):
        check_complete()


# Catches: in a clone that was not pulled, DVC notes the one new recording as the whole set, and all ends green.
@pytest.mark.slow
def test_bare_repro_with_fewer_recordings_is_refused_each_time_until_told_otherwise(tracked):
    dvc(tracked, "repro", "prepare")
    noted = Path("data/raw.dvc").read_text()
    rows = Path("data/raw/demo/clips.jsonl").read_text().splitlines(keepends=True)
    Path("data/raw/demo/001.opus").unlink()
    Path("data/raw/demo/clips.jsonl").write_text("".join(row for row in rows if '"001.opus"' not in row))
    for _ in range(2):
        refused = dvc(tracked, "repro", "prepare", check=False)
        assert refused.returncode != 0 and "prepare: data/raw holds 3 files, the last run read 4" in refused.stderr
        assert Path("data/raw.dvc").read_text() == noted
    dvc(tracked, "add", "--quiet", "data/raw")
    dvc(tracked, "repro", "prepare")


# Catches: git's objects are counted as recordings. What is a repository: tests/test_sources.py.
def test_repository_in_data_raw_is_refused_before_anything_is_checked_or_fetched(tracked):
    Path("data/raw/demo/001.opus").unlink()  # not made up for by what lies in the repository
    put("data/raw/corpus/.git/objects/one", "data/raw/corpus/a.wav")
    before = {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()}
    for command in (check, pull):
        with pytest.raises(UserError, match=r"^data/raw/corpus is a repository of its own \(it holds \.git\), "):
            command()
    assert {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()} == before


def test_missing_folder_of_an_empty_set_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw.dvc").write_text("outs:\n- path: raw\n  nfiles: 0\n")
    check_complete()
    assert (tmp_path / "data/raw").is_dir()


def test_publishing_recordings_begins_with_that_check():
    make = subprocess.run(["make", "-n", "push-dataset"], cwd=ROOT, capture_output=True, text=True, check=True)
    commands = [line for line in make.stdout.splitlines() if line.startswith(("python", "dvc"))]
    # All by the Python of this folder: what a moved project's scripts begin with names its old place.
    assert commands[-3:] == [
        f"python -m {command}" for command in ("stages.commands.pull check", "dvc repro split", "stages.hub.dataset")
    ]

"""DVC's experiments on the real pipeline: one run, a queued grid, and what a new clip makes run again."""

import json
import shutil

import pytest

from tests.workspaces import DEMO_CLIPS, copy_project, dvc, git, read_json, read_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repository(trained_project, tmp_path_factory):
    """A git and DVC repository in which the pipeline has run once, with a training of a few seconds."""
    folder = tmp_path_factory.mktemp("experiments") / "project"
    workspace = copy_project(trained_project, folder, train__epochs=1, train__max_clips=16)
    dvc(workspace, "repro")
    git(workspace, "commit", "--quiet", "--all", "--amend", "-m", "a shorter training")
    return workspace


def ran(screen: str) -> list[str]:
    return [line.split("'")[1] for line in screen.splitlines() if line.startswith("Running stage")]


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
    assert ran(result.stdout)[:2] == ["prepare", "split"]
    assert "61 clips" in result.stdout
    new = {path for path in (repository / ".cache/prepared").rglob("*") if path.is_file()} - before
    assert len(new) == 2  # the clip's entry, and the index of this folder, a copy of the one that prepare ran in

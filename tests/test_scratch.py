"""A training's folder in the cache: what is resumed, what is kept, and a result that is damaged."""

import os
import shutil

import pytest

from stages.common.locks import lock
from stages.voxtral import scratch


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """The folder of all trainings."""
    monkeypatch.setenv("OWNVOICE_CACHE", str(tmp_path))
    return tmp_path / "training"


def finish(run: str, size: int = 1000, age_s: float = 0) -> None:
    with scratch.scratch_folder(run) as folder:
        (folder / "checkpoint-3").mkdir(exist_ok=True)
        with scratch.new_result(folder) as result:
            (result / "best").mkdir()
            (result / "best/model").write_bytes(bytes(size))
    age(folder, age_s)


def age(folder, age_s: float) -> None:
    at_s = folder.stat().st_mtime - age_s
    os.utime(folder, (at_s, at_s))


def test_only_complete_checkpoints_are_resumed_and_the_others_go(tmp_path):
    assert scratch.last_checkpoint(tmp_path) is None
    for step, files in {9: ["complete"], 12: ["complete"], 100: ["model.safetensors"]}.items():
        (tmp_path / f"checkpoint-{step}").mkdir()
        for name in files:
            (tmp_path / f"checkpoint-{step}" / name).touch()
    assert scratch.last_checkpoint(tmp_path) == tmp_path / "checkpoint-12"
    assert not (tmp_path / "checkpoint-100").exists()


def test_finished_training_keeps_its_result_and_no_checkpoints(trainings, tmp_path):
    finish("a")
    folder = trainings / "a"
    assert scratch.has_result(folder) and not (folder / "checkpoint-3").exists()
    scratch.copy_result(folder, tmp_path / "out")
    assert (tmp_path / "out/best/model").read_bytes() == bytes(1000)


@pytest.mark.parametrize("damage", [lambda result: (result / "best/model").write_bytes(b"x"), shutil.rmtree])
def test_damaged_result_is_none(trainings, damage):
    finish("a")
    damage(trainings / "a/result")
    assert not scratch.has_result(trainings / "a")


def test_oldest_results_go_beyond_the_limit(trainings, monkeypatch):
    monkeypatch.setattr(scratch, "KEPT_RESULTS_BYTES", 20_000)  # besides the one of the new training
    for run, age_s in (("oldest", 300), ("older", 200), ("old", 100), ("new", 0)):
        finish(run, 9000, age_s)
    assert {path.name for path in trainings.glob("*/")} == {"new", "old", "older"}


def test_files_that_another_training_removes_meanwhile_are_no_error(trainings, monkeypatch):
    finish("a")
    is_file = type(trainings).is_file

    def vanishes(path):
        if path.name == "model":
            path.unlink()
            return True
        return is_file(path)

    monkeypatch.setattr(type(trainings), "is_file", vanishes)
    with scratch.scratch_folder("own") as folder:
        assert folder.is_dir()


def test_interrupted_trainings_go_after_a_week_unless_they_run(trainings):
    for run, days in (("recent", 6), ("old", 8), ("running", 8)):
        with scratch.scratch_folder(run) as folder:
            (folder / "checkpoint-3").mkdir()
        age(folder, days * 24 * 3600)
    with lock(trainings / "running.lock"), scratch.scratch_folder("own"):
        assert {path.name for path in trainings.glob("*/")} == {"recent", "running", "own"}

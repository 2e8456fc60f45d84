"""A training's folder in the cache: what is resumed, what is kept, and a result that is damaged."""

import os
import shutil
import time

import pytest

from stages.common.locks import lock
from stages.voxtral import scratch


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """The folder of all trainings."""
    monkeypatch.setenv("OWNVOICE_CACHE", str(tmp_path))
    return tmp_path / "training"


def finish(run: str) -> None:
    with scratch.scratch_folder(run) as folder:
        (folder / "checkpoint-3").mkdir()
        with scratch.new_result(folder) as result:
            (result / "best").mkdir()
            (result / "best/model").write_bytes(bytes(1000))


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


def test_oldest_trainings_go_unless_they_run(trainings):
    for hours_ago in range(6):
        (trainings / f"{hours_ago}").mkdir(parents=True)
        at_s = time.time() - 3600 * hours_ago
        os.utime(trainings / f"{hours_ago}", (at_s, at_s))
    with lock(trainings / "5.lock"), scratch.scratch_folder("own"):
        assert {path.name for path in trainings.glob("*/")} == {"own", "0", "1", "2", "5"}

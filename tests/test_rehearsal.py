"""The rehearsal: every stage runs on a model with random weights, and each has its row of figures."""

import pytest

from tests.benchmarks import rehearsal


@pytest.mark.slow
def test_rehearsal_runs_every_stage_and_measures_it(tmp_path):
    """Catches: a stage that the rehearsal no longer starts as people do, and figures of another process."""
    rows = rehearsal.rehearse("tiny", light=True, clips=12, workspace=tmp_path / "workspace")
    assert [stage for stage, _ in rows] == ["build", "prepare", "split", "train", "evaluate", "card"]
    figures = dict(rows)
    assert figures["train"]["memory"] > figures["split"]["memory"] > 20e6  # one loads torch, the other does not
    assert figures["card"]["disk"] > figures["prepare"]["disk"] > 5e6  # the model's weights, and then the adapter's
    header, _, *lines = rehearsal.table_of(rows).splitlines()
    assert header.startswith("| stage | seconds | memory, GB |") and len(lines) == len(rows)


def test_too_little_memory_is_refused_with_both_figures(monkeypatch):
    monkeypatch.setitem(rehearsal.LEAST_BYTES, "3b", 1e15)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"size 3b needs 1000000 GB of memory, found \d"):
        rehearsal.check_memory("3b")

"""`make review`: what the base model hears differently is listed, nothing is left out, each transcript is made once."""

import json
import shutil
from pathlib import Path

import pytest

from stages import prepare
from stages.commands import review
from stages.common.files import read_jsonl
from stages.speech.clips import read_clips
from tests.workspaces import DEMO_CLIPS, TINY_MODEL

PREPARED, REVIEW = Path("data/prepared"), Path("data/review/base_model.jsonl")
# Demo clips in which the model mishears one word at most; one in the last.
UNDERSTOOD = ["002.opus", "003.opus", "026.opus", "028.opus", "032.opus", "038.opus", "001.opus"]
TEXTS = {row["audio_path"]: row["text"] for row in read_jsonl(DEMO_CLIPS / "clips.jsonl")}
OTHER = "we sailed along the coast for nine days"


@pytest.fixture
def demo(workspace, set_param, monkeypatch) -> Path:
    """Understood demo clips, the first of them with the text of something else."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    set_param("model.name", str(TINY_MODEL))
    set_param("model.revision", None)
    folder = workspace / "data/raw/demo"
    folder.mkdir(parents=True)
    for name in UNDERSTOOD:
        add(folder, name)
    (folder / UNDERSTOOD[0]).with_suffix(".txt").write_text(OTHER)
    prepare.main()
    return folder


def add(folder: Path, name: str) -> None:
    shutil.copy(DEMO_CLIPS / name, folder / name)
    (folder / name).with_suffix(".txt").write_text(TEXTS[name])


def test_clip_that_is_heard_otherwise_is_listed_in_the_shape_of_prepares_list_and_kept(demo):
    before = (PREPARED / "review.jsonl").read_bytes()
    review.main()
    (row,) = read_jsonl(REVIEW)
    assert (row["text"], row["file"], row["reason"]) == (OTHER, f"demo/{UNDERSTOOD[0]}", "base model disagrees")
    assert row["heard"] == "switch off the music" and row["wer"] == 0.875 and row["heard"] in row["listen_for"]
    assert row["id"] in {clip.id for clip in read_clips(PREPARED / "metadata.jsonl")}
    assert (PREPARED / "review.jsonl").read_bytes() == before
    prepare.main()
    assert len(read_clips(PREPARED / "metadata.jsonl")) == len(UNDERSTOOD)
    review.main(limit=0)
    wers = [row["wer"] for row in read_jsonl(REVIEW)]
    assert len(wers) > 1 and wers == sorted(wers, reverse=True) and min(wers) > 0


def test_one_more_clip_is_one_more_transcript_and_another_model_makes_all_anew(demo, set_param, capsys, tmp_path):
    def known() -> str:
        review.main()
        return next(line for line in capsys.readouterr().out.splitlines() if "in the cache" in line)

    count = len(UNDERSTOOD)
    assert known().startswith(f"base model: 0 of {count} ")
    assert known().startswith(f"base model: {count} of {count} ")
    add(demo, "041.opus")
    prepare.main()
    assert known().startswith(f"base model: {count} of {count + 1} ")
    shutil.copytree(TINY_MODEL, tmp_path / "other")
    config = tmp_path / "other/config.json"
    config.write_text(json.dumps(json.loads(config.read_text())))
    set_param("model.name", str(tmp_path / "other"))
    assert known().startswith(f"base model: 0 of {count + 1} ")

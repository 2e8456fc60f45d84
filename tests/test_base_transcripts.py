"""What the base model hears in clips: filters by it, each transcript made once, and no model where nobody asks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages import prepare
from stages.common.files import read_json, read_jsonl
from stages.speech.clips import read_clips
from tests.workspaces import DEMO_CLIPS, ROOT, TINY_MODEL, add_demo_clips, dvc, make_workspace, set_params

PREPARED = Path("data/prepared")
# Demo clips in which the model mishears one word at most.
UNDERSTOOD = ["002.opus", "003.opus", "026.opus", "028.opus", "032.opus", "038.opus"]
TEXTS = {
    row["audio_path"]: row["text"]
    for row in map(json.loads, (DEMO_CLIPS / "clips.jsonl").read_text().split("\n")[:120])
}
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
    return folder


def add(folder: Path, name: str) -> None:
    shutil.copy(DEMO_CLIPS / name, folder / name)
    (folder / name).with_suffix(".txt").write_text(TEXTS[name])


def test_text_that_the_base_model_does_not_hear_is_listed_or_left_out_as_asked(demo, set_param):
    set_param("prepare.filters.look_through_base_wer", 0.5)
    prepare.main()
    assert len(read_clips(PREPARED / "clips.jsonl")) == len(UNDERSTOOD)
    (doubt,) = read_jsonl(PREPARED / "review.jsonl")
    assert (doubt["text"], doubt["reason"]) == (OTHER, "base model disagrees")
    assert "switch off the music" in doubt["listen_for"]
    set_param("prepare.filters.max_base_wer", 0.5)
    prepare.main()
    assert OTHER not in {clip.text for clip in read_clips(PREPARED / "clips.jsonl")}
    (rejected,) = read_jsonl(PREPARED / "rejected.jsonl")
    assert (rejected["file"], rejected["reason"]) == (f"demo/{UNDERSTOOD[0]}", "base model disagrees")
    assert "prepare.filters.max_base_wer 0.5" in rejected["remedy"]
    assert read_json(PREPARED / "summary.json")["rejected_by_reason"] == {"base model disagrees": 1}


def test_one_more_clip_is_one_more_transcript_and_another_model_makes_all_anew(demo, set_param, capsys, tmp_path):
    set_param("prepare.filters.look_through_base_wer", 0.5)

    def made() -> str:
        prepare.main()
        return next(line for line in capsys.readouterr().out.splitlines() if "base model" in line and "made" in line)

    count = len(UNDERSTOOD)
    assert made() == f"prepare: base model: {count} transcripts made, 0 from the cache"
    assert made() == f"prepare: base model: 0 transcripts made, {count} from the cache"
    add(demo, "041.opus")
    assert made() == f"prepare: base model: 1 transcript made, {count} from the cache"
    shutil.copytree(TINY_MODEL, tmp_path / "other")
    config = tmp_path / "other/config.json"
    config.write_text(config.read_text() + "\n")
    set_param("model.name", str(tmp_path / "other"))
    assert made() == f"prepare: base model: {count + 1} transcripts made, 0 from the cache"


def test_clip_that_is_left_out_makes_room_for_another_of_the_same_words(demo, set_param):
    shutil.rmtree(demo)
    demo.mkdir()
    for name in UNDERSTOOD[:2]:
        add(demo, name)
        (demo / name).with_suffix(".txt").write_text(TEXTS[UNDERSTOOD[1]])
    set_param("prepare.filters.max_clips_per_text", 1)
    set_param("prepare.filters.max_base_wer", 0.5)
    prepare.main()
    assert [clip.recorded_file for clip in read_clips(PREPARED / "clips.jsonl")] == [f"demo/{UNDERSTOOD[1]}"]
    assert [row["reason"] for row in read_jsonl(PREPARED / "rejected.jsonl")] == ["base model disagrees"]


def test_sound_that_the_cache_has_lost_is_made_again_before_it_is_heard(demo, set_param):
    prepare.main()
    (pack, *_) = (demo.parents[2] / ".cache/prepared/packs").glob("*.zip")
    before = pack.stat()
    content = bytearray(pack.read_bytes())
    content[200:400] = bytes(200)  # inside the first clip's sound; the index still trusts times and size
    with pack.open("r+b") as file:
        file.write(content)
    os.utime(pack, ns=(before.st_atime_ns, before.st_mtime_ns))
    set_param("prepare.filters.look_through_base_wer", 0.5)
    prepare.main()
    assert len(read_clips(PREPARED / "clips.jsonl")) == len(UNDERSTOOD)
    assert [row["text"] for row in read_jsonl(PREPARED / "review.jsonl")] == [OTHER]


def test_prepare_loads_no_torch_where_no_limit_asks_for_the_model(demo):
    code = "import sys; from stages import prepare; prepare.main(); print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split()[-1] == "False"


def test_another_model_without_these_limits_changes_nothing_behind_prepare(tmp_path):
    workspace = make_workspace(tmp_path)
    add_demo_clips(workspace, 24)
    dvc(workspace, "init", "--no-scm", "--quiet")
    dvc(workspace, "repro", "split")
    set_params(workspace, model__dtype="float32")
    again = dvc(workspace, "repro", "split").stdout
    assert "Running stage 'prepare'" in again and "Stage 'split' didn't change, skipping" in again

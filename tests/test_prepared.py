"""The sound in data/prepared as others read it: by path, by id, by `make listen`, and by Hugging Face's audiofolder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages import prepare
from stages.common.stage import UserError
from stages.speech import audio, prepared
from stages.speech.clips import read_clips
from tests.workspaces import ROOT

# `datasets` wants torchcodec, and with it FFmpeg's libraries, for any sound; here it only names the files.
LOAD = """
import json, sys, types
import datasets
for name in ("torchcodec", "torchcodec.encoders"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["torchcodec.encoders"].AudioEncoder = None
found = datasets.load_dataset("audiofolder", data_dir="data/prepared")
[(part, rows)] = found.cast_column("audio", datasets.Audio(decode=False)).items()
for row in rows:
    print(json.dumps(row))
"""


@pytest.fixture
def clips(workspace, record, transcribe, set_param) -> dict[str, prepare.Clip]:
    """Own clips in data/prepared, by id, and somebody else's beside them."""
    set_param("evaluate.other_speakers", "others")
    for number, language in enumerate(["en", "de", "hi"]):
        record(f"{language}/a.wav", hertz=300 + 50 * number)
        transcribe(language, {"a.wav": {"text": f"text {number}", "language": language}})
    record("theirs/b.wav", hertz=700).with_suffix(".txt").write_text("another voice")
    (workspace / "data/raw/theirs").rename(workspace / "others")
    prepare.main()
    assert len(read_clips(Path("data/prepared/other_speakers.jsonl"))) == 1
    return {clip.id: clip for clip in read_clips(prepared.MANIFEST)}


def test_audiofolder_gives_own_clips_with_texts_and_languages_and_nobody_elses(workspace, clips):
    environment = {**os.environ, "HF_HOME": str(workspace / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(clips) == 3
    for row in rows:
        clip = clips[row["id"]]
        assert (row["text"], row["language"], row["duration_s"]) == (clip.text, clip.language, clip.duration_s)
        samples = prepared.read_prepared(Path(row["audio"]["path"]))
        assert len(samples) / audio.SAMPLE_RATE_HZ == pytest.approx(clip.duration_s, abs=1e-3)


def test_missing_sound_is_one_line_and_damage_is_not_read_as_sound(clips):
    path = prepared.path_of(next(iter(clips)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path} is damaged"):
        prepared.read_prepared(path)
    path.unlink()
    for read in (prepared.content, prepared.sha256, prepared.read_prepared):
        with pytest.raises(UserError, match=r"is missing: run 'dvc repro prepare'"):
            read(path)


def test_one_clip_is_copied_out_by_its_id(clips):
    clip_id = next(iter(clips))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for wanted, outcome in {clip_id: (0, 0), "": (1, 1), "../../x": (1, 1), "f" * 16: (1, 1)}.items():
        command = [sys.executable, "-m", "stages.commands.listen", wanted]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == outcome, done.stderr
    assert Path(f"{clip_id}.flac").read_bytes() == prepared.path_of(clip_id).read_bytes()

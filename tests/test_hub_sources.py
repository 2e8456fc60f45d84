"""prepare.sources: clips of data sets on the Hub, through the real client, from a Hub on this machine."""

import hashlib
import io
import json
import re
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Audio, Features, Value

from stages.common.files import read_json, read_jsonl
from stages.speech.clips import read_clips
from tests.hub import Fault, HubServer
from tests.recordings import DEMO_ROWS
from tests.workspaces import DEMO_CLIPS, content_of

PREPARED = Path("data/prepared")
FEATURES = Features({"audio": Audio(), "sentence": Value("string"), "who": Value("string"), "lang": Value("string")})


def sound_of(number: int) -> bytes:
    return (DEMO_CLIPS / DEMO_ROWS[number]["audio_path"]).read_bytes()


def parquet(rows: list[dict]) -> bytes:
    """One file of a data set with sound, without torchcodec."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, FEATURES.arrow_schema), buffer, row_group_size=2)
    return buffer.getvalue()


def row(number: int, **changes: object) -> dict:
    sound = {"bytes": sound_of(number), "path": f"{number}.wav"}
    return {"audio": sound, "sentence": DEMO_ROWS[number]["text"], "who": "ann", "lang": None, **changes}


def source(**changes: object) -> dict:
    columns = {"audio": "audio", "text": "sentence", "speaker": "who", "language": "lang"}
    values = {"repo_id": "ann/clips", "config": None, "split": "train", "revision": None, "columns": columns}
    return {**values, "language": "en", "max_clips": None, "max_hours": None, "other_speakers": False, **changes}


@pytest.fixture
def hub():
    files = {"data/train-00000-of-00001.parquet": parquet([row(number) for number in range(5)])}
    with HubServer({("dataset", "ann/clips"): files}) as server:
        yield server


@pytest.fixture
def prepare(workspace, hub):
    """`prepare(HF_HUB_OFFLINE="1")` runs the stage against the hub, or against `files` of another one."""

    def run(files: dict[str, bytes] | None = None, **variables: str) -> CompletedProcess:
        if files:
            with HubServer({("dataset", "ann/clips"): files}) as other:
                return run(HF_ENDPOINT=other.url)
        result = hub.run(workspace, "-m", "stages.prepare", token=None, **variables)
        lines = re.split(r"[\r\n]+", result.stderr)
        result.errors = [line for line in lines if line.startswith("prepare: ") and "clip/s" not in line]
        return result

    return run


def test_rows_become_clips_of_the_recorded_bytes_and_stay_so_without_the_network(prepare, hub, set_param):
    set_param("prepare.sources", [source()])
    result = prepare()
    assert result.returncode == 0, result.stderr
    clips = read_clips(PREPARED / "metadata.jsonl")
    assert [clip.id for clip in clips] == [hashlib.sha256(sound_of(number)).hexdigest()[:16] for number in range(5)]
    assert [clip.text for clip in clips] == [DEMO_ROWS[number]["text"] for number in range(5)]
    assert {(clip.source, clip.speaker, clip.language) for clip in clips} == {("hf://datasets/ann/clips", "ann", "en")}
    assert clips[4].recorded_file == "hf://datasets/ann/clips/default/train/4"
    assert all((PREPARED / clip.audio_path).stat().st_size > 1000 for clip in clips)
    (known,) = read_json(PREPARED / "summary.json")["hub_sources"]
    assert (known["repo_id"], known["revision"], known["rows"]) == ("ann/clips", hub.commit("dataset", "ann/clips"), 5)
    result = prepare(HF_HUB_OFFLINE="1")
    assert result.returncode == 0, result.stderr
    assert f"HF_HUB_OFFLINE is set: unset it. TAKEN AS OF THE LAST RUN, at {known['revision']}" in result.stdout
    assert read_clips(PREPARED / "metadata.jsonl") == clips
    hub.faults.append(Fault("/api/datasets/ann/clips", status=503, times=None))
    result = prepare()
    assert result.returncode == 0 and "the Hub answers 503" in result.stdout
    assert read_clips(PREPARED / "metadata.jsonl") == clips


def test_other_peoples_data_set_is_measured_and_never_trained_on(prepare, set_param, record):
    record("phone/a.wav")
    Path("data/raw/phone/a.txt").write_text("one")
    set_param("prepare.sources", [source(other_speakers=True)])
    assert prepare().returncode == 0
    assert [clip.recorded_file for clip in read_clips(PREPARED / "metadata.jsonl")] == ["phone/a.wav"]
    others = read_clips(PREPARED / "other_speakers.jsonl")
    assert [clip.text for clip in others] == [DEMO_ROWS[number]["text"] for number in range(5)]
    assert {clip.source for clip in others} == {"other_speakers/hf://datasets/ann/clips"}
    assert all((PREPARED / clip.audio_path).stat().st_size > 1000 for clip in others)


def test_pinned_data_set_is_asked_once_and_again_only_for_a_broken_copy(prepare, hub, workspace, set_param):
    set_param("prepare.sources", [source(revision=hub.commit("dataset", "ann/clips"))])
    hub.faults.append(Fault(r"GET .*/resolve/.*parquet", kind="drop", times=2))
    result = prepare()
    assert result.returncode == 0, result.stderr
    first = content_of(PREPARED)
    asked = len(hub.requests)
    assert asked and prepare().returncode == 0
    assert content_of(PREPARED) == first
    assert len(hub.requests) == asked

    (sound,) = [path for path in (workspace / ".cache/hub").glob("??/*") if sound_of(3) in path.read_bytes()]
    sound.write_bytes(sound.read_bytes()[:-10])
    shutil.rmtree(workspace / ".cache/prepared")  # what was made of it, which would do
    assert prepare().returncode == 0
    (rejected,) = read_jsonl(PREPARED / "rejected.jsonl")
    assert rejected["file"].endswith("train/3") and "broken" in rejected["remedy"]
    assert prepare().returncode == 0
    assert len(read_clips(PREPARED / "metadata.jsonl")) == 5


def test_only_the_clips_asked_for_are_fetched_and_without_the_hub_no_others(prepare, hub, set_param):
    revision = hub.commit("dataset", "ann/clips")
    set_param("prepare.sources", [source(revision=revision, max_clips=2)])
    assert prepare().returncode == 0
    assert len(read_clips(PREPARED / "metadata.jsonl")) == 2
    duration_s = [soundfile.info(io.BytesIO(sound_of(number))).duration for number in range(2)]
    set_param("prepare.sources", [source(max_hours=(duration_s[0] + duration_s[1] / 2) / 3600)])
    assert prepare().returncode == 0
    assert len(read_clips(PREPARED / "metadata.jsonl")) == 2
    before = (PREPARED / "metadata.jsonl").read_bytes()
    for changed in (source(revision=revision, max_clips=4), source(config="other")):
        set_param("prepare.sources", [changed])
        result = prepare(HF_HUB_OFFLINE="1")
        assert result.returncode == 1
        assert result.errors == ["prepare: prepare.sources[0] ann/clips: HF_HUB_OFFLINE is set: unset it"]
    assert (PREPARED / "metadata.jsonl").read_bytes() == before


# `datasets` reads such a folder with torchcodec alone; in data/raw it is a layout of ours.
FOLDER = json.dumps({"file_name": DEMO_ROWS[0]["audio_path"], "sentence": DEMO_ROWS[0]["text"]}).encode()


@pytest.mark.parametrize(
    ("change", "files", "words"),
    [
        ({"columns": {**source()["columns"], "text": "words"}}, None, "no column 'words'"),
        ({"split": "train2"}, None, "check config and split"),
        ({"repo_id": "ann/nothing"}, None, "check the name"),
        ({"revision": "f" * 40}, None, "check the name"),
        (
            {},
            {"train/metadata.jsonl": FOLDER, f"train/{DEMO_ROWS[0]['audio_path']}": sound_of(0)},
            "'hf download ann/clips --repo-type dataset --local-dir data/raw/clips'",
        ),
    ],
)
def test_mistake_in_an_entry_is_one_line(prepare, set_param, change, files, words):
    set_param("prepare.sources", [source(**change)])
    result = prepare(files)
    assert result.returncode == 1
    assert len(result.errors) == 1 and "Traceback" not in result.stderr
    assert result.errors[0].startswith("prepare: prepare.sources[0] ann/") and words in result.errors[0]


def test_row_that_names_a_file_of_this_machine_gets_nothing_of_it(prepare, set_param, tmp_path):
    private = tmp_path / "private.wav"
    shutil.copy(DEMO_CLIPS / DEMO_ROWS[1]["audio_path"], private)
    set_param("prepare.sources", [source()])
    rows = [row(0), row(1, audio={"bytes": None, "path": str(private)})]
    assert prepare({"data/train.parquet": parquet(rows)}).returncode == 0
    assert [clip.text for clip in read_clips(PREPARED / "metadata.jsonl")] == [DEMO_ROWS[0]["text"]]
    (rejected,) = read_jsonl(PREPARED / "rejected.jsonl")
    assert (rejected["file"], rejected["reason"]) == ("hf://datasets/ann/clips/default/train/1", "unreadable audio")

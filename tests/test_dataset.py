"""The data set: what is uploaded is the clips and nothing else, and only with everybody's consent."""

import hashlib
import io
import json
import re
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pyarrow.parquet as pq
import pytest
import soundfile
from huggingface_hub import DatasetCard

from stages.common import paths
from stages.common.files import read_json, read_jsonl, write_jsonl
from stages.common.params import load_params
from stages.common.stage import UserError
from stages.hub import dataset
from stages.hub.privacy import agreed_speakers
from tests.hub import held
from tests.workspaces import DEMO_CLIPS, make_workspace, run_stages

SPEAKERS = ("Gundula Zwetschkenbaum", "Ann")
SOURCE = "data/raw/grannys-phone"
CLIPS = 24
# What a recording carries and nobody outside should learn.
PLANTED = (
    *("Gundula", "gundula", "Zwetschkenbaum", "zwetschkenbaum", "grannys", "kitchen_take", "2021-03-04", "2021-03"),
    *("en-0badcafe", "10:11:12", "Mikrofonia", "recorded_at", "prompt_id", "session"),
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A workspace with recordings of two people that the real prepare and split have processed."""
    folder = make_workspace(tmp_path_factory.mktemp("prepared"))
    source = folder / "data/raw/grannys-phone"
    source.mkdir(parents=True)
    rows = read_jsonl(DEMO_CLIPS / "clips.jsonl")[:CLIPS]
    for number, row in enumerate(rows):
        samples, rate_hz = soundfile.read(DEMO_CLIPS / row["audio_path"])
        name = f"gundula_kitchen_take_{number:02d}.flac"
        with soundfile.SoundFile(source / name, "w", rate_hz, 1, "PCM_16") as file:
            file.title, file.artist, file.comment, file.date = "kitchen_take", SPEAKERS[0], "Mikrofonia", "2021-03-04"
            file.write(samples)
        row |= {"audio_path": name, "language": "en", "speaker": SPEAKERS[number % 3 == 0], "session": "2021-03-04"}
        row |= {"prompt_id": f"en-0badcafe{number}", "recorded_at": f"2021-03-04T10:11:12+0{number % 10}:00"}
    write_jsonl(source / "clips.jsonl", rows)
    write_jsonl(source / "consents.jsonl", [consent(speaker) for speaker in SPEAKERS])
    run_stages(folder, "prepare", "split")
    return folder


def consent(speaker: str, publish: object = True, given_at: str = "2021-03-04T12:00:00+01:00") -> dict:
    return {"speaker": speaker, "wording": "I agree.", "given_at": given_at, "publish": publish}


@pytest.fixture
def clips(prepared, workspace, set_param) -> Path:
    """`workspace` with those recordings, and a name for the data set."""
    shutil.copytree(prepared / "data", workspace / "data")
    set_param("push.dataset.repo_id", "ann/clips")
    set_param("push.dry_run", True)  # only the tests with a hub may send
    return workspace


def rewrite(path: str, change) -> None:
    """Apply `change` to each row of a manifest; rows that it makes None are left out."""
    rows = [change(row) for row in read_jsonl(Path(path))]
    write_jsonl(Path(path), [row for row in rows if row])


def say(number: int, **values: object) -> str:
    """Let the clip with this number say something else, in data/raw and data/split; returns its id."""
    name = f"gundula_kitchen_take_{number:02d}.flac"
    rewrite(f"{SOURCE}/clips.jsonl", lambda row: {**row, **values} if row["audio_path"] == name else row)
    for part in dataset.PARTS:
        path = f"data/split/{part}.jsonl"
        rewrite(path, lambda row: {**row, **values} if row["recorded_file"].endswith(name) else row)
    return hashlib.sha256(Path(SOURCE, name).read_bytes()).hexdigest()[:16]


def built() -> tuple[dict, dict[str, Path]]:
    rows = dataset.anonymous_rows("ann/clips", dataset.read_parts())
    return rows, dataset.build(rows, Path("built"))


def published_rows(*files: Path | io.BytesIO) -> list[dict]:
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def local_clips(*parts: str) -> list[dict]:
    return [row for part in parts or dataset.PARTS for row in read_jsonl(Path(f"data/split/{part}.jsonl"))]


# What is uploaded


def test_nothing_that_a_recording_carries_is_in_a_published_byte(clips):
    rows, files = built()
    statistics = pq.read_metadata(next(iter(files.values()))).row_group(0)
    assert not any(statistics.column(number).is_stats_set for number in range(statistics.num_columns))
    card = dataset.render_card(load_params(), rows)
    private = [*PLANTED, str(clips), *(clip["id"] for clip in local_clips())]
    private += [Path(clip["recorded_file"]).stem for clip in local_clips()]
    # The planted words must be in what prepare and split left, or this test would look for nothing.
    before = "".join(Path(f"data/split/{part}.jsonl").read_text() for part in dataset.PARTS)
    assert all(word in before for word in ("Gundula", "2021-03-04", "en-0badcafe", "grannys", "kitchen_take"))
    decoded = json.dumps(published_rows(*files.values()), default=lambda value: value.decode("latin-1"))
    contents = {name: path.read_bytes() for name, path in files.items()}
    for where, content in {"card": card.encode(), "columns": decoded.encode(), **contents}.items():
        assert [word for word in private if word.encode() in content] == [], where
    # "Ann" is a syllable of other words, so it is looked for as one; the name of the repository holds it on purpose.
    assert re.findall(r"\bAnn\b", decoded + card) == []


def test_card_tells_the_hub_where_the_parts_are_and_people_what_is_in_them_and_how_to_be_removed(clips):
    card = DatasetCard(dataset.render_card(load_params(), built()[0]))
    assert (card.data.license, card.data.language) == ("cc-by-4.0", ["en"])
    (config,) = card.data.configs
    assert config["data_files"] == [{"split": part, "path": f"data/{part}-*"} for part in dataset.PARTS]
    assert "Every speaker agreed" in card.text and "removal of recordings" in card.text
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    assert 'load_dataset("ann/clips", split="test")' in code
    compile(code, "card", "exec")
    table = dict(re.findall(r"^\| (\w+) \| (\d+) \| [\d.]+ \|$", card.text, re.MULTILINE))
    assert table == {part: str(len(local_clips(part))) for part in dataset.PARTS}


# Pseudonyms


def test_speaker_keeps_the_number_when_another_joins_and_no_number_comes_twice(clips, make_clip):
    def numbers(*speakers: str) -> dict[str, str]:
        parts = {"train": [make_clip(f"one {speaker}", speaker=speaker) for speaker in speakers]}
        rows = dataset.anonymous_rows("ann/clips", parts)["train"]
        return {row["text"].removeprefix("one "): row["speaker"] for row in rows}

    first = numbers("Ann", "Bea")
    assert sorted(first.values()) == ["speaker-1", "speaker-2"]
    assert numbers("Aaron", "Ann", "Bea") == {**first, "Aaron": "speaker-3"}
    known = json.loads(paths.PSEUDONYMS.read_text())
    del known["ann/clips"]["speakers"]["Aaron"]  # forgotten
    paths.PSEUDONYMS.write_text(json.dumps(known))
    assert numbers("Ann", "Bea", "Cid") == {**first, "Cid": "speaker-4"}


def test_numbers_and_ids_do_not_follow_from_names_and_recordings(workspace, make_clip):
    clip, other = make_clip("one", speaker="Ann"), make_clip("two", speaker="Bea")
    drawn = []
    for number in range(30):
        rows = dataset.anonymous_rows(f"ann/clips-{number}", {"train": [clip, other]})["train"]
        assert rows[0]["id"] < rows[1]["id"], "the order would say which was recorded first"
        [ours] = [row for row in rows if row["text"] == "one"]
        drawn.append((ours["speaker"], ours["id"]))
    assert {speaker for speaker, _ in drawn} == {"speaker-1", "speaker-2"}
    assert len({identity for _, identity in drawn} - {clip.id}) == 30


# What is refused


def refusal() -> str:
    """The one line with which a publication is refused, before anything is made."""
    with pytest.raises(UserError) as refused:
        dataset.publish_dataset(load_params())
    assert "\n" not in str(refused.value)
    assert not Path(".cache/dataset").exists() and not paths.PSEUDONYMS.exists()
    return str(refused.value)


def consents_are(*answers: dict | str) -> None:
    """Ann agrees; then these rows."""
    rows = [consent("Ann"), *answers]
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    Path(SOURCE, "consents.jsonl").write_text("\n".join(lines))


def change_raw(change) -> None:
    """Change the row of one recording since prepare and split have run."""
    rewrite(f"{SOURCE}/clips.jsonl", lambda row: change(row) if row["audio_path"].endswith("_01.flac") else row)


def waits(kind: str) -> None:
    """Let a change of the recording page wait in the inbox."""
    change = Path("data/inbox/00000000000000000001-00000000/change.json")
    change.parent.mkdir(parents=True)
    change.write_text(json.dumps({"kind": kind, "source": "recorded", "row": {}}))


RECORDED = {"speaker": SPEAKERS[0], "wording": "w", "given_at": "2021-03-04T12:00:00+01:00"}
NOT_AGREED = "16 of 24 clips have not agreed to publication: Gundula Zwetschkenbaum (16)"
CHANGED = "1 of 24 clips in data/split were changed or deleted"


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda: consents_are(), NOT_AGREED),
        (lambda: consents_are(RECORDED), NOT_AGREED),
        (lambda: consents_are({**RECORDED, "publish": False}), NOT_AGREED),
        (lambda: consents_are("{"), "consents.jsonl:2 is not a consent"),
        (lambda: say(1, speaker=None), "grannys-phone/gundula_kitchen_take_01.flac"),
        (lambda: change_raw(lambda row: None), CHANGED),
        (lambda: change_raw(lambda row: {**row, "text": "corrected"}), CHANGED),
        (lambda: change_raw(lambda row: {**row, "speaker": "Ann"}), CHANGED),
        (lambda: Path(SOURCE, "gundula_kitchen_take_01.flac").unlink(), CHANGED),
        (lambda: waits("consent"), "run 'python -m recorder.inbox'"),
        (lambda: say(1, source="hf://datasets/bob/voices"), "1 of 24 clips are not yours to publish"),
    ],
)
def test_without_consent_or_with_changes_since_nothing_is_published(clips, prepare, words):
    """Recordings of somebody who did not agree, who has taken it back, or that are deleted, corrected or others'."""
    prepare()
    assert words in refusal()


def test_latest_answer_counts_also_across_sources_and_time_zones(clips):
    consents_are(consent("Bea"), consent("Cid", False))
    answers = [
        consent("Ann", False, "2021-03-04T11:30:00+00:00"),  # half an hour after 12:00+01:00
        consent("Bea", False, "2021-03-04T12:30:00+02:00"),  # half an hour before it
        consent("Cid", True, "2022-01-01T00:00:00"),
        {"speaker": "Bea", "wording": "w", "given_at": "2023-01-01T00:00:00+00:00"},  # says nothing about publication
    ]
    write_jsonl(Path("data/raw/another/consents.jsonl"), answers)
    assert agreed_speakers() == {"Bea", "Cid"}


def test_private_text_is_named_by_id_and_kind_but_not_repeated_until_it_is_confirmed(clips, set_param):
    first = say(0, text="my number is 030 1234567")
    second = say(4, text="write to ann@example.org or call 0 3 0 7 6 5 4 3 2 1")
    text = refusal()
    assert f"{first}: telephone or other long number" in text
    assert f"{second}: e-mail address, telephone or other long number" in text
    assert [word for word in ("1234567", "example.org", "0 3 0") if word in text] == []
    set_param("push.dataset.confirmed", [first])
    assert first not in refusal()
    set_param("push.dataset.confirmed", [first, second])
    waits("clip")  # a new recording can wait
    assert dataset.publish_dataset(load_params())["reason"] == "push.dry_run is true"


# The command


def test_dry_run_lists_the_files_and_without_a_name_or_in_an_experiment_nothing_is_sent(clips, run_stage, set_param):
    result = run_stage("hub.dataset", HF_ENDPOINT="http://127.0.0.1:9")  # no Hub is there
    assert (result.returncode, result.errors) == (0, [])
    receipt = read_json(Path("data/receipts/dataset.json"))
    assert (receipt["published"], receipt["clips"], receipt["speakers"]) == (False, CLIPS, 2)
    listed = {file["path"]: file["sha256"] for file in receipt["files"]}
    assert listed.pop("README.md")
    assert listed == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in built()[1].items()}
    set_param("push.dry_run", False)
    assert run_stage("hub.dataset", DVC_EXP_NAME="shy-newt").returncode == 0
    receipt = read_json(Path("data/receipts/dataset.json"))
    assert receipt == {"published": False, "reason": "experiments publish nothing (shy-newt)"}
    set_param("push.dataset.repo_id", None)
    result = run_stage("hub.dataset")
    assert (result.returncode, len(result.errors)) == (1, 1)
    assert "push.dataset.repo_id is empty" in result.errors[0]


# Through the real clients to a hub

STREAM = """
import hashlib, json, sys
import datasets
datasets.config.USE_PARQUET_EXPORT = False  # a service of the Hub's that the one for tests does not have
for part in ("train", "validation", "test"):
    clips = datasets.load_dataset("me/clips", split=part, streaming=True)
    assert clips.features["audio"] == datasets.Audio(16_000), clips.features
    for row in clips.cast_column("audio", datasets.Audio(16_000, decode=False)):
        sound = row.pop("audio")
        digest = hashlib.sha256(sound["bytes"]).hexdigest()
        print(json.dumps({**row, "part": part, "sound": digest, "path": sound["path"]}))
exec(sys.argv[1])  # the code on the card
assert abs(len(samples) / rate - clips[0]["duration_s"]) < 0.001
"""


@pytest.fixture
def push(clips, hub, set_param):
    """`push()` runs the command against the hub; `.receipt` is what it wrote."""
    set_param("push.dataset.repo_id", "me/clips")
    set_param("push.dry_run", False)

    def run() -> CompletedProcess:
        result = hub.run(clips, "-m", "stages.hub.dataset", HF_HUB_DISABLE_PROGRESS_BARS="1")
        receipt = Path("data/receipts/dataset.json")
        result.receipt = json.loads(receipt.read_text()) if receipt.exists() else None
        return result

    return run


def test_what_went_up_streams_back_as_the_same_clips(push, hub, tmp_path):
    result = push()
    assert (result.returncode, result.stderr) == (0, "")
    [code] = re.findall(
        r"```python\n(.*?)```", hub.repository("dataset", "me/clips").files["README.md"].decode(), re.DOTALL
    )
    reader = hub.run(tmp_path, "-c", STREAM, code, HF_HOME=str(tmp_path / "reader"))
    assert reader.returncode == 0, reader.stderr[-3000:]
    *rows, text = reader.stdout.splitlines()
    heard = [json.loads(line) for line in rows]
    assert text in {row["text"] for row in heard if row["part"] == "test"}
    assert len({row["id"] for row in heard}) == CLIPS
    known = json.loads(paths.PSEUDONYMS.read_text())["me/clips"]["speakers"]

    expected = set()
    for part in dataset.PARTS:
        for clip in local_clips(part):
            sound = hashlib.sha256(Path("data/prepared", clip["file_name"]).read_bytes()).hexdigest()
            expected.add((part, clip["text"], clip["language"], known[clip["speaker"]], clip["duration_s"], sound))
    names = ("part", "text", "language", "speaker", "duration_s", "sound")
    assert {tuple(row[name] for name in names) for row in heard} == expected
    assert all(row["path"] == f"{row['id']}.flac" for row in heard)


def test_repository_is_private_pushing_again_sends_nothing_and_a_deleted_clip_is_gone_after_the_next(push, hub):
    receipt = push().receipt
    repository = hub.repository("dataset", "me/clips")
    assert repository.private and receipt["published"] and receipt["url"] == f"{hub.url}/datasets/me/clips"
    assert {file["path"]: file["sha256"] for file in receipt["files"]} == held(repository.head)
    sent = hub.requests + [commit.message for commit in repository.commits]
    assert [word for word in PLANTED if any(word in text for text in sent)] == []
    for part in dataset.PARTS:  # in another order the same rows
        write_jsonl(Path(f"data/split/{part}.jsonl"), local_clips(part)[::-1])
    assert push().receipt == receipt and repository.head.oid == receipt["commit"]

    gone = "grannys-phone/gundula_kitchen_take_02.flac"
    text = next(clip["text"] for clip in local_clips() if clip["recorded_file"] == gone)
    rewrite(f"{SOURCE}/clips.jsonl", lambda row: None if gone.endswith(row["audio_path"]) else row)
    for part in dataset.PARTS:
        rewrite(f"data/split/{part}.jsonl", lambda row: None if row["recorded_file"] == gone else row)
    assert push().returncode == 0
    tables = [content for path, content in repository.files.items() if path.endswith(".parquet")]
    texts = [row["text"] for row in published_rows(*map(io.BytesIO, tables))]
    assert len(texts) == CLIPS - 1 and text not in texts
    assert f"{CLIPS - 1} recordings" in repository.files["README.md"].decode()

"""Publishing through the real client to the hub for tests: one commit, whatever happens."""

import hashlib
import json
import os
import random
from pathlib import Path

import pytest

from stages.common.files import read_json
from stages.hub.client import one_line
from stages.hub.local.repositories import StoredFile
from tests.hub import READER, TOKEN, Fault, HubServer, held

SCRIPT = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from stages.hub import client
from stages.hub.publish import publish
from stages.common.stage import run

def main():
    request = json.loads(sys.argv[1])
    folder = Path(request.pop("folder"))
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return json.dumps(asdict(publish(files=files, **request)))

client.PAUSES_S = 9 * (0.05,)
run("publish", main)
"""


def command(folder: Path, repo_id: str = "me/voice", kind: str = "model", **request: object) -> list[str]:
    request = {"private": True, "message": "Model", "tag": None} | request
    return ["-c", SCRIPT, json.dumps(request | {"repo_id": repo_id, "kind": kind, "folder": str(folder)})]


def send(hub: HubServer, folder: Path, **request: object) -> dict:
    """What was published."""
    result = hub.run(folder, *command(folder, **request))
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout.strip().splitlines()[-1].removeprefix("publish: ").rpartition(" (")[0])


def refusal(hub: HubServer, folder: Path, token: str | None = TOKEN, **request: object) -> str:
    return hub.refusal(folder, *command(folder, **request), token=token)


def write_files(folder: Path, version: str, count: int = 4) -> Path:
    """A card, and `count` parts of weights of 2 kB, all of which differ between versions."""
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n\n# {version}\n")
    for number in range(1, count + 1):
        content = random.Random(f"{version} {number}").randbytes(2000)
        (folder / f"model-{number:05}-of-{count:05}.safetensors").write_bytes(content)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_first_publish_makes_a_private_repository_and_one_commit_and_the_next_sends_nothing(hub, tmp_path):
    folder = write_files(tmp_path / "a", "A")
    sent = send(hub, folder, tag="v-1")
    repository = hub.repository("model", "me/voice")
    assert repository.private and sent["private"]
    assert held(repository.head) == digests(folder)
    assert [commit.message for commit in repository.commits] == ["initial commit", "Model"]
    assert repository.tags == {"ownvoice": repository.commits[0].oid, "v-1": repository.head.oid}
    assert sent["commit"] == repository.head.oid
    assert sent["url"] == f"{hub.url}/me/voice"
    assert {entry["path"]: entry["sha256"] for entry in sent["files"]} == digests(folder)
    large = {path for path, file in repository.head.files.items() if file.lfs}
    assert large == {path for path in digests(folder) if path.endswith(".safetensors")}
    hub.requests.clear()
    assert send(hub, folder, tag="v-1") == sent
    assert {request.split()[0] for request in hub.requests} == {"GET"}, "what is there was sent again"


def test_remote_holds_what_was_sent_last_and_what_people_added_also_back_at_the_first(hub, tmp_path):
    """Files of a former publish that stay, a picture put there by hand that goes, a tag that moves."""
    folders = {name: write_files(tmp_path / name, name, count) for name, count in (("A", 4), ("B", 2))}
    (folders["A"] / "merged").mkdir()
    (folders["A"] / "merged/config.json").write_text("{}")
    added, oids = {}, []
    for name in "ABA":
        sent = send(hub, folders[name], tag=f"v-{name}")
        repository = hub.repository("model", "me/voice")
        assert held(repository.head) == digests(folders[name]) | added
        oids.append(sent["commit"])
        by_hand = {**repository.head.files, "pictures/me.txt": StoredFile(b"drawn by hand")}
        repository.add_commit(by_hand, "by hand")
        added = {"pictures/me.txt": hashlib.sha256(b"drawn by hand").hexdigest()}
    assert len(set(oids)) == 3 and repository.tags["v-A"] == oids[0]


def test_existing_public_repository_is_refused_before_a_byte_is_sent_and_a_private_one_stays_so(hub, tmp_path):
    folder = write_files(tmp_path / "a", "A")
    send(hub, folder)
    assert send(hub, folder, private=False)["private"] is True
    repository = hub.repository("model", "me/voice")
    assert repository.private
    repository.private = False
    hub.requests.clear()
    assert "me/voice on the Hub is public" in refusal(hub, write_files(tmp_path / "b", "B"))
    assert not [request for request in hub.requests if not request.startswith("GET ")]
    assert held(repository.head) == digests(folder)


def test_somebody_elses_work_is_never_overwritten_by_a_mistyped_name(tmp_path):
    other = {("model", "me/thesis"): {"thesis.tex": b"years of work", "README.md": b"# Thesis"}}
    with HubServer(other, tokens={TOKEN: "write"}) as hub:
        words = refusal(hub, write_files(tmp_path / "a", "A"), repo_id="me/thesis", private=False)
        assert "was not made by ownvoice and holds thesis.tex" in words
        repository = hub.repository("model", "me/thesis")
        assert set(repository.files) == {"thesis.tex", "README.md"} and repository.tags == {}


@pytest.mark.parametrize("token", ["hf_NobodyKnowsThisOne", None, READER], ids=["unknown", "none", "read only"])
def test_token_that_may_not_write_is_one_line_with_what_to_do(hub, tmp_path, token):
    assert "hf auth login" in refusal(hub, write_files(tmp_path / "a", "A"), token=token)
    assert hub.repositories == {}


def test_impossible_name_bad_card_or_a_right_that_is_lost_is_one_line(hub, tmp_path):
    folder = write_files(tmp_path / "a", "A")
    for repo_id in ("voice", "me/a b"):
        assert "USER/NAME" in refusal(hub, folder, repo_id=repo_id)
    hub.faults.append(Fault("xet-write-token", status=403, times=None))
    assert "the token may not do this" in refusal(hub, folder)
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    assert "the Hub does not accept the card" in refusal(hub, folder)
    assert len(hub.repository("model", "me/voice").commits) == 1


STEPS = [
    "GET /api/models/me/voice$",
    "POST /api/repos/create",
    "POST /api/models/me/voice/tag",
    "/tree/",
    "POST /api/validate-yaml",
    "/preupload/",
    "xet-write-token",
    "POST /api/models/me/voice/commit",
]


@pytest.mark.parametrize("kind", ["status", "drop", "lost"])
def test_one_bad_moment_at_each_step_is_survived_with_one_commit(hub, tmp_path, kind):
    """A step that is not tried again, or that may not be done twice."""
    folder = write_files(tmp_path / "a", "A", 1)
    hub.faults = [Fault(step, kind) for step in STEPS]
    sent = send(hub, folder, tag="v-1")
    assert [fault.match for fault in hub.faults if fault.happened != 1] == []
    repository = hub.repository("model", "me/voice")
    assert held(repository.head) == digests(folder)
    assert [commit.message for commit in repository.commits] == ["initial commit", "Model"]
    assert repository.tags == {"ownvoice": repository.commits[0].oid, "v-1": sent["commit"]}


def test_commit_of_another_in_between_is_built_upon_and_never_mixed_with(hub, tmp_path):
    send(hub, write_files(tmp_path / "a", "A"))
    repository = hub.repository("model", "me/voice")
    answer, files = hub.answer, dict(repository.head.files)

    def after_another_commit(request):
        if "/preupload/" in request.path and "notes.txt" not in repository.files:
            theirs = {name: StoredFile(b"{}") for name in ("notes.txt", "merged/config.json")}
            repository.add_commit(files | theirs, "by hand")
        return answer(request)

    hub.answer = after_another_commit
    folder = write_files(tmp_path / "b", "B")
    send(hub, folder)
    assert repository.files["notes.txt"] == b"{}"
    assert [commit.message for commit in repository.commits] == ["initial commit", "Model", "by hand", "Model"]
    assert {path: digest for path, digest in held(repository.head).items() if path != "notes.txt"} == digests(folder)


def test_no_token_survives_in_a_message(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a-token-of-another-form")
    text = f"refused\n{TOKEN} and a-token-of-another-form, {'x' * 400}"
    assert one_line(text).startswith("refused <token> and <token>, xxx")
    assert len(one_line(text)) == 300


# Unasked


@pytest.mark.parametrize(("stage", "name"), [("push", "push.repo_id"), ("deploy", "deploy.space_id")])
def test_stage_that_may_not_publish_says_why_and_takes_less_than_a_second(workspace, run_stage, set_param, stage, name):
    """A time in a receipt, which DVC would take for a change; an experiment that publishes; a receipt that stays."""
    file = workspace / f"data/receipts/{stage}.json"
    for reason in (f"{stage}.enabled is false", "experiments publish nothing (shy-newt)"):
        before = os.times()
        result = run_stage(stage, **({} if "enabled" in reason else {"DVC_EXP_NAME": "shy-newt"}))
        after = os.times()
        assert (result.returncode, result.errors) == (0, [])
        assert sum(after[2:4]) - sum(before[2:4]) < 1, "seconds of a processor"
        assert read_json(file) == {"published": False, "reason": reason}
        set_param(f"{stage}.enabled", True)
    result = run_stage(stage)
    assert (result.returncode, len(result.errors)) == (1, 1) and name in result.errors[0]
    assert not file.exists(), "the receipt of a former run stayed"

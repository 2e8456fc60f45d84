"""deploy: the Space is demo_voxtral/, knows its model from the first build on, and what goes wrong is one line."""

import os
import shutil
from pathlib import Path

import pytest
from huggingface_hub import SpaceHardware

from stages.common.files import sha256_of_file, write_json
from stages.hub.space import MEMORY_GB, check_hardware, folder_files
from tests.hub import TOKEN, Fault, HubServer, held
from tests.workspaces import ROOT, read_json, set_params

NEXT_TOKEN = "hf_TheTokenThatCameAfterTheFirstOne"
COMMIT = "6403adf021a449532f325bd947fd23c9704a4ea3"
BASE = "mistralai/Voxtral-Mini-3B-2507"
# With short pauses: the Space of these tests builds as soon as it is asked twice.
DEPLOY = """
from stages import deploy
from stages.hub import client, space
client.PAUSES_S, space.POLL_S = 9 * (0.05,), 0.05
deploy.run("deploy", deploy.main)
"""


@pytest.fixture
def space(workspace) -> Path:
    """A working folder in which a private adapter for a base on the Hub has been pushed, with deploy enabled."""
    shutil.copytree(ROOT / "demo_voxtral", workspace / "demo_voxtral", ignore=shutil.ignore_patterns("__pycache__"))
    settings = {"mode": "lora", "model": {"name": BASE, "revision": "3060fe3", "dtype": "bfloat16"}}
    training = {"settings": settings, "base_model": BASE, "base_model_identity": f"{BASE}@3060fe3"}
    training["parameters"] = 4_700_000_000
    write_json(workspace / "data/checkpoints/training.json", training)
    write_json(workspace / "data/prepared/summary.json", {"languages": {"de": 2, "en": 40}})
    write_push(workspace)
    set_params(workspace, deploy__enabled=True, deploy__space_id="me/demo")
    return workspace


def write_push(workspace: Path, **changes: object) -> None:
    receipt = {"published": True, "repo_id": "me/voice", "commit": COMMIT, "tag": "v-1", "private": True}
    files = [{"path": "adapter_config.json", "size": 1, "sha256": "0" * 64}]
    write_json(workspace / "data/receipts/push.json", receipt | {"files": files} | changes)


def deploy(hub: HubServer, workspace: Path, **extra: str) -> dict:
    result = hub.run(workspace, "-c", DEPLOY, **extra)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return read_json(workspace / "data/receipts/deploy.json")


def refusal(hub: HubServer, workspace: Path) -> str:
    words = hub.refusal(workspace, "-c", DEPLOY)
    assert not (workspace / "data/receipts/deploy.json").exists()
    return words


def values(hub: HubServer, what: str) -> dict[str, str]:
    return {name: entry["value"] for name, entry in getattr(hub.repository("space", "me/demo").space, what).items()}


def test_space_is_the_folder_and_knows_all_before_its_files_come_and_the_next_deploy_changes_nothing(hub, space):
    """A Space that builds without its model, is built twice, or holds a token in a file."""
    receipt = deploy(hub, space, HF_DEBUG="1")
    repository = hub.repository("space", "me/demo")
    expected = {name: sha256_of_file(path) for name, path in folder_files(ROOT / "demo_voxtral").items()}
    assert held(repository.head) == expected and "app.py" in expected
    assert repository.private and repository.space.hardware == "zero-a10g"
    assert values(hub, "variables") == receipt["variables"] == {
        "HF_MODEL_ID": f"me/voice@{COMMIT}",
        "MODEL_NAME": "voice",
        "TITLE": "A speech recogniser for one voice",
        "LANGUAGES": "en,de",
        "BASE_MODEL": f"{BASE}@3060fe3",
    }  # fmt: skip
    assert values(hub, "secrets") == {"HF_TOKEN": TOKEN} and receipt["secrets"] == ["HF_TOKEN"]
    assert receipt["published"] and receipt["url"] == f"{hub.url}/spaces/me/demo"
    built = next(number for number, request in enumerate(hub.requests) if "/commit/" in request)
    assert {request.split()[0] for request in hub.requests[built + 1 :]} == {"GET"}, "it was built twice"
    assert repository.space.polls_left == 0, "it did not wait until the Space ran"
    read = (ROOT / "demo_voxtral/app.py").read_text() + (ROOT / "demo_voxtral/README.md").read_text()
    assert all(f'"{name}"' in read and f"`{name}`" in read for name in receipt["variables"])
    hub.requests.clear()
    assert deploy(hub, space) == receipt
    assert {request.split()[0] for request in hub.requests} == {"GET"}
    files = [path for path in space.parent.rglob("*") if path.is_file()]
    assert len(files) > 5 and [path for path in files if TOKEN.encode() in path.read_bytes()] == []


def test_existing_space_is_set_to_another_model_hardware_and_token(hub, space):
    deploy(hub, space)
    write_push(space, commit="f" * 40)
    set_params(space, deploy__hardware="t4-small")
    hub.tokens[NEXT_TOKEN] = "write"
    deploy(hub, space, token=NEXT_TOKEN)
    assert values(hub, "variables")["HF_MODEL_ID"] == f"me/voice@{'f' * 40}"
    assert values(hub, "secrets") == {"HF_TOKEN": NEXT_TOKEN}
    assert hub.repository("space", "me/demo").space.hardware == "t4-small"
    write_push(space, private=False)
    deploy(hub, space)
    assert values(hub, "secrets") == {}, "a token that is no longer needed stayed"


def test_space_that_does_not_run_takes_too_long_or_costs_money_is_one_line(hub, space):
    deploy(hub, space)
    for stage, log in (("BUILD_ERROR", "build"), ("RUNTIME_ERROR", "container")):
        hub.repository("space", "me/demo").space.built_stage = stage
        assert refusal(hub, space).endswith(f"does not run ({stage}): see {hub.url}/spaces/me/demo?logs={log}")
    hub.repository("space", "me/demo").space.built_stage = "RUNNING"
    hub.repository("space", "me/demo").space.polls_left = 30
    set_params(space, deploy__wait_minutes=0.01)
    words = refusal(hub, space)
    assert "'BUILDING'" in words and "raise deploy.wait_minutes" in words
    hub.repository("space", "me/demo").space.polls_left = 1
    assert deploy(hub, space)["published"]
    set_params(space, deploy__hardware="t4-small")
    hub.faults.append(Fault("POST .*/hardware", status=402))
    assert "the Hub wants a paid plan for this" in refusal(hub, space)


def test_machine_that_cannot_hold_the_models_is_refused_with_the_figures_before_anything_is_sent(hub, space):
    """A Space that is built for minutes and then killed for its memory."""
    training = read_json(space / "data/checkpoints/training.json")
    training["settings"]["mode"] = "full"  # two whole models beside each other
    write_json(space / "data/checkpoints/training.json", training)
    set_params(space, deploy__hardware="cpu-basic")
    words = refusal(hub, space)
    assert "deploy.hardware cpu-basic is too small: the demo needs 20.8 GB of memory, and it has 16" in words
    assert hub.requests == []
    for enough in ("a10g-small", "a-machine-of-next-year"):
        check_hardware(enough, 2 * training["parameters"])
    check_hardware("cpu-basic", training["parameters"])
    assert set(MEMORY_GB) == {hardware.value for hardware in SpaceHardware}


def test_without_a_published_model_nothing_is_deployed(hub, space):
    (space / "data/receipts/push.json").unlink()
    assert "data/receipts/push.json is missing" in refusal(hub, space)
    write_json(space / "data/receipts/push.json", {"published": False, "reason": "push.enabled is false"})
    assert "push.enabled is false" in refusal(hub, space)
    assert hub.requests == []


def test_adapter_on_a_folder_of_this_machine_needs_the_merged_model(hub, space):
    training = read_json(space / "data/checkpoints/training.json")
    training |= {"base_model": "data/demo/voxtral-tiny", "base_model_identity": "folder:0123"}
    write_json(space / "data/checkpoints/training.json", training)
    assert "set push.merged to true" in refusal(hub, space)
    assert hub.requests == []
    write_push(space, files=[{"path": "merged/config.json", "size": 1, "sha256": "0" * 64}])
    assert "BASE_MODEL" not in deploy(hub, space)["variables"]


def test_plan_that_does_not_include_the_hardware_is_one_line(hub, space):
    hub.faults.append(Fault("POST .*/hardware", status=402))
    assert "the Hub wants a paid plan for this" in refusal(hub, space)


def test_bad_moments_at_every_step_are_survived(hub, space):
    deploy(hub, space)
    write_push(space, commit="f" * 40)
    set_params(space, deploy__hardware="t4-small")
    steps = ("GET .*/variables", "POST .*/variables", "GET .*/secrets", "GET .*/runtime", "POST .*/hardware")
    hub.faults = [Fault(step, kind) for step in steps for kind in ("drop", "lost")]
    assert deploy(hub, space)["published"]
    assert [fault for fault in hub.faults if not fault.happened] == []
    assert hub.repository("space", "me/demo").space.hardware == "t4-small"
    assert len(hub.repository("space", "me/demo").commits) == 2


def test_what_python_leaves_and_what_is_hidden_stays_here(tmp_path):
    for name in ("app.py", "examples/a.flac", ".env", ".gradio/take.wav", "__pycache__/app.cpython-311.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(os.urandom(4))
    assert set(folder_files(tmp_path)) == {"app.py", "examples/a.flac"}

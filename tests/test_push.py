"""push: what goes up, what never does, what is refused, and that the Hub's copy transcribes as the evaluation did."""

import contextlib
import hashlib
import json
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from stages import card
from stages import push as stage
from stages.common.files import write_json
from stages.common.params import load_params
from stages.common.stage import UserError
from stages.hub import release
from stages.hub.local.repositories import Repository, StoredFile
from stages.speech import prepared
from stages.voxtral import adapters
from tests.hub import TOKEN, Fault, HubServer, held
from tests.workspaces import ROOT, TINY_MODEL, copy_project, git, read_json, read_rows, set_params

PUBLISHED = {
    "README.md", "training.json", "curve.csv", "metrics.json",
    "adapter_config.json", "adapter_model.safetensors", "processor_config.json", "tekken.json", "tokenizer_config.json",
}  # fmt: skip
ADAPTER = {"adapter_config.json", "adapter_model.safetensors", "tokenizer_config.json"}
MERGED = {"config.json", "generation_config.json", "model.safetensors", "processor_config.json", "tekken.json"}
# With the libraries alone, as somebody would who knows nothing of this project: each code is run for each clip, from
# where it reads the sound on, in a folder where recording.wav is that clip.
READER = """
import contextlib, io, json, os, sys
codes, folders = json.loads(sys.argv[1])
heard = []
for code in codes:
    names, texts = {}, {}
    loading, sound, hearing = code.partition("samples, rate =")
    exec(loading, names)
    for clip, folder in folders.items():
        os.chdir(folder)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(sound + hearing, names)
        texts[clip] = printed.getvalue().strip()
    heard.append(texts)
print(json.dumps(heard))
"""


@pytest.fixture
def workspace(trained_project, tmp_path, monkeypatch) -> Path:
    """A copy of the trained project, as working folder, with push enabled."""
    folder = copy_project(trained_project, tmp_path / "workspace", push__enabled=True, push__repo_id="me/voice")
    monkeypatch.chdir(folder)
    return folder


def push(hub: HubServer, workspace: Path, **extra: str) -> dict:
    """The receipt of a push that must succeed."""
    result = hub.run(workspace, "-m", "stages.push", **extra)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return read_json(workspace / "data/receipts/push.json")


def refusal(hub: HubServer, workspace: Path) -> str:
    """Why a push refuses, after which nothing has been sent."""
    words = hub.refusal(workspace, "-m", "stages.push")
    assert hub.repositories == {}
    assert not (workspace / "data/receipts/push.json").exists()
    return words


def on_the_hub(hub: HubServer) -> dict[str, str]:
    return held(hub.repository("model", "me/voice").head)


def in_receipt(receipt: dict) -> dict[str, str]:
    return {entry["path"]: entry["sha256"] for entry in receipt["files"]}


def hear_as_published(hub: HubServer, workspace: Path, *codes: str) -> list[dict[str, str]]:
    """What each code from the card prints, {clip id: text} of the test clips, in a fresh process with its own cache."""
    folders = {}
    for row in read_rows(workspace / "data/split/test.jsonl"):
        folders[row["id"]] = str(workspace.parent / "heard" / row["id"])
        Path(folders[row["id"]]).mkdir(parents=True, exist_ok=True)
        content = prepared.content(workspace / "data/prepared" / row["file_name"])
        Path(folders[row["id"]], "recording.wav").write_bytes(content)  # libsndfile goes by what is in it: FLAC
    result = hub.run(workspace, "-c", READER, json.dumps([codes, folders]), HF_HOME=str(workspace.parent / "reader"))
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def codes_on_the_card(hub: HubServer) -> list[str]:
    card = hub.repository("model", "me/voice").files["README.md"].decode()
    # The tiny model was evaluated in float32.
    return re.findall(r"```python\n(.*?)```", card.replace("bfloat16", "float32"), re.DOTALL)


def with_model(code: str, *lines: str) -> str:
    """The code on the card with its model loaded by these lines."""
    kept = [line for line in code.splitlines() if not line.startswith(("model =", "from peft"))]
    at = next(number for number, line in enumerate(kept) if line.startswith("processor ="))
    return "\n".join([*kept[:at], *lines, *kept[at:]])


def publish_base(hub: HubServer, workspace: Path) -> None:
    """As if the workspace had been trained from a base on the Hub, at a commit of it that is not the newest."""
    base = Repository("model", "me/base")
    base.add_commit({path.name: StoredFile(path.read_bytes()) for path in TINY_MODEL.iterdir()}, "base")
    hub.repositories["model", "me/base"], commit = base, base.head.oid
    base.add_commit({**base.head.files, "LICENSE": StoredFile(b"more")}, "base again")
    set_params(workspace, model__name="me/base", model__revision=commit)
    training = read_json(workspace / "data/checkpoints/training.json")
    training |= {"base_model": "me/base", "base_model_identity": f"me/base@{commit}"}
    training["settings"]["model"] |= {"name": "me/base", "revision": commit}
    write_json(workspace / "data/checkpoints/training.json", training)
    adapters.complete(workspace / "data/checkpoints/best", "me/base", commit)
    card.main()


def evaluated(workspace: Path) -> dict[str, str]:
    rows = read_rows(workspace / "data/evaluation/predictions.jsonl")
    return {row["id"]: row["hypothesis"] for row in rows if row["model"] == "tuned"}


def test_dry_run_lists_what_a_push_then_sends_and_the_hubs_copy_transcribes_as_evaluated(hub, workspace):
    """A private file that is uploaded, a model that works only here, and a second push that does all of it again."""
    publish_base(hub, workspace)
    hub.requests.clear()
    best = workspace / "data/checkpoints/best"
    for name in ("optimizer.pt", "training_args.bin", "recording.flac", "sub/adapter_model.safetensors"):
        (best / name).parent.mkdir(exist_ok=True)
        (best / name).write_bytes(b"must stay here")
    (workspace / "data/card/notes.md").write_text("mine")
    set_params(workspace, push__dry_run=True)
    dry = push(hub, workspace)
    assert hub.requests == []
    assert not dry["published"] and dry["reason"] == "push.dry_run is true" and dry["refused"] is None
    assert f"{len(dry['files'])} files, " in stage.summary(dry)

    set_params(workspace, push__dry_run=False)
    receipt, repository = push(hub, workspace), hub.repository("model", "me/voice")
    assert set(on_the_hub(hub)) == PUBLISHED and repository.private
    assert in_receipt(receipt) == in_receipt(dry) == on_the_hub(hub)
    assert receipt["published"] and receipt["commit"] == repository.head.oid == repository.tags[receipt["tag"]]
    assert dry["left_out"] == receipt["left_out"] == [
        "data/card/notes.md",
        "data/checkpoints/best/optimizer.pt",
        "data/checkpoints/best/recording.flac",
        "data/checkpoints/best/sub/adapter_model.safetensors",
        "data/checkpoints/best/training_args.bin",
        "data/checkpoints/validation.json",
        "data/evaluation/details.json",
        "data/evaluation/evaluated.json",
        "data/evaluation/groups.csv",
        "data/evaluation/misheard.csv",
        "data/evaluation/other_speakers.jsonl",
        "data/evaluation/predictions.jsonl",
        "data/evaluation/report.html",
    ]  # fmt: skip

    folder = workspace.parent / "downloaded"
    folder.mkdir()
    for name, content in repository.files.items():
        (folder / name).write_bytes(content)
    [code] = codes_on_the_card(hub)
    load = "model = VoxtralForConditionalGeneration.from_pretrained({}, dtype=torch.float32)"
    other_codes = [  # transformers loads the adapter onto its base by itself, also from a downloaded copy
        with_model(code, load.format("'me/voice'")),
        with_model(code, load.format(f"'{folder}'")).replace(
            'AutoProcessor.from_pretrained("me/voice"', f"AutoProcessor.from_pretrained('{folder}'"
        ),
    ]
    heard = hear_as_published(hub, workspace, code, *other_codes)
    assert heard == 3 * [evaluated(workspace)] and len(heard[0]) >= 5

    hub.requests.clear()
    result = hub.run(workspace, "-m", "stages.push")
    assert result.returncode == 0 and "heard" not in result.stdout, "nothing changed, and the model was loaded"
    assert {request.split()[0] for request in hub.requests} == {"GET"}
    assert read_json(workspace / "data/receipts/push.json") == receipt


@pytest.mark.slow
def test_merged_and_whole_models_transcribe_as_their_cards_say_and_what_is_no_longer_wanted_is_removed(hub, workspace):
    set_params(workspace, push__merged=True)
    card.main()  # the base is a folder of this machine: the merged model is the one to use
    push(hub, workspace)
    assert set(on_the_hub(hub)) == PUBLISHED | {f"merged/{name}" for name in MERGED}
    [alone] = codes_on_the_card(hub)

    publish_base(hub, workspace)
    push(hub, workspace)
    [over_base, merged] = codes_on_the_card(hub)
    assert hear_as_published(hub, workspace, alone, with_model(over_base, merged)) == 2 * [evaluated(workspace)]
    set_params(workspace, push__merged=False)
    push(hub, workspace)
    assert set(on_the_hub(hub)) == PUBLISHED

    # The same weights as after full fine-tuning.
    [folder] = (workspace / ".cache/merged").iterdir()
    shutil.rmtree(workspace / "data/checkpoints/best")
    shutil.copytree(folder, workspace / "data/checkpoints/best")
    training = read_json(workspace / "data/checkpoints/training.json")
    training["settings"]["mode"] = "full"
    write_json(workspace / "data/checkpoints/training.json", training)
    assert hub.run(workspace, "-m", "stages.evaluate").returncode == 0
    card.main()
    push(hub, workspace)
    assert set(on_the_hub(hub)) == PUBLISHED - ADAPTER | MERGED
    assert hear_as_published(hub, workspace, *codes_on_the_card(hub)) == [evaluated(workspace)]


@pytest.mark.slow
def test_a_b_and_back_to_a_through_dvc_is_what_the_hub_holds_and_no_experiment_publishes(hub, workspace):
    """A receipt of A from DVC's run cache, while the Hub holds B."""
    held = []
    for title in "ABA":
        set_params(workspace, card__title=title)
        result = hub.run(workspace, "-m", "dvc", "repro")
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
        held.append(on_the_hub(hub))
        assert held[-1] == in_receipt(read_json(workspace / "data/receipts/push.json"))
    assert held[0] == held[2] != held[1]
    git(workspace, "add", "--all")
    git(workspace, "commit", "--quiet", "-m", "A")
    hub.requests.clear()
    result = hub.run(workspace, "-m", "dvc", "exp", "run", "-S", "card.title=C")
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert "experiments publish nothing" in result.stdout and hub.requests == []


def test_adapter_that_lost_its_training_or_does_not_load_is_refused(hub, workspace):
    weights = workspace / "data/checkpoints/best/adapter_model.safetensors"
    save_file({name: 0 * tensor for name, tensor in load_file(weights).items()}, weights)
    assert "adapter_model.safetensors is not the one that was evaluated" in refusal(hub, workspace)
    kept = read_json(workspace / "data/evaluation/evaluated.json")

    def evaluated_as_it_is() -> None:
        """So that only loading the files can tell."""
        hashed = {weights.name: hashlib.sha256(weights.read_bytes()).hexdigest()}
        (workspace / "data/evaluation/evaluated.json").write_text(json.dumps(kept | {"weights": hashed}))

    evaluated_as_it_is()
    words = refusal(hub, workspace)
    clip = next(clip for clip in evaluated(workspace) if clip in words)
    assert repr(evaluated(workspace)[clip]) in words
    weights.write_bytes(b"cut off")
    evaluated_as_it_is()
    result = hub.run(workspace, "-m", "stages.push")
    assert result.returncode == 1 and "do not load" in result.stderr and hub.repositories == {}


def test_model_that_is_not_better_or_names_a_folder_of_this_machine_is_refused(hub, workspace):
    metrics = read_json(workspace / "data/evaluation/metrics.json")
    metrics["improvement"] = {"wer_relative": 0.1, "low": -0.123, "high": 0.4}
    (workspace / "data/evaluation/metrics.json").write_text(json.dumps(metrics))
    words = refusal(hub, workspace)
    assert "improvement -12% to 40%" in words
    set_params(workspace, push__dry_run=True)
    dry = push(hub, workspace)
    assert dry["refused"] in words and dry["refused"] in stage.summary(dry)
    training = read_json(workspace / "data/checkpoints/training.json")
    training["settings"]["model"]["name"] = str(workspace / "models/x")
    (workspace / "data/checkpoints/training.json").write_text(json.dumps(training))
    assert "data/checkpoints/training.json names a folder of this machine" in refusal(hub, workspace)


def test_token_is_nowhere_but_in_the_environment(hub, workspace):
    """Not in a file, a log, a receipt, a repository, a message, nor among the arguments of any process."""
    seen: set[str] = set()
    stop = threading.Event()

    def watch_arguments() -> None:
        while not stop.wait(0.05):
            for arguments in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):  # it has ended
                    seen.add(arguments.read_bytes().decode(errors="replace"))

    watcher = threading.Thread(target=watch_arguments)
    watcher.start()
    hub.faults.append(Fault("/commit/", status=503))
    done = hub.run(workspace, "-m", "dvc", "repro", "push", HF_DEBUG="1")
    (workspace / "data/card/README.md").write_text("changed\n")
    hub.faults.append(Fault("GET /api/models/me/voice$", status=403, times=None))
    failed = hub.run(workspace, "-m", "stages.push", HF_DEBUG="1")
    stop.set()
    watcher.join()
    assert (done.returncode, failed.returncode) == (0, 1) and "answers 503" in done.stdout
    assert any("stages.voxtral.verify" in arguments for arguments in seen)
    assert TOKEN not in "".join(seen)
    files = [path for path in workspace.parent.rglob("*") if path.is_file()]
    assert workspace / "dvc.lock" in files
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []
    assert not any(TOKEN.encode() in content for content in hub.repository("model", "me/voice").files.values())


def test_merged_model_is_refused_after_an_evaluation_in_four_bits(hub, workspace):
    """A whole model that nobody has measured."""
    metrics = read_json(workspace / "data/evaluation/metrics.json")
    metrics["precision"]["quantisation"] = "4 bits (NF4)"
    (workspace / "data/evaluation/metrics.json").write_text(json.dumps(metrics))
    set_params(workspace, push__merged=True)
    assert "set evaluate.precision to whole" in refusal(hub, workspace)


# Without a Hub


PUSH = load_params(ROOT / "params.yaml").push


def metrics_of(
    base: float, tuned: float, low: float | None, high: float | None, others_low: float | None = None
) -> dict:
    """With the ends of the intervals of how much better it is, and the lower one of that for other people."""
    metrics = {"base": {"wer": base}, "tuned": {"wer": tuned}, "improvement": {"low": low, "high": high}}
    metrics |= {"units": 100}
    metrics["improvement"] |= {"wer_relative": None, "difference_low": -1.0, "difference_high": base - tuned}
    if others_low is not None:
        others = {"base": {"wer": 0.1}, "tuned": {"wer": 0.12}, "improvement": {"difference_low": others_low}}
        metrics["other_speakers"] = others
    return metrics


@pytest.mark.parametrize(
    ("require", "forgetting", "metrics", "words"),
    [
        ("better", None, metrics_of(0.5, 0.4, 0.0, 0.6), "is not shown to be"),
        ("better", None, metrics_of(0.0, 0.0, None, None), "is not shown to be"),
        ("not_worse", None, metrics_of(0.5, 0.4, -0.2, 0.6), None),
        ("not_worse", None, metrics_of(0.5, 0.6, -0.4, -0.01), "is not shown to be"),
        ("not_worse", None, metrics_of(0.0, 0.1, None, None), "is not shown to be"),
        ("none", None, metrics_of(0.5, 0.9, -2.0, -1.0), None),
        ("better", None, metrics_of(0.5, 0.2, 0.01, 0.9, -0.5), None),
        ("better", 0.05, metrics_of(0.5, 0.2, 0.01, 0.9, -0.05), None),
        ("better", 0.05, metrics_of(0.5, 0.2, 0.01, 0.9, -0.051), "5.1 points"),
        ("better", 0.05, metrics_of(0.5, 0.2, 0.01, 0.9), "set evaluate.other_speakers"),
    ],
)
def test_model_is_refused_by_the_ends_of_the_intervals(require, forgetting, metrics, words):
    """A model that is published though it may be worse, or have forgotten other people."""
    settings = PUSH.model_copy(update={"require": require, "max_forgetting": forgetting})
    reason = release.reason_to_refuse(settings, metrics)
    assert (reason is None) if words is None else (words in reason)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"token": "hf_abcdefghijklmnopqrstuvwxyzABCDEF"}', "an access token"),
        ("set from a-token-of-another-form", "an access token"),
        ('{"base": "/home/ann/models/voxtral"}', "(/home/ann/models/voxtral)"),
        ('{"base": "C:\\\\Users\\\\ann"}', "a folder of this machine"),
        ("in {here}/data", "a folder of this machine"),
        (b"header of weights", "(/home/ann/voxtral)"),
        ("data/demo/voxtral-tiny https://huggingface.co/home/x hf_hub_download and/home/ hf_transfer", None),
    ],
)
def test_what_must_not_be_published_is_found_and_nothing_else(tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "a-token-of-another-form")
    path = tmp_path / "training.json"
    if isinstance(content, bytes):
        path = tmp_path / "model.safetensors"
        save_file({"a": np.zeros(3)}, path, metadata={"from": "/home/ann/voxtral"})
    else:
        path.write_text(content.replace("{here}", str(tmp_path)))
    if words is None:
        release.check_harmless({path.name: path})
        return
    with pytest.raises(UserError) as raised:
        release.check_harmless({path.name: path})
    assert words in str(raised.value) and "a-token-of" not in str(raised.value).partition(" (")[0]


def test_of_a_whole_model_every_part_of_the_weights_goes_up_and_nothing_pickled(tmp_path):
    names = {
        "config.json", "generation_config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors", "tekken.json", "processor_config.json",
    }  # fmt: skip
    for name in names | {"pytorch_model.bin", "optimizer.pt", "trainer_state.json", "consolidated.safetensors"}:
        (tmp_path / name).touch()
    assert set(release.model_files(tmp_path)) == names

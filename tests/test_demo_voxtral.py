"""The demo that a Space runs: the folder by itself, with the tiny model after a short training, in a real browser."""

import ast
import contextlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import soxr
import torch
import yaml

from stages.hub.local.server import HubServer
from stages.speech import prepared
from tests.browser import free_port, started
from tests.memory import peak_bytes
from tests.workspaces import DEMO_CLIPS, ROOT, TINY_MODEL, copy_project, environment, read_rows

FOLDER = ROOT / "demo_voxtral"
SETTINGS = ("HF_MODEL_ID", "BASE_MODEL", "LANGUAGES", "MODEL_NAME", "TITLE")


@contextlib.contextmanager
def app(workspace: Path, *command: str, cwd: Path):
    """A demo's process and address, once the model is loaded."""
    port = free_port()
    variables = environment(workspace, PYTHONDONTWRITEBYTECODE="1", GRADIO_SERVER_PORT=str(port))
    variables["GRADIO_TEMP_DIR"] = str(workspace / "uploads")
    address = f"http://127.0.0.1:{port}"
    with started([*command], cwd, variables, workspace / f"demo-{port}.log", address) as process:
        yield process, address


@pytest.fixture(scope="module")
def trained(trained_project, tmp_path_factory):
    """A project in which a training of a few seconds has run."""
    with pytest.MonkeyPatch.context() as patch:
        for name in SETTINGS:
            patch.delenv(name, raising=False)
        yield copy_project(trained_project, tmp_path_factory.mktemp("demo") / "project")


@pytest.fixture(scope="module")
def demo(trained):
    """Process and address of the demo as `make demo-app` starts it, from the repository's root."""
    launcher = ("-m", "stages.commands.demo_app", str(trained))
    with app(trained, *launcher, cwd=ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def heard(demo, trained):
    """{(clip id, "base" or "tuned"): transcript} of the evaluation."""
    rows = read_rows(trained / "data/evaluation/predictions.jsonl")
    return {(row["id"], row["model"]): row["hypothesis"] for row in rows}


@pytest.fixture(scope="module")
def ask(demo):
    """`ask(path)`: what the page would show, without its screen: the message, and the transcripts."""
    from gradio_client import Client, handle_file

    client = Client(demo[1], verbose=False)

    def transcribed(path: Path | None) -> tuple[str, list[str]]:
        message, *transcripts = client.predict(path and handle_file(path), "en", api_name="/transcribe")
        [words] = re.findall(r'<div class="message \w+" role="alert">(.*)</div>', message)
        return words, transcripts

    return transcribed


@pytest.mark.browser
def test_recorded_voice_gives_both_transcripts_and_the_page_asks_nobody_else(page, microphone, demo, ask, trained):
    samples, rate_hz = soundfile.read(DEMO_CLIPS / "003.opus", dtype="float32")
    voice = np.pad(soxr.resample(0.5 * samples / np.abs(samples).max(), rate_hz, 48_000), 24_000)
    soundfile.write(microphone, voice, 48_000)
    asked = set()
    page.on("request", lambda request: asked.add(request.url))
    page.goto(demo[1])
    page.get_by_role("button", name="Record", exact=True).click()
    page.locator(".recording time").get_by_text("0:04").wait_for()  # the microphone has said all, and is silent
    with page.expect_response(lambda response: "/upload" in response.url):  # the player can be there before it
        page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("button", name="Play", exact=True).wait_for()
    page.get_by_role("button", name="Transcribe").click()
    page.get_by_role("alert").filter(has_text="Transcribed.").wait_for(state="attached")
    # The transcripts come with the message, but are drawn after it.
    page.wait_for_function("[...document.querySelectorAll('textarea')].every((box) => box.value)")
    base, tuned = (box.input_value() for box in page.locator("textarea").all())
    [recorded] = (trained / "uploads").rglob("*.wav")
    # A model this small hears other words with a little more silence before them: so no transcript known beforehand.
    assert ask(recorded) == ("Transcribed.", [base, tuned])
    assert page.get_by_label("Before: data/demo/voxtral-tiny").input_value() == base
    count = len(read_rows(trained / "data/split/train.jsonl"))
    assert page.get_by_label(f"After: trained on {count} recordings").input_value() == tuned
    elsewhere = {url for url in asked if not url.startswith((demo[1], "data:", "blob:"))}
    assert len(asked) > 10 and elsewhere == set()


def copy_of(workspace: Path, clip: dict, folder: Path) -> Path:
    """A clip's converted sound in a file of its own."""
    path = folder / f"{clip['id']}.flac"
    path.write_bytes(prepared.content(workspace / "data/prepared" / clip["file_name"]))
    return path


def test_clips_are_transcribed_as_in_the_evaluation(ask, heard, trained, tmp_path):
    clips = read_rows(trained / "data/split/test.jsonl")
    clips.sort(key=lambda clip: heard[clip["id"], "base"] == heard[clip["id"], "tuned"])
    assert heard[clips[0]["id"], "base"] != heard[clips[0]["id"], "tuned"], "or the adapter may stay on or off"
    for clip in clips[:3]:
        transcripts = [heard[clip["id"], "base"], heard[clip["id"], "tuned"]]
        assert ask(copy_of(trained, clip, tmp_path)) == ("Transcribed.", transcripts)


def test_70_seconds_are_transcribed_part_by_part(ask, tmp_path):
    phrase, rate_hz = soundfile.read(DEMO_CLIPS / "003.opus", dtype="float32")
    pause = np.zeros(rate_hz, dtype=np.float32)
    times = int(70 * rate_hz / len(np.concatenate([phrase, pause]))) + 1
    soundfile.write(tmp_path / "long.flac", np.tile(np.concatenate([phrase, pause]), times), rate_hz)
    assert soundfile.info(tmp_path / "long.flac").duration > 70
    words, transcripts = ask(tmp_path / "long.flac")
    assert words == "Transcribed." and len(transcripts) == 2
    for transcript in transcripts:
        assert transcript.count("garden") == times, transcript


def test_what_cannot_be_transcribed_is_said_in_a_sentence(ask, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(32_000), 16_000)
    soundfile.write(tmp_path / "short.wav", np.ones(800) / 2, 16_000)
    soundfile.write(tmp_path / "long.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 190 * 8000), 8000)
    (tmp_path / "text.wav").write_text("no sound at all\n" * 100)
    expected = {"silence": "only silence", "short": "too short", "long": "longer than 180", "text": "WAV"}
    for name, words in (expected | {None: "no recording"}).items():
        message, transcripts = ask(tmp_path / f"{name}.wav" if name else None)
        assert words in message and transcripts == ["", ""], name


def test_demo_app_listens_on_this_machine_alone_and_leaves_the_folder_as_it_is(demo):
    process, _ = demo
    addresses = {
        connection.laddr.ip
        for connection in psutil.Process(process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}
    files = {path.name for path in FOLDER.rglob("*") if path.is_file() and path.parent.name != "__pycache__"}
    assert files == {"README.md", "app.py", "recogniser.py", "requirements.txt", "sound.py"}


def test_demo_app_without_a_result_says_what_to_do(tmp_path):
    command = [sys.executable, "-m", "stages.commands.demo_app", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1 and "make repro" in result.stderr


def test_whole_and_merged_models_give_the_same_transcripts_as_the_adapter(demo, heard, trained, monkeypatch, tmp_path):
    recogniser, sound = demo_modules(monkeypatch)
    monkeypatch.chdir(trained)
    best = "data/checkpoints/best"
    base, tuned = recogniser.load(best)
    assert base.model is tuned.model, "one copy in memory"
    clip = read_rows(Path("data/split/test.jsonl"))[0]
    samples = sound.read(copy_of(trained, clip, tmp_path), tuned.sample_rate_hz, 30)

    def assert_it_hears_as_evaluated(model) -> None:
        assert model.transcribe([samples], "en").text == heard[clip["id"], "tuned"]

    def assert_only_the_tuned_one_is_there() -> None:
        nobody, merged = recogniser.load(str(published))
        assert nobody is None
        assert_it_hears_as_evaluated(merged)

    published = tmp_path / "published"  # whole weights in merged/, nothing else
    merged = tuned.model.merge_and_unload()
    merged.save_pretrained(published / "merged")
    tuned.processor.save_pretrained(published / "merged")
    assert_only_the_tuned_one_is_there()

    # With its adapter beside it, whose base is a folder of another machine.
    for file in Path(best).glob("adapter_*"):
        shutil.copy(file, published)
    settings = json.loads((published / "adapter_config.json").read_text())
    elsewhere = {**settings, "base_model_name_or_path": "models/of-another-machine"}
    (published / "adapter_config.json").write_text(json.dumps(elsewhere))
    assert_only_the_tuned_one_is_there()

    base, whole = recogniser.load(str(published / "merged"), str(TINY_MODEL))
    assert_it_hears_as_evaluated(whole)
    assert base.transcribe([samples], None).text == heard[clip["id"], "base"]


def test_models_that_are_missing_or_do_not_match_are_named(trained, monkeypatch, tmp_path):
    recogniser, _ = demo_modules(monkeypatch)
    monkeypatch.chdir(trained)
    (tmp_path / "empty").mkdir()
    shutil.copytree("data/checkpoints/best", tmp_path / "pickled")
    (tmp_path / "pickled/adapter_model.safetensors").rename(tmp_path / "pickled/adapter_model.bin")
    shutil.copytree("data/checkpoints/best", tmp_path / "other")
    settings = (tmp_path / "other/adapter_config.json").read_text()
    (tmp_path / "other/adapter_config.json").write_text(settings.replace('"r": 16', '"r": 8'))
    for name, words in (
        ("empty", "holds no model"),
        ("missing", "was not found"),
        ("pickled", "holds no adapter_model.safetensors"),
        ("other", "was not made for data/demo/voxtral-tiny"),
    ):
        with pytest.raises(recogniser.SetupError, match=words):
            recogniser.load(str(tmp_path / name))


LOAD = """
import json
import sys
import recogniser
for name in sys.argv[1:]:
    try:
        base, tuned = recogniser.load(name)
        print(json.dumps([base and base.name, tuned.name]))
    except recogniser.SetupError as problem:
        print(json.dumps(str(problem)))
"""


def test_models_come_from_the_hub_at_their_revision_without_other_weights(trained, tmp_path):
    best = {path.name: path.read_bytes() for path in (trained / "data/checkpoints/best").iterdir()}
    settings = json.loads(best["adapter_config.json"])
    adapter = {**best, "adapter_config.json": json.dumps({**settings, "base_model_name_or_path": "me/base"}).encode()}
    base = {path.name: path.read_bytes() for path in TINY_MODEL.iterdir()}
    merged = {f"merged/{name}": content for name, content in base.items()}
    unwanted = {"merged/model-2.safetensors": b"a second copy", "consolidated.safetensors": b"a third"}
    repositories = {("model", "me/base"): {**base, "consolidated.safetensors": b"Mistral's own"}}
    repositories |= {("model", "me/voice"): {**adapter, **unwanted}, ("model", "me/whole"): merged}
    with HubServer(repositories) as hub:
        hub.repository("model", "me/voice").private = True  # read with the token
        voice = f"me/voice@{hub.commit('model', 'me/voice')}"
        result = subprocess.run(
            [sys.executable, "-B", "-c", LOAD, voice, "me/whole", "me/nobody"],
            env=hub.environment(tmp_path, token="read-token") | {"PYTHONPATH": str(FOLDER)},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    adapted, whole, missing = [json.loads(line) for line in result.stdout.splitlines()]
    assert (adapted, whole) == (["me/base", "me/voice"], [None, "me/whole"])
    assert missing.startswith("The model me/nobody was not found")
    fetched = {path.as_posix() for path in tmp_path.rglob("*.safetensors")}
    assert {re.sub(r".*/models--me--(\w+)/snapshots/\w+/", r"\1/", path) for path in fetched} == {
        "base/model.safetensors",
        "voice/adapter_model.safetensors",
        "whole/merged/model.safetensors",
    }


def test_precision_is_the_best_that_this_machine_computes_in_and_holds(monkeypatch, tmp_path):
    """A Space on cpu-basic that is killed for its memory, and one on a T4 that emulates bfloat16."""
    recogniser, _ = demo_modules(monkeypatch)
    parameters = 4_676_271_104  # Voxtral-Mini-3B-2507

    def on_cpu_with(limit: str) -> torch.dtype:
        (tmp_path / "memory.max").write_text(limit)
        return recogniser.placement(parameters)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(recogniser.os, "sysconf", {"SC_PHYS_PAGES": 64 * 2**18, "SC_PAGE_SIZE": 4096}.get)
    monkeypatch.setattr(recogniser, "CGROUP_LIMIT", tmp_path / "memory.max")
    assert recogniser.placement(parameters) == ("cpu", torch.float32)
    assert on_cpu_with("max\n") == ("cpu", torch.float32)
    assert on_cpu_with("16000000000\n") == ("cpu", torch.bfloat16)
    with pytest.raises(recogniser.SetupError, match=r"needs 11\.4 GB of memory, and this machine has 8\.0 GB"):
        on_cpu_with("8000000000\n")

    supported = [True, False]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported.pop(0))
    assert recogniser.placement(parameters) == ("cuda", torch.bfloat16)
    assert recogniser.placement(parameters) == ("cuda", torch.float16)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")  # asked there, its emulated CUDA might say anything
    assert recogniser.placement(parameters) == ("cuda", torch.bfloat16)


def test_model_that_fits_in_bfloat16_alone_loads_in_it_and_two_that_do_not_are_refused(trained, monkeypatch):
    recogniser, _ = demo_modules(monkeypatch)
    monkeypatch.chdir(trained)
    weights_bytes = (TINY_MODEL / "model.safetensors").stat().st_size  # in bfloat16
    monkeypatch.setattr(recogniser, "memory_bytes", lambda: recogniser.SPARE_BYTES + 1.2 * weights_bytes)
    base, tuned = recogniser.load("data/checkpoints/best")
    assert base.model is tuned.model and tuned.model.dtype == torch.bfloat16 and not tuned.is_slow
    assert base.transcribe([np.zeros(16_000, dtype=np.float32)], "en") is not None
    with pytest.raises(recogniser.SetupError, match=r"needs 2\.0 GB of memory"):
        recogniser.load(str(TINY_MODEL), str(TINY_MODEL))
    monkeypatch.setattr(recogniser, "QUICK_PARAMETERS", 1)
    assert tuned.is_slow


def test_gpu_time_asked_for_is_enough_for_two_models_that_write_all_they_may(monkeypatch):
    """A call that ZeroGPU cuts off."""
    recogniser, _ = demo_modules(monkeypatch)
    for seconds, parts in ((19, [3]), (70, [30]), (120, 6 * [30])):
        assert recogniser.gpu_seconds([16_000 * part for part in parts], 16_000, models=2) == seconds
    assert recogniser.gpu_seconds([48_000], 16_000, models=1) == 15


def test_endless_repeats_end_and_are_cut_but_for_one(monkeypatch):
    recogniser, _ = demo_modules(monkeypatch)
    said = list(range(100, 130))
    assert recogniser.loop_period([*said, *[7, 8, 9] * 16]) == 3
    assert recogniser.loop_period([*said, *[7, 8, 9] * 15]) == 0, "fifteen times may have been said"
    assert recogniser.loop_period(said * 3) == 0


def test_long_sound_without_a_pause_is_cut_and_nothing_is_lost(monkeypatch):
    _, sound = demo_modules(monkeypatch)
    endless = np.random.default_rng(0).uniform(-0.3, 0.3, 192_000).astype(np.float32)
    parts = sound.cut(endless, 16_000, 64_000)
    assert max(map(len, parts)) <= 64_000
    np.testing.assert_array_equal(np.concatenate(parts), endless)


def test_many_channels_and_a_low_rate_neither_end_the_process_nor_fill_its_memory(monkeypatch, tmp_path):
    _, sound = demo_modules(monkeypatch)
    tone = 0.3 * np.sin(np.arange(16_000) / 5)
    soundfile.write(tmp_path / "eight.wav", np.repeat(tone[:, None], 8, axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(sound.read(tmp_path / "eight.wav", 16_000, 30), tone, atol=1e-6)
    soundfile.write(tmp_path / "years.flac", np.resize(tone, 100_000), 1)
    before = peak_bytes()
    with pytest.raises(sound.Refused, match="longer than 30 seconds"):
        sound.read(tmp_path / "years.flac", 16_000, 30)
    assert peak_bytes() - before < 100e6


def test_wav_is_heard_up_to_its_end_whatever_its_header_says(monkeypatch, tmp_path):
    """Catches: a recorder crashed, or files were joined, and only what the header names is transcribed."""
    _, sound = demo_modules(monkeypatch)
    path = tmp_path / "take.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(48_000) / 5), 16_000)
    content = path.read_bytes()
    (stale := bytearray(content))[40:44] = (32_000).to_bytes(4, "little")
    for changed, seconds in ((content, 3), (stale, 3), (content + content, 6), (content + b"LIST\4\0\0\0abcd", 3)):
        path.write_bytes(changed)
        assert len(sound.read(path, 16_000, 30)) / 16_000 == pytest.approx(seconds, abs=0.002)


def test_folder_by_itself_without_a_model_says_on_its_page_what_is_missing(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "space", ignore=shutil.ignore_patterns("__pycache__"))
    with app(tmp_path, str(tmp_path / "space/app.py"), cwd=tmp_path) as (_, address):
        page = urllib.request.urlopen(address).read().decode()
    assert "HF_MODEL_ID is not set. It names the model: USER/NAME on the Hub, or a folder." in page


def test_folder_imports_nothing_but_what_its_requirements_bring():
    distributions = importlib.metadata.packages_distributions()
    names = re.findall(r"^[\w-]+", (FOLDER / "requirements.txt").read_text(), re.MULTILINE)
    required = {"gradio", *(name.lower().replace("_", "-") for name in names)}
    nodes = [node for path in FOLDER.glob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    found = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    own = {path.stem for path in FOLDER.glob("*.py")} | {"spaces"}  # ZeroGPU brings its own
    foreign = {name.partition(".")[0] for name in found} - own - set(sys.stdlib_module_names)
    assert {"gradio", "torch", "peft"} <= foreign
    for module in foreign:
        assert {name.lower().replace("_", "-") for name in distributions[module]} & required, module


def test_versions_are_those_of_the_pipeline_but_for_torch():
    def pins(path: Path) -> dict[str, str]:
        return dict(re.findall(r"^([\w-]+)(?:\[\w+\])?==([\w.]+)$", path.read_text(), re.MULTILINE))

    ours, theirs = pins(ROOT / "requirements.txt"), pins(FOLDER / "requirements.txt")
    assert re.fullmatch(r"2\.(8|9|10|11)\.\d", theirs.pop("torch")), "ZeroGPU has torch 2.8 to 2.11"
    assert "gradio" not in theirs, "README.md says which"
    for name, version in theirs.items():
        assert ours.get(name, importlib.metadata.version(name)) == version, name
    card = yaml.safe_load((FOLDER / "README.md").read_text().split("---\n", 2)[1])
    assert (card["sdk"], card["sdk_version"]) == ("gradio", importlib.metadata.version("gradio"))
    assert card["python_version"] == "3.12", "as text: 3.10 would be 3.1"
    assert len(card["short_description"]) <= 60 and (FOLDER / card["app_file"]).is_file()


def demo_modules(monkeypatch):
    """The demo's own modules, loaded as app.py does."""
    import importlib

    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return importlib.import_module("recogniser"), importlib.import_module("sound")

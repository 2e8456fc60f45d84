"""Fixtures that several test files share."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from filelock import FileLock
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from stages.common.params import Params, load_params
from stages.speech.clips import Clip, read_clips
from tests import workspaces
from tests.browser import CHROMIUM, launch, new_page
from tests.hub import READER, TOKEN, HubServer
from tests.workspaces import ROOT, add_demo_clips, make_trained_project, make_workspace, run_stages

# They begin first: two processes then end together (xdist would begin with the files of most tests).
LONGEST = ("test_sweep", "test_demo", "test_recorder_page", "test_push", "test_train", "test_processes", "test_forget")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first. What needs a browser is skipped where there is none."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    if CHROMIUM is None:
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.skip(reason="Chromium is not installed (Debian's package chromium)"))


@pytest.fixture(autouse=True)
def main_stays() -> Iterator[None]:
    """Streamlit's AppTest leaves its page as __main__, which new processes of later tests would run."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(autouse=True)
def no_thread_moves_the_next_tests_inbox() -> Iterator[None]:
    yield
    mover = sys.modules.get("recorder.mover")
    if mover and (watcher := mover._watcher):
        watcher.join(60)


@pytest.fixture(scope="session")
def trained_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of tests.workspaces.make_trained_project, made once for all tests and all of their processes.

    Nobody writes into it: tests copy it with tests.workspaces.copy_project.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "trained-project"
    with FileLock(shared / "trained-project.lock"):
        if not (folder / "whole").exists():
            make_trained_project(folder)
            (folder / "whole").touch()
    return folder


@pytest.fixture(scope="session")
def demo_clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """24 clips of the demo as prepare makes them, each with the whole path of its sound."""
    workspace = make_workspace(tmp_path_factory.mktemp("demo-clips"))
    add_demo_clips(workspace, 24)
    run_stages(workspace, "prepare")
    folder = workspace / "data/prepared"
    return [replace(clip, audio_path=str(folder / clip.audio_path)) for clip in read_clips(folder / "metadata.jsonl")]


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """For one file: as long as it is there, no other test in its process can use asyncio.run."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The WAV file that `browser` hears with each recording; tests write it."""
    return tmp_path_factory.mktemp("microphone") / "microphone.wav"


@pytest.fixture(scope="module")
def browser(playwright: Playwright, microphone: Path) -> Iterator[Browser]:
    """One Chromium for all tests of a file."""
    with launch(playwright, microphone) as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of the test's own."""
    with new_page(browser) as page:
        yield page


@pytest.fixture
def params() -> Params:
    """The repository's params.yaml."""
    return load_params(ROOT / "params.yaml")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with params.yaml and templates, that nothing outside reaches into."""
    for variable in ("OWNVOICE_CACHE", "DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "workspace"
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copytree(ROOT / "templates", folder / "templates")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """An empty Hub on this machine, where TOKEN may write and READER read."""
    with HubServer(tokens={TOKEN: "write", READER: "read"}) as server:
        yield server


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """An empty folder for sources."""
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture
def set_param(workspace: Path) -> Callable[[str, object], None]:
    """`set_param("push.enabled", True)` changes the workspace's params.yaml."""

    return lambda key, value: workspaces.set_params(workspace, **{key.replace(".", "__"): value})


@pytest.fixture
def run_stage(workspace: Path) -> Callable[..., subprocess.CompletedProcess]:
    """`run_stage("split", DVC_EXP_NAME="x")` runs a stage as DVC does; `.errors` holds stderr without progress bars."""

    def run(stage: str, **variables: str) -> subprocess.CompletedProcess:
        result = workspaces.run_stage(workspace, stage, PYTHONPATH=str(ROOT), **variables)
        lines = re.split(r"[\r\n]+", result.stderr)
        result.errors = [line for line in lines if line.strip() and not re.search(r"clip/s|s/clip", line)]
        return result

    return run


@pytest.fixture
def record(workspace: Path) -> Callable[..., Path]:
    """`record("phone/a.wav")` puts a tone (by default 1 s of 440 Hz at -12 dBFS) into data/raw."""

    def write(
        name: str, duration_s: float = 1.0, hertz: float = 440.0, peak: float = 0.25, rate_hz: int = 16_000
    ) -> Path:
        path = workspace / "data/raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
        soundfile.write(path, np.clip(peak * np.sin(2 * np.pi * hertz * time_s), -1, 1), rate_hz)
        return path

    return write


@pytest.fixture
def transcribe(workspace):
    """`transcribe("phone", {"a.wav": "one"})` writes a source's clips.jsonl; a value may be a whole row."""

    def write(source: str, texts: dict[str, str | dict]) -> None:
        folder = workspace / "data/raw" / source
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            {"audio_path": name, **(text if isinstance(text, dict) else {"text": text})} for name, text in texts.items()
        ]
        (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return write


@pytest.fixture
def make_clip() -> Callable[..., Clip]:
    """`make_clip("one two", speaker="ann")`: a clip of two seconds; its id follows from the text unless given."""

    def make(text: str, **fields: object) -> Clip:
        identity = fields.pop("id", hashlib.sha256(text.encode()).hexdigest()[:16])
        values = {
            "audio_path": f"audio/{identity}.flac",
            "language": "en",
            "source": "phone",
            "recorded_file": f"phone/{identity}.wav",
            "duration_s": 2.0,
            "peak_dbfs": -6.0,
            "level_dbfs": -20.0,
            "snr_db": 30.0,
            "clipped_fraction": 0.0,
        }
        return Clip(id=identity, text=text, **{**values, **fields})

    return make

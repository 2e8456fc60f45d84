"""Workspaces for tests: copies of the code and the demo's model in a temporary folder, where stages really run."""

from __future__ import annotations

import atexit
import csv
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
TINY_MODEL = ROOT / "data/demo/voxtral-tiny"
DEMO_CLIPS = ROOT / "data/demo/clips"
SPEECH = ROOT.parent / "shared/speech"


def make_workspace(folder: Path, **overrides: object) -> Path:
    """Code, templates and settings in `folder`, with the demo's model and card; overrides as for set_params."""
    for name in ("stages", "templates"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TINY_MODEL, folder / "data/demo/voxtral-tiny")
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    yaml = YAML()
    params, demo = (yaml.load(path) for path in (ROOT / "params.yaml", ROOT / "data/demo/params.yaml"))
    for section in ("model", "card"):
        params[section].update(demo[section])
    params["train"]["tracking"]["enabled"] = False
    params["train"]["min_updates"] = 0
    (folder / "params.yaml").parent.mkdir(parents=True, exist_ok=True)
    yaml.dump(params, folder / "params.yaml")
    set_params(folder, **overrides)
    return folder


def set_params(workspace: Path, **overrides: object) -> None:
    """Change values of params.yaml; __ stands for the dot in a key."""
    yaml = YAML()
    yaml.default_flow_style = None  # lists on one line: ruamel loses a line break after others
    params = yaml.load(workspace / "params.yaml")
    for key, value in overrides.items():
        *sections, name = key.split("__")
        section = params
        for part in sections:
            section = section[part]
        assert name in section, key
        section[name] = value
    yaml.dump(params, workspace / "params.yaml")


def add_demo_clips(workspace: Path, count: int, source: str = "demo", speaker: str = "demo") -> None:
    """The first `count` demo clips as data/raw/SOURCE."""
    folder = workspace / "data/raw" / source
    folder.mkdir(parents=True)
    rows = [json.loads(line) for line in (DEMO_CLIPS / "clips.jsonl").read_text().splitlines()[:count]]
    for row in rows:
        shutil.copy(DEMO_CLIPS / row["audio_path"], folder / row["audio_path"])
    lines = [json.dumps(row | {"speaker": speaker}, ensure_ascii=False) for row in rows]
    (folder / "clips.jsonl").write_text("".join(line + "\n" for line in lines))


def add_digits(workspace: Path, speaker: str) -> None:
    """One speaker of the spoken digits as a source with a transcripts.csv."""
    folder = workspace / "data/raw" / speaker
    folder.mkdir(parents=True)
    with (SPEECH / "digits/transcripts.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["speaker"] == speaker]
    for row in rows:
        shutil.copy(SPEECH / "digits" / row["file"], folder / row["file"])
    with (folder / "transcripts.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "text", "speaker"])
        writer.writeheader()
        writer.writerows(rows)


def environment(workspace: Path, **extra: str) -> dict[str, str]:
    """Of this process, without a token, without another DVC or its telemetry, offline, with our Python first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "OWNVOICE_", "HF_"))}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    kept["HF_HOME"] = str(workspace / ".hf")
    kept["HF_HUB_OFFLINE"] = kept["DVC_NO_ANALYTICS"] = "1"
    return kept | extra


@functools.cache
def _dvc_template() -> Path:
    """What `dvc init --no-scm` and `dvc add data/raw` write where data/raw is empty; the same in every folder."""
    folder = Path(tempfile.mkdtemp(prefix="ownvoice-dvc-"))
    atexit.register(shutil.rmtree, folder)
    dvc(folder, "init", "--no-scm", "--quiet")
    dvc(folder, "config", "core.analytics", "false")
    (folder / "data/raw").mkdir(parents=True)
    dvc(folder, "add", "--quiet", "data/raw")
    return folder


def init_dvc(workspace: Path, tracks_raw: bool = False) -> None:
    """Make a folder a DVC repository without git, as `dvc init --no-scm` does; tracks_raw: with an empty data/raw."""
    shutil.copytree(_dvc_template() / ".dvc", workspace / ".dvc")
    if tracks_raw:
        (workspace / "data/raw").mkdir(parents=True, exist_ok=True)
        shutil.copy(_dvc_template() / "data/raw.dvc", workspace / "data/raw.dvc")


def git(workspace: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run git as somebody with a name."""
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    return subprocess.run(
        ["git", *author, *arguments],
        cwd=workspace, env=environment(workspace), check=True, capture_output=True, text=True,
    )  # fmt: skip


def make_trained_project(folder: Path) -> None:
    """A git and DVC repository in which the whole pipeline has run: Ann's 60 recordings, and a model that has learnt.

    The sound is the demo's; Ann has agreed to be recorded, and one of her texts holds an e-mail address. git and DVC
    have nothing left to do.
    """
    make_workspace(folder, train__epochs=3, train__max_clips=48)
    shutil.copytree(ROOT / "demo_voxtral", folder / "demo_voxtral", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / ".streamlit", folder / ".streamlit")
    shutil.copy(ROOT / ".gitignore", folder / ".gitignore")
    add_demo_clips(folder, 60, source="recorded", speaker="Ann")
    recorded = folder / "data/raw/recorded"
    rows = (recorded / "clips.jsonl").read_text()
    said = json.loads(rows.splitlines()[1])["text"]  # a row of the training part
    (recorded / "clips.jsonl").write_text(rows.replace(said, f"{said} Write to ann at example dot org.", 1))
    consent = {"speaker": "Ann", "wording": "I agree", "given_at": "2026-01-01T12:00:00+00:00"}
    (recorded / "consents.jsonl").write_text(json.dumps(consent) + "\n")
    git(folder, "init", "--quiet", "--initial-branch=main")
    dvc(folder, "init", "--quiet")
    dvc(folder, "config", "core.analytics", "false")
    dvc(folder, "add", "--quiet", "data/raw")
    dvc(folder, "repro")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "first run")


def copy_project(project: Path, folder: Path, **overrides: object) -> Path:
    """A project of one's own, with other settings where given."""
    shutil.copytree(project, folder, symlinks=True)
    set_params(folder, **overrides)
    return folder


def run_module(workspace: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess:
    """Run `python -m ...` to its end, whatever its exit code."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=workspace, env=environment(workspace, **extra), capture_output=True, text=True, timeout=900,
    )  # fmt: skip


def run_stage(workspace: Path, name: str, **extra: str) -> subprocess.CompletedProcess:
    return run_module(workspace, f"stages.{name}", **extra)


def run_stages(workspace: Path, *names: str) -> None:
    """Run stages that must succeed, each after the other."""
    for name in names:
        result = run_stage(workspace, name)
        assert result.returncode == 0, result.stderr[-3000:]


def dvc(workspace: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    result = run_module(workspace, "dvc", *arguments)
    assert not check or result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, of which there must be one, by its path inside."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found, folder
    return found

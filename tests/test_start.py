"""What the start of a stage brings with it: libraries and settings of threads, looked at in processes of their own."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from stages.commands.setup import pip_settings
from tests.workspaces import ROOT


def python(code: str, **variables: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not re.match("OMP_|GOMP_", name)}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env={**kept, "PYTHONPATH": "demo_voxtral", **variables}, capture_output=True, text=True, check=True,
    )  # fmt: skip


def spin_count(code: str, **variables: str) -> str:
    """What torch's own OpenMP library says it goes by."""
    return re.search(r"GOMP_SPINCOUNT = '(\w+)'", python(code, OMP_DISPLAY_ENV="verbose", **variables).stderr)[1]


@pytest.mark.parametrize(
    "start", ["import stages.train", "import recorder.listener, recorder.base_and_tuned", "import app"]
)
def test_threads_of_torch_wait_asleep_whatever_loads_it(start):
    """Set too late, torch would spin on: a training beside a browser would fall to a twentieth of its speed."""
    assert spin_count(start) == "1000"


def test_settings_of_threads_that_a_person_made_are_kept():
    assert spin_count("import stages, torch", GOMP_SPINCOUNT="77") == "77"
    assert spin_count("import stages, torch", OMP_WAIT_POLICY="passive") == "0"


def test_set_up_looks_for_packages_where_pip_would():
    """uv does not read them: it would take a CUDA build of torch where pip takes a CPU build from a folder."""
    environment, mine = ":env:.find-links='/wheels /more'", "install.index-url='file:///mine'"
    replaced = ["global.find-links='/replaced by the environment'", "global.index-url='file:///replaced'"]
    settings = pip_settings("\n".join([environment, "global.cert='/etc/ca.crt'", *replaced, mine]))
    assert settings == {"find-links": ["/wheels", "/more"], "cert": ["/etc/ca.crt"], "index-url": ["file:///mine"]}


@pytest.fixture
def bare_project(tmp_path):
    """requirements.txt, an environment with pip and uv, and wheels in a folder that only pip knows of."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for version in ("1.0", "1.0+cpu"):
        with zipfile.ZipFile(wheels / f"voice-{version}-py3-none-any.whl", "w") as wheel:
            about = f"voice-{version}.dist-info"
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: voice\nVersion: {version}\n")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", f"{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    uv = importlib.metadata.distribution("uv")
    (tmp_path / "requirements.txt").write_text(f"voice==1.0\nuv=={uv.version}\n")
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    venv.create(tmp_path / "venv", with_pip=True)
    [packages] = tmp_path.glob("venv/lib/python*/site-packages")
    for folder in (uv.locate_file("uv"), uv.locate_file(f"uv-{uv.version}.dist-info")):
        shutil.copytree(folder, packages / folder.name)
    (tmp_path / "venv/bin/uv").symlink_to(Path(sys.executable).parent / "uv")
    return tmp_path


@pytest.mark.parametrize("uv_works", [True, False])
def test_set_up_takes_the_build_that_pip_would_take_with_uv_and_without(bare_project, uv_works):
    if not uv_works:
        (bare_project / "venv/bin/uv").unlink()
    result = subprocess.run(
        [bare_project / "venv/bin/python", "-m", "stages.commands.setup"],
        cwd=bare_project, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(bare_project / "wheels")},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert ("pip does it now" in result.stdout) is not uv_works
    [installed] = bare_project.glob("venv/lib/python*/site-packages/voice-*.dist-info")
    assert installed.name == "voice-1.0+cpu.dist-info"

"""Install requirements.txt into the environment of the Python that runs this: `make setup`.

    .venv/bin/python -m stages.pipeline.setup

uv does it in a tenth of pip's time, but does not read pip's settings, which may name a place for wheels such as a CPU
build of torch. They are handed on to it. pip installs where uv cannot be had or fails. Needs the standard library
alone.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path("requirements.txt")
# pip's settings that say where packages come from, and uv's options for them; each may hold several values.
UV_OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraints",
    "trusted-host": "--allow-insecure-host",
}
SETTING = re.compile(r"(global|install|:env:)\.([a-z-]+)=('.*')")


def uv_options(pip_config: str) -> list[str]:
    """pip's settings, as `pip config list` prints them, in uv's words.

    As with pip, a setting of the environment replaces that of [install], which replaces that of [global].
    """
    found = [match.groups() for line in pip_config.splitlines() if (match := SETTING.fullmatch(line))]
    found.sort(key=lambda setting: ["global", "install", ":env:"].index(setting[0]))
    settings = {name: ast.literal_eval(value).split() for _, name, value in found}
    return [part for name, option in UV_OPTIONS.items() for value in settings.get(name, []) for part in (option, value)]


def uv_command() -> list[str] | None:
    """uv with the pinned version, fetched by pip; None where it cannot be had."""
    pin = re.search(r"^uv==\S+$", REQUIREMENTS.read_text(), re.MULTILINE)[0]
    got = subprocess.run([*pip("install"), "--quiet", pin], check=False)
    return [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable] if got.returncode == 0 else None


def pip(command: str) -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", command]


def main() -> int:
    config = subprocess.run([*pip("config"), "list"], capture_output=True, text=True, check=True).stdout
    if uv := uv_command():
        # Packages of all places are compared, as pip does. Compiled now, not when a stage is waited for.
        options = ["--index-strategy", "unsafe-best-match", "--compile-bytecode", *uv_options(config)]
        if subprocess.run([*uv, *options, "-r", str(REQUIREMENTS)], check=False).returncode == 0:
            return 0
        print("uv could not install the packages, see above: pip does it, which takes some minutes", flush=True)
    return subprocess.run([*pip("install"), "-r", str(REQUIREMENTS)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

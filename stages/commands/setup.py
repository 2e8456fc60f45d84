"""Install requirements.txt into the environment of the Python that runs this: `make setup`.

    .venv/bin/python -m stages.commands.setup

uv is faster than pip, but does not read pip's settings, which may name an index for a CPU build of torch: they become
uv's options. If uv cannot be installed or fails, pip installs. Needs only the standard library.
"""

from __future__ import annotations

import ast
import os
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
UV_VARIABLES = {"cert": "SSL_CERT_FILE", "proxy": "ALL_PROXY"}
SETTING = re.compile(r"(global|install|:env:)\.([a-z-]+)=('.*')")


def pip_settings(config: str) -> dict[str, list[str]]:
    """The values of each setting in what `pip config list` prints.

    As with pip, a setting of the environment replaces that of [install], which replaces that of [global].
    """
    found = [match.groups() for line in config.splitlines() if (match := SETTING.fullmatch(line))]
    found.sort(key=lambda setting: ["global", "install", ":env:"].index(setting[0]))
    return {name: ast.literal_eval(value).split() for _, name, value in found}


def uv_install(settings: dict[str, list[str]]) -> bool:
    """Install uv by pip and the packages by uv; whether both worked."""
    pin = re.search(r"^uv==\S+$", REQUIREMENTS.read_text(), re.MULTILINE)[0]
    if subprocess.run(pip("install", "--quiet", pin), check=False).returncode != 0:
        return False
    # Packages of all places are compared, as pip does. Compiled now, not when a stage is waited for.
    options = ["--index-strategy", "unsafe-best-match", "--compile-bytecode", "--python", sys.executable]
    options += [
        part for name, option in UV_OPTIONS.items() for value in settings.get(name, []) for part in (option, value)
    ]
    if settings.get("no-index", [""])[0].lower() in ("1", "true", "yes", "on"):
        options.append("--no-index")
    variables = {UV_VARIABLES[name]: settings[name][0] for name in UV_VARIABLES if name in settings}
    command = [sys.executable, "-m", "uv", "pip", "install", *options, "-r", str(REQUIREMENTS)]
    return subprocess.run(command, env={**variables, **os.environ}, check=False).returncode == 0


def pip_install() -> int:
    """pip's exit code."""
    packages = re.sub(r"^uv==\S+$", "", REQUIREMENTS.read_text(), flags=re.MULTILINE)  # it may be what failed
    return subprocess.run(pip("install", "-r", "/dev/stdin"), input=packages, text=True, check=False).returncode


def pip(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]


def main() -> int:
    config = subprocess.run(pip("config", "list"), capture_output=True, text=True, check=True).stdout
    if uv_install(pip_settings(config)):
        return 0
    print("uv could not install the packages: pip does it now, which takes some minutes", flush=True)
    return pip_install()


if __name__ == "__main__":
    sys.exit(main())

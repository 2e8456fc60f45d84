"""A real browser for tests: Debian's Chromium, driven by playwright, with a file for a microphone.

Tests take it from the fixtures in conftest.py, and carry the mark `browser`.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright, expect

from tests.workspaces import ROOT, environment

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# How long anything is waited for: only a test that fails takes as long, a busy machine never does.
PATIENCE_S = 90
expect.set_options(timeout=1000 * PATIENCE_S)


def launch(playwright: Playwright, microphone: Path | None = None, denied: bool = False, map_host: str = "") -> Browser:
    """A browser that hears `microphone` (a WAV file, read anew) as often as it records; None: it has none.

    `map_host` is a name for this machine that browsers do not trust as they do localhost.
    """
    flags = list(FLAGS)
    if denied:
        flags += ["--deny-permission-prompts", "--use-fake-device-for-media-stream"]
    else:
        flags.append("--use-fake-ui-for-media-stream")
    if microphone:
        flags += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={microphone}%noloop"]
    if map_host:
        flags.append(f"--host-resolver-rules=MAP {map_host} 127.0.0.1")
    return playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)


@contextlib.contextmanager
def new_page(browser: Browser) -> Iterator[Page]:
    """A page that knows nothing of other pages of the browser: cookies, permissions and storage of its own."""
    with browser.new_context() as context:
        context.set_default_timeout(1000 * PATIENCE_S)
        yield context.new_page()


@contextlib.contextmanager
def recorder_server(workspace: Path, *options: str, **variables: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """Address and process of a workspace's recording page, as `make recorder` starts it, on a free port."""
    address = f"http://localhost:{free_port()}"
    command = ["-m", "streamlit", "run", str(ROOT / "recorder/app.py"), "--server.port", address.rpartition(":")[2]]
    variables = environment(workspace, PYTHONPATH=str(ROOT), **variables)
    log = workspace / "streamlit.log"
    with started([*command, *options], workspace, variables, log, f"{address}/_stcore/health") as process:
        yield address, process


@contextlib.contextmanager
def started(command: list[str], folder: Path, variables: dict, log: Path, address: str) -> Iterator[subprocess.Popen]:
    """A server of ours, run by Python in this folder, once it answers at this address."""

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(address, timeout=5).status == 200
        return False

    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, *command], cwd=folder, env=variables, stdout=file, stderr=file)
    try:
        wait_for(answers, timeout_s=2 * PATIENCE_S, what="the server did not start")
        yield process
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, timeout_s: float = PATIENCE_S, what: str = "") -> None:
    """Until a condition of the world outside the browser holds."""
    gives_up_at_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < gives_up_at_s, what or "waited in vain"
        time.sleep(0.1)

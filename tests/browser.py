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

from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

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
def chromium(microphone: Path | None = None) -> Iterator[Page]:
    """A page of a browser of its own, for programs; tests share one."""
    with sync_playwright() as playwright, launch(playwright, microphone) as browser, new_page(browser) as page:
        yield page


@contextlib.contextmanager
def recorder_server(workspace: Path, *options: str, **variables: str) -> Iterator[str]:
    """The recording page of a workspace, as `make recorder` starts it, on a free port; gives its address."""
    port = free_port()
    process = start_recorder(workspace, port, *options, **variables)
    try:
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)


def start_recorder(workspace: Path, port: int, *options: str, **variables: str) -> subprocess.Popen:
    """Returns when the page answers."""
    log = (workspace / "streamlit.log").open("ab")
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "recorder/app.py"), "--server.port", str(port)]
    process = subprocess.Popen(
        [*command, *options],
        cwd=workspace,
        env=environment(workspace, PYTHONPATH=str(ROOT), **variables),
        stdout=log,
        stderr=log,
    )
    address = f"http://localhost:{port}"
    gives_up_at_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
            return process
        except OSError:
            assert process.poll() is None, (workspace / "streamlit.log").read_text()
            assert time.monotonic() < gives_up_at_s, "the page did not start"
            time.sleep(0.1)


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

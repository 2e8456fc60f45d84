"""A real browser for tests: Debian's Chromium, driven by playwright, with a file for a microphone."""

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

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.workspaces import ROOT, environment

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian's package chromium)")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)


@contextlib.contextmanager
def chromium(profile: Path, microphone: Path | None = None, denied: bool = False, map_host: str = "") -> Iterator:
    """A page of a fresh browser that hears `microphone` (a WAV file) as often as it records; None: it has none.

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
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=CHROMIUM, headless=True, args=flags
        )
        page = context.pages[0]
        page.set_default_timeout(PATIENCE_MS)
        yield page
        context.close()


@contextlib.contextmanager
def recorder_server(workspace: Path, *options: str, **variables: str) -> Iterator[str]:
    """The recording page of a workspace, as `make recorder` starts it, on a free port; gives its address."""
    port = free_port()
    process = start_recorder(workspace, port, *options, **variables)
    try:
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


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
    gives_up_at_s = time.monotonic() + 30
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


def wait_for(condition, timeout_s: float = 20, what: str = "") -> None:
    """Until a condition of the world outside the browser holds."""
    gives_up_at_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < gives_up_at_s, what or "waited in vain"
        time.sleep(0.1)

"""How quick the recording page is, in a real browser: start, and from "save" to the next phrase at 5,000 clips.

    python -m tests.benchmarks.page

Each save also moves the inbox, with DVC, in a process beside the page: a person feels that too.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from recorder import phrases
from tests.browser import chromium, free_port, start_recorder
from tests.workspaces import ROOT, dvc, make_workspace

CLIPS, SAVES = 5000, 20
# Measures inside the browser, from the key that goes down to the first frame with another phrase, or the rest.
WATCH = """() => {
    const phrase = () => {
        const host = document.querySelector('[data-testid=stBidiComponentIsolated]');
        return host && host.shadowRoot.querySelector('.phrase').textContent;
    };
    const before = phrase();
    window.measured = new Promise((done) => {
        document.addEventListener('keydown', () => {
            const began = performance.now();
            const look = () => {
                if (phrase() !== before) done(performance.now() - began);
                else requestAnimationFrame(look);
            };
            look();
        }, {once: true, capture: true});
    });
}"""


def project(folder: Path) -> Path:
    """A workspace with CLIPS recordings of one speaker, half of them of the built-in phrases."""
    workspace = make_workspace(folder / "project")
    shutil.copytree(ROOT / ".streamlit", workspace / ".streamlit")
    source = workspace / "data/raw/recorded"
    source.mkdir(parents=True)
    texts = phrases.from_file("en")
    rows = []
    for number in range(CLIPS):
        name = f"{number:016x}.flac"
        (source / name).write_bytes(f"not decoded here {number}".encode())
        text = texts[number % len(texts)]
        rows.append(
            {
                "audio_path": name,
                "text": text,
                "language": "en",
                "speaker": "Ann",
                "session": "2026-01-01",
                "prompt_id": phrases.prompt_id("en", text),
                "recorded_at": "2026-01-01T12:00:00+00:00",
                "duration_s": 3.0,
                "level_dbfs": -20.0,
                "snr_db": 40.0,
            }
        )
    (source / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (source / "consents.jsonl").write_text('{"speaker": "Ann", "wording": "yes", "given_at": "2026-01-01"}\n')
    dvc(workspace, "init", "--no-scm", "--quiet")
    dvc(workspace, "add", "--quiet", "data/raw")
    return workspace


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        workspace = project(Path(folder))
        sound = Path(folder) / "microphone.wav"
        random = np.random.default_rng(0)
        port = free_port()
        with chromium(sound) as page:
            began_s = time.monotonic()
            server = start_recorder(workspace, port)
            answers_s = time.monotonic() - began_s
            page.goto(f"http://localhost:{port}/?speaker=Ann&language=en")
            page.locator(".record").wait_for()
            shown_s = time.monotonic() - began_s
            seconds = []
            for _ in range(SAVES):
                # Other noise each time: the same recording twice would be one clip.
                noise = 0.05 * random.standard_normal(48_000 * 5)
                soundfile.write(sound, noise.astype(np.float32), 48_000, subtype="PCM_16")
                page.keyboard.press("Space")
                page.get_by_text("Recording. Speak now.").wait_for()
                time.sleep(1.5)
                page.keyboard.press("Space")
                page.locator("[data-testid=stImage]").wait_for()
                time.sleep(0.5)
                page.evaluate(WATCH)
                page.keyboard.press("s")
                seconds.append(page.evaluate("window.measured") / 1000)
                page.get_by_text("Saved: ").or_(page.get_by_text("Well done")).first.wait_for()
                if page.get_by_text("Well done").count():
                    page.get_by_role("button", name="10 more").click()
                    page.locator(".record").wait_for()
                time.sleep(1)
            server.terminate()
            server.wait()
    middle, most = np.percentile(seconds, [50, 95])
    print(f"start: the server answers after {answers_s:.1f} s, the page is shown after {shown_s:.1f} s")
    print(f"save to next phrase at {CLIPS} clips: median {middle * 1000:.0f} ms, 95 % within {most * 1000:.0f} ms")


if __name__ == "__main__":
    main()

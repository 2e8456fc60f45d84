"""The recording page in a real browser, with a file for a microphone and the tiny model behind it."""

import re
import shutil
import socket
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import soxr
from playwright.sync_api import expect

from recorder import phrases
from tests.browser import PATIENCE_S, launch, new_page, recorder_server, wait_for
from tests.workspaces import (
    DEMO_CLIPS,
    ROOT,
    add_demo_clips,
    init_dvc,
    make_workspace,
    read_json,
    read_rows,
    set_params,
)

pytestmark = pytest.mark.browser
RATE_HZ = 48_000
NUMBERS = ("041", "017", "018")  # short ones: a take lasts as long as what it hears


def speech(number: str) -> np.ndarray:
    """A demo clip between two silences, with a room's faint noise, as a microphone would hear it."""
    samples, rate_hz = soundfile.read(DEMO_CLIPS / f"{number}.opus", dtype="float32")
    voice = soxr.resample(samples, rate_hz, RATE_HZ)
    silence = np.zeros(RATE_HZ // 2, dtype=np.float32)
    heard = np.concatenate([silence, 0.5 * voice / np.abs(voice).max(), silence])
    return heard + 1e-4 * np.random.default_rng(0).standard_normal(len(heard)).astype(np.float32)


def play(path, samples) -> float:
    """Let the microphone hear this from the next recording on; returns its seconds."""
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    return len(samples) / RATE_HZ


def correlation(stored, played) -> float:
    """Best correlation over all shifts of two recordings, at 16 kHz."""
    samples, rate_hz = soundfile.read(stored, dtype="float32")
    one, other = soxr.resample(samples, rate_hz, 16_000), soxr.resample(played, RATE_HZ, 16_000)
    size = 2 ** int(np.ceil(np.log2(len(one) + len(other))))
    crossed = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size)))
    return crossed.max() / np.sqrt((one**2).sum() * (other**2).sum())


def make_project(folder):
    """A project with the tiny model, ready for recordings."""
    make_workspace(folder)
    shutil.copytree(ROOT / ".streamlit", folder / ".streamlit")
    init_dvc(folder, tracks_raw=True)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page's process, which works in a project, and its address; for all tests of this file that do not end it."""
    folder = make_project(tmp_path_factory.mktemp("recorder") / "home/project")
    shutil.copy(folder / "params.yaml", folder.parent)
    with recorder_server(folder) as (address, process):
        yield psutil.Process(process.pid), address


@pytest.fixture
def address(server):
    return server[1]


@pytest.fixture
def workspace(server):
    """The server's project, as it was before the first test; the pages of other tests are closed by now."""
    process, _ = server
    folder = Path(process.cwd())
    wait_for(lambda: not process.children(), what="an earlier test's mover still writes")
    for path in (folder / ".dvc", *(folder / "data").iterdir()):
        if path.name != "demo":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    init_dvc(folder, tracks_raw=True)
    shutil.copy(folder.parent / "params.yaml", folder)
    return folder


def agree(page, until=".record"):
    page.get_by_label("Your name").fill("Ann")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("I have read this").click()
    page.get_by_role("button", name="Continue").click()
    page.locator(until).first.wait_for()


def begin(page, seconds: float):
    """Press Space, wait until it has heard these seconds."""
    page.keyboard.press("Space")
    page.get_by_text("Recording. Speak now.").wait_for()
    page.wait_for_function("seconds => parseFloat(document.querySelector('[data-testid=stBidiComponentIsolated]')"
                           ".shadowRoot.querySelector('.clock').textContent) >= seconds", arg=seconds)  # fmt: skip


def record(page, seconds: float):
    """Record these seconds by keyboard; returns when the take has been judged."""
    begin(page, seconds)
    page.keyboard.press("Space")
    page.get_by_test_id("stImage").wait_for()


def save(page):
    before = page.locator(".phrase").inner_text()
    page.get_by_role("button", name=re.compile("^Save")).and_(page.locator(":enabled")).first.wait_for()
    page.keyboard.press("s")
    page.get_by_text("Saved: ").wait_for()
    page.wait_for_function("before => document.querySelector('[data-testid=stBidiComponentIsolated]')"
                           ".shadowRoot.querySelector('.phrase').textContent !== before", arg=before)  # fmt: skip


def focused(page) -> str | None:
    """Which part of the microphone has the keyboard."""
    return page.evaluate("document.activeElement.shadowRoot?.activeElement?.className")


def stored(workspace) -> list[dict]:
    """Rows of all saved clips, in data/raw or still in the inbox."""
    raw = workspace / "data/raw/recorded/clips.jsonl"
    changes = [read_json(path) for path in sorted((workspace / "data/inbox").glob("*/change.json"))]
    rows = {row["audio_path"]: row for row in (read_rows(raw) if raw.exists() else [])}
    rows |= {change["row"]["audio_path"]: change["row"] for change in changes if change["kind"] == "clip"}
    return list(rows.values())


def all_in(workspace) -> bool:
    inbox = workspace / "data/inbox"
    return not [name for name in inbox.iterdir() if not name.name.startswith(".")]


def test_german_speaker_records_trains_and_is_understood(tmp_path, page, microphone):
    workspace = make_project(tmp_path / "project")
    add_demo_clips(workspace, 60)
    first, second, third = (speech(number) for number in NUMBERS)
    expected = phrases.from_file("de")[:3]
    with recorder_server(workspace) as (address, _):
        page.goto(address)
        page.get_by_label("Your name").fill("Jörg")
        page.get_by_role("button", name="Start").click()
        page.get_by_text("For: Jörg").wait_for()
        chosen = page.get_by_role("combobox", name="Language")
        chosen.fill("German")
        page.get_by_role("option", name="German").wait_for()
        chosen.press("Enter")
        expect(chosen).to_have_value("German · Deutsch")
        page.get_by_text("I have read this").click()
        page.get_by_role("button", name="Continue").click()
        shown = page.locator(".phrase")
        expect(shown).to_have_text(expected[0])
        assert shown.get_attribute("lang") == "de" and shown.get_attribute("dir") == "ltr"
        record(page, play(microphone, first))
        page.get_by_text("This is good").wait_for()
        save(page)
        expect(shown).to_have_text(expected[1])
        # Far too quiet: told so, recorded again.
        record(page, play(microphone, 0.02 * second))
        page.get_by_text("too quiet").wait_for()
        record(page, play(microphone, second))
        page.get_by_text("This is good").wait_for()
        save(page)
        page.reload()
        shown.wait_for()
        expect(shown).to_have_text(expected[2])
        record(page, play(microphone, third))
        save(page)

        wait_for(lambda: all_in(workspace), what="the inbox was not moved")
        rows = read_rows(workspace / "data/raw/recorded/clips.jsonl")
        assert [(row["text"], row["language"], row["speaker"]) for row in rows] == [
            (text, "de", "Jörg") for text in expected
        ]
        for row, played in zip(rows, (first, second, third), strict=True):
            assert correlation(workspace / "data/raw/recorded" / row["audio_path"], played) >= 0.95
        [consent] = read_rows(workspace / "data/raw/recorded/consents.jsonl")
        assert consent["speaker"] == "Jörg" and "I agree" in consent["wording"] and consent["given_at"]

        page.get_by_role("link", name="Train").click()
        page.get_by_role("spinbutton", name="Rounds (epochs)").fill("3")
        page.get_by_role("button", name="Keep these settings").click()
        page.get_by_text("Kept, in params.yaml").wait_for()
        page.get_by_role("button", name="Train now").click()
        page.get_by_text("Learn the voice: running").wait_for()
        page.get_by_text("Last run: ✓ done").wait_for(timeout=240_000)
        metrics = read_json(workspace / "data/evaluation/metrics.json")
        page.get_by_text(f"{metrics['base']['wer']:.1%} before, {metrics['tuned']['wer']:.1%} after").wait_for()
        prepared = {clip["id"] for clip in read_rows(workspace / "data/prepared/metadata.jsonl")}
        assert prepared >= {row["audio_path"].removesuffix(".flac") for row in rows}

        page.get_by_role("link", name="Try it").click()
        page.locator(".record").wait_for()
        record(page, play(microphone, first))
        page.get_by_text("for both").wait_for()
        expect(page.locator("p[lang=de]")).to_have_text([re.compile(r"\S")] * 2, use_inner_text=True)


def test_slip_of_a_key_or_the_mouse_only_stops_and_loses_no_take(workspace, address, page, microphone):
    """While it records, a slip threw the take away once; shortcuts must also not reach into words that are typed."""
    texts = phrases.from_file("en")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.goto(address)
    agree(page)
    shown = page.locator(".phrase")
    skip = page.get_by_role("button", name="Skip")
    for number, slip in (("059", lambda: page.keyboard.press("k")), ("041", skip.click)):
        begin(page, play(microphone, speech(number)))
        slip()
        page.get_by_text("This is good").wait_for()
        expect(shown).to_have_text(texts[0])
        assert focused(page) == "record", "Space would press another button"
    page.keyboard.press("k")
    page.get_by_text("press Skip again").wait_for()
    page.evaluate("window.location.reload()")
    wait_for(lambda: page.evaluate("1") and asked, what="the browser did not ask before a reload")
    assert asked == ["beforeunload"]
    page.get_by_role("link", name="Clips").click()
    page.get_by_role("heading", name="Clips").wait_for()
    page.get_by_role("link", name="Record").click()
    page.get_by_text("Not saved yet").wait_for()
    page.locator("audio").wait_for()
    save(page)
    assert focused(page) == "record", "the next phrase is not recorded by Space"
    [row] = stored(workspace)
    assert row["text"] == texts[0]
    wait_for(lambda: all_in(workspace), what="the inbox was not moved")
    assert correlation(workspace / "data/raw/recorded" / row["audio_path"], speech("041")) >= 0.95
    page.reload()
    page.locator(".record").wait_for()
    assert asked == ["beforeunload"], "nothing was left to lose"

    page.get_by_role("radio", name="Free speech").click()
    page.get_by_text("Say whatever you like").wait_for()
    page.locator(".record").focus()
    record(page, play(microphone, speech("102")))
    said = page.get_by_label("What was said")
    said.fill("")
    said.press_sequentially("skip the books, back to bed")
    page.get_by_role("button", name=re.compile("^Save")).click()
    page.get_by_text("Saved: ").wait_for()
    assert {row["text"] for row in stored(workspace)} == {texts[0], "skip the books, back to bed"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("situation", "words"),
    [
        ("denied", "The browser may not use the microphone."),
        ("none", "No microphone was found."),
        ("unencrypted", "Open a tunnel on your own computer: ssh -N -L"),
    ],
)
def test_microphone_that_cannot_be_used_is_explained(tmp_path, playwright, situation, words):
    host = "gpubox" if situation == "unencrypted" else "localhost"
    options = ["--browser.serverAddress", host, "--server.allowedHosts", host]
    with (
        recorder_server(make_project(tmp_path / "project"), *options) as (address, _),
        launch(playwright, denied=situation == "denied", map_host=host if host == "gpubox" else "") as browser,
        new_page(browser) as page,
    ):
        page.goto(address.replace("localhost", host))
        agree(page)
        page.locator(".record").click()
        problem = page.locator(".problem")
        expect(problem).to_contain_text(words)
        assert problem.get_attribute("role") == "alert"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "shortest_s", "longest_s"),
    [({"recorder__stop_after_silence_s": 1.0}, 2.5, 7.0), ({"recorder__longest_take_s": 1.5}, 1.4, 2.0)],
    ids=["silence", "longest"],
)
def test_recording_ends_by_itself(workspace, address, page, microphone, settings, shortest_s, longest_s):
    set_params(workspace, **settings)
    play(microphone, speech("003"))
    page.goto(address)
    agree(page)
    page.keyboard.press("Space")
    page.wait_for_function("parseFloat(document.querySelector('[data-testid=stBidiComponentIsolated]')"
                           ".shadowRoot.querySelector('.level').style.width) > 20")  # fmt: skip
    page.get_by_test_id("stImage").wait_for()
    assert page.locator(".level").evaluate("one => one.style.width") == "0%", "nothing is heard any more"
    page.keyboard.press("s")
    page.get_by_text("Saved: ").wait_for()
    [row] = stored(workspace)
    assert shortest_s < row["duration_s"] < longest_s


def test_holes_that_a_busy_computer_makes_are_closed_and_other_silence_stays(page):
    voice = np.clip(speech("003")[RATE_HZ : RATE_HZ + 5000], 0.002, 1)  # without a zero
    faded = np.concatenate([voice * np.linspace(1, 0.0001, 5000), np.zeros(500), voice * np.linspace(0.0001, 1, 5000)])
    silences = {silence_s: np.zeros(round(silence_s * RATE_HZ)) for silence_s in (0.001, 0.003, 0.01, 0.043, 0.06)}
    parts = [part for silence in silences.values() for part in (voice, silence)]
    heard = np.concatenate([*parts, faded, np.zeros(500)])
    blocks = [heard[start : start + 128].tolist() for start in range(0, len(heard), 128)]
    kept = page.evaluate(
        """async ([source, blocks, frames, rate]) => {
            const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
            return [...(await import(address)).joined(blocks, frames, rate)];
        }""",
        [(ROOT / "recorder/microphone/microphone.js").read_text(), blocks, len(heard), RATE_HZ],
    )
    wanted = [voice, silences[0.001], voice, voice, voice, voice, silences[0.06], faded, np.zeros(500)]
    assert np.array_equal(kept, np.floor(32767 * np.concatenate(wanted) + 0.5))


WATCH_THE_SERVER = """() => {
    const app = document.querySelector("[data-testid=stApp]");
    window.hasDrawn = false;
    new MutationObserver(() => window.hasDrawn ||= app.dataset.testScriptState === "notRunning")
        .observe(app, { attributeFilter: ["data-test-script-state"] });
}"""


def test_text_typed_for_an_upload_stays_with_its_recording(workspace, address, page):
    sounds = {name: (DEMO_CLIPS / f"{number}.opus").read_bytes() for name, number in zip("ab", NUMBERS, strict=False)}
    page.goto(f"{address}/upload")
    agree(page, until="[data-testid=stFileUploaderDropzone]")

    def add(name: str, recordings: str) -> None:
        file = {"name": f"{name}.opus", "mimeType": "audio/ogg", "buffer": sounds[name]}
        page.locator("input[type=file]").set_input_files([file])
        page.get_by_role("button", name=f"Save {recordings}").wait_for()

    def type_text(words: str) -> None:
        """Into the first row's third column."""
        page.get_by_test_id("stDataFrameResizable").click(position={"x": 6, "y": 54})
        for _ in range(2):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.evaluate(WATCH_THE_SERVER)
        page.locator("textarea.gdg-input").fill(words)
        page.keyboard.press("Enter")
        page.get_by_test_id("glide-cell-2-0").filter(has_text=words).wait_for(state="attached")
        page.wait_for_function("window.hasDrawn")

    add("a", "1 recording")
    type_text("what was said in a")
    page.get_by_role("button", name="Remove a.opus").click()
    page.get_by_test_id("data-grid-canvas").wait_for(state="detached")
    add("b", "1 recording")
    page.get_by_role("button", name="Save 1 recording").click()
    page.get_by_text("Not saved: b.opus").wait_for()
    add("a", "2 recordings")
    page.get_by_test_id(re.compile("glide-cell-2-")).filter(has_text="what was said in a").wait_for(state="attached")
    page.get_by_role("button", name="Save 2 recordings").click()
    page.get_by_text("1 saved.").wait_for()
    wait_for(lambda: (workspace / "data/raw/uploaded/clips.jsonl").exists(), what="the inbox was not moved")
    [row] = read_rows(workspace / "data/raw/uploaded/clips.jsonl")
    assert row["text"] == "what was said in a"
    assert (workspace / "data/raw/uploaded" / row["audio_path"]).read_bytes() == sounds["a"]


@pytest.mark.slow
def test_pages_are_served_to_this_machine_alone_ask_nobody_else_and_load_no_torch(server, workspace, address, page):
    listening = [one for one in server[0].net_connections() if one.status == psutil.CONN_LISTEN]
    assert [one.laddr.ip for one in listening] == ["127.0.0.1"]
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for name in ("", "upload", "clips", "train", "results", "try-it"):
        page.goto(f"{address}/{name}?speaker=Ann")
        page.get_by_role("heading", level=1).wait_for()
    outside = [url for url in asked if not url.startswith(f"{address}/") and url.startswith("http")]
    assert asked and not outside
    assert not [mapped.path for mapped in server[0].memory_maps() if "libtorch" in mapped.path]


@pytest.mark.parametrize(
    ("host", "origin", "answer"),
    [
        ("localhost", "http://localhost", b"101"),
        ("localhost", "https://evil.example", b"403"),
        ("evil.example", "http://evil.example", b"403"),  # a name that was made to lead to this machine
    ],
)
def test_page_talks_to_no_other_website(address, host, origin, answer):
    port = int(address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        lines = ["GET /_stcore/stream HTTP/1.1", f"Host: {host}:{port}", f"Origin: {origin}:{port}"]
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "", ""]
        connection.sendall("\r\n".join(lines).encode())
        assert connection.recv(12).split()[1] == answer

"""The recording page in a real browser, with a file for a microphone and the tiny model behind it."""

import io
import re
import shutil
import signal
import socket
import time
import zipfile

import numpy as np
import psutil
import pytest
import soundfile
import soxr
from playwright.sync_api import expect

from recorder import phrases
from tests.browser import chromium, free_port, needs_chromium, recorder_server, start_recorder, wait_for
from tests.workspaces import DEMO_CLIPS, ROOT, add_demo_clips, dvc, make_workspace, read_json, read_rows, set_params

pytestmark = needs_chromium
RATE_HZ = 48_000
NUMBERS = ("003", "010", "017")


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


@pytest.fixture
def workspace(tmp_path):
    """A project with the tiny model, ready for recordings."""
    folder = make_workspace(tmp_path / "project")
    shutil.copytree(ROOT / ".streamlit", folder / ".streamlit")
    (folder / "data/raw").mkdir(parents=True)
    dvc(folder, "init", "--no-scm", "--quiet")
    dvc(folder, "add", "--quiet", "data/raw")
    return folder


def agree(page, name="Ann"):
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Start").click()
    page.get_by_text("I have read this").click()
    page.get_by_role("button", name="Continue").click()
    page.locator(".record").wait_for()


def choose(page, speaker: str):
    page.get_by_role("radiogroup", name="Who is speaking?").get_by_text(speaker).click()


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


def test_german_speaker_records_trains_and_is_understood(workspace, tmp_path):
    add_demo_clips(workspace, 60)
    dvc(workspace, "add", "--quiet", "data/raw")
    microphone = tmp_path / "microphone.wav"
    first, second, third = (speech(number) for number in NUMBERS)
    expected = phrases.from_file("de")[:3]
    with recorder_server(workspace) as address, chromium(tmp_path / "profile", microphone) as page:
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
        record(page, play(microphone, 0.01 * second))
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
        page.get_by_text("Learn the voice: at work").wait_for()
        page.get_by_text("Last run: ✓ done").wait_for(timeout=180_000)
        metrics = read_json(workspace / "data/evaluation/metrics.json")
        page.get_by_text(f"{metrics['base']['wer']:.1%} before, {metrics['tuned']['wer']:.1%} after").wait_for()
        prepared = {clip["id"] for clip in read_rows(workspace / "data/prepared/clips.jsonl")}
        assert prepared >= {row["audio_path"].removesuffix(".flac") for row in rows}

        page.get_by_role("link", name="Try it").click()
        page.locator(".record").wait_for()
        record(page, play(microphone, first))
        page.get_by_text("for both").wait_for(timeout=60_000)
        expect(page.locator("p[lang=de]")).to_have_text([re.compile(r"\S")] * 2, use_inner_text=True)


def test_saved_clip_survives_kill_of_the_server(workspace, tmp_path):
    microphone = tmp_path / "microphone.wav"
    port = free_port()
    server = start_recorder(workspace, port)
    with chromium(tmp_path / "profile", microphone) as page:
        page.goto(f"http://localhost:{port}")
        agree(page)
        record(page, play(microphone, speech("003")))
        page.keyboard.press("s")
        page.get_by_text("Saved: ").wait_for()
        server.send_signal(signal.SIGKILL)
        server.wait()
        [row] = stored(workspace)
        # The next start of the page takes it in, and goes on with the next phrase.
        server = start_recorder(workspace, port)
        page.goto(f"http://localhost:{port}/?speaker=Ann&language=en")
        page.locator(".record").wait_for()
        expect(page.locator(".phrase")).to_have_text(phrases.from_file("en")[1])
        wait_for(lambda: all_in(workspace), what="the inbox was not moved")
        assert read_rows(workspace / "data/raw/recorded/clips.jsonl") == [row]
    server.terminate()
    server.wait(timeout=20)


def test_back_skip_and_typing_by_keyboard(workspace, tmp_path):
    microphone = tmp_path / "microphone.wav"
    texts = phrases.from_file("en")
    with recorder_server(workspace) as address, chromium(tmp_path / "profile", microphone) as page:
        page.goto(address)
        agree(page)
        shown = page.locator(".phrase")
        page.keyboard.press("k")
        page.get_by_text("Skipped. It comes").wait_for()
        expect(shown).to_have_text(texts[1])
        record(page, play(microphone, speech("003")))
        save(page)
        expect(shown).to_have_text(texts[2])
        focused = page.evaluate("document.activeElement.shadowRoot.activeElement.className")
        assert focused == "record"
        page.keyboard.press("b")
        page.get_by_text("Saved before:").wait_for()
        expect(shown).to_have_text(texts[1])
        record(page, play(microphone, speech("010")))
        page.get_by_role("button", name="Save instead of the earlier one").click()
        page.get_by_text("Saved: ").wait_for()
        wait_for(lambda: all_in(workspace), what="the inbox was not moved")
        [row] = read_rows(workspace / "data/raw/recorded/clips.jsonl")
        assert correlation(workspace / "data/raw/recorded" / row["audio_path"], speech("010")) >= 0.95
        page.get_by_role("radio", name="Free speech").click()
        page.get_by_text("Say whatever you like").wait_for()
        page.locator(".record").focus()
        record(page, play(microphone, speech("017")))
        said = page.get_by_label("What was said")
        said.fill("")
        said.press_sequentially("skip the books, back to bed")  # full of shortcut letters and spaces
        said.press("Tab")
        page.get_by_role("button", name="Save and next").click()
        page.get_by_text("Saved: ").wait_for()
        assert "skip the books, back to bed" in [row["text"] for row in stored(workspace)]


@pytest.mark.parametrize("slip", ["key", "button"])
def test_slip_beside_the_button_ends_a_recording_and_does_not_lose_it(workspace, tmp_path, slip):
    microphone = tmp_path / "microphone.wav"
    with recorder_server(workspace) as address, chromium(tmp_path / "profile", microphone) as page:
        page.goto(address)
        agree(page)
        shown = page.locator(".phrase")
        phrase = shown.inner_text()
        begin(page, play(microphone, speech("003")))
        skip = page.get_by_role("button", name="Skip")
        page.keyboard.press("k") if slip == "key" else skip.click()
        page.get_by_text("This is good").wait_for()
        expect(shown).to_have_text(phrase)
        skip.click()
        page.get_by_text("press Skip again").wait_for()
        expect(shown).to_have_text(phrase)
        page.keyboard.press("k")
        page.get_by_text("Skipped. It comes").wait_for()
        expect(shown).not_to_have_text(phrase)
        assert not stored(workspace)


def test_take_that_is_not_saved_is_still_there_after_a_visit_to_another_page(workspace, tmp_path):
    microphone = tmp_path / "microphone.wav"
    with recorder_server(workspace) as address, chromium(tmp_path / "profile", microphone) as page:
        asked = []
        page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
        page.goto(address)
        agree(page)
        phrase = page.locator(".phrase").inner_text()
        record(page, play(microphone, speech("003")))
        page.get_by_text("This is good").wait_for()
        page.evaluate("window.location.reload()")
        wait_for(lambda: page.evaluate("1") and asked, what="the browser did not ask before a reload")
        assert asked == ["beforeunload"]
        page.get_by_role("link", name="Clips").click()
        page.get_by_role("heading", name="Clips").wait_for()
        page.get_by_role("link", name="Record").click()
        page.get_by_text("Not saved yet: this recording still waits").wait_for()
        expect(page.locator(".phrase")).to_have_text(phrase)
        page.locator("audio").wait_for()
        save(page)
        [row] = stored(workspace)
        assert row["text"] == phrase
        page.reload()
        page.locator(".record").wait_for()
        assert asked == ["beforeunload"], "nothing was left to lose"


def test_what_was_said_freely_keeps_its_words_through_everything_chosen_meanwhile(workspace, tmp_path):
    microphone = tmp_path / "microphone.wav"
    with recorder_server(workspace) as address, chromium(tmp_path / "profile", microphone) as page:
        page.goto(address)
        agree(page)
        page.get_by_role("radio", name="Free speech").click()
        page.get_by_text("Say whatever you like").wait_for()
        record(page, play(microphone, speech("003")))
        page.get_by_label("What was said").fill("Words of my own.")
        page.get_by_role("radio", name="Phrases", exact=True).click()
        page.get_by_label("What was said").wait_for(state="detached")
        page.get_by_role("radio", name="Free speech").click()
        page.get_by_label("What was said").wait_for()
        page.get_by_role("link", name="Clips").click()
        page.get_by_role("heading", name="Clips").wait_for()
        page.get_by_role("link", name="Record").click()
        page.get_by_label("What was said").wait_for()
        page.get_by_role("button", name=re.compile("^Save")).click()
        page.get_by_text("Saved: ").wait_for()
        assert [row["text"] for row in stored(workspace)] == ["Words of my own."]


@pytest.mark.parametrize(
    ("situation", "words"),
    [
        ("denied", "The browser may not use the microphone."),
        ("none", "No microphone was found."),
        ("insecure", "Open a tunnel on your own computer: ssh -N -L"),
    ],
)
def test_microphone_that_cannot_be_used_is_explained(workspace, tmp_path, situation, words):
    another_name = ["--browser.serverAddress", "gpubox", "--server.allowedHosts", "gpubox"]
    with (
        recorder_server(workspace, *(another_name if situation == "insecure" else [])) as address,
        chromium(tmp_path / "profile", denied=situation == "denied", map_host="gpubox") as page,
    ):
        page.goto(address.replace("localhost", "gpubox") if situation == "insecure" else address)
        agree(page)
        page.locator(".record").click()
        problem = page.locator(".problem")
        problem.wait_for()
        expect(problem).to_contain_text(words)
        assert problem.get_attribute("role") == "alert"


@pytest.mark.parametrize(
    ("settings", "shortest_s", "longest_s"),
    [({"recorder__stop_after_silence_s": 1.0}, 2.5, 7.0), ({"recorder__longest_take_s": 1.5}, 1.4, 2.0)],
    ids=["silence", "longest"],
)
def test_recording_ends_by_itself(workspace, tmp_path, settings, shortest_s, longest_s):
    set_params(workspace, **settings)
    microphone = tmp_path / "microphone.wav"
    play(microphone, speech("003"))
    with recorder_server(workspace) as address, chromium(tmp_path / "profile", microphone) as page:
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


def test_holes_that_a_busy_computer_makes_are_closed_and_other_silence_stays(tmp_path):
    voice = np.clip(speech("003")[RATE_HZ : RATE_HZ + 5000], 0.002, 1)  # without a zero
    faded = np.concatenate([voice * np.linspace(1, 0.0001, 5000), np.zeros(500), voice * np.linspace(0.0001, 1, 5000)])
    silences = {silence_s: np.zeros(round(silence_s * RATE_HZ)) for silence_s in (0.001, 0.003, 0.01, 0.043, 0.06)}
    parts = [part for silence in silences.values() for part in (voice, silence)]
    heard = np.concatenate([*parts, faded, np.zeros(500)])
    blocks = [heard[start : start + 128].tolist() for start in range(0, len(heard), 128)]
    with chromium(tmp_path / "profile") as page:
        kept = page.evaluate(
            """async ([source, blocks, frames, rate]) => {
                const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
                return [...(await import(address)).joined(blocks, frames, rate)];
            }""",
            [(ROOT / "recorder/microphone/microphone.js").read_text(), blocks, len(heard), RATE_HZ],
        )
    wanted = [voice, silences[0.001], voice, voice, voice, voice, silences[0.06], faded, np.zeros(500)]
    assert np.array_equal(kept, np.floor(32767 * np.concatenate(wanted) + 0.5))


def test_name_that_is_not_confirmed_records_nothing_and_a_slip_on_another_name_only_stops(workspace, tmp_path):
    """A recording would be stored under the name of who spoke before, or thrown away."""
    microphone = tmp_path / "microphone.wav"
    with recorder_server(workspace) as address, chromium(tmp_path / "profile", microphone) as page:
        page.goto(address)
        agree(page, "Ann")
        begin(page, play(microphone, speech("003")))
        choose(page, "Someone else")
        page.get_by_text("This is good").wait_for()
        save(page)
        choose(page, "Someone else")
        name = page.get_by_label("Your name")
        name.fill("Ben")
        page.get_by_role("heading", name="Record").click()
        page.keyboard.press("Space")
        expect(page.locator(".record")).to_have_count(0)
        name.press("Enter")
        page.get_by_text("For: Ben").wait_for()
        expect(page.locator(".record")).to_have_count(0)
        assert [row["speaker"] for row in stored(workspace)] == ["Ann"]


def test_two_tabs_of_two_people_lose_nothing_and_mix_nothing(workspace, tmp_path):
    microphone = tmp_path / "microphone.wav"
    with recorder_server(workspace) as address, chromium(tmp_path / "profile", microphone) as one:
        one.goto(address)
        agree(one, "Ann")
        other = one.context.new_page()
        other.goto(address)
        choose(other, "Someone else")
        agree(other, "Bob")
        for page, number in ((one, "003"), (other, "010"), (one, "017"), (other, "024")):
            page.bring_to_front()
            record(page, play(microphone, speech(number)))
            save(page)
        one.reload()
        one.locator(".record").wait_for()
        assert "speaker=Ann" in one.url and "speaker=Bob" in other.url
        wait_for(lambda: all_in(workspace), what="the inbox was not moved")
        rows = read_rows(workspace / "data/raw/recorded/clips.jsonl")
        texts = phrases.from_file("en")[:2]
        assert [(row["speaker"], row["text"]) for row in rows] == [
            ("Ann", texts[0]), ("Bob", texts[0]), ("Ann", texts[1]), ("Bob", texts[1])
        ]  # fmt: skip
        for row, number in zip(rows, ("003", "010", "017", "024"), strict=True):
            assert correlation(workspace / "data/raw/recorded" / row["audio_path"], speech(number)) >= 0.95


def test_uploads_that_are_wrong_are_refused_in_words_and_texts_stay_texts(workspace, tmp_path):
    archive = io.BytesIO()
    good = (DEMO_CLIPS / "003.opus").read_bytes()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../outside.wav", good)
        file.writestr("inside/a.opus", good)
        file.writestr("inside/a.txt", "<script>document.title='taken'</script> hello")
        file.writestr("inside/noise.wav", b"no sound at all")
    huge = tmp_path / "huge.wav"
    with huge.open("wb") as file:
        file.truncate(2 * 2**30)
    before = {path for path in tmp_path.rglob("outside.wav")}
    with recorder_server(workspace) as address, chromium(tmp_path / "profile") as page:
        page.goto(f"{address}/upload")
        agree_without_microphone(page)
        page.locator("input[type=file]").set_input_files(
            [{"name": "clips.zip", "mimeType": "application/zip", "buffer": archive.getvalue()}]
        )
        page.get_by_text("Look through the texts").wait_for()
        page.get_by_text("outside.wav").first.wait_for()
        page.get_by_role("button", name="Save 1 recording").click()
        page.get_by_text("1 saved.").wait_for()
        [change] = [row for row in uploaded(workspace)]
        assert change["text"] == "<script>document.title='taken'</script> hello"
        page.locator("input[type=file]").set_input_files(str(huge))
        page.get_by_text("must be 500").first.wait_for()
        page.goto(f"{address}/clips")
        page.get_by_text("document.title='taken'").first.wait_for()
        assert page.title() != "taken"
    assert {path for path in tmp_path.rglob("outside.wav")} == before


def test_text_typed_for_an_upload_stays_with_its_recording(workspace, tmp_path):
    sounds = {name: (DEMO_CLIPS / f"{number}.opus").read_bytes() for name, number in zip("ab", NUMBERS, strict=False)}
    with recorder_server(workspace) as address, chromium(tmp_path / "profile") as page:
        page.goto(f"{address}/upload")
        agree_without_microphone(page)

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
            page.locator("textarea.gdg-input").fill(words)
            page.keyboard.press("Enter")
            page.get_by_test_id("glide-cell-2-0").filter(has_text=words).wait_for(state="attached")
            time.sleep(1)  # until the server has it

        add("a", "1 recording")
        type_text("what was said in a")
        page.get_by_role("button", name="Remove a.opus").click()
        page.get_by_test_id("data-grid-canvas").wait_for(state="detached")
        add("b", "1 recording")
        page.get_by_role("button", name="Save 1 recording").click()
        page.get_by_text("Not saved: b.opus").wait_for()
        add("a", "2 recordings")
        page.get_by_test_id("glide-cell-2-1").filter(has_text="what was said in a").wait_for(state="attached")
        page.get_by_role("button", name="Save 2 recordings").click()
        page.get_by_text("1 saved.").wait_for()
        page.get_by_text("Not saved: b.opus").wait_for()
        [row] = uploaded(workspace)
        assert row["text"] == "what was said in a"
        assert (workspace / "data/raw/uploaded" / row["audio_path"]).read_bytes() == sounds["a"]


def agree_without_microphone(page):
    page.get_by_label("Your name").fill("Ann")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("I have read this").click()
    page.get_by_role("button", name="Continue").click()


def uploaded(workspace) -> list[dict]:
    wait_for(lambda: (workspace / "data/raw/uploaded/clips.jsonl").exists(), what="the inbox was not moved")
    return read_rows(workspace / "data/raw/uploaded/clips.jsonl")


def test_page_listens_on_this_machine_only_and_starts_without_torch(workspace, tmp_path):
    port = free_port()
    server = start_recorder(workspace, port)
    try:
        with chromium(tmp_path / "profile") as page:
            asked = []
            page.on("request", lambda request: asked.append(request.url))
            for name in ("", "upload", "clips", "train", "results", "try-it"):
                page.goto(f"http://localhost:{port}/{name}?speaker=Ann")
                page.get_by_role("heading", level=1).wait_for()
        outside = [url for url in asked if f"//localhost:{port}" not in url and url.startswith("http")]
        assert asked and not outside
        process = psutil.Process(server.pid)
        listening = [one for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
        assert [one.laddr.ip for one in listening] == ["127.0.0.1"]
        assert not [mapped.path for mapped in process.memory_maps() if "libtorch" in mapped.path]
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.mark.parametrize(
    ("host", "origin", "answer"),
    [
        ("localhost", "http://localhost", b"101"),
        ("localhost", "https://evil.example", b"403"),
        ("evil.example", "http://evil.example", b"403"),  # a name that was made to lead to this machine
    ],
)
def test_page_talks_to_no_other_website(workspace, host, origin, answer):
    with recorder_server(workspace) as address:
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            lines = ["GET /_stcore/stream HTTP/1.1", f"Host: {host}:{port}", f"Origin: {origin}:{port}"]
            lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
            lines += ["Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "", ""]
            connection.sendall("\r\n".join(lines).encode())
            assert connection.recv(12).split()[1] == answer

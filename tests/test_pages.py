"""The pages without a browser: what they show and what their buttons do."""

import json
import shutil

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from recorder import inbox, phrases, reading, runs, takes
from recorder.listener import Answer, Listener
from recorder.views import microphone
from recorder.views.microphone import Recording, read_recording
from recorder.views.shared import CONSENT, as_plain
from stages.common.params import load_params
from tests.recordings import make_take, spoken
from tests.workspaces import DEMO_CLIPS, ROOT, init_dvc, make_workspace

TEXTS = phrases.from_file("en")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    folder = make_workspace(tmp_path)
    init_dvc(folder, tracks_raw=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


def app(**asked: str) -> AppTest:
    page = AppTest.from_file(str(ROOT / "recorder/app.py"), default_timeout=30)
    for name, value in asked.items():
        page.query_params[name] = value
    return page.run()


@pytest.fixture
def open_page(workspace):
    """`open_page("upload")`: a page after its first run, with a speaker who has agreed."""

    def open_as(name="record", speaker="Ann"):
        inbox.record_consent(speaker, "I agree")
        page = app(speaker=speaker, language="en")
        if name != "record":
            page.switch_page(f"views/{name}.py").run()
        assert not page.exception
        return page

    return open_as


@pytest.fixture
def record(monkeypatch):
    """`record(page, 3)`: the microphone has heard the demo's clip 3, or these samples; returns the take."""
    heard = []
    real = microphone.microphone

    def with_a_recording(key, prompt, *arguments, **options):
        real(key, prompt, *arguments, **options)
        return Recording(*heard.pop(), prompt) if heard else None

    monkeypatch.setattr(microphone, "microphone", with_a_recording)

    def hear(page, number: int | np.ndarray) -> takes.Take | None:
        heard.append((number, 48_000) if isinstance(number, np.ndarray) else spoken(number))
        page.run()
        page.run()  # as the browser would have it: a take is sent once
        assert not page.exception and not heard
        return make_take(number) if isinstance(number, int) else None

    return hear


def shown(page) -> dict:
    """What the microphone component was told to show."""
    [component] = microphones(page)
    return json.loads(component.proto.json)


def phrase(page) -> str:
    return shown(page)["phrase"]


def has_take(page) -> bool:
    return shown(page)["has_take"]


def microphones(page) -> list:
    return [element for element in page.main.children.values() if element.type == "bidi_component"]


def button(page, label):
    return labelled(page.button, label)


def press(page, *labels):
    for label in labels:
        button(page, label).click().run()
        assert not page.exception


def give_name(page, name: str) -> None:
    page.text_input[0].set_value(name)
    press(page, "Start")


def agree(page) -> None:
    page.checkbox[0].check().run()
    press(page, "Continue")


def labelled(boxes, label: str):
    """The box whose label begins like this."""
    return next(box for box in boxes if box.label.startswith(label))


def upload(page, **files: bytes) -> None:
    """`upload(page, a_opus=sound)` uploads a.opus."""
    page.file_uploader[0].set_value(
        [(name.replace("_", "."), content, "application/octet-stream") for name, content in files.items()]
    ).run()
    assert not page.exception


def demo_sound(number: int) -> bytes:
    return (DEMO_CLIPS / f"{number:03}.opus").read_bytes()


def stored(*names: str) -> list[tuple]:
    """These fields of each stored clip."""
    return [tuple(getattr(clip, name) for name in names) for clip in inbox.stored_clips()]


def choose(page, speaker: str) -> None:
    page.radio(key="speaker").set_value(speaker).run()


def choose_kind(page, *kinds: str) -> None:
    for kind in kinds:
        page.button_group[0].set_value(kind).run()


def look_at_another_page(page) -> None:
    page.switch_page("views/clips.py").run()
    page.switch_page("views/record.py").run()


def says(elements, words: str) -> bool:
    return any(words in element.value.replace("\\", "") for element in elements)


# Who speaks


def test_first_visit_asks_name_then_consent_and_stores_its_wording(workspace):
    page = app(language="ar")
    assert not microphones(page)
    press(page, "Start")
    assert says(page.warning, "Type a name first")
    give_name(page, "Ann")
    assert button(page, "Continue").disabled
    wording = next(text.value for text in page.markdown if text.value.startswith("I agree"))
    agree(page)
    consent = inbox.consents()["Ann"]
    assert consent["wording"] == wording and consent["given_at"][:4].isdigit()
    assert (phrase(page), shown(page)["direction"]) == (phrases.from_file("ar")[0], "rtl")
    labelled(page.selectbox, "Language").set_value("en").run()
    assert (phrase(page), shown(page)["direction"]) == (TEXTS[0], "ltr")


@pytest.mark.parametrize("name", ["Ben", "Someone else"])
def test_someone_else_gives_a_name_and_agrees_before_anything_is_recorded(workspace, open_page, record, name):
    """A recording, or a tick, would be stored under the name of who was there before; that one's take must wait."""
    page = open_page()
    record(page, 3)
    choose(page, "")
    assert not microphones(page) and page.query_params["speaker"] == ""
    give_name(page, name)
    assert not microphones(page) and button(page, "Continue").disabled
    agree(page)
    assert set(inbox.consents()) == {"Ann", name} and page.query_params["speaker"] == name
    assert not has_take(page)
    choose(page, "")
    assert not microphones(page)
    give_name(page, "Cleo")
    assert not page.checkbox[0].value and button(page, "Continue").disabled
    choose(page, "Ann")
    # The microphone has forgotten it: it can be heard again all the same.
    assert says(page.warning, "Not saved yet") and len(page.get("audio")) == 1
    press(page, "Save")
    choose(page, name)
    record(page, 10)
    press(page, "Save")
    assert stored("speaker", "text") == [("Ann", TEXTS[0]), (name, TEXTS[0])]


def test_nobody_of_several_is_taken_for_granted(workspace):
    """A recording would be stored under the name of who happens to be first."""
    inbox.record_consent("Ben", "I agree")
    assert app().session_state["speaker"] == "Ben", "the only one"
    assert not microphones(app(speaker="")), "someone else, before a reload"
    inbox.record_consent("Ann_", "I agree")
    page = app()
    assert not microphones(page)
    page.button(key="is Ann_").click().run()
    assert page.session_state["speaker"] == "Ann_" and page.query_params["speaker"] == "Ann_"
    assert phrase(page) == TEXTS[0]


# Takes and phrases


def test_take_is_saved_once_and_counted_until_a_set_of_ten_ends_with_a_rest(workspace, open_page, record):
    page = open_page()
    assert button(page, "Save").disabled
    record(page, np.zeros(48_000, np.float32))
    assert page.error and button(page, "Save").disabled
    press(page, "Skip", "Skip", "Back")  # a take that cannot be saved is not asked for
    assert phrase(page) == TEXTS[1] and says(page.caption, "0 of 10 recorded, 2 skipped")
    take = record(page, 10)
    press(page, "Save")
    assert says(page.caption, "1 of 10 recorded, 1 skipped") and button(page, "Save").disabled
    fields = ("id", "text", "language", "speaker", "prompt_id")
    assert stored(*fields) == [(take.id, TEXTS[1], "en", "Ann", phrases.prompt_id("en", TEXTS[1]))]
    assert inbox.content_of(inbox.stored_clips()[0]) == take.content
    page.session_state["place"].in_set = 10
    page.run()
    assert says(page.success, "10 recorded") and not microphones(page)
    press(page, "10 more")
    assert phrase(page) not in TEXTS[:2]


def test_take_that_is_not_saved_is_lost_only_after_a_second_press(workspace, open_page, record):
    page = open_page()
    for name in ("Skip", "Back"):
        before = phrase(page)
        record(page, 3)
        press(page, name)
        assert phrase(page) == before and has_take(page)
        assert says(page.warning, f"press {name} again")
        press(page, name)
        assert phrase(page) != before and not has_take(page)


def test_back_goes_back_phrase_by_phrase_and_a_replaced_take_is_no_new_one(workspace, open_page, record):
    page = open_page()
    for number in (3, 10):
        record(page, number)
        press(page, "Save")
    for expected in (TEXTS[1], TEXTS[0]):
        press(page, "Back")
        assert phrase(page) == expected
    assert button(page, "Back").disabled
    take = record(page, 20)
    press(page, "Save instead of the earlier one")
    assert says(page.caption, "2 of 10 recorded")
    assert {clip.text: clip.id for clip in inbox.stored_clips()} == {TEXTS[0]: take.id, TEXTS[1]: make_take(10).id}


def test_take_stays_with_the_phrase_for_which_it_was_made(workspace, open_page, record):
    """Whatever comes in between: phrases of one's own, which are asked first, or the same phrase in another tab."""
    page = open_page()
    take = record(page, 3)
    page.text_area[0].set_value("Call Jörg")
    press(page, "Keep these phrases")
    assert phrase(page) == TEXTS[0] and has_take(page)
    prompt_id = phrases.prompt_id("en", TEXTS[0])
    inbox.save_clip(make_take(10), text=TEXTS[0], language="en", speaker="Ann", prompt_id=prompt_id)
    page.run()
    assert phrase(page) == TEXTS[0]
    press(page, "Save")
    assert {clip.id: clip.text for clip in inbox.stored_clips()}[take.id] == TEXTS[0]
    assert phrase(page) == "Call Jörg"


def test_take_that_is_not_saved_waits_while_another_page_text_or_person_is_chosen(workspace, open_page, record):
    inbox.record_consent("Ben", "I agree")
    page = open_page()
    press(page, "Skip")
    take = record(page, 3)
    before = shown(page)

    def is_back() -> bool:
        return shown(page) == before and says(page.warning, "Not saved yet")

    look_at_another_page(page)
    assert is_back()
    choose_kind(page, "Free speech")
    assert not has_take(page) and button(page, "Save").disabled
    choose_kind(page, "Phrases")
    assert is_back()
    choose(page, "Ben")
    assert phrase(page) == TEXTS[0] and not has_take(page)
    choose(page, "Ann")
    assert is_back()
    press(page, "Save")
    assert stored("id", "text", "speaker") == [(take.id, TEXTS[1], "Ann")]
    look_at_another_page(page)
    assert not page.warning and not has_take(page)


def test_what_was_said_freely_waits_with_its_words_and_is_written_anew_for_each_take(workspace, open_page, record):
    """A take that is recorded again would be saved with the words of the first."""
    page = open_page()
    choose_kind(page, "Free speech")
    record(page, 10)
    page.text_area[0].set_value("words of another take").run()
    take = record(page, 3)
    assert page.text_area[0].value == ""
    press(page, "Save")
    assert not inbox.stored_clips() and page.error
    page.text_area[0].set_value("words of my own").run()
    look_at_another_page(page)
    choose_kind(page, "Phrases", "Free speech")
    press(page, "Save")
    assert stored("id", "text") == [(take.id, "words of my own")]


def test_own_phrases_come_first_and_skipping_goes_round(workspace, open_page):
    page = open_page()
    page.text_area[0].set_value("Call Jörg\nCall Jörg\n\nOpen the garage")
    press(page, "Keep these phrases")
    assert reading.own_phrases("Ann", "en") == ["Call Jörg", "Open the garage"]
    assert phrase(page) == "Call Jörg"
    choose_kind(page, "My own phrases")
    asked = []
    for _ in range(4):
        asked.append(phrase(page))
        press(page, "Skip")
    assert asked == ["Call Jörg", "Open the garage"] * 2


# Upload


def test_upload_pairs_by_name_shows_a_table_and_saves(workspace, open_page):
    page = open_page("upload")
    upload(page, b_opus=demo_sound(3), b_txt=b"hello there", c_wav=b"no sound")
    press(page, "Save 1 recording")
    assert stored("source", "text", "speaker") == [("uploaded", "hello there", "Ann")]
    [clip] = inbox.stored_clips()
    assert clip.audio_path.endswith(".opus") and inbox.content_of(clip) == demo_sound(3)
    assert says(page.success, "1 saved")


def test_upload_tells_all_that_could_not_be_used_in_one_box(workspace, open_page):
    """Thousands of boxes would stop the browser; a skipped file must be named."""
    page = open_page("upload")
    rows = "file,text\n" + "".join(f"gone-{number}.wav,<b>words</b>\n" for number in range(600))
    upload(page, a_opus=demo_sound(3), a_txt=b"hello", t_csv=rows.encode())
    [box] = page.warning
    assert box.value.startswith("600 things") and box.value.count("\n- gone") == 3
    assert {len(frame.value) for frame in page.dataframe} >= {600}


def test_upload_of_another_person_waits_until_that_person_has_agreed(workspace, open_page):
    page = open_page("upload")
    rows = b"file,text,speaker\na.opus,one,Ann\nb.opus,two,<b>Bo</b>\n"
    upload(page, a_opus=demo_sound(1), b_opus=demo_sound(2), t_csv=rows)
    assert button(page, "Save 2 recordings").disabled
    assert says(page.text, "For: <b>Bo</b>")
    agree(page)
    assert inbox.consents()["<b>Bo</b>"]["wording"] == CONSENT
    press(page, "Save 2 recordings")
    assert set(stored("speaker")) == {("Ann",), ("<b>Bo</b>",)}


# Train


def test_settings_are_checked_and_written_with_comments_kept(workspace, open_page):
    shutil.copy(ROOT / "params.yaml", workspace / "params.yaml")
    (workspace / "data/raw/from_home").mkdir()
    page = open_page("train")
    assert says(page.markdown, "from_home"), "a folder of recordings that training uses too"
    labelled(page.number_input, "Rounds (epochs)").set_value(3)
    labelled(page.text_input, "Learning rate").set_value("1.0e-4")
    press(page, "Keep these settings")
    train = load_params().train
    assert (train.epochs, train.learning_rate) == (3, 1e-4)
    written = (workspace / "params.yaml").read_text()
    assert written.count("#") == (ROOT / "params.yaml").read_text().count("#")
    labelled(page.text_input, "Learning rate").set_value("quick")
    press(page, "Keep these settings")
    assert says(page.error, "quick") and (workspace / "params.yaml").read_text() == written
    labelled(page.text_input, "Learning rate").set_value("auto")
    labelled(page.selectbox, "Model to start from").set_value("data/demo/voxtral-tiny")
    press(page, "Keep these settings")
    revision = load_params(ROOT / "params.yaml").model.revision
    assert (load_params().train.learning_rate, load_params().model.revision) == ("auto", revision)


@pytest.mark.parametrize(
    ("file", "right", "wrong", "words"),
    [("params.yaml", "epochs:", "epoch:", "did you mean epochs"), ("clips.jsonl", "", "{broken\n", "is damaged")],
)
def test_what_a_page_cannot_read_is_one_sentence(workspace, file, right, wrong, words):
    (workspace / "data/raw/recorded").mkdir()
    path = workspace / ("data/raw/recorded" if file == "clips.jsonl" else "") / file
    path.write_text(path.read_text().replace(right, wrong) if right else wrong)
    page = app(speaker="Ann")
    assert not page.exception and says(page.error, words)
    page.switch_page("views/train.py").run()
    assert not page.exception and says(page.error, words)


def test_failed_run_shows_its_reason_and_offers_another_try(workspace, open_page):
    page = open_page("train")
    with pytest.raises(Exception, match="holds no recordings"):
        runs.supervise("make", to_screen=True)
    page.run()
    assert says(page.error, "holds no recordings") and button(page, "Try again")


# Try it


@pytest.fixture
def open_try_it(open_page, record, monkeypatch):
    """`page, say = open_try_it()`: say(3, "turn on") is a take in which the model understands these words."""
    understood = {}
    monkeypatch.setattr(Listener, "transcribe", lambda self, content, language: understood[content])

    def open_as():
        page = open_page("try_it")

        def say(number, words):
            understood[make_take(number).content] = Answer(words, None, 1.0, "tiny")
            record(page, number)

        return page, say

    return open_as


def test_what_was_understood_is_kept_as_said_only_after_a_second_press(workspace, open_try_it):
    """Each take has its own text: a recording would be stored with the words of the take before."""
    page, say = open_try_it()
    say(3, "seven")
    page.text_area[0].set_value("eleven").run()
    say(10, "three")
    press(page, "Keep it")
    assert not inbox.stored_clips() and page.warning
    press(page, "Keep it")
    assert stored("text", "id") == [("three", make_take(10).id)]


def test_what_somebody_tried_is_never_kept_as_another_persons(workspace, open_try_it):
    inbox.record_consent("Ben", "I agree")
    page, say = open_try_it()
    say(3, "turn on the lamp")
    choose(page, "Ben")
    assert not page.exception and not [one for one in page.button if one.label.startswith("Keep it")]
    choose(page, "Ann")
    page.text_area[0].set_value("turn off the lamp")
    press(page, "Keep it")
    assert stored("speaker", "text") == [("Ann", "turn off the lamp")]


# Parts


@pytest.mark.parametrize(
    "change",
    [{"samples": "not base64!"}, {"samples": "AAAB"}, {"samples": None}, {"sample_rate_hz": 10**9},
     {"sample_rate_hz": "fast"}, {"samples": "A" * (60 * 48_000 * 8 // 3)}],
)  # fmt: skip
def test_browser_may_send_anything_as_a_recording(change):
    good = {"samples": "AAABAA==", "sample_rate_hz": 48_000, "prompt": "p"}
    assert read_recording(good, 30).samples.tolist() == [0.0, 1 / 32768]
    assert read_recording(good | change, 30) is None
    assert read_recording({}, 30) is None


def test_names_with_markdown_are_shown_letter_by_letter():
    assert as_plain("a_b*c [x](y) <b> :red[z]") == r"a\_b\*c \[x\]\(y\) \<b\> \:red\[z\]"
    assert as_plain("O’Brien, हिन्दी") == r"O’Brien\, हिन्दी", "Markdown shows a backslash before other signs"

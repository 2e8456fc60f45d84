"""The pages without a browser: what they show and what their buttons do."""

import json
import shutil

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from recorder import inbox, phrases, reading, runs, takes
from recorder.listener import Answer, Listener
from recorder.views.microphone import read_recording
from recorder.views.shared import CONSENT, as_plain
from stages.common.params import load_params
from tests.recordings import make_take
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


def shown(page) -> dict:
    """What the microphone component was told to show."""
    [component] = microphones(page)
    return json.loads(component.proto.json)


def phrase(page) -> str:
    return shown(page)["phrase"]


def microphones(page) -> list:
    return [element for element in page.main.children.values() if element.type == "bidi_component"]


def button(page, label):
    """The button whose label begins like this."""
    return next(one for one in page.button if one.label.startswith(label))


def press(page, label):
    button(page, label).click().run()
    assert not page.exception


def record(page, number: int) -> takes.Take:
    """A take that waits to be saved: the demo's clip of this number."""
    take = page.session_state["take"] = make_take(number)
    page.run()
    return take


def record_silence(page) -> None:
    silence = np.zeros(48_000, np.float32)
    page.session_state["take"] = takes.from_recording(silence, 48_000, TEXTS[0], "en", load_params().prepare)
    page.run()


def choose(page, speaker: str) -> None:
    page.radio(key="speaker").set_value(speaker).run()


def says(elements, words: str) -> bool:
    return any(words in element.value.replace("\\", "") for element in elements)


# Who speaks


def test_first_visit_asks_name_then_consent_and_stores_its_wording(workspace):
    page = app(language="en")
    assert not microphones(page)
    page.text_input[0].set_value("Ann")
    press(page, "Start")
    assert button(page, "Continue").disabled
    wording = next(text.value for text in page.markdown if text.value.startswith("I agree"))
    page.checkbox[0].check().run()
    press(page, "Continue")
    consent = inbox.consents()["Ann"]
    assert consent["wording"] == wording and consent["given_at"][:4].isdigit()
    assert phrase(page) == TEXTS[0]


@pytest.mark.parametrize("name", ["Ben", "Someone else"])
def test_someone_else_gives_a_name_and_agrees_before_anything_is_recorded(workspace, open_page, name):
    """A recording would be stored under the name of who spoke before; that person's take must wait meanwhile."""
    page = open_page()
    record(page, 3)
    choose(page, "")
    assert not microphones(page) and page.query_params["speaker"] == ""
    page.text_input[0].set_value(name)
    press(page, "Start")
    assert not microphones(page) and button(page, "Continue").disabled
    page.checkbox[0].check().run()
    press(page, "Continue")
    assert set(inbox.consents()) == {"Ann", name} and page.query_params["speaker"] == name
    assert not shown(page)["has_take"]
    choose(page, "")
    assert not microphones(page)
    choose(page, "Ann")
    # The microphone has forgotten it: it can be heard again all the same.
    assert says(page.warning, "Not saved yet") and len(page.get("audio")) == 1
    press(page, "Save")
    choose(page, name)
    record(page, 10)
    press(page, "Save")
    assert [(clip.speaker, clip.text) for clip in inbox.stored_clips()] == [("Ann", TEXTS[0]), (name, TEXTS[0])]


def test_consent_that_one_person_ticked_is_not_anothers(workspace, open_page):
    """A tick by one person would be stored as the consent of the next."""
    page = open_page()
    for name in ("Ben", "Cleo"):
        choose(page, "")
        page.text_input[0].set_value(name)
        press(page, "Start")
        assert not page.checkbox[0].value and button(page, "Continue").disabled
        page.checkbox[0].check().run()
        assert not button(page, "Continue").disabled


def test_nobody_of_several_is_taken_for_granted(workspace):
    inbox.record_consent("Ben", "I agree")
    assert app().session_state["speaker"] == "Ben", "the only one"
    assert not microphones(app(speaker="")), "someone else, before a reload"
    inbox.record_consent("Ann_", "I agree")
    page = app()
    assert not microphones(page)
    press(page, "Start")
    assert says(page.warning, "Type a name first")
    page.button(key="is Ann_").click().run()
    assert page.session_state["speaker"] == "Ann_" and page.query_params["speaker"] == "Ann_"
    assert phrase(page) == TEXTS[0]


def test_two_tabs_of_two_people_lose_nothing_and_mix_nothing(workspace, open_page):
    tabs = {name: open_page(speaker=name) for name in ("Ann", "Bob")}
    wanted = []
    for number, name in enumerate(["Ann", "Bob", "Ann", "Bob"]):
        take = record(tabs[name], number)
        press(tabs[name], "Save")
        wanted.append((take.id, name, TEXTS[number // 2]))
    assert [(clip.id, clip.speaker, clip.text) for clip in inbox.stored_clips()] == wanted


# Takes and phrases


def test_take_is_saved_once_and_the_next_phrase_comes(workspace, open_page):
    page = open_page()
    assert button(page, "Save").disabled
    take = record(page, 3)
    press(page, "Save")
    [clip] = inbox.stored_clips()
    assert (clip.id, clip.text, clip.language, clip.speaker) == (take.id, TEXTS[0], "en", "Ann")
    assert inbox.content_of(clip) == take.content
    assert clip.prompt_id == phrases.prompt_id("en", TEXTS[0])
    assert phrase(page) == TEXTS[1] and button(page, "Save").disabled
    page.run()
    assert len(inbox.stored_clips()) == 1


def test_silent_take_cannot_be_saved_and_says_why(workspace, open_page):
    page = open_page()
    record_silence(page)
    assert page.error and button(page, "Save").disabled
    press(page, "Skip")
    assert page.session_state["take"] is None, "one that cannot be saved is not asked for"


def test_set_of_ten_ends_with_a_rest_and_resumes_when_asked(workspace, open_page):
    page = open_page()
    page.session_state["in_set"] = 10
    page.run()
    assert says(page.success, "10 recorded") and not microphones(page)
    press(page, "10 more")
    assert phrase(page) == TEXTS[0]


def test_counter_says_what_is_recorded_and_what_was_skipped(workspace, open_page):
    page = open_page()

    def place():
        [caption] = [one.value for one in page.caption if "of 10 recorded" in one.value]
        return phrase(page), caption.partition(". ")[2]

    assert place() == (TEXTS[0], "0 of 10 recorded.")
    for label, wanted in (
        ("Skip", (TEXTS[1], "0 of 10 recorded, 1 skipped for later.")),
        ("Skip", (TEXTS[2], "0 of 10 recorded, 2 skipped for later.")),
        ("Back", (TEXTS[1], "0 of 10 recorded, 2 skipped for later.")),
    ):
        press(page, label)
        assert place() == wanted
    record(page, 10)
    press(page, "Save")
    assert place()[1] == "1 of 10 recorded, 1 skipped for later."


def test_take_that_is_not_saved_is_lost_only_after_a_second_press(workspace, open_page):
    page = open_page()
    for name in ("Skip", "Back"):
        before = phrase(page)
        record(page, 3)
        press(page, name)
        assert phrase(page) == before and page.session_state["take"] is not None
        assert says(page.warning, f"press {name} again")
        press(page, name)
        assert phrase(page) != before and page.session_state["take"] is None


def test_back_goes_back_phrase_by_phrase_and_a_replaced_take_is_no_new_one(workspace, open_page):
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
    assert page.session_state["in_set"] == 2
    assert {clip.text: clip.id for clip in inbox.stored_clips()} == {TEXTS[0]: take.id, TEXTS[1]: make_take(10).id}


def test_take_stays_with_the_phrase_for_which_it_was_made(workspace, open_page):
    """Whatever comes in between: phrases of one's own, which are asked first, or the same phrase in another tab."""
    page = open_page()
    take = record(page, 3)
    page.text_area[0].set_value("Call Jörg")
    press(page, "Keep these phrases")
    assert phrase(page) == TEXTS[0] and shown(page)["has_take"]
    prompt_id = phrases.prompt_id("en", TEXTS[0])
    inbox.save_clip(make_take(10), text=TEXTS[0], language="en", speaker="Ann", prompt_id=prompt_id)
    page.run()
    assert phrase(page) == TEXTS[0]
    press(page, "Save")
    assert {clip.id: clip.text for clip in inbox.stored_clips()}[take.id] == TEXTS[0]
    assert phrase(page) == "Call Jörg"


def test_take_that_is_not_saved_waits_while_another_page_text_or_person_is_chosen(workspace, open_page):
    inbox.record_consent("Ben", "I agree")
    page = open_page()
    press(page, "Skip")
    take = record(page, 3)
    before = shown(page)

    def is_back() -> bool:
        return shown(page) == before and says(page.warning, "Not saved yet")

    page.switch_page("views/clips.py").run()
    page.switch_page("views/record.py").run()
    assert is_back()
    page.button_group[0].set_value("Free speech").run()
    assert not shown(page)["has_take"] and button(page, "Save").disabled
    page.button_group[0].set_value("Phrases").run()
    assert is_back()
    choose(page, "Ben")
    assert phrase(page) == TEXTS[0] and not shown(page)["has_take"]
    choose(page, "Ann")
    assert is_back()
    press(page, "Save")
    [clip] = inbox.stored_clips()
    assert (clip.id, clip.text, clip.speaker) == (take.id, TEXTS[1], "Ann")
    page.switch_page("views/clips.py").run()
    page.switch_page("views/record.py").run()
    assert not page.warning and not shown(page)["has_take"]


def test_what_was_said_freely_waits_with_its_words_and_is_written_anew_for_each_take(workspace, open_page):
    """A take that is recorded again would be saved with the words of the first."""
    page = open_page()
    page.button_group[0].set_value("Free speech").run()
    record(page, 10)
    page.text_area[0].set_value("words of another take").run()
    take = record(page, 3)
    assert page.text_area[0].value == ""
    press(page, "Save")
    assert not inbox.stored_clips() and says(page.error, "There is no text")
    page.text_area[0].set_value("words of my own").run()
    page.switch_page("views/clips.py").run()
    page.switch_page("views/record.py").run()
    page.button_group[0].set_value("Phrases").run()
    page.button_group[0].set_value("Free speech").run()
    assert page.text_area[0].value == "words of my own"
    press(page, "Save")
    assert [(clip.id, clip.text) for clip in inbox.stored_clips()] == [(take.id, "words of my own")]


def test_own_phrases_come_first_and_skipping_goes_round(workspace, open_page):
    page = open_page()
    page.text_area[0].set_value("Call Jörg\nCall Jörg\n\nOpen the garage")
    press(page, "Keep these phrases")
    assert reading.own_phrases("Ann", "en") == ["Call Jörg", "Open the garage"]
    assert phrase(page) == "Call Jörg"
    page.button_group[0].set_value("My own phrases").run()
    asked = []
    for _ in range(4):
        asked.append(phrase(page))
        press(page, "Skip")
    assert asked == ["Call Jörg", "Open the garage"] * 2


def test_arabic_is_shown_from_right_to_left(workspace, open_page):
    page = open_page()
    next(box for box in page.selectbox if box.label == "Language").set_value("ar").run()
    assert (shown(page)["direction"], shown(page)["language"]) == ("rtl", "ar")
    assert phrase(page) == phrases.from_file("ar")[0]


# Upload


def test_upload_pairs_by_name_shows_a_table_and_saves(workspace, open_page):
    page = open_page("upload")
    content = (DEMO_CLIPS / "003.opus").read_bytes()
    page.file_uploader[0].set_value(
        [
            ("b.opus", content, "audio/ogg"),
            ("b.txt", b"hello there", "text/plain"),
            ("c.wav", b"no sound", "audio/wav"),
        ]
    ).run()
    assert not page.exception
    [saving] = [one for one in page.button if one.label.startswith("Save ")]
    assert saving.label == "Save 1 recording"
    saving.click().run()
    [clip] = inbox.stored_clips()
    assert (clip.source, clip.text, clip.speaker, clip.audio_path[-5:]) == ("uploaded", "hello there", "Ann", ".opus")
    assert inbox.content_of(clip) == content
    assert any("1 saved" in note.value for note in page.success)


@pytest.mark.parametrize(("absent", "listed"), [(1, 0), (3, 0), (9, 6), (600, 500)])
def test_upload_tells_all_that_could_not_be_used_in_one_box(workspace, open_page, absent, listed):
    page = open_page("upload")
    rows = "file,text\n" + "".join(f"gone_{number}.wav,<b>words</b>\n" for number in range(absent))
    sound = (DEMO_CLIPS / "003.opus").read_bytes()
    page.file_uploader[0].set_value(
        [("a.opus", sound, "audio/ogg"), ("a.txt", b"hello", "text/plain"), ("t.csv", rows.encode(), "text/csv")]
    ).run()
    assert not page.exception
    [box] = page.warning
    words = box.value.replace("\\", "")
    things = "1 thing" if absent == 1 else f"{absent} things"
    assert words.startswith(f"{things} in these files could not be used:")
    assert words.count("\n- gone_") == min(absent, 3)
    rest = [one for one in page.expander if one.label == f"{absent - 3} more of these"]
    assert len(rest) == (absent > 3)
    if rest:
        assert len(rest[0].table[0].value) == listed
        more = f"and {absent - 503} more, shown when these are fixed"
        assert (more in [one.value for one in rest[0].text]) == (absent > 503)


def test_upload_of_another_person_waits_until_that_person_has_agreed(workspace, open_page):
    page = open_page("upload")
    rows = b"file,text,speaker\na.opus,one,Ann\nb.opus,two,<b>Bo</b>\n"
    files = [(f"{name}.opus", (DEMO_CLIPS / f"00{n}.opus").read_bytes(), "audio/ogg") for n, name in enumerate("ab", 1)]
    page.file_uploader[0].set_value([*files, ("t.csv", rows, "text/csv")]).run()
    assert button(page, "Save 2 recordings").disabled
    [box] = [box for box in page.checkbox if box.label.endswith("agrees.")]
    box.check().run()
    button(page, "They have agreed").click().run()
    assert inbox.consents()["<b>Bo</b>"]["wording"] == CONSENT
    button(page, "Save 2 recordings").click().run()
    assert not page.exception
    assert {clip.speaker for clip in inbox.stored_clips()} == {"Ann", "<b>Bo</b>"}


# Train


def test_settings_are_checked_and_written_with_comments_kept(workspace, open_page):
    shutil.copy(ROOT / "params.yaml", workspace / "params.yaml")
    page = open_page("train")
    next(box for box in page.number_input if box.label == "Rounds (epochs)").set_value(3)
    next(box for box in page.text_input if box.label == "Learning rate").set_value("1.0e-4")
    button(page, "Keep these settings").click().run()
    params = load_params()
    assert (params.train.epochs, params.train.learning_rate) == (3, 1e-4)
    written = (workspace / "params.yaml").read_text()
    assert written.count("#") == (ROOT / "params.yaml").read_text().count("#")
    next(box for box in page.text_input if box.label == "Learning rate").set_value("quick")
    button(page, "Keep these settings").click().run()
    assert any("quick" in error.value for error in page.error)
    assert (workspace / "params.yaml").read_text() == written


@pytest.mark.parametrize(("typed", "update"), [("auto", 8), ("16", None)])
def test_recordings_at_a_time_are_a_number_or_found(workspace, open_page, typed, update):
    shutil.copy(ROOT / "params.yaml", workspace / "params.yaml")
    page = open_page("train")
    next(box for box in page.text_input if box.label.startswith("Recordings at a time")).set_value(typed)
    button(page, "Keep these settings").click().run()
    train = load_params().train
    assert (str(train.batch_size), train.clips_per_update) == (typed, update)
    page = open_page("train")  # shows what was kept, and takes another
    next(box for box in page.text_input if box.label.startswith("Recordings at a time")).set_value("0")
    button(page, "Keep these settings").click().run()
    assert page.error and load_params().train == train


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
    assert any("holds no recordings" in error.value.replace("\\", "") for error in page.error)
    assert button(page, "Try again")


def test_train_page_names_folders_that_it_does_not_write(workspace, open_page):
    (workspace / "data/raw/from_home").mkdir()
    page = open_page("train")
    assert any(r"0 recordings, 0.0 minutes" in text.value and r"from\_home" in text.value for text in page.markdown)


# Try it


@pytest.fixture
def open_try_it(open_page, monkeypatch):
    """`page, say = open_try_it()`: say("003", "turn on") is a take in which the model understands these words."""
    understood = {}
    monkeypatch.setattr(Listener, "transcribe", lambda self, content, language: understood[content])

    def open_as():
        page = open_page("try_it")
        page.button_group[0].set_value("Use a file").run()

        def say(number, words):
            content = (DEMO_CLIPS / f"{number}.opus").read_bytes()
            understood[content] = Answer(words, None, 1.0, "tiny")
            page.file_uploader[0].set_value((f"{number}.opus", content, "audio/ogg")).run()
            assert not page.exception

        return page, say

    return open_as


def test_what_was_understood_is_kept_as_said_only_after_a_second_press(workspace, open_try_it):
    """Each take has its own text: a recording would be stored with the words of the take before."""
    page, say = open_try_it()
    say("003", "seven")
    press(page, "Keep it")
    assert not inbox.stored_clips() and page.warning
    page.text_area[0].set_value("eleven").run()
    say("010", "three")
    press(page, "Keep it")
    assert not inbox.stored_clips() and page.warning
    press(page, "Keep it")
    [clip] = inbox.stored_clips()
    assert (clip.text, inbox.content_of(clip)) == ("three", (DEMO_CLIPS / "010.opus").read_bytes())


def test_what_somebody_tried_is_never_kept_as_another_persons(workspace, open_try_it):
    inbox.record_consent("Ben", "I agree")
    page, say = open_try_it()
    say("003", "turn on the lamp")
    choose(page, "Ben")
    assert not page.exception and not [one for one in page.button if one.label.startswith("Keep it")]
    choose(page, "Ann")
    page.text_area[0].set_value("turn off the lamp")
    press(page, "Keep it")
    assert [(clip.speaker, clip.text) for clip in inbox.stored_clips()] == [("Ann", "turn off the lamp")]


# Parts


def test_browser_may_send_anything_as_a_recording():
    good = {"samples": "AAABAA==", "sample_rate_hz": 48_000, "prompt": "p"}
    assert read_recording(good, 30).samples.tolist() == [0.0, 1 / 32768]
    for change in (
        {"samples": "not base64!"},
        {"samples": "AAAB"},
        {"sample_rate_hz": 10**9},
        {"sample_rate_hz": "fast"},
        {"samples": None},
    ):
        assert read_recording(good | change, 30) is None
    assert read_recording({}, 30) is None
    too_long = {"samples": "A" * (4 * 8000 * 6), "sample_rate_hz": 8000, "prompt": "p"}
    assert read_recording(too_long, 1) is None


def test_names_with_markdown_are_shown_letter_by_letter():
    assert as_plain("a_b*c [x](y) <b> :red[z]") == r"a\_b\*c \[x\]\(y\) \<b\> \:red\[z\]"
    assert as_plain("O’Brien, हिन्दी") == r"O’Brien\, हिन्दी", "Markdown shows a backslash before other signs"

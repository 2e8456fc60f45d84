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
from stages.speech import audio
from tests.workspaces import DEMO_CLIPS, ROOT, init_dvc, make_workspace

TEXTS = phrases.from_file("en")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    folder = make_workspace(tmp_path)
    init_dvc(folder, tracks_raw=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


@pytest.fixture
def open_page(workspace):
    """`open_page("upload")`: a page after its first run, with a speaker who has agreed."""

    def open_as(name="record", speaker="Ann"):
        if speaker:
            inbox.record_consent(speaker, "I agree")
        page = AppTest.from_file(str(ROOT / "recorder/app.py"), default_timeout=30)
        if speaker:
            page.query_params["speaker"] = speaker
        page.query_params["language"] = "en"
        page.run()
        if name != "record":
            page.switch_page(f"views/{name}.py").run()
        assert not page.exception
        return page

    return open_as


def shown_phrase(page) -> dict:
    """What the microphone component was told to show."""
    [component] = microphones(page)
    return json.loads(component.proto.json)


def microphones(page) -> list:
    return [element for element in page.main.children.values() if element.type == "bidi_component"]


def button(page, label):
    return next(one for one in page.button if one.label == label)


def a_take(number="003"):
    samples, rate_hz = audio.decode((DEMO_CLIPS / f"{number}.opus").read_bytes())
    return takes.from_recording(samples[:, 0], rate_hz, TEXTS[0], "en", load_params().prepare)


def waits(page):
    return [change.row for change in inbox.pending() if change.kind == "clip"]


def test_first_visit_asks_name_then_consent_and_stores_its_wording(workspace, open_page):
    page = open_page(speaker=None)
    assert not microphones(page)
    page.text_input[0].set_value("Ann")
    button(page, "Start").click()
    page.run()
    assert button(page, "Continue").disabled
    wording = next(text.value for text in page.markdown if text.value.startswith("I agree"))
    page.checkbox[0].check().run()
    button(page, "Continue").click().run()
    consent = inbox.consents()["Ann"]
    assert consent["wording"] == wording and consent["given_at"][:4].isdigit()
    assert shown_phrase(page)["phrase"] == TEXTS[0]


def test_take_is_saved_once_and_the_next_phrase_comes(workspace, open_page):
    page = open_page()
    assert button(page, "Save and next").disabled
    take = a_take()
    page.session_state["take"] = take
    page.run()
    button(page, "Save and next").click().run()
    [clip] = inbox.stored_clips()
    assert (clip.id, clip.text, clip.language, clip.speaker) == (take.id, TEXTS[0], "en", "Ann")
    assert inbox.content_of(clip) == take.content
    assert clip.prompt_id == phrases.prompt_id("en", TEXTS[0])
    assert shown_phrase(page)["phrase"] == TEXTS[1]
    assert button(page, "Save and next").disabled
    page.run()
    assert len(inbox.stored_clips()) == 1


def test_silent_take_cannot_be_saved_and_says_why(workspace, open_page):
    page = open_page()
    page.session_state["take"] = takes.from_recording(
        np.zeros(48_000, np.float32), 48_000, TEXTS[0], "en", load_params().prepare
    )
    page.run()
    assert any("Nothing can be heard" in error.value for error in page.error)
    assert next(one for one in page.button if one.label.startswith("Save")).disabled


def test_set_of_ten_ends_with_a_rest_and_goes_on_when_asked(workspace, open_page):
    page = open_page()
    page.session_state["in_set"] = 10
    page.run()
    assert any("Well done" in note.value for note in page.success)
    button(page, "10 more").click().run()
    assert shown_phrase(page)["phrase"] == TEXTS[0]


def test_counter_says_what_is_recorded_and_what_was_skipped(workspace, open_page):
    page = open_page()

    def place():
        [caption] = [one.value for one in page.caption if one.value.startswith("Speak as you always do.")]
        return caption.removeprefix("Speak as you always do. ")

    assert place() == "0 of 10 recorded."
    button(page, "Skip").click().run()
    assert (shown_phrase(page)["phrase"], place()) == (TEXTS[1], "0 of 10 recorded, 1 skipped for later.")
    button(page, "Skip").click().run()
    assert (shown_phrase(page)["phrase"], place()) == (TEXTS[2], "0 of 10 recorded, 2 skipped for later.")
    button(page, "Back").click().run()
    assert (shown_phrase(page)["phrase"], place()) == (TEXTS[1], "0 of 10 recorded, 2 skipped for later.")
    page.session_state["take"] = a_take("010")
    page.run()
    next(one for one in page.button if one.label.startswith("Save")).click().run()
    assert place() == "1 of 10 recorded, 1 skipped for later."


def test_take_that_is_not_saved_is_lost_only_after_a_second_press(workspace, open_page):
    page = open_page()
    for name in ("Skip", "Back"):
        phrase = shown_phrase(page)["phrase"]
        page.session_state["take"] = a_take()
        page.run()
        button(page, name).click().run()
        assert shown_phrase(page)["phrase"] == phrase and page.session_state["take"] is not None
        assert any(f"press {name} again" in note.value for note in page.warning)
        button(page, name).click().run()
        assert shown_phrase(page)["phrase"] != phrase and page.session_state["take"] is None
    page.session_state["take"] = takes.from_recording(
        np.zeros(48_000, np.float32), 48_000, TEXTS[0], "en", load_params().prepare
    )
    page.run()
    button(page, "Skip").click().run()
    assert page.session_state["take"] is None, "one that cannot be saved is not asked for"


def test_back_goes_back_phrase_by_phrase_and_a_replaced_take_is_no_new_one(workspace, open_page):
    page = open_page()
    for number in ("003", "010"):
        page.session_state["take"] = a_take(number)
        page.run()
        next(one for one in page.button if one.label.startswith("Save")).click().run()
    for expected in (TEXTS[1], TEXTS[0]):
        button(page, "Back").click().run()
        assert shown_phrase(page)["phrase"] == expected
    assert button(page, "Back").disabled
    page.session_state["take"] = a_take("020")
    page.run()
    button(page, "Save instead of the earlier one").click().run()
    assert not page.exception
    assert page.session_state["in_set"] == 2
    assert {clip.text for clip in inbox.stored_clips()} == {TEXTS[0], TEXTS[1]} and len(inbox.stored_clips()) == 2


def test_take_stays_with_the_phrase_for_which_it_was_made(workspace, open_page):
    """Whatever comes in between: phrases of one's own, which are asked first, or the same phrase in another tab."""
    page = open_page()
    take = a_take()
    page.session_state["take"] = take
    page.run()
    page.text_area[0].set_value("Call Jörg")
    button(page, "Keep these phrases").click().run()
    assert shown_phrase(page)["phrase"] == TEXTS[0] and shown_phrase(page)["has_take"]
    inbox.save_clip(a_take("010"), text=TEXTS[0], language="en", speaker="Ann",
                    prompt_id=phrases.prompt_id("en", TEXTS[0]))  # fmt: skip
    page.run()
    assert shown_phrase(page)["phrase"] == TEXTS[0]
    next(one for one in page.button if one.label.startswith("Save")).click().run()
    assert {clip.id: clip.text for clip in inbox.stored_clips()}[take.id] == TEXTS[0]
    assert shown_phrase(page)["phrase"] == "Call Jörg"


def test_take_that_is_not_saved_waits_while_another_page_text_or_person_is_chosen(workspace, open_page):
    inbox.record_consent("Ben", "I agree")
    page = open_page()
    button(page, "Skip").click().run()
    take = a_take()
    page.session_state["take"] = take
    page.run()
    shown = shown_phrase(page)

    def is_back() -> bool:
        return shown_phrase(page) == shown and any("Not saved yet" in note.value for note in page.warning)

    page.switch_page("views/clips.py").run()
    page.switch_page("views/record.py").run()
    assert is_back()
    page.button_group[0].set_value("Free speech").run()
    assert not shown_phrase(page)["has_take"] and button(page, "Save and next").disabled
    page.button_group[0].set_value("Phrases").run()
    assert is_back()
    page.radio(key="speaker").set_value("Ben").run()
    assert shown_phrase(page)["phrase"] == TEXTS[0] and not shown_phrase(page)["has_take"]
    page.radio(key="speaker").set_value("Ann").run()
    assert is_back()
    button(page, "Save and next").click().run()
    [clip] = inbox.stored_clips()
    assert (clip.id, clip.text, clip.speaker) == (take.id, TEXTS[1], "Ann")
    page.switch_page("views/clips.py").run()
    page.switch_page("views/record.py").run()
    assert not page.warning and not shown_phrase(page)["has_take"]


def test_what_was_said_freely_waits_with_its_words(workspace, open_page):
    page = open_page()
    page.button_group[0].set_value("Free speech").run()
    take = a_take()
    page.session_state["take"] = take
    page.run()
    page.text_area[0].set_value("words of my own").run()
    page.switch_page("views/clips.py").run()
    page.switch_page("views/record.py").run()
    assert page.text_area[0].value == "words of my own"
    page.button_group[0].set_value("Phrases").run()
    page.button_group[0].set_value("Free speech").run()
    assert page.text_area[0].value == "words of my own"
    button(page, "Save and next").click().run()
    assert [(clip.id, clip.text) for clip in inbox.stored_clips()] == [(take.id, "words of my own")]
    page.session_state["take"] = a_take("010")
    page.run()
    assert page.text_area[0].value == ""


def test_what_was_said_freely_is_written_anew_for_each_take(workspace, open_page):
    """A take that is recorded again would be saved with the words of the first."""
    page = open_page()
    page.button_group[0].set_value("Free speech").run()
    page.session_state["take"] = a_take()
    page.run()
    page.text_area[0].set_value("words of the first take").run()
    page.session_state["take"] = a_take("010")
    page.run()
    assert page.text_area[0].value == ""
    next(one for one in page.button if one.label.startswith("Save")).click().run()
    assert not inbox.stored_clips() and any("There is no text" in error.value for error in page.error)


@pytest.mark.parametrize("name", ["Ben", "Someone else"])
def test_someone_else_gives_a_name_and_agrees_before_anything_is_recorded(workspace, open_page, name):
    """A recording would be stored under the name of who spoke before; that person's take must wait meanwhile."""
    page = open_page()
    take = a_take()
    page.session_state["take"] = take
    page.run()
    page.radio(key="speaker").set_value("").run()
    assert not microphones(page) and page.query_params["speaker"] == ""
    page.text_input[0].set_value(name)
    button(page, "Start").click().run()
    assert not microphones(page) and button(page, "Continue").disabled
    page.checkbox[0].check().run()
    button(page, "Continue").click().run()
    assert set(inbox.consents()) == {"Ann", name} and page.query_params["speaker"] == name
    assert not shown_phrase(page)["has_take"]
    page.radio(key="speaker").set_value("").run()
    assert not microphones(page)
    page.radio(key="speaker").set_value("Ann").run()
    assert any("Not saved yet" in note.value for note in page.warning)
    button(page, "Save and next").click().run()
    page.radio(key="speaker").set_value(name).run()
    page.session_state["take"] = a_take("010")
    page.run()
    next(one for one in page.button if one.label.startswith("Save")).click().run()
    assert [(clip.speaker, clip.text) for clip in inbox.stored_clips()] == [("Ann", TEXTS[0]), (name, TEXTS[0])]


def test_take_is_said_to_wait_after_someone_else_was_chosen_by_mistake(workspace, open_page):
    """The microphone has forgotten it: without this it could not be heard again, and was offered as if new."""
    page = open_page()
    page.session_state["take"] = a_take()
    page.run()
    page.radio(key="speaker").set_value("").run()
    page.radio(key="speaker").set_value("Ann").run()
    assert any("Not saved yet" in note.value for note in page.warning)
    assert len(page.get("audio")) == 1


def test_consent_that_one_person_ticked_is_not_anothers(workspace, open_page):
    """A tick by one person would be stored as the consent of the next."""
    page = open_page()
    for name in ("Ben", "Cleo"):
        page.radio(key="speaker").set_value("").run()
        page.text_input[0].set_value(name)
        button(page, "Start").click().run()
        assert not page.checkbox[0].value and button(page, "Continue").disabled
        page.checkbox[0].check().run()
        assert not button(page, "Continue").disabled


def test_nobody_of_several_is_taken_for_granted(workspace, open_page):
    inbox.record_consent("Ben", "I agree")
    page = AppTest.from_file(str(ROOT / "recorder/app.py"), default_timeout=30).run()
    assert page.session_state["speaker"] == "Ben", "the only one"
    page = AppTest.from_file(str(ROOT / "recorder/app.py"), default_timeout=30)
    page.query_params["speaker"] = ""
    assert not microphones(page.run()), "someone else, before a reload"
    inbox.record_consent("Ann_", "I agree")
    page = AppTest.from_file(str(ROOT / "recorder/app.py"), default_timeout=30).run()
    assert not microphones(page)
    button(page, "Start").click().run()
    assert any("Type a name first" in note.value for note in page.warning)
    page.button(key="is Ann_").click().run()
    assert page.session_state["speaker"] == "Ann_" and page.query_params["speaker"] == "Ann_"
    assert shown_phrase(page)["phrase"] == TEXTS[0]


def test_skipping_goes_round_where_every_phrase_was_skipped(workspace, open_page):
    page = open_page()
    page.text_area[0].set_value("Call Jörg\nOpen the garage")
    button(page, "Keep these phrases").click().run()
    page.button_group[0].set_value("My own phrases").run()
    shown = []
    for _ in range(4):
        shown.append(shown_phrase(page)["phrase"])
        button(page, "Skip").click().run()
    assert shown == ["Call Jörg", "Open the garage"] * 2


def test_own_phrases_come_first(workspace, open_page):
    page = open_page()
    page.text_area[0].set_value("Call Jörg\nCall Jörg\n\nOpen the garage")
    button(page, "Keep these phrases").click().run()
    assert reading.own_phrases("Ann", "en") == ["Call Jörg", "Open the garage"]
    assert shown_phrase(page)["phrase"] == "Call Jörg"


def test_arabic_is_shown_from_right_to_left(workspace, open_page):
    page = open_page()
    next(box for box in page.selectbox if box.label == "Language").set_value("ar").run()
    shown = shown_phrase(page)
    assert (shown["direction"], shown["language"]) == ("rtl", "ar")
    assert shown["phrase"] == phrases.from_file("ar")[0]


def test_damaged_list_of_clips_is_one_sentence_on_the_page(workspace, open_page):
    folder = workspace / "data/raw/recorded"
    folder.mkdir()
    (folder / "clips.jsonl").write_text("{broken\n")
    page = AppTest.from_file(str(ROOT / "recorder/app.py"), default_timeout=30).run()
    assert not page.exception
    assert any("is damaged" in error.value.replace("\\", "") for error in page.error)


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


def test_broken_settings_are_one_sentence_on_the_train_page(workspace, open_page):
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(text.replace("epochs:", "epoch:"))
    page = AppTest.from_file(str(ROOT / "recorder/app.py"), default_timeout=30)
    page.query_params["speaker"] = "Ann"
    page.run()
    page.switch_page("views/train.py").run()
    assert not page.exception
    assert any("did you mean epochs" in error.value.replace("\\", "") for error in page.error)


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
    page, say = open_try_it()
    say("003", "turn on the lamp")
    button(page, "Keep it, to learn from").click().run()
    assert not page.exception and not inbox.stored_clips()
    assert any("what the computer understood" in note.value for note in page.warning)
    page.text_area[0].set_value("turn off the lamp")
    button(page, "Keep it, to learn from").click().run()
    [clip] = inbox.stored_clips()
    assert clip.text == "turn off the lamp"


def test_second_take_that_is_tried_has_its_own_text_and_is_asked_for_again(workspace, open_try_it):
    """Its recording would be stored with the words of the take before."""
    page, say = open_try_it()
    say("003", "seven")
    button(page, "Keep it, to learn from").click().run()
    page.text_area[0].set_value("eleven").run()
    say("010", "three")
    button(page, "Keep it, to learn from").click().run()
    assert not inbox.stored_clips()
    assert any("what the computer understood" in note.value for note in page.warning)
    button(page, "Keep it, to learn from").click().run()
    [clip] = inbox.stored_clips()
    assert (clip.text, inbox.content_of(clip)) == ("three", (DEMO_CLIPS / "010.opus").read_bytes())


def test_what_somebody_tried_is_never_kept_as_another_persons(workspace, open_try_it):
    inbox.record_consent("Ben", "I agree")
    page, say = open_try_it()
    say("003", "turn on the lamp")
    page.radio(key="speaker").set_value("Ben").run()
    assert not page.exception and not [one for one in page.button if one.label.startswith("Keep it")]
    page.radio(key="speaker").set_value("Ann").run()
    page.text_area[0].set_value("turn off the lamp")
    button(page, "Keep it, to learn from").click().run()
    assert [(clip.speaker, clip.text) for clip in inbox.stored_clips()] == [("Ann", "turn off the lamp")]


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

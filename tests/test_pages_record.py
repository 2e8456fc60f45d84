"""Who speaks, and the Record page, without a browser: what is shown and what the buttons do."""

import math

import numpy as np
import pytest

from recorder import inbox, phrases
from recorder.views.microphone import read_recording
from recorder.views.shared import as_plain
from tests.pages import Page, stored
from tests.recordings import make_take
from tests.workspaces import ROOT, init_dvc

TEXTS = phrases.from_file("en")


@pytest.fixture(autouse=True)
def project(workspace, monkeypatch):
    init_dvc(workspace, tracks_raw=True)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the process that moves the inbox


def look_at_another_page(page) -> None:
    page.turn_to("clips").turn_to("record")


# Who speaks


def test_first_visit_asks_name_then_consent_and_stores_its_wording():
    page = Page.whole(language="ar")
    assert not page.microphones
    page.press("Start")
    assert "Type a name first" in page.words("warning")
    page.fill("text_input", "Your name", "Ann")
    page.press("Start")
    assert page.is_disabled("Continue")
    assert "understands Arabic less well than the 8 languages" in page.words("caption")
    wording = next(text.value for text in page.markdown if text.value.startswith("I agree"))
    page.agree()
    consent = inbox.consents()["Ann"]
    assert consent["wording"] == wording and consent["given_at"][:4].isdigit()
    assert (page.phrase, page.microphones[0]["direction"]) == (phrases.from_file("ar")[0], "rtl")
    page.fill("selectbox", "Language", "en")
    assert (page.run().phrase, page.microphones[0]["direction"]) == (TEXTS[0], "ltr")
    assert "less well" not in page.words("caption")


@pytest.mark.parametrize("name", ["Ben", "Someone else"])
def test_someone_else_gives_a_name_and_agrees_before_anything_is_recorded(name):
    """A recording, or a tick, would be stored under the name of who was there before; that one's take must wait."""
    page = Page.of_ann()
    page.record(3)
    page.choose_speaker("")
    assert not page.microphones and page.query_params["speaker"] == ""
    page.fill("text_input", "Your name", name)
    page.press("Start")
    assert not page.microphones and page.is_disabled("Continue")
    page.agree()
    assert set(inbox.consents()) == {"Ann", name} and page.query_params["speaker"] == name
    assert not page.has_take
    page.choose_speaker("")
    page.fill("text_input", "Your name", "Cleo")
    page.press("Start")
    assert not page.checkbox[0].value and page.is_disabled("Continue")
    page.choose_speaker("Ann")
    # The microphone has forgotten it: it can be heard again all the same.
    assert "Not saved yet" in page.words("warning") and len(page.get("audio")) == 1
    page.press("Save")
    page.choose_speaker(name)
    page.record(10)
    page.press("Save")
    assert stored("speaker", "text") == [("Ann", TEXTS[0]), (name, TEXTS[0])]


def test_nobody_of_several_is_taken_for_granted():
    """A recording would be stored under the name of who happens to be first."""
    inbox.record_consent("Ben", "I agree")
    assert Page.whole().session_state["speaker"] == "Ben", "the only one"
    assert not Page.whole(speaker="").microphones, "someone else, before a reload"
    inbox.record_consent("Ann_", "I agree")
    page = Page.whole()
    assert not page.microphones
    page.press("is Ann_")
    assert page.session_state["speaker"] == "Ann_" and page.query_params["speaker"] == "Ann_"
    assert page.phrase == TEXTS[0]


# Takes and phrases


def test_take_is_saved_once_and_counted_until_a_set_of_ten_ends_with_a_rest():
    page = Page.of_ann()
    assert page.is_disabled("Save")
    page.record(np.zeros(48_000, np.float32))
    assert page.error and page.is_disabled("Save")
    page.press("Skip", "Skip", "Back")  # a take that cannot be saved is not asked for
    assert page.phrase == TEXTS[1] and "0 of 10 recorded, 2 skipped" in page.words("caption")
    take = page.record(10)
    page.press("Save")
    assert "1 of 10 recorded, 1 skipped" in page.words("caption") and page.is_disabled("Save")
    fields = ("id", "text", "language", "speaker", "prompt_id")
    assert stored(*fields) == [(take.id, TEXTS[1], "en", "Ann", phrases.prompt_id("en", TEXTS[1]))]
    assert inbox.content_of(inbox.stored_clips()[0]) == take.content
    page.session_state["place"].in_set = 10
    assert "10 recorded" in page.run().words("success") and not page.microphones
    page.press("10 more")
    assert page.phrase not in TEXTS[:2]


def test_take_that_is_not_saved_is_lost_only_after_a_second_press_and_never_by_a_double_click():
    page = Page.of_ann()
    for name in ("Skip", "Back"):
        before = page.phrase
        page.record(3)
        for pressed_at_s in (math.inf, 0.0):  # just now, long ago
            page.press(name)
            assert page.phrase == before and page.has_take
            assert f"press {name} again" in page.words("warning")
            page.session_state["place"].pressed_at_s = pressed_at_s
        page.press(name)
        assert page.phrase != before and not page.has_take


def test_back_goes_back_phrase_by_phrase_and_a_replaced_take_is_no_new_one():
    page = Page.of_ann()
    for number in (3, 10):
        page.record(number)
        page.press("Save")
    for expected in (TEXTS[1], TEXTS[0]):
        page.press("Back")
        assert page.phrase == expected
    assert page.is_disabled("Back")
    take = page.record(20)
    page.press("Save instead of the earlier one")
    assert "2 of 10 recorded" in page.words("caption") and page.phrase == TEXTS[2]
    assert {clip.text: clip.id for clip in inbox.stored_clips()} == {TEXTS[0]: take.id, TEXTS[1]: make_take(10).id}
    page.labelled("button", "Back").click()
    page.session_state["place"].visited.clear()  # by the first press of a double click, whose page is not drawn yet
    assert page.run().phrase == TEXTS[2]


def test_take_stays_with_the_phrase_for_which_it_was_made():
    """Whatever comes in between: phrases of one's own, which are asked first, or the same phrase in another tab."""
    page = Page.of_ann()
    take = page.record(3)
    page.fill("text_area", "One on each line", "Call Jörg\nOpen the garage")
    page.press("Keep these phrases")
    assert page.phrase == TEXTS[0] and page.has_take
    prompt_id = phrases.prompt_id("en", TEXTS[0])
    inbox.save_clip(make_take(10), text=TEXTS[0], language="en", speaker="Ann", prompt_id=prompt_id)
    assert page.run().phrase == TEXTS[0]
    page.press("Save")
    assert {clip.id: clip.text for clip in inbox.stored_clips()}[take.id] == TEXTS[0]
    assert page.phrase == "Call Jörg"
    page.choose("My own phrases")
    asked = []
    for _ in range(4):
        asked.append(page.phrase)
        page.press("Skip")
    assert asked == ["Call Jörg", "Open the garage"] * 2


def test_take_that_is_not_saved_waits_while_another_page_text_or_person_is_chosen():
    inbox.record_consent("Ben", "I agree")
    page = Page.of_ann()
    page.press("Skip")
    take = page.record(3)
    before = page.microphones

    def is_back() -> bool:
        return page.microphones == before and "Not saved yet" in page.words("warning")

    look_at_another_page(page)
    assert is_back()
    page.choose("Free speech")
    assert not page.has_take and page.is_disabled("Save")
    page.choose("Phrases")
    assert is_back()
    page.choose_speaker("Ben")
    assert page.phrase == TEXTS[0] and not page.has_take
    page.choose_speaker("Ann")
    assert is_back()
    page.press("Save")
    assert stored("id", "text", "speaker") == [(take.id, TEXTS[1], "Ann")]
    look_at_another_page(page)
    assert not page.warning and not page.has_take


def test_what_was_said_freely_waits_with_its_words_and_is_written_anew_for_each_take():
    """A take that is recorded again would be saved with the words of the first."""
    page = Page.of_ann()
    page.choose("Free speech")
    page.record(10)
    page.fill("text_area", "What was said", "words of another take")
    take = page.record(3)
    assert page.text_area[0].value == ""
    page.press("Save")
    assert not inbox.stored_clips() and page.error
    page.fill("text_area", "What was said", "words of my own")
    look_at_another_page(page.run())
    page.choose("Phrases", "Free speech")
    page.press("Save")
    assert stored("id", "text") == [(take.id, "words of my own")]


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

"""The Upload, Train and Try it pages without a browser: what is shown and what the buttons do."""

import subprocess
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from recorder import inbox, runs
from recorder.listener import Answer, Listener
from recorder.views.shared import CONSENT
from stages.common.params import load_params
from tests.pages import Page, demo_sound, stored
from tests.recordings import make_take
from tests.workspaces import ROOT, init_dvc, make_workspace


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    init_dvc(make_workspace(tmp_path / "project"), tracks_raw=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the process that moves the inbox


def upload(**files: bytes) -> Page:
    """`upload(a_opus=sound)`: the page after a.opus was uploaded."""
    page = Page.of_ann("upload")
    kind = "application/octet-stream"
    page.file_uploader[0].set_value([(name.replace("_", "."), content, kind) for name, content in files.items()])
    return page.run()


def test_upload_tells_all_that_could_not_be_used_in_one_box():
    """Thousands of boxes would stop the browser; a skipped file must be named."""
    rows = "file,text\n" + "".join(f"gone-{number}.wav,<b>words</b>\n" for number in range(600))
    page = upload(a_opus=demo_sound(3), a_txt=b"hello", t_csv=rows.encode())
    [box] = page.warning
    assert box.value.startswith("600 things") and box.value.count("\n- gone") == 3
    assert 600 in {len(frame.value) for frame in page.dataframe}


def test_upload_of_another_person_waits_until_that_person_has_agreed():
    rows = b"file,text,speaker\na.opus,one,Ann\nb.opus,two,<b>Bo</b>\n"
    page = upload(a_opus=demo_sound(1), b_opus=demo_sound(2), c_wav=b"no sound", t_csv=rows)
    assert page.is_disabled("Save 2 recordings") and "For: <b>Bo</b>" in page.words("text")
    page.agree()
    assert inbox.consents()["<b>Bo</b>"]["wording"] == CONSENT
    page.press("Save 2 recordings")
    assert "2 saved." in page.words("success")
    assert sorted(stored("speaker", "text")) == [("<b>Bo</b>", "two"), ("Ann", "one")]
    assert {inbox.content_of(clip) for clip in inbox.stored_clips()} == {demo_sound(1), demo_sound(2)}


def test_settings_are_checked_and_written_with_comments_kept():
    file, ours = Path("params.yaml"), (ROOT / "params.yaml").read_text()
    file.write_text(ours)
    Path("data/raw/from_home").mkdir()
    page = Page.of_ann("train")
    assert "from_home" in page.words("markdown"), "a folder of recordings that training uses too"
    page.fill("number_input", "Rounds (epochs)", 3)
    page.fill("text_input", "Learning rate", "1.0e-4")
    page.press("Keep these settings")
    assert (load_params().train.epochs, load_params().train.learning_rate) == (3, 1e-4)
    written = file.read_text()
    assert written.count("#") == ours.count("#")
    page.fill("text_input", "Learning rate", "quick")
    page.press("Keep these settings")
    assert "quick" in page.words("error") and file.read_text() == written
    page.fill("text_input", "Learning rate", "auto")
    page.fill("selectbox", "Model to start from", "data/demo/voxtral-tiny")
    page.press("Keep these settings")
    assert (load_params().train.learning_rate, load_params().model.name) == ("auto", "data/demo/voxtral-tiny")
    revision = load_params(ROOT / "params.yaml").model.revision
    assert load_params().model.revision == revision, "kept for the model that it belongs to"


@pytest.mark.parametrize(
    ("file", "right", "wrong", "words"),
    [
        ("params.yaml", "epochs:", "epoch:", "did you mean epochs"),
        ("data/raw/recorded/clips.jsonl", "", "{broken\n", "is damaged"),
    ],
)
def test_what_a_page_cannot_read_is_one_sentence(file, right, wrong, words):
    Path("data/raw/recorded").mkdir()
    Path(file).write_text(Path(file).read_text().replace(right, wrong) if right else wrong)
    page = Page.whole(speaker="Ann")
    assert words in page.run().words("error")
    assert words in page.turn_to("train").words("error")


@pytest.mark.parametrize("committed", ["<<<<<<< HEAD\nmodel:\n", "train: {}\n", "- model\n"])
def test_committed_settings_that_are_damaged_do_not_close_the_train_page(committed):
    """Who has just mended params.yaml, and not committed it yet, goes there next."""
    mended = Path("params.yaml").read_text()
    Path("params.yaml").write_text(committed)
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@localhost"]
    for command in (["init", "-q"], ["add", "params.yaml"], [*identity, "commit", "-qm", "damaged"]):
        subprocess.run(["git", *command], check=True)
    Path("params.yaml").write_text(mended)
    assert not Page.of_ann("train").is_disabled("Keep these settings")


def test_failed_run_shows_its_reason_and_offers_another_try():
    page = Page.of_ann("train")
    with pytest.raises(Exception, match="holds no recordings"):
        runs.supervise("make", to_screen=True)
    assert "holds no recordings" in page.run().words("error")
    assert not page.is_disabled("Try again")
    Path("dvc.yaml").write_text("[")
    assert "dvc.yaml is missing or damaged" in page.run().words("error")


@pytest.fixture
def say(monkeypatch):
    """`say(page, 3, "turn on")`: a take in which the model understands these words."""
    understood = {}
    monkeypatch.setattr(Listener, "transcribe", lambda self, content, language: understood[content])

    def said(page, number, words):
        understood[make_take(number).content] = Answer(words, None, 1.0, "tiny")
        page.record(number)

    return said


def test_what_was_understood_is_kept_as_said_only_after_a_second_press(say):
    """Each take has its own text: a recording would be stored with the words of the take before."""
    page = Page.of_ann("try_it")
    say(page, 3, "seven")
    page.fill("text_area", "I said", "eleven")
    say(page, 10, "three")
    page.press("Keep it")
    assert not inbox.stored_clips() and page.warning
    page.press("Keep it")
    assert stored("text", "id") == [("three", make_take(10).id)]


def test_what_a_full_disk_does_not_take_is_said_and_stays_on_the_page(say, monkeypatch):
    page, files = Page.of_ann("try_it"), upload(a_opus=demo_sound(3), a_txt=b"hello")
    say(page, 3, "seven")
    page.fill("text_area", "I said", "eleven")
    monkeypatch.setattr(inbox, "_put", mock.Mock(side_effect=OSError(28, "No space left on device")))
    page.press("Keep it")
    assert "No space left" in page.words("error") and not page.is_disabled("Keep it")
    files.press("Save 1 recording")
    assert "No space left" in files.words("error") and not files.is_disabled("Save 1 recording")
    someone = Page.whole(speaker="Bo")
    someone.agree()
    assert "No space left" in someone.words("error")


def test_nothing_recorded_is_not_transcribed(say):
    page = Page.of_ann("try_it")
    page.record(np.zeros(0, np.float32))
    assert "Nothing can be heard" in page.words("error")


def test_what_somebody_tried_is_never_kept_as_another_persons(say):
    inbox.record_consent("Ben", "I agree")
    page = Page.of_ann("try_it")
    say(page, 3, "turn on the lamp")
    page.choose_speaker("Ben")
    assert not [one for one in page.button if one.label.startswith("Keep it")]
    page.choose_speaker("Ann")
    page.fill("text_area", "I said", "turn off the lamp")
    page.press("Keep it")
    assert stored("speaker", "text") == [("Ann", "turn off the lamp")]

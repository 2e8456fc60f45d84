"""The Clips, Results and Publish pages without a browser, on recordings and results that the real stages made."""

import shutil

import pytest

from recorder import inbox
from stages.common.files import write_jsonl
from tests.pages import Page
from tests.recordings import make_take, wait_until
from tests.workspaces import ROOT, copy_project, read_json, read_rows

HOSTILE = "<script>alert(1)</script> *bold* $x$ [link](http://x)"
SPOKEN = [
    ("Turn on the light.", "en", "Ann"),
    (HOSTILE, "en", "Ann"),
    ("كم الساعة الآن؟", "ar", "سامي"),
    ("Mach das Licht an.", "de", "Bo_b *x*"),
]


@pytest.fixture(scope="module")
def built(trained_project, tmp_path_factory):
    """A project that has been trained, and four recordings made after it; the page's other recordings are gone."""
    project = copy_project(trained_project, tmp_path_factory.mktemp("pages") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for clip in inbox.stored_clips():
            inbox.delete(clip)
        for number, (text, language, speaker) in enumerate(SPOKEN, 100):
            inbox.save_clip(make_take(number), text=text, language=language, speaker=speaker)
        inbox.bring_in()
    return project


@pytest.fixture
def project(built, tmp_path, monkeypatch):
    """A copy of it, as the working folder."""
    folder = copy_project(built, tmp_path / "project")
    monkeypatch.chdir(folder)
    for variable in ("OWNVOICE_CACHE", "DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the process that moves the inbox
    yield folder
    wait_until(lambda: not inbox.waiting())


def clip_of(text: str) -> inbox.StoredClip:
    return next(clip for clip in inbox.stored_clips() if clip.text == text)


def listed(page) -> list[str]:
    """Which recordings can be played, in order."""
    return [button.key.removeprefix("Play ") for button in page.button if button.label == "Play"]


# Clips


def test_clips_lists_every_recording_the_newest_first_and_plays_one_at_a_time(project):
    page = Page.alone("clips")
    assert "4 of 4 recordings" in page.words()
    files = [clip_of(text).file for text, *_ in reversed(SPOKEN)]
    assert listed(page) == files
    assert len(page.get("audio")) == 0, "nothing is loaded before it is asked for"
    page.press(*(f"Play {file}" for file in files[:2]))
    (player,) = page.get("audio")
    assert player.proto.autoplay
    page.fill("text_input", "Search", "GERMAN licht")
    assert listed(page.run()) == files[:1]
    (project / "data/raw" / files[0]).unlink()
    page.press(f"Play {files[0]}")
    assert "is not on this machine" in page.words("error")


def test_texts_and_names_of_people_are_shown_as_text(project):
    page = Page.alone("clips")
    assert "<script" not in page.bodies
    assert "&lt;script&gt;alert(1)&lt;/script&gt; *bold* $x$ [link](http://x)</p>" in page.bodies
    assert 'lang="ar" dir="rtl"' in page.bodies
    assert HOSTILE not in page.words() and "Bo_b" not in page.words()


def test_corrected_text_arrives_in_data_raw_and_an_empty_one_is_refused(project):
    clip = clip_of(SPOKEN[0][0])
    page = Page.alone("clips")
    page.press(f"Correct the text {clip.file}")
    page.fill("text_area", "What was said", "   ")
    page.press("Save")
    assert "There is no text" in page.words("error") and not inbox.waiting()
    assert page.text_area[0].value == "   ", "what was typed stays"
    page.fill("text_area", "What was said", "  Turn on\nthe lights. ")
    page.press("Save")
    assert page.success and not page.run().success
    assert clip_of("Turn on the lights.").id == clip.id
    wait_until(lambda: not inbox.waiting())
    rows = read_rows(project / "data/raw/recorded/clips.jsonl")
    assert [row["text"] for row in rows] == ["Turn on the lights.", *(text for text, *_ in SPOKEN[1:])]


def test_delete_asks_first_and_says_what_still_holds_the_recording(project):
    clip = clip_of(SPOKEN[0][0])
    page = Page.alone("clips")
    page.press(f"Delete {clip.file}")
    assert page.warning and not inbox.waiting()
    page.press("Keep it")
    assert len(inbox.stored_clips()) == 4
    page.press(f"Delete {clip.file}", "Delete it")
    assert "3 of 3 recordings" in page.words() and f"Recording {clip.id} is deleted" in page.words("success")
    assert [code.value.split("=")[0] for code in page.code] == ["make forget CLIP", "make forget SPEAKER"]
    wait_until(lambda: not inbox.waiting())
    assert not (project / "data/raw" / clip.file).exists()


def test_many_recordings_are_shown_twenty_at_a_time(project):
    day = "2026-01-01T00:00:00."
    rows = [
        {"audio_path": f"{number:016x}.flac", "text": f"number {number}", "recorded_at": f"{day}{number:04}"}
        for number in range(5000)
    ]
    write_jsonl(project / "data/raw/recorded/clips.jsonl", rows)
    page = Page.alone("clips")
    assert listed(page) == [f"recorded/{number:016x}.flac" for number in range(4999, 4979, -1)]
    page.pagination[0].set_value(250)
    assert listed(page.run()) == [f"recorded/{number:016x}.flac" for number in range(19, -1, -1)]
    page.fill("text_input", "Search", "4999")
    assert listed(page.run()) == [f"recorded/{4999:016x}.flac"]


@pytest.mark.parametrize(
    ("name", "section"), [("clips", "Recordings"), ("clips", "To check"), ("clips", "Not used"),
                          ("results", ""), ("publish", "")]
)  # fmt: skip
def test_nothing_recorded_or_trained_says_where_to_begin(workspace, name, section):
    assert len(Page.alone(name, section=section).info) == 1


def test_rejected_recordings_and_those_to_check_come_with_reason_and_remedy(project):
    heard = read_rows(project / "data/prepared/metadata.jsonl")[0]["id"]
    row = {"id": heard, "file": f"phone/{HOSTILE}.wav", "text": "turn it on"}
    rejected = row | {"reason": "silence", "remedy": "record it again"}
    write_jsonl(project / "data/prepared/rejected.jsonl", [rejected])
    write_jsonl(project / "data/prepared/review.jsonl", [row | {"reason": "noise", "listen_for": "the words"}])
    by_model = row | {"reason": "base model disagrees", "listen_for": "the text", "heard": "on", "wer": 0.7}
    write_jsonl(project / "data/review/base_model.jsonl", [by_model])
    not_used, to_check = (Page.alone("clips", section=section) for section in ("Not used", "To check"))
    assert "silence: record it again" in not_used.bodies and "&lt;script&gt;" in not_used.bodies
    assert "noise: the words" in to_check.bodies and "base model disagrees: the text" in to_check.bodies
    assert "<script" not in not_used.bodies + to_check.bodies
    to_check.press("Play")
    assert len(to_check.get("audio")) == 1


# Results


def test_results_say_both_error_rates_and_do_not_claim_more(project):
    metrics = read_json(project / "data/evaluation/metrics.json")
    page = Page.alone("results")
    before, after = (f"{100 * metrics[model]['wer']:.1f}\u00a0%" for model in ("base", "tuned"))
    assert page.header[0].value == f"Wrong words: before\u00a0{before} → after\u00a0{after}"
    improves = metrics["improvement"]["low"] > 0
    assert ("This does not show an improvement yet" in page.words()) == (not improves)
    assert len(page.get("download_button")) == 1
    low, high = (f"{100 * metrics['tuned'][end]:.1f}\u00a0%" for end in ("wer_low", "wer_high"))
    assert f"{low} to {high}" in page.table[0].value.to_string().replace("\\", "")
    assert "4 newer recordings" in page.words("info")


def test_hardest_recordings_play_and_show_their_differences(project):
    path = project / "data/evaluation/predictions.jsonl"
    rows = read_rows(path)
    tuned = [row for row in rows if row["model"] == "tuned"]
    for row in tuned:
        row |= {"hypothesis": f"{row['reference']} indeed", "insertions": 1, "wer": 0.2}
    tuned[2] |= {"reference": f"{HOSTILE} x", "hypothesis": HOSTILE, "wer": 1.0}
    write_jsonl(path, rows)
    page = Page.alone("results")
    assert ">missed: </span>" in page.bodies and ">added: </span>indeed" in page.bodies
    assert "<script" not in page.bodies and "&lt;script&gt;" in page.bodies and HOSTILE not in page.words()
    assert len(listed(page)) == len(tuned) and listed(page)[0] == tuned[2]["id"]
    page.press("Play")
    assert len(page.get("audio")) == 1
    shutil.rmtree(project / "data/prepared/audio")
    assert "was deleted" in page.run().words("error")


# Publish


def test_agreement_to_publish_that_was_ticked_stays_with_its_speaker(project):
    """A speaker whom a training adds meanwhile would be found to have agreed."""
    prepared = project / "data/prepared/metadata.jsonl"
    rows = [row | {"speaker": "Bo"} for row in read_rows(prepared)]
    write_jsonl(prepared, rows)
    page = Page.alone("publish")
    page.fill("toggle", "Also publish the recordings", True)
    page.run().checkbox(key="agrees True Bo").check()
    assert not page.run().is_disabled("Continue")
    write_jsonl(prepared, [rows[0] | {"speaker": "Ann"}, *rows[1:]])
    assert not page.run().checkbox(key="agrees True Ann").value and page.is_disabled("Continue")

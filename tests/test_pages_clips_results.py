"""The Clips and Results pages without a browser, on recordings and results that the real stages made."""

import shutil
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from recorder import inbox, mover
from stages.common.files import write_jsonl
from tests.recordings import make_take, track_recordings
from tests.workspaces import ROOT, add_demo_clips, make_workspace, read_json, read_rows, run_stages

HOSTILE = "<script>alert(1)</script> *bold* $x$ [link](http://x)"
SPOKEN = [
    ("Turn on the light.", "en", "Ann"),
    (HOSTILE, "en", "Ann"),
    ("كم الساعة الآن؟", "ar", "سامي"),
    ("Mach das Licht an.", "de", "Bo_b *x*"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A DVC repository with an evaluation of a training of one epoch, and four recordings made after it."""
    workspace = make_workspace(tmp_path_factory.mktemp("pages"), train__epochs=1, train__max_clips=16)
    add_demo_clips(workspace, 60)
    run_stages(workspace, "prepare", "split", "train", "evaluate")
    track_recordings(workspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        for number, (text, language, speaker) in enumerate(SPOKEN, 100):
            inbox.save_clip(make_take(number), text=text, language=language, speaker=speaker)
        inbox.bring_in()
    return workspace


@pytest.fixture
def project(built, tmp_path, monkeypatch) -> Path:
    """A copy of it, as the working folder."""
    folder = tmp_path / "project"
    shutil.copytree(built, folder)
    monkeypatch.chdir(folder)
    for variable in ("OWNVOICE_CACHE", "DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the process that moves the inbox
    yield folder
    wait_until_moved()


def wait_until_moved() -> None:
    gives_up_at_s = time.monotonic() + 60
    while inbox.waiting():
        mover.start_moving()
        assert time.monotonic() < gives_up_at_s, inbox.LOG.read_text()
        time.sleep(0.2)


def page(name: str, **state: object) -> AppTest:
    """The page, shown for the first time."""
    app = AppTest.from_file(str(ROOT / f"recorder/views/{name}.py"), default_timeout=60)
    for key, value in {"speaker": "Ann", "language": "en", **state}.items():
        app.session_state[key] = value
    return shown(app)


def shown(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def html(app: AppTest) -> str:
    return "\n".join(element.body for element in app.html)


def words(app: AppTest) -> str:
    """All text that is not HTML."""
    kinds = ("title", "header", "subheader", "text", "markdown", "caption", "success", "info", "warning", "error")
    return "\n".join(element.value for kind in kinds for element in getattr(app, kind))


def clip_of(text: str) -> inbox.StoredClip:
    return next(clip for clip in inbox.stored_clips() if clip.text == text)


def press(app: AppTest, button: str) -> AppTest:
    app.button(key=button).click()
    return shown(app)


# Clips


def played(app: AppTest) -> list[str]:
    """Which recordings are listed, in order."""
    return [button.key.removeprefix("Play ") for button in app.button if button.label == "Play"]


def test_clips_lists_every_recording_the_newest_first_and_plays_one_at_a_time(project):
    app = page("clips")
    assert "4 of 4 recordings" in words(app)
    files = [clip_of(text).file for text, *_ in reversed(SPOKEN)]
    assert played(app) == files
    assert len(app.get("audio")) == 0, "nothing is loaded before it is asked for"
    for file in files[:2]:
        press(app, f"Play {file}")
    (player,) = app.get("audio")
    assert player.proto.autoplay
    app.text_input(key="clips_search").set_value("GERMAN licht")
    assert played(shown(app)) == [clip_of(SPOKEN[3][0]).file]
    (project / "data/raw" / clip_of(SPOKEN[3][0]).file).unlink()
    press(app, f"Play {clip_of(SPOKEN[3][0]).file}")
    assert "is not on this machine" in app.error[0].value


def test_texts_and_names_of_people_are_shown_as_text(project):
    app = page("clips")
    assert "<script" not in html(app)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; *bold* $x$ [link](http://x)</p>" in html(app)
    assert 'lang="ar" dir="rtl"' in html(app)
    assert HOSTILE not in words(app) and "Bo_b" not in words(app)


def test_corrected_text_arrives_in_data_raw_and_an_empty_one_is_refused(project):
    clip = clip_of(SPOKEN[0][0])
    app = page("clips")
    press(app, f"Correct the text {clip.file}")
    app.text_area(key=f"text {clip.file}").set_value("   ")
    press(app, f"Save {clip.file}")
    assert "There is no text" in words(app) and not inbox.waiting()
    assert app.text_area(key=f"text {clip.file}").value == "   ", "what was typed stays"
    app.text_area(key=f"text {clip.file}").set_value("  Turn on\nthe lights. ")
    press(app, f"Save {clip.file}")
    assert app.success and not shown(app).success
    assert clip_of("Turn on the lights.").id == clip.id
    wait_until_moved()
    rows = read_rows(project / "data/raw/recorded/clips.jsonl")
    assert [row["text"] for row in rows] == ["Turn on the lights.", *(text for text, *_ in SPOKEN[1:])]


def test_delete_asks_first_and_says_what_still_holds_the_recording(project):
    clip = clip_of(SPOKEN[0][0])
    app = page("clips")
    press(app, f"Delete {clip.file}")
    assert app.warning and not inbox.waiting()
    press(app, f"Keep it {clip.file}")
    assert len(inbox.stored_clips()) == 4
    press(app, f"Delete {clip.file}")
    press(app, f"Delete it {clip.file}")
    assert "3 of 3 recordings" in words(app) and f"Recording {clip.id} is deleted" in app.success[0].value
    assert [code.value.split("=")[0] for code in app.code] == ["make forget CLIP", "make forget SPEAKER"]
    wait_until_moved()
    assert not (project / "data/raw" / clip.file).exists()


def test_many_recordings_are_shown_twenty_at_a_time(project):
    day = "2026-01-01T00:00:00."
    rows = [
        {"audio_path": f"{number:016x}.flac", "text": f"number {number}", "recorded_at": f"{day}{number:04}"}
        for number in range(5000)
    ]
    write_jsonl(project / "data/raw/recorded/clips.jsonl", rows)
    app = page("clips")
    assert "5000 of 5000 recordings" in words(app)
    assert played(app) == [f"recorded/{number:016x}.flac" for number in range(4999, 4979, -1)]
    app.pagination[0].set_value(250)
    assert played(shown(app)) == [f"recorded/{number:016x}.flac" for number in range(19, -1, -1)]
    app.text_input(key="clips_search").set_value("4999")
    assert played(shown(app)) == [f"recorded/{4999:016x}.flac"]
    app.text_input(key="clips_search").set_value("")
    assert played(shown(app))[0] == f"recorded/{4999:016x}.flac", "after a search the list begins at its first page"


@pytest.mark.parametrize("name", ["clips", "results", "publish"])
def test_nothing_recorded_or_trained_says_where_to_begin(workspace, name):
    assert len(page(name).info) == 1
    for section in ("To check", "Not used") if name == "clips" else ():
        assert len(page("clips", section=section).info) == 1


def test_rejected_recordings_and_those_to_check_come_with_reason_and_remedy(project):
    heard = read_rows(project / "data/prepared/metadata.jsonl")[0]["id"]
    row = {"id": heard, "file": f"phone/{HOSTILE}.wav", "text": "turn it on"}
    rejected = row | {"reason": "silence", "remedy": "record it again"}
    write_jsonl(project / "data/prepared/rejected.jsonl", [rejected])
    write_jsonl(project / "data/prepared/review.jsonl", [row | {"reason": "noise", "listen_for": "the words"}])
    by_model = row | {"reason": "base model disagrees", "listen_for": "the text", "heard": "on", "wer": 0.7}
    write_jsonl(project / "data/review/base_model.jsonl", [by_model])
    not_used = html(page("clips", section="Not used"))
    app = page("clips", section="To check")
    to_check = html(app)
    assert "silence: record it again" in not_used and "&lt;script&gt;" in not_used
    assert "noise: the words" in to_check and "base model disagrees: the text" in to_check
    assert "<script" not in not_used + to_check
    app.button[0].click()
    assert len(shown(app).get("audio")) == 1


# Results


def test_results_say_both_error_rates_and_do_not_claim_more(project):
    metrics = read_json(project / "data/evaluation/metrics.json")
    app = page("results")
    before, after = (f"{100 * metrics[model]['wer']:.1f}\u00a0%" for model in ("base", "tuned"))
    assert app.header[0].value == f"Wrong words: before\u00a0{before} → after\u00a0{after}"
    improves = metrics["improvement"]["low"] > 0
    assert ("This does not show an improvement yet" in words(app)) == (not improves)
    assert [button.label for button in app.get("download_button")] == ["Download the report, with more figures"]
    low, high = (f"{100 * metrics['tuned'][end]:.1f}\u00a0%" for end in ("wer_low", "wer_high"))
    assert f"{low} to {high}" in app.table[0].value.to_string().replace("\\", "")
    assert "4 newer recordings" in app.info[0].value


def test_hardest_recordings_play_and_show_their_differences(project):
    path = project / "data/evaluation/predictions.jsonl"
    rows = read_rows(path)
    tuned = [row for row in rows if row["model"] == "tuned"]
    for row in tuned:
        row |= {"hypothesis": f"{row['reference']} indeed", "insertions": 1, "wer": 0.2}
    tuned[2] |= {"reference": f"{HOSTILE} x", "hypothesis": HOSTILE, "wer": 1.0}
    write_jsonl(path, rows)
    app = page("results")
    assert ">missed: </span>" in html(app) and ">added: </span>indeed" in html(app)
    assert "<script" not in html(app) and "&lt;script&gt;" in html(app) and HOSTILE not in words(app)
    assert len(played(app)) == len(tuned) and played(app)[0] == tuned[2]["id"]
    press(app, f"Play {tuned[2]['id']}")
    assert len(app.get("audio")) == 1
    shutil.rmtree(project / "data/prepared/audio")
    assert "was deleted" in words(page("results", opened=(tuned[2]["id"], "Play")))


# Publish


def test_agreement_to_publish_that_was_ticked_stays_with_its_speaker(project):
    """A speaker whom a training adds meanwhile would be found to have agreed."""
    run_stages(project, "card")
    prepared = project / "data/prepared/metadata.jsonl"
    rows = [row | {"speaker": "Bo"} for row in read_rows(prepared)]
    write_jsonl(prepared, rows)
    app = page("publish")
    next(one for one in app.toggle if one.label.startswith("Also publish the recordings")).set_value(True)
    shown(app)
    app.checkbox(key="agrees True Bo").check()
    shown(app)
    write_jsonl(prepared, [rows[0] | {"speaker": "Ann"}, *rows[1:]])
    shown(app)
    assert not app.checkbox(key="agrees True Ann").value
    assert [one.disabled for one in app.button if one.label == "Continue"] == [True]

"""The report of any evaluation: it opens, reads aloud, prints, and says in words what its colours say."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.common import paths
from stages.common.files import write_whole
from stages.common.params import load_params
from stages.evaluate import compare
from stages.speech import audio, prepared, report
from tests.workspaces import ROOT

PARAMS = load_params(ROOT / "params.yaml").evaluate
TRAINING = {
    "base_model": "data/demo/voxtral-tiny",
    "train_clips": 90,
    "train_minutes": 4.2,
    "epochs_run": 3.0,
    "best_epoch": 2.0,
    "caveats": ["Training longer may help."],
    "settings": {"mode": "lora", "seed": 0, "tracking": {}, "launcher": "none"},
    "versions": {"torch": "2.13.0"},
}
CURVE = [{"epoch": 1.0, "validation_wer": 0.4}, {"epoch": 2.0, "validation_wer": 0.2}]
# language, [(said, heard before, heard after)], what the report says of it
SETS = {
    "one recording": ("en", [("turn it on", "turn it off", "turn it on")], "tells nothing about others"),
    "equal models": ("en", [("turn it on", "turn it off", "turn it off")] * 3, "equally many mistakes"),
    "empty answers": ("en", [("turn it on", "", ""), ("close the door", "", "close the door")], "(nothing)"),
    "endless answer": ("en", [("turn it on", "on " * 40, "turn it on"), ("the door", "door", "the")], "without end"),
    "hesitations alone": ("en", [("Mm.", "uh", "mm"), ("Hm, hm.", "", "hm")], "hm"),
    "no spaces": ("zh", [("打开灯", "打开门", "打开灯")] * 2, '<span class="unseen">wrong: </span>门'),
    "right to left": ("ar", [("افتح الباب", "افتح", "افتح الباب"), ("أغلق", "", "أغلق")], 'lang="ar" dir="auto"'),
    "letters that are HTML": ("en", [("a <b>bold</b> & word", "<script>alert(1)</script>", "a word")] * 2, "&lt;b&gt;"),
    "nothing wrong before": ("en", [("turn it on", "turn it on", "turn it on")] * 2, "every word was understood"),
}


@pytest.fixture
def render(tmp_path, monkeypatch, make_clip):
    """`render(name)` writes the report of one of SETS, with sounds as prepare writes them, and returns its path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "templates").symlink_to(ROOT / "templates")

    def write(name: str) -> Path:
        language, texts, _ = SETS[name]
        tone = np.sin(np.arange(8000) / 20).astype(np.float32) / 2
        clips = [
            make_clip(said, id=f"{number:016x}", audio_path=prepared.audio_path(f"{number:016x}"), language=language)
            for number, (said, *_) in enumerate(texts)
        ]
        for clip in clips:
            write_whole(paths.PREPARED / clip.audio_path, audio.encode_flac(tone))
        clips[0] = replace(clips[0], duration_s=9.0)  # so that there are groups
        heard = {model: [row[place] for row in texts] for place, model in ((1, "base"), (2, "tuned"))}
        predictions = {model: [{"text": text, "seconds": 0.1} for text in answers] for model, answers in heard.items()}
        metrics, scores, rows = compare(clips, predictions, "clip")
        metrics["precision"] = {"dtype": "bfloat16", "quantisation": "4 bits (NF4)"}
        details = report.details_of(clips, heard, scores, metrics, PARAMS)
        (tmp_path / "report.html").write_bytes(report.render(metrics, details, rows, TRAINING, CURVE, 5))
        return tmp_path / "report.html"

    return write


@pytest.mark.parametrize("name", SETS)
def test_every_set_has_a_report_that_says_what_is_special_about_it(render, name):
    """Catches: a report that fails, or says nan, after hours of training; a transcript that runs as a script."""
    words = SETS[name][2]
    page = render(name).read_text()
    assert words in page and page.count("Training longer may help.") == 1
    assert "nan" not in page and "None" not in page and "<script" not in page


@pytest.mark.browser
def test_report_reads_aloud_with_its_headings_tables_and_mistakes_in_words(render, page):
    path = render("empty answers")
    page.context.set_offline(True)
    page.goto(path.as_uri())
    spoken = page.locator("body").aria_snapshot()
    assert re.search(r'heading "Wrong words: .* before, .* after" \[level=1\]', spoken)
    assert {"What is still misheard", "Groups", "Recordings", "Training"} <= set(
        re.findall(r'heading "([^"]+)" \[level=2\]', spoken)
    )
    tables = page.locator("table").all()
    assert len(tables) >= 2
    for table in tables:
        assert table.locator("caption").inner_text()
        assert table.locator("th[scope=col]").count() >= 2
    assert 'columnheader "Heard after"' in spoken and 'rowheader "After (tuned model)"' in spoken
    assert "missed: " in spoken  # what a crossed out word says to those who hear the page
    assert re.search(r'img "Validation word error rate from 40.0.% after epoch 1 to 20.0.% after epoch 2"', spoken)
    assert page.locator("audio[aria-label^='Recording: ']").count() == page.locator("audio").count() > 0

"""Results: wrong words before and after, on recordings that training never heard."""

from __future__ import annotations

from functools import partial

import streamlit as st

from recorder import results, runs
from recorder.results import HeardClip, percent
from recorder.views import charts
from recorder.views.rows import a_page_of, prepared_sound, show_row
from recorder.views.shared import as_plain
from stages.common.plurals import counted
from stages.speech.caveats import caveats, units_in_words, verdict

VERDICTS = {"better": st.success, "perfect": st.info, "unsure": st.warning, "worse": st.error}


def explain(found: results.Results, is_running: bool) -> None:
    """The figures, and what they do and do not show."""
    base, tuned = found.metrics["base"], found.metrics["tuned"]
    st.header(results.headline(found.metrics))
    VERDICTS[verdict(found.metrics)](as_plain(results.meaning(found.metrics)))
    for caveat in caveats(found.metrics) + found.training.get("caveats", []):  # older results have none
        st.write(as_plain(caveat))
    if is_running:
        st.info("Training is running. Its result will replace this one.")
    elif newer := results.newer_clips():
        st.info(f"Not in this result: {counted(newer, 'newer recording')}. Train again to include all.")
    charts.bars([("Before", 100 * base["wer"]), ("After", 100 * tuned["wer"])], "%", "Wrong words")
    st.write(
        f"Measured on {counted(tuned['clips'], 'recording')} ({counted(tuned['reference_words'], 'word')}) that "
        f"training never heard: {as_plain(results.whose(found.clips))}. "
        f"The 95 % interval, over {units_in_words(found.metrics)}: where the figure would most likely be with others "
        "of the same kind."
    )
    rows = [
        {
            "Model": label,
            "Wrong words": percent(row["wer"]),
            "95 % interval": f"{percent(row['wer_low'])} to {percent(row['wer_high'])}",
        }
        for label, row in (("Before", base), ("After", tuned))
    ]
    st.table(rows, hide_index=True)
    if "other_speakers" in found.metrics:
        others = found.metrics["other_speakers"]
        st.write(
            f"On {counted(others['tuned']['clips'], 'recording')} of other people: {percent(others['base']['wer'])} "
            f"wrong words before, {percent(others['tuned']['wer'])} after."
        )
    if results.REPORT.exists():
        st.download_button(
            "Download the report, with more figures", results.REPORT.read_bytes(), "report.html", "text/html"
        )


def show_hardest(clips: list[HeardClip]) -> None:
    st.header("The hardest recordings")
    wrong = [clip for clip in clips if clip.tuned_mistakes]
    right = f"{len(clips) - len(wrong)} of {counted(len(clips), 'recording')}"
    st.text(f"After training, every word was right in {right}.")
    if not wrong:
        return
    st.write("Crossed out: missed. Underlined: added. Underlined with a wave: wrong.")
    for clip in a_page_of(wrong, "the hardest"):
        show_row(clip.id, results.as_html(clip), partial(prepared_sound, clip.id), alt=clip.reference)


st.title("Results")
is_running = runs.current() is not None
found = results.read()
if found is None and is_running:
    st.info("Training is running. Its result appears here; its progress is on the Train page.")
elif found is None and any(run.outcome == "done" for run in runs.history()):
    st.info("The last results were removed. For new ones, press Train now on the Train page.")
elif found is None:
    st.info("Nothing has been trained yet. Record about 50 phrases on the Record page, then train on the Train page.")
else:
    explain(found, is_running)
    show_hardest(found.clips)
    st.caption(as_plain(results.trained_with(found.training, found.metrics)))

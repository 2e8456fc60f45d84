"""Results: wrong words before and after, on recordings that training never heard."""

from __future__ import annotations

import streamlit as st

from recorder import results, runs
from recorder.results import HeardClip, percent
from recorder.views import charts
from recorder.views.shared import as_plain
from stages.common.plurals import counted
from stages.speech.caveats import caveats, verdict

SHOWN_AT_FIRST = 5

state = st.session_state


def explain(found: results.Results, is_running: bool) -> None:
    """The figures, and what they do and do not show."""
    base, tuned = found.metrics["base"], found.metrics["tuned"]
    st.header(results.headline(found.metrics))
    kinds = {"better": st.success, "perfect": st.info, "unsure": st.warning, "worse": st.error}
    kinds[verdict(found.metrics)](as_plain(results.meaning(found.metrics)))
    for caveat in caveats(found.metrics):
        st.write(as_plain(caveat))
    if is_running:
        st.info("Training is running. Its result will replace this one.")
    elif newer := results.newer_clips():
        st.info(f"Not in this result: {counted(newer, 'newer recording')}. Train again to include all.")
    charts.bars([("Before", 100 * base["wer"]), ("After", 100 * tuned["wer"])], "%", "Wrong words")
    st.write(
        f"Measured on {counted(tuned['clips'], 'recording')} ({counted(tuned['reference_words'], 'word')}) that "
        f"training never heard{as_plain(results.whose(found.clips, state.get('speaker') or ''))} "
        "The 95 % interval: where the figure would most likely be with other recordings of the same kind."
    )
    both = [("Before", base), ("After", tuned)]
    rows = [
        (label, percent(row["wer"]), f"{percent(row['wer_low'])} to {percent(row['wer_high'])}") for label, row in both
    ]
    charts.table(["Model", "Wrong words", "95 % interval"], rows)
    if "other_speakers" in found.metrics:
        others = found.metrics["other_speakers"]
        st.write(
            f"On {counted(others['tuned']['clips'], 'recording')} of other people: {percent(others['base']['wer'])} "
            f"wrong words before, {percent(others['tuned']['wer'])} after."
        )
    with st.expander("More figures"):
        keys = ("substitutions", "deletions", "insertions")
        rows = [(label, *(str(row[key]) for key in keys)) for label, row in both]
        charts.table(["Model", "Wrong", "Missed", "Added"], rows)
        st.text(f"Wrong letters: {percent(base['cer'])} before, {percent(tuned['cer'])} after.")
        st.write("Above, capitals and punctuation do not count. With them:")
        rows = [(label, percent(row["wer_as_written"]), percent(row["cer_as_written"])) for label, row in both]
        charts.table(["Model", "Wrong words", "Wrong letters"], rows)
    if results.REPORT.exists():
        st.download_button("Download the report", results.REPORT.read_bytes(), "report.html", "text/html")


def open_sound(clip: HeardClip) -> None:
    state["heard"] = clip.id


def show_more() -> None:
    state["hardest_shown"] += SHOWN_AT_FIRST


def show_hardest(clips: list[HeardClip]) -> None:
    st.header("The hardest recordings")
    wrong = [clip for clip in clips if clip.tuned_mistakes]
    right = f"{len(clips) - len(wrong)} of {counted(len(clips), 'recording')}"
    st.text(f"After training, every word was right in {right}.")
    if not wrong:
        return
    st.write("Crossed out: missed. Underlined: added. Underlined with a wave: wrong.")
    if any(clip.language == "en" for clip in wrong):
        st.write("An English number counts as one word, in digits or letters.")
    shown = state.setdefault("hardest_shown", SHOWN_AT_FIRST)
    for clip in wrong[:shown]:
        with st.container(border=True):
            st.html(results.as_html(clip))
            if state.get("heard") != clip.id:
                st.button("Play", key=f"play {clip.id}", on_click=open_sound, args=(clip,))
            elif sound := clip.sound:
                st.audio(sound, format="audio/flac", autoplay=True, alt=clip.reference)
            else:
                st.warning("This recording was deleted, or is not on this computer ('dvc checkout' fetches it).")
    if len(wrong) > shown:
        st.button(f"Show more (of {len(wrong)})", on_click=show_more)


def show_training(found: results.Results) -> None:
    st.header("How training went")
    st.text(results.trained_with(found.training))
    points = [(epoch, 100 * wer) for epoch, wer in found.curve]
    charts.line(points, "epoch", "Wrong words, %")


def show_runs() -> None:
    done = [run for run in reversed(runs.history()) if run.wer_tuned is not None]
    if len(done) > 1:
        st.header("From training to training")
        points = [(float(number), 100 * run.wer_tuned) for number, run in enumerate(done, 1)]
        charts.line(points, "training", "Wrong words, %")


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
    show_training(found)
    show_runs()

"""Results: how many words were wrong before and after, on recordings that training never heard."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor

import streamlit as st

from recorder import results, runs
from recorder.results import HeardClip, percent
from recorder.views import charts
from recorder.views.shared import as_plain
from stages.commands.experiments import differing_settings
from stages.common.plurals import counted
from stages.common.stage import UserError

SHOWN_AT_FIRST = 5

state = st.session_state


def explain(found: results.Results, is_running: bool) -> None:
    """The figures, and what they do and do not show."""
    base, tuned = found.metrics["base"], found.metrics["tuned"]
    st.header(results.headline(found.metrics))
    verdict = results.verdict(found.metrics)
    show = {"better": st.success, "perfect": st.info, "unsure": st.warning, "worse": st.error}[verdict.outcome]
    show(as_plain(verdict.words))
    for caveat in verdict.caveats:
        st.write(as_plain(caveat))
    if is_running:
        st.info("A training is running. When it has ended, its result takes the place of this one.")
    elif newer := results.newer_clips():
        are = "is" if newer == 1 else "are"
        st.info(f"{counted(newer, 'newer recording')} {are} not in this result. Train again to include all.")
    charts.bars([("Before", 100 * base["wer"]), ("After", 100 * tuned["wer"])], "%", "Wrong words")
    st.write(
        f"Measured on {counted(tuned['clips'], 'recording')} ({counted(tuned['reference_words'], 'word')}) that "
        f"training never heard{as_plain(results.whose(found.clips, state.get('speaker') or ''))} "
        "The 95 % interval says where the figure would most likely be with other recordings of the same kind."
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
        st.write("Capitals and punctuation do not count above. As written, they do:")
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
    st.write("Crossed out: a word that was missed. Underlined: a word that is wrong (wavy) or was added.")
    if any(clip.language == "en" for clip in wrong):
        st.write("In English a number counts as one word, however it is spoken or written.")
    shown = state.setdefault("hardest_shown", SHOWN_AT_FIRST)
    for clip in wrong[:shown]:
        with st.container(border=True):
            st.html(results.as_html(clip))
            if state.get("heard") != clip.id:
                st.button("Play", key=f"play {clip.id}", on_click=open_sound, args=(clip,))
            elif sound := clip.sound:
                st.audio(sound, format="audio/flac", autoplay=True, alt=clip.reference)
            else:
                st.warning("This recording has been deleted, or its sound is not on this machine ('dvc checkout').")
    if len(wrong) > shown:
        st.button(f"Show more (of {len(wrong)})", on_click=show_more)


def show_training(found: results.Results) -> None:
    st.header("How training went")
    st.text(results.trained_with(found.training))
    points = [(epoch, 100 * wer) for epoch, wer in found.curve]
    charts.line(points, "epoch", "Wrong words while training, %")


@st.cache_resource(max_entries=1, show_spinner=False)
def reading_experiments(changed_at_s: float) -> Future:
    """Asked for in a thread, so that the page can be used meanwhile; again when something has changed."""
    return ThreadPoolExecutor(1).submit(results.read_experiments)


def show_experiments() -> None:
    """Looked at every second until they are read; then once more the whole page, which stops the looking."""
    reading = reading_experiments(results.experiments_state())
    waits = not reading.done()
    st.fragment(show_reading, run_every=1 if waits else None)(reading, waits)


def show_reading(reading: Future, waits: bool) -> None:
    if not reading.done():
        st.status("Reading the experiments", state="running")
        return
    if waits:
        st.rerun()
    try:
        experiments = reading.result()
    except UserError as error:
        st.text(str(error))
        return
    if not experiments:
        st.text("There are no experiments yet. One is made in a terminal, for example: dvc exp run -S train.lora.r=32")
        return
    points = [(float(number), 100 * experiment.tuned_wer) for number, experiment in enumerate(experiments, 1)]
    charts.line(points, "experiment", "Wrong words after, %")
    keys = differing_settings(experiments)
    rows = [
        (
            str(number),
            experiment.name,
            percent(experiment.base_wer),
            percent(experiment.tuned_wer),
            *(json.dumps(experiment.settings.get(key)) for key in keys),
        )
        for number, experiment in enumerate(experiments, 1)
    ]
    charts.table(["", "Name", "Before", "After", *keys], rows)


def show_runs() -> None:
    done = [run for run in reversed(runs.history()) if run.wer_tuned is not None]
    if len(done) > 1:
        st.header("From training to training")
        points = [(float(number), 100 * run.wer_tuned) for number, run in enumerate(done, 1)]
        charts.line(points, "training", "Wrong words after, %")


st.title("Results")
is_running = runs.current() is not None
found = results.read()
if found is None and is_running:
    st.info("The training is running. Its result will be shown here. Progress is on the Train page.")
elif found is None and any(run.outcome == "done" for run in runs.history()):
    st.info("The last model and its results are no longer here. Press Train now on the Train page for new ones.")
elif found is None:
    st.info(
        "Nothing has been trained yet. Record some phrases on the Record page, 50 are a good beginning. Then start "
        "the training on the Train page."
    )
else:
    explain(found, is_running)
    show_hardest(found.clips)
    show_training(found)
    show_runs()
    with st.expander("Experiments, for those who try out settings"):
        show_experiments()

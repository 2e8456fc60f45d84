"""The current or last run: stage by stage, with curve, log and time left."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from recorder import results, runs
from recorder.run_log import Progress, finished, read_progress
from recorder.views import charts
from recorder.views.shared import as_plain

STAGE_WORDS = {
    "prepare": "Check the recordings",
    "split": "Put some aside for the test",
    "train": "Learn the voice",
    "evaluate": "Test before and after",
    "card": "Write the description",
    "push": "Publish the model, if switched on",
    "deploy": "Publish the demo, if switched on",
}
STATE_WORDS = {  # of a stage and of a run
    "waiting": "· waiting",
    "running": "▶ running",
    "done": "✓ done",
    "skipped": "✓ nothing new",
    "failed": "✕ failed",
    "cancelled": "■ stopped",
    "interrupted": "✕ interrupted",
}
LOG_LINES = 200


def when(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%d %b %Y, %H:%M}"


def _show_stages(run: runs.Run, progress: Progress) -> None:
    """Stage by stage, with the curve of the training so far."""
    rows = []
    for stage, state in progress.stages.items():
        # DVC says of a stage that was stopped that it failed.
        words = STATE_WORDS[run.outcome if state == "failed" else state]
        rows.append(f"{words[0]} {as_plain(STAGE_WORDS.get(stage, stage))}: {words[2:]}")
    st.markdown("  \n".join(rows))
    if progress.current and run.outcome == "running":
        words = STAGE_WORDS.get(progress.current, progress.current)
        if progress.fraction is None:
            st.progress(0.0, text=f"{words}: getting ready")
        else:
            until = f", about {progress.left} left" if progress.left else ""
            st.progress(progress.fraction, text=f"{words}: {progress.fraction:.0%}{until}")
    if progress.curve:
        points = [(row["epoch"], 100 * row["wer"]) for row in progress.curve]
        charts.line(points, "rounds", "wrong words, %")
        st.caption("Wrong words on recordings kept aside, as training goes on: lower is better.")
    with st.expander("Log"):
        lines = [line.rpartition("\r")[2] for line in run.log.split("\n")]
        st.code("\n".join(lines[-LOG_LINES:]), language=None, wrap_lines=True)


def watch(newest: runs.Run | None) -> None:
    """Show the newest run and look every second for a newer one; `newest` is the one that the page was drawn for."""
    st.session_state["shown"] = (newest.id, newest.outcome) if newest else None
    _look(runs.stage_names() if newest else [])  # here: what a fragment raises is no sentence on the page


@st.fragment(run_every=1)
def _look(stages: list[str]) -> None:
    newest = runs.newest()
    if newest is None:
        return
    if st.session_state["shown"] != (newest.id, newest.outcome):
        st.rerun()  # the buttons above change with it
    progress = read_progress(newest.log, stages)
    st.subheader(f"{STATE_WORDS[newest.outcome]}, since {when(newest.started_at)}"
                 if newest.outcome == "running" else f"Last run: {STATE_WORDS[newest.outcome]}")  # fmt: skip
    if newest.outcome == "running" and newest.waits_for:
        st.info(as_plain(f"Waiting until this ends: {newest.waits_for}"))
    if newest.outcome == "done":
        progress = finished(progress)
        words = "See Results for how certain that is." if results.METRICS.exists() else "Its model is no longer here."
        st.info(f"Wrong words: {newest.wer_base:.1%} before, {newest.wer_tuned:.1%} after. {words}")
    elif newest.why:
        (st.info if newest.outcome == "cancelled" else st.error)(as_plain(newest.why))
    _show_stages(newest, progress)

"""Train: start and stop a run, watch it, change the settings, and all earlier runs."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import streamlit as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from recorder import collection, inbox, runs
from recorder.settings import change_settings
from recorder.views.progress import STATE_WORDS, watch, when
from recorder.views.shared import as_plain, listener, say, show_said
from stages.common.params import load_params
from stages.common.plurals import counted
from stages.common.stage import UserError

MODES = {
    "lora": "LoRA: small additions to the model (recommended)",
    "qlora": "QLoRA: the same with the model packed small, for little GPU memory",
    "full": "Full: the whole model, much memory",
}
NVIDIA_DRIVER = Path("/proc/driver/nvidia")
EMBEDDED_MODELS = Path("data/demo")


def known_models() -> dict[str, str | None]:
    """Models to choose from, with their pinned revisions: in params.yaml now and as committed, past runs, embedded."""
    model = load_params().model
    known = {model.name: model.revision}
    show = ["git", "show", "HEAD:params.yaml"]
    if shutil.which("git") and (committed := subprocess.run(show, capture_output=True, check=False).stdout):
        with contextlib.suppress(YAMLError, KeyError, TypeError):  # it may have been fixed since
            model = YAML(typ="safe").load(committed)["model"]
            known.setdefault(model["name"], model["revision"])
    for run in runs.history():
        known.setdefault(run.settings["model.name"], run.settings.get("model.revision"))
    for config in sorted(EMBEDDED_MODELS.glob("*/config.json")):
        known.setdefault(str(config.parent), None)
    return known


def ask_settings() -> None:
    """The settings that matter most, written into params.yaml by a button."""
    params = load_params()
    models = known_models()
    with st.form("settings"):
        model = st.selectbox(
            "Model to start from",
            list(models),
            accept_new_options=True,
            help="A model on the Hugging Face Hub (USER/NAME), or a folder on this computer. The small one in "
            "data/demo is for trying everything out: it trains in minutes on any computer, but understands little.",
        )
        mode = st.radio(
            "What is trained",
            list(MODES),
            format_func=MODES.get,
            index=list(MODES).index(params.train.mode),
            help="LoRA trains small additions and leaves the model unchanged: fast, little memory, good with few "
            "recordings. Full training can learn more from thousands of recordings.",
        )
        left, right = st.columns(2)
        epochs = left.number_input(
            "Rounds (epochs)", 1, 1000, params.train.epochs, help="How often each recording is used at most; few "
            "recordings are used more often (train.min_updates). Training ends earlier when it no longer helps."
        )  # fmt: skip
        rate = right.text_input(
            "Learning rate", str(params.train.learning_rate), help="auto, or a number such as 1.0e-4. Higher "
            "learns faster; too high learns nothing."
        )  # fmt: skip
        after = st.number_input(
            "Train by itself after so many new recordings (0: only when asked)", 0, 10_000,
            params.recorder.train_after_clips or 0,
        )  # fmt: skip
        st.caption("All other settings are explained in params.yaml.")
        if st.form_submit_button("Keep these settings"):
            with contextlib.suppress(ValueError):
                rate = float(rate)  # else the schema refuses or knows it (`auto`)
            changes = {
                "model.name": model,
                "train.mode": mode,
                "train.epochs": epochs,
                "train.learning_rate": rate,
                "recorder.train_after_clips": after or None,
            }
            if not Path(model).is_dir():  # a folder has no revision: that of the model before is kept
                changes["model.revision"] = models.get(model)
            try:
                change_settings(changes)
            except UserError as error:
                st.error(as_plain(str(error)))
            else:
                say("settings", "Kept, in params.yaml. The next training uses them.")
                st.rerun()  # the fields start from the new values
    show_said("settings")
    if not NVIDIA_DRIVER.exists() and not Path(params.model.name).is_dir():
        st.info(
            "This computer has no NVIDIA graphics card. Large models need one; the small one in data/demo does not."
        )


def start() -> None:
    listener().stop()  # frees its memory for the training
    try:
        runs.start("page")
    except UserError as error:
        say("train", str(error), "error")


def show_history() -> None:
    st.subheader("All runs")
    rows = [
        {
            "Started": when(run.started_at),
            "By": run.started_by,
            "Recordings": run.clips,
            "Ended": STATE_WORDS[run.outcome],
            "Before": None if run.wer_base is None else f"{run.wer_base:.1%}",
            "After": None if run.wer_tuned is None else f"{run.wer_tuned:.1%}",
            "Why": run.why,
            "Settings": ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in run.settings.items()),
        }
        for run in runs.history()
    ]
    st.dataframe(rows, hide_index=True, width="stretch")


st.title("Train")
clips = inbox.stored_clips()
minutes = sum(clip.duration_s or 0 for clip in clips) / 60
others = collection.other_folders()
beside = f", and those in {', '.join(others)} (data/raw)" if others else ""
st.write(
    f"{counted(len(clips), 'recording')}, {minutes:.1f} minutes{as_plain(beside)}. "
    "Training continues if you close this page."
)
newest = runs.newest()
running = newest is not None and newest.outcome == "running"
try:
    load_params()
except UserError as error:
    st.error(as_plain(str(error)))
    st.stop()
with st.container(horizontal=True):
    words = {"failed": "Try again", "cancelled": "Resume", "interrupted": "Resume"}
    st.button(
        words.get(newest.outcome, "Train now") if newest else "Train now",
        type="primary",
        disabled=running,
        on_click=start,
    )
    if running:
        st.button("Stop", on_click=runs.cancel, args=(newest.id,))
show_said("train")
watch(newest)
with st.expander("Settings", expanded=newest is None):
    ask_settings()
if newest:
    show_history()

"""Publish: choose what to publish and for whom, then start the run that does it."""

from __future__ import annotations

import json

import streamlit as st

from recorder import inbox, mover, runs
from recorder.settings import change_settings
from recorder.views.progress import watch
from recorder.views.shared import as_plain, spoken_text
from stages.common import paths
from stages.common.files import read_json
from stages.common.params import load_params
from stages.common.stage import UserError
from stages.hub import privacy, release
from stages.hub.publish import listing
from stages.hub.receipts import amount
from stages.speech.clips import read_clips

CONSENT = (
    "I agree that my recordings and what was said in them are published as a data set on the Hugging Face Hub, under a "
    "made-up name instead of mine. If the data set is public, anyone can hear, copy and use them, and somebody who "
    "knows my voice may recognise me. Deleting it later does not reach copies that others have made."
)
SHARE = {True: "Private: only you and whom you invite", False: "Public: anyone"}
HARDWARE = {
    "zero-a10g": "ZeroGPU: a shared graphics card, free within limits",
    "cpu-basic": "A small computer: free or cheap, slow with a large model",
    "t4-small": "A small graphics card: paid by the hour",
    "a10g-small": "A larger graphics card: paid by the hour",
}
state = st.session_state


@st.cache_data(ttl=60, show_spinner="Asking the Hub who you are")
def account() -> tuple[str | None, str]:
    """(name, what is wrong) of the token that is stored on this computer; the token itself is not shown anywhere."""
    from huggingface_hub import get_token

    from stages.hub.client import api, call

    if get_token() is None:
        return None, "You are not logged in. In a terminal on this computer: .venv/bin/hf auth login"
    try:
        return call("your account", api().whoami)["name"], ""
    except UserError as error:
        return None, str(error)


def show_files(files: list[dict], left_out: list[dict]) -> None:
    with st.expander(f"Files to publish: {amount(files)}"):
        rows = [{"File": file["path"], "Bytes": file["size"], "sha256": file["sha256"]} for file in files]
        st.dataframe(rows, hide_index=True)
        if left_out:
            st.write("Files that stay here:")
            st.dataframe([{"File": file["path"], "Why": file["reason"]} for file in left_out], hide_index=True)


def ask_model(push, name: str) -> dict:
    """Settings of the model's repository."""
    st.subheader("The model")
    repo_id = st.text_input("Name on the Hub", push.repo_id or f"{name}/my-voxtral", key="model-repo")
    private = st.radio("Who may use it", [True, False], format_func=SHARE.get, index=int(not push.private), key="share")
    merged = st.toggle(
        "Also the whole model in one piece",
        push.merged,
        help="For programs that cannot load the adapter alone. As large as the base model: up to several gigabytes.",
    )
    model, results, left_out = release.chosen_files(load_params().model)
    show_files(listing(model | results), left_out)
    if refusal := release.reason_to_refuse(push, read_json(paths.EVALUATION / "metrics.json")):
        st.warning(as_plain(refusal))
    return {"push.enabled": True, "push.repo_id": repo_id, "push.private": private, "push.merged": merged}


def ask_demo(deploy, name: str) -> dict:
    """Settings of the demo page."""
    st.subheader("A demo page")
    if not st.toggle("Publish a page where the model can be tried", deploy.enabled):
        return {"deploy.enabled": False}
    space_id = st.text_input("Name on the Hub", deploy.space_id or f"{name}/my-voxtral-demo", key="space")
    private = st.radio("Who may use it", [True, False], format_func=SHARE.get, index=int(not deploy.private), key="who")
    choices = list(dict.fromkeys([deploy.hardware, *HARDWARE]))
    hardware = st.selectbox("Computer that it runs on", choices, format_func=lambda name: HARDWARE.get(name, name))
    return {
        "deploy.enabled": True,
        "deploy.space_id": space_id,
        "deploy.private": private,
        "deploy.hardware": hardware,
    }


def ask_consents(speakers: list[str]) -> None:
    """Each speaker's own agreement, asked in their presence."""
    agreed = privacy.agreed_speakers() | inbox.agreed_to_publish()
    for speaker in speakers:
        st.text(f"Speaker: {speaker}")
        if speaker in agreed:
            st.write("✓ has agreed to publication.")
            continue
        st.write(CONSENT)
        ticked = st.checkbox("I am this speaker, or speak for them, and agree.", key=f"agree {speaker}")
        if st.button("Store this agreement", disabled=not ticked, key=f"store {speaker}"):
            inbox.record_consent(speaker, CONSENT, publish=True)
            mover.start_moving()
            st.rerun()


def ask_confirmations(clips: list, confirmed: list[str]) -> list[str]:
    """Ids of clips whose texts hold an address or a long number, and may be published."""
    names = {clip.speaker for clip in clips}
    found = {clip: kinds for clip in clips if (kinds := privacy.private_things(clip.text, clip.language, names))}
    chosen = [identity for identity in confirmed if identity in {clip.id for clip in clips}]
    for clip, kinds in found.items():
        spoken_text(clip.text, clip.language)
        label = f"{', '.join(kinds)}: publish this text anyway"
        if st.checkbox(as_plain(label), clip.id in chosen, key=f"text-{clip.id}"):
            chosen = list(dict.fromkeys([*chosen, clip.id]))
        elif clip.id in chosen:
            chosen.remove(clip.id)
    return chosen


def ask_dataset(settings, name: str) -> dict:
    """Settings of the data set."""
    st.subheader("The recordings")
    if not st.toggle("Also publish the recordings, as a data set", settings.enabled):
        return {"push.dataset.enabled": False}
    repo_id = st.text_input("Name on the Hub", settings.repo_id or f"{name}/my-voice", key="dataset-repo")
    private = st.radio("Who may hear them", [True, False], format_func=SHARE.get, index=int(not settings.private))
    clips = read_clips(paths.PREPARED / "metadata.jsonl")
    ask_consents(sorted({clip.speaker for clip in clips if clip.speaker}))
    confirmed = ask_confirmations(clips, settings.confirmed)
    return {
        "push.dataset.enabled": True,
        "push.dataset.repo_id": repo_id,
        "push.dataset.private": private,
        "push.dataset.confirmed": confirmed,
    }


def show_receipts() -> None:
    """Links to what is published, or why nothing is."""
    for stage, words in (("push", "Model"), ("deploy", "Demo page")):
        path = paths.RECEIPTS / f"{stage}.json"
        if not path.exists():
            continue
        receipt = json.loads(path.read_text(encoding="utf-8"))
        if receipt["published"]:
            st.link_button(f"{words} on the Hub", receipt["url"])
        elif stage == "push" or load_params().deploy.enabled:
            st.caption(as_plain(f"{words}: not published, because {receipt['reason']}."))
        if (data := receipt.get("dataset")) and data["published"]:
            st.link_button("Recordings on the Hub", data["url"])


def publish(changes: dict) -> None:
    try:
        change_settings(changes)
        runs.start("page")
    except UserError as error:
        state["publish_problem"] = str(error)


def stop() -> None:
    change_settings({"push.enabled": False, "push.dataset.enabled": False, "deploy.enabled": False})


st.title("Publish")
st.write("Nothing leaves this computer before you press Publish. Private is the default.")
params = load_params()
if not (paths.EVALUATION / "metrics.json").exists():
    st.info("There is no result yet. Record, then train, then come back.")
    st.stop()
name, wrong = account()
if name:
    st.text(f"Logged in to the Hub as {name}")
else:
    st.warning(as_plain(wrong))
newest = runs.newest()
running = newest is not None and newest.outcome == "running"
changes = ask_model(params.push, name or "USER")
changes |= ask_dataset(params.push.dataset, name or "USER")
changes |= ask_demo(params.deploy, name or "USER")
st.caption("From then on, each finished training is published there too, until you stop it.")
with st.container(horizontal=True):
    st.button("Publish", type="primary", disabled=running or not name, on_click=publish, args=(changes,))
    if params.push.enabled or params.deploy.enabled or params.push.dataset.enabled:
        st.button("Stop publishing", on_click=stop)
if problem := state.pop("publish_problem", None):
    st.error(as_plain(problem))
show_receipts()
if newest:
    watch(newest)

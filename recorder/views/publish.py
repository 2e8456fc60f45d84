"""Publish: choose what to publish and for whom, then start the run that does it."""

from __future__ import annotations

import json

import streamlit as st

from recorder import inbox, runs
from recorder.settings import change_settings
from recorder.views.progress import watch
from recorder.views.rows import spoken
from recorder.views.shared import as_plain, have_agreed, say, show_said
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
HARDWARE = ("zero-a10g", "cpu-basic", "t4-small", "a10g-small")


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


def show_files(files: list[dict], left_out: list[str]) -> None:
    with st.expander(f"Files to publish: {amount(files)}"):
        rows = [{"File": file["path"], "Bytes": file["size"], "sha256": file["sha256"]} for file in files]
        st.dataframe(rows, hide_index=True)
        if left_out:
            st.write("Files that stay here:")
            st.dataframe({"File": left_out}, hide_index=True)


def ask_repository(section: str, repo_id: str, is_private: bool, question: str, key: str = "repo_id") -> dict:
    """Settings of one repository: its name, and who may use it."""
    name = st.text_input("Name on the Hub", repo_id, key=f"{section}.{key}")
    private = st.radio(question, [True, False], format_func=SHARE.get, index=int(not is_private), key=f"{section}.who")
    return {f"{section}.enabled": True, f"{section}.{key}": name, f"{section}.private": private}


def ask_model(push, name: str) -> dict:
    st.subheader("The model")
    changes = ask_repository("push", push.repo_id or f"{name}/my-voxtral", push.private, "Who may use it")
    merged = st.toggle(
        "Also the whole model in one piece",
        push.merged,
        help="For programs that cannot load the adapter alone. As large as the base model: up to several gigabytes.",
    )
    model, results, left_out = release.chosen_files()
    show_files(listing(model | results), left_out)
    if refusal := release.reason_to_refuse(push, read_json(paths.EVALUATION / "metrics.json")):
        st.warning(as_plain(refusal))
    return changes | {"push.merged": merged}


def ask_demo(deploy, name: str) -> dict:
    st.subheader("A demo page")
    if not st.toggle("Publish a page where the model can be tried", deploy.enabled):
        return {"deploy.enabled": False}
    space_id = deploy.space_id or f"{name}/my-voxtral-demo"
    changes = ask_repository("deploy", space_id, deploy.private, "Who may use it", "space_id")
    hardware = st.selectbox(
        "Computer that it runs on",
        list(dict.fromkeys([deploy.hardware, *HARDWARE])),
        help="zero-a10g shares a graphics card, free within limits. cpu-basic is free or cheap, but takes minutes "
        "for a sentence with a large model. The others have a graphics card and are paid by the hour.",
    )
    return changes | {"deploy.hardware": hardware}


def ask_confirmations(clips: list, confirmed: list[str]) -> list[str]:
    """Ids of clips whose texts hold an address or a long number, and may be published."""
    names = {clip.speaker for clip in clips}
    chosen = []
    for clip in clips:
        if kinds := privacy.private_things(clip.text, names):
            st.html(spoken(clip.text, clip.language))
            label = as_plain(f"{', '.join(kinds)}: publish this text anyway")
            if st.checkbox(label, clip.id in confirmed, key=f"text-{clip.id}"):
                chosen.append(clip.id)
    return chosen


def ask_dataset(settings, name: str) -> dict:
    st.subheader("The recordings")
    if not st.toggle("Also publish the recordings, as a data set", settings.enabled):
        return {"push.dataset.enabled": False}
    repo_id = settings.repo_id or f"{name}/my-voice"
    changes = ask_repository("push.dataset", repo_id, settings.private, "Who may hear them")
    clips = read_clips(paths.PREPARED / "metadata.jsonl")
    speakers = sorted({clip.speaker for clip in clips if clip.speaker})
    agreed = privacy.agreed_speakers() | inbox.agreed_to_publish()
    st.text(f"Agreed to publication: {', '.join(one for one in speakers if one in agreed) or 'nobody yet'}")
    have_agreed(speakers, agreed, CONSENT, "Before they are published", publish=True)
    return changes | {"push.dataset.confirmed": ask_confirmations(clips, settings.confirmed)}


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
        say("publish", str(error), "error")


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
show_said("publish")
show_receipts()
if newest:
    watch(newest)

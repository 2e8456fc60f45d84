"""Try it: say something, and see what the model understood before and after the training."""

from __future__ import annotations

import streamlit as st

from recorder import inbox, runs, takes
from recorder.listener import ListenerError
from recorder.views.microphone import microphone
from recorder.views.shared import Voice, as_plain, consenting_voice, judge, listener, spoken_text, suffix_of
from stages.pipeline.params import load_params
from stages.pipeline.stage import UserError

SAY, FILE = "Say something", "Use a file"
state = st.session_state
params = load_params()


def is_of(person: Voice) -> bool:
    """Whether this person has said something here; of somebody else it is neither shown nor kept."""
    return "try_take" in state and state["try_of"] == (person.speaker, person.language)


def take_from_microphone(person: Voice) -> takes.Take | None:
    prompt = f"try {state['try_round']} {person}"
    recording = microphone(
        "microphone-try",
        prompt,
        "Say anything you like.",
        "en",
        params.recorder,
        has_take=is_of(person),
        to_be_saved=False,
    )
    if recording and recording.prompt == prompt:
        return takes.from_recording(recording.samples, recording.sample_rate_hz, "", person.language, params.prepare)
    return None


def take_from_file(language: str) -> takes.Take | None:
    file = st.file_uploader("A recording", key=f"try-file-{state['try_round']}")
    if file is None or state.get("try_file") == file.file_id:
        return None
    state["try_file"] = file.file_id
    return takes.from_file(file.getvalue(), suffix_of(file.name), "", language, params.prepare)


def hear(take: takes.Take, person: Voice) -> None:
    """Ask both models, and keep the answer with the take and with who said it."""
    state.update(
        try_take=take, try_of=(person.speaker, person.language), try_answer=None, try_problem=None, try_sure=False
    )
    if not take.samples.size:
        return
    loading = "" if listener().state == "ready" else " The model is being loaded first, which can take a minute."
    with st.spinner(f"Listening.{loading}"):
        try:
            state["try_answer"] = listener().transcribe(take.content, person.language)
        except ListenerError as error:
            state["try_problem"] = str(error)


def show_answer(language: str) -> None:
    answer = state["try_answer"]
    before, after = st.columns(2)
    with before:
        st.subheader("Before")
        spoken_text(answer.base or "(nothing)", language)
    with after:
        st.subheader("After")
        if answer.tuned is None and runs.current():
            st.write("The training has not ended yet. Try again when it has.")
        elif answer.tuned is None:
            st.write("There is no trained model at present: record, then press Train now on the Train page.")
        else:
            spoken_text(answer.tuned or "(nothing)", language)
    st.caption(as_plain(f"{answer.model}, {answer.seconds:.1f} seconds for both"))


def save(person: Voice) -> None:
    if not is_of(person):  # pressed twice
        return
    take, said = state["try_take"], state.get(f"try-said-{state['try_round']}", "")
    if heard() and said.strip() == heard() and not state["try_sure"]:
        state.update(try_sure=True, try_problem="")
        return
    try:
        judged = takes.with_text(take, said, person.language, params.prepare)
        inbox.save_clip(judged, text=said, language=person.language, speaker=person.speaker)
    except UserError as error:
        state["try_problem"] = str(error)
        return
    inbox.start_moving()
    for name in ("try_take", "try_answer", "try_file"):
        state.pop(name, None)
    state["try_round"] += 1
    state["try_saved"] = True


def heard() -> str:
    """What the newest model understood, "" where none answered."""
    answer = state["try_answer"]
    return ((answer.base if answer.tuned is None else answer.tuned) if answer else "").strip()


def correct(person: Voice) -> None:
    """What was really said, kept as a recording to learn from."""
    st.subheader("Was that wrong?")
    st.text_area("I said, word for word", heard(), key=f"try-said-{state['try_round']}")
    if state["try_sure"]:
        st.warning("That is what the computer understood. Write what you said, or press again if you said just that.")
    st.button("Keep it, to learn from", on_click=save, args=(person,), disabled=state["try_take"].blocked)


st.title("Try it")
person = consenting_voice()
state.setdefault("try_round", 0)
if runs.current():
    st.info("A training is at work. Until it ends, answers take longer, and there may be none of the tuned model.")
way = st.segmented_control("How", [SAY, FILE], default=SAY, required=True, label_visibility="collapsed")
take = take_from_microphone(person) if way == SAY else take_from_file(person.language)
if take:
    hear(take, person)
if state.pop("try_saved", False):
    st.success("Kept. The next training learns from it.")
if is_of(person):
    if problem := state["try_problem"]:
        st.error(as_plain(problem))
    judge(state["try_take"])
    if state["try_answer"]:
        show_answer(person.language)
    correct(person)
if listener().state == "ready":
    st.button("Let the model go, to free memory", on_click=listener().stop)

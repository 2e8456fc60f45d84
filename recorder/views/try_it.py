"""Try it: say something, and see what the model understands before and after training."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

import streamlit as st

from recorder import inbox, mover, runs, takes
from recorder.listener import Answer, ListenerError
from recorder.views.microphone import microphone
from recorder.views.shared import Voice, as_plain, consenting_voice, judge, listener, spoken_text, suffix_of
from stages.common.params import load_params
from stages.common.stage import UserError

SAY, FILE = "Say something", "Use a file"
state = st.session_state
params = load_params()


@dataclass(eq=False)
class Tried:
    """A take that was tried, with what belongs to it alone: who said it, what was understood and asked."""

    take: takes.Take
    voice: Voice
    answer: Answer | None = None
    problem: str | None = None
    is_sure: bool = False  # the next press keeps what was understood as what was said
    said_key: str = field(default_factory=lambda: f"said {uuid4()}")

    @property
    def understood(self) -> str:
        """By the newest model; "" if none answered."""
        if not self.answer:
            return ""
        return (self.answer.base if self.answer.tuned is None else self.answer.tuned).strip()


def tried_by(person: Voice) -> Tried | None:
    """What this person tried last. What somebody else said is neither shown nor kept."""
    tried = state.get("tried")
    return tried if tried and tried.voice == person else None


def take_from_microphone(person: Voice) -> takes.Take | None:
    prompt = f"try {state['try_round']} {person}"
    recording = microphone(
        "microphone-try",
        prompt,
        "Say anything you like.",
        "en",
        params.recorder,
        has_take=tried_by(person) is not None,
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
    """Ask both models. A take that is recorded meanwhile does not get this answer."""
    tried = state["tried"] = Tried(take, person)
    if not take.samples.size:
        return
    loading = "" if listener().is_loaded else " Loading the model first can take a minute."
    with st.spinner(f"Listening.{loading}"):
        try:
            tried.answer = listener().transcribe(take.content, person.language)
        except ListenerError as error:
            tried.problem = str(error)


def show_answer(answer: Answer, language: str) -> None:
    before, after = st.columns(2)
    with before:
        st.subheader("Before")
        spoken_text(answer.base or "(nothing)", language)
    with after:
        st.subheader("After")
        if answer.tuned is None and runs.current():
            st.write("Training is still running. Try again when it has ended.")
        elif answer.tuned is None:
            st.write("There is no trained model yet. Press Train now on the Train page.")
        else:
            spoken_text(answer.tuned or "(nothing)", language)
    st.caption(as_plain(f"{answer.model}, {answer.seconds:.1f} seconds for both"))


def save(tried: Tried) -> None:
    if state.get("tried") is not tried:  # pressed twice, or another take has come
        return
    said, voice = state.get(tried.said_key, ""), tried.voice
    if tried.understood and said.strip() == tried.understood and not tried.is_sure:
        tried.is_sure, tried.problem = True, None
        return
    try:
        judged = takes.with_text(tried.take, said, voice.language, params.prepare)
        inbox.save_clip(judged, text=said, language=voice.language, speaker=voice.speaker)
    except UserError as error:
        tried.problem = str(error)
        return
    mover.start_moving()
    for name in ("tried", "try_file"):
        state.pop(name, None)
    state["try_round"] += 1
    state["try_saved"] = True


def correct(tried: Tried) -> None:
    """Ask what was really said, and keep it as a recording to learn from."""
    st.subheader("Was that wrong?")
    st.text_area("I said, word for word", tried.understood, key=tried.said_key)
    if tried.is_sure:
        st.warning("This is what the model understood. Correct it, or press again if it is right.")
    st.button("Keep it, to learn from", on_click=save, args=(tried,), disabled=tried.take.blocked)


st.title("Try it")
person = consenting_voice()
state.setdefault("try_round", 0)
if runs.current():
    st.info("Training is running. Until it ends, answers are slow, perhaps without the trained model.")
way = st.segmented_control("How", [SAY, FILE], default=SAY, required=True, label_visibility="collapsed")
take = take_from_microphone(person) if way == SAY else take_from_file(person.language)
if take:
    hear(take, person)
if state.pop("try_saved", False):
    st.success("Kept. The next training learns from it.")
if tried := tried_by(person):
    if tried.problem:
        st.error(as_plain(tried.problem))
    judge(tried.take)
    if tried.answer:
        show_answer(tried.answer, person.language)
    correct(tried)
if listener().is_loaded:
    st.button("Unload the model, to free memory", on_click=listener().stop)

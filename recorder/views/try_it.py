"""Try it: say something, and see what the model understands before and after training."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from recorder import inbox, mover, runs, takes
from recorder.listener import Answer
from recorder.views.microphone import microphone
from recorder.views.rows import spoken
from recorder.views.shared import Voice, as_plain, consenting_voice, judge, listener, say, show_said
from stages.common.params import load_params
from stages.common.stage import UserError

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

    @property
    def understood(self) -> str:
        """By the newest model; "" if none answered."""
        if not self.answer:
            return ""
        return (self.answer.base if self.answer.tuned is None else self.answer.tuned).strip()

    @property
    def said_key(self) -> str:
        return f"really said {self.take.id}"


def record(person: Voice, tried: Tried | None) -> takes.Take | None:
    prompt = f"try {state['try_round']} {person}"
    recording = microphone(
        "microphone-try",
        prompt,
        "Say anything you like.",
        "en",
        params.recorder,
        has_take=tried is not None,
        to_be_saved=False,
    )
    if recording and recording.prompt == prompt:
        return takes.from_recording(recording.samples, recording.sample_rate_hz, params.prepare)
    return None


def hear(tried: Tried) -> None:
    """Ask both models. A take that is recorded meanwhile does not get this answer."""
    loading = "" if listener().is_running else " Loading the model first can take a minute."
    with st.spinner(f"Listening.{loading}"):
        try:
            tried.answer = listener().transcribe(tried.take.content, tried.voice.language)
        except UserError as error:
            tried.problem = str(error)


def show_answer(answer: Answer, language: str) -> None:
    before, after = st.columns(2)
    before.subheader("Before")
    before.html(spoken(answer.base or "(nothing)", language))
    after.subheader("After")
    if answer.tuned is not None:
        after.html(spoken(answer.tuned or "(nothing)", language))
    elif runs.current():
        after.write("Training is still running. Try again when it has ended.")
    else:
        after.write("There is no trained model yet. Press Train now on the Train page.")
    st.caption(as_plain(f"{answer.model}, {answer.seconds:.1f} seconds for both"))


def keep(tried: Tried) -> None:
    if state.get("tried") is not tried:  # pressed twice, or another take has come
        return
    said = state.get(tried.said_key, "")
    if tried.understood and said.strip() == tried.understood and not tried.is_sure:
        tried.is_sure, tried.problem = True, None
        return
    try:
        inbox.save_clip(tried.take, text=said, language=tried.voice.language, speaker=tried.voice.speaker)
    except (UserError, OSError) as error:
        tried.problem = f"Not kept: {error}"
        return
    mover.start_moving()
    state["tried"] = None
    state["try_round"] += 1
    say("try", "Kept. The next training learns from it.")


def ask_what_was_said(tried: Tried) -> None:
    """A correction is kept as a recording to learn from."""
    st.subheader("Was that wrong?")
    st.text_area("I said, word for word", tried.understood, key=tried.said_key)
    if tried.is_sure:
        st.warning("This is what the model understood. Correct it, or press again if it is right.")
    st.button("Keep it, to learn from", on_click=keep, args=(tried,), disabled=tried.take.blocked)


st.title("Try it")
person = consenting_voice()
state.setdefault("try_round", 0)
if runs.current():
    st.info("Training is running. Until it ends, answers are slow, perhaps without the trained model.")
tried = state.get("tried")
if tried and tried.voice != person:  # what somebody else said is neither shown nor kept
    tried = None
if take := record(person, tried):
    tried = state["tried"] = Tried(take, person)
    if take.samples.size:
        hear(tried)
show_said("try")
if tried:
    if tried.problem:
        st.error(as_plain(tried.problem))
    judge(tried.take)
    if tried.answer:
        show_answer(tried.answer, person.language)
    ask_what_was_said(tried)

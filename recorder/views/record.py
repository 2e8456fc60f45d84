"""Record: one phrase after the other, each take judged at once and saved on request."""

from __future__ import annotations

import copy
from collections import Counter

import streamlit as st

from recorder import inbox, mover, phrases, reading, runs, takes
from recorder.views.microphone import microphone
from recorder.views.shared import Voice, as_plain, consenting_voice, judge, sound_type, voice
from stages.common.params import load_params
from stages.common.plurals import counted
from stages.common.stage import UserError

PHRASES, OWN, FREE = "Phrases", "My own phrases", "Free speech"
LEAVE = "Leave it as it is"
# Where somebody is in one kind of text: the take that waits to be saved, and its phrase, which stays the same whatever
# is recorded or written elsewhere meanwhile.
READING = {"turn": 0, "phrase": "", "chosen_again": False, "take": None, "can_hear": True, "in_set": 0}
READING |= {"skipped": [], "visited": [], "ahead": [], "message": "", "pressed_once": ""}
state = st.session_state
params = load_params()


def choose_phrases(kind: str, speaker: str, language: str) -> list[str]:
    """A person's own phrases, then those of ownvoice."""
    own = reading.own_phrases(speaker, language)
    return own if kind == OWN else list(dict.fromkeys([*own, *phrases.from_file(language)]))


def edit_own_phrases(speaker: str, language: str, is_open: bool) -> None:
    with (
        st.expander("My own phrases, words and names", expanded=is_open),
        st.form(f"own-{speaker}-{language}", border=False),
    ):
        st.write("Names, places, commands, words of your work. They come first.")
        text = st.text_area(
            "One on each line", "\n".join(reading.own_phrases(speaker, language)), height=160, max_chars=50_000
        )
        file = st.file_uploader("Or a text file with one on each line", type=["txt"], max_upload_size=1)
        if st.form_submit_button("Keep these phrases"):
            try:
                added = file.getvalue().decode("utf-8-sig") if file else ""
            except UnicodeDecodeError:
                st.error("Cannot read this text file. Save it as UTF-8 and try again.")
                return
            own = phrases.own_phrases(f"{text}\n{added}")
            reading.save_own_phrases(speaker, language, own)
            state["own_kept"] = len(own)
            if state["take"] is None:
                state.update(phrase="", chosen_again=False)  # a new one may come first
            st.rerun()
        if (kept := state.pop("own_kept", None)) is not None:
            st.success(f"Kept: {counted(kept, 'phrase')}.")


def begin(person: Voice, kind: str, is_opened: bool) -> None:
    """Resume where this person stopped in this language and kind of text, with the take that waits to be saved."""
    chosen, before = (person.speaker, person.language, kind), state.get("reading_for")
    if before == chosen and not is_opened:
        return
    if before != chosen:
        others = state.setdefault("other_readings", {})
        if before:
            others[before] = {name: state[name] for name in READING}
        state.update(others.pop(chosen, None) or copy.deepcopy(READING), reading_for=chosen)
    state["message"] = state["pressed_once"] = ""
    if is_unsaved():
        state.update(can_hear=False, message="Not saved yet: save this recording, or record it again.")


def is_unsaved() -> bool:
    return state["take"] is not None and not state["take"].blocked


def may_drop(button: str) -> bool:
    """Whether a take that could be saved may be dropped: only the second press of a button does it."""
    if not is_unsaved() or state["pressed_once"] == button:
        return True
    state.update(pressed_once=button, message=f"Not saved yet. To delete this recording, press {button} again.")
    return False


def go_on(phrase: str) -> None:
    """Turn to the phrase that Back came from, else to the next one."""
    state["visited"].append(phrase)
    turn_to(state["ahead"].pop() if state["ahead"] else "")


def turn_to(phrase: str) -> None:
    """Show a phrase again; "" chooses the next one."""
    state.update(turn=state["turn"] + 1, phrase=phrase, chosen_again=bool(phrase), take=None, can_hear=True)


def save(phrase: str, earlier: inbox.StoredClip | None, replace: bool) -> None:
    """Called once per press; a second press finds no take."""
    take = state["take"]
    if take is None:
        return
    speaker, language, kind = state["reading_for"]
    text = state.get(said_key(), "") if kind == FREE else phrase
    prompt_id = None if kind == FREE else phrases.prompt_id(language, phrase)
    try:
        _, is_new = inbox.save_clip(take, text=text, language=language, speaker=speaker, prompt_id=prompt_id)
        if replace and earlier and is_new:
            inbox.delete(earlier)
    except (UserError, OSError) as error:
        state["message"] = f"Not saved: {error}"
        return
    if not is_new:
        state.update(take=None, message="Not saved: this recording was saved before. Record it again.")
        return
    state["message"] = f"Saved: {take.figures['duration_s']:.1f} seconds."
    state["in_set"] += earlier is None
    no_longer_skipped(phrase)
    go_on(phrase)
    mover.start_moving()
    try:
        if runs.is_due():
            runs.start("new recordings")
    except UserError as error:
        state["message"] += f" Training did not start: {error}"


def said_key() -> str:
    """Key of the text that belongs to the take."""
    return f"said {state['reading_for']} {state['take'].id}"


def no_longer_skipped(phrase: str) -> None:
    state["skipped"] = [one for one in state["skipped"] if one != phrase]


def skip(phrase: str) -> None:
    if not may_drop("Skip"):
        return
    no_longer_skipped(phrase)
    state["skipped"].append(phrase)  # behind those that were skipped before it
    state["message"] = "Skipped. It comes again later."
    go_on(phrase)


def leave(phrase: str) -> None:
    if may_drop(LEAVE):
        state["message"] = ""
        go_on(phrase)


def back(phrase: str) -> None:
    if not may_drop("Back"):
        return
    state["ahead"].append(phrase)
    state["message"] = ""
    turn_to(state["visited"].pop())


def another_set() -> None:
    state.update(in_set=0, message="", turn=state["turn"] + 1)


def rest() -> None:
    st.success(f"Well done: {state['in_set']} recorded, all saved. Rest, or come back any day.")
    st.button(f"{params.recorder.set_size} more", type="primary", on_click=another_set, shortcut="M", width="stretch")


def record_phrase(phrase: str, earlier: inbox.StoredClip | None, kind: str, language: str) -> takes.Take | None:
    """Show the phrase, the microphone and the buttons; returns the take that waits to be saved."""
    place = f"{state['in_set']} of {params.recorder.set_size} recorded"
    place += f", {len(state['skipped'])} skipped for later" if state["skipped"] else ""
    st.caption(f"Speak as you always do. {place}." if kind != FREE else f"{place}.")
    prompt = f"{state['reading_for']} {state['turn']} {phrase}"
    recording = microphone(
        "microphone",
        prompt,
        phrase if kind != FREE else "Say whatever you like. Then write down what you said.",
        language if kind != FREE else "en",
        params.recorder,
        has_take=state["take"] is not None,
    )
    if recording and recording.prompt == prompt:
        take = takes.from_recording(recording.samples, recording.sample_rate_hz, phrase, language, params.prepare)
        state.update(take=take, can_hear=True, message="", pressed_once="")
    elif recording:  # it was still on its way when something else was chosen
        state["message"] = "Not saved: the phrase had changed. Go back and record it again."
    take = state["take"]
    if take and kind == FREE:
        said = st.text_area("What was said, word for word", key=said_key(), persist_state="session")
        take = takes.with_text(take, said, language, params.prepare)
    ready = take is not None and not take.blocked
    with st.container(horizontal=True):  # in the same place with and without a take, for people who aim slowly
        if earlier:
            st.button("Save instead of the earlier one", type="primary", shortcut="S", disabled=not ready,
                      on_click=save, args=(phrase, earlier, True))  # fmt: skip
            st.button("Save and keep both", disabled=not ready, on_click=save, args=(phrase, earlier, False))
            st.button(LEAVE, shortcut="K", on_click=leave, args=(phrase,))
        else:
            words = "Save and next" if not take or not take.findings else "Save anyway and next"
            st.button(words, type="primary", shortcut="S", disabled=not ready, on_click=save,
                      args=(phrase, None, False))  # fmt: skip
            if kind != FREE:
                st.button("Skip", shortcut="K", on_click=skip, args=(phrase,))
        if kind != FREE:
            st.button("Back", shortcut="B", on_click=back, args=(phrase,), disabled=not state["visited"])
    return take


def show_message() -> None:
    if words := state["message"]:
        kinds = {"Not saved yet": st.warning, "Not saved": st.error}
        show = next((kind for beginning, kind in kinds.items() if words.startswith(beginning)), st.success)
        show(as_plain(words))


def show_progress(speaker: str, clips: list[inbox.StoredClip]) -> None:
    own = [clip for clip in clips if clip.speaker == speaker]
    minutes = sum(clip.duration_s or 0 for clip in own) / 60
    st.divider()
    st.markdown(f"**{counted(len(own), 'recording')}, {minutes:.1f} minutes**")
    milestone = reading.next_milestone(len(own))
    if milestone is None:
        st.write("All three goals reached. More recordings still help, above all free speech.")
    else:
        goal = f"{milestone.clips - len(own)} more to {milestone.clips} recordings"
        st.progress(len(own) / milestone.clips, text=goal)
    with st.expander("What 50, 250 and 500 recordings bring"):
        for goal in reading.MILESTONES:
            st.markdown(f"**{goal.clips}.** {goal.brings} ([{goal.source}]({goal.link}))")
        st.caption("These studies had other models and voices: yours may differ.")


st.title("Record")
if is_opened := "kind" not in state:
    state["kind"] = state["reading_for"][-1] if "reading_for" in state else PHRASES
begin(voice(), state["kind"], is_opened)
person = consenting_voice()
kind = st.segmented_control(
    "What to say",
    [PHRASES, OWN, FREE],
    key="kind",
    required=True,
    width="stretch",
    persist_state="page",  # while somebody new reads what they agree to
)
clips = inbox.stored_clips()
texts = choose_phrases(kind, person.speaker, person.language) if kind != FREE else []
counts = reading.recorded_counts(clips, person.speaker) if kind != FREE else Counter()
state["skipped"] = [one for one in state["skipped"] if one in texts]  # own phrases may have been taken out
phrase = state["phrase"] or reading.next_phrase(texts, person.language, counts, state["skipped"]) or ""
state["phrase"] = phrase
take = earlier = None
if state["in_set"] >= params.recorder.set_size:
    rest()
elif not phrase and kind == OWN:
    st.info("You have no phrases of your own yet. Write some below.")
else:
    recorded = [clip for clip in clips if clip.speaker == person.speaker and clip.prompt_id]
    this_prompt = phrases.prompt_id(person.language, phrase) if phrase else None
    earlier = next((clip for clip in reversed(recorded) if clip.prompt_id == this_prompt), None)
    if earlier and not state["chosen_again"]:
        if all(counts[phrases.prompt_id(person.language, text)] for text in texts):
            st.info("Every phrase is recorded. Recording each once more helps too.")
        earlier = None
    take = record_phrase(phrase, earlier, kind, person.language)
show_message()
if take:
    judge(take)
    if not state["can_hear"]:  # the microphone has forgotten it
        st.audio(take.content, format=sound_type(take.suffix))
if earlier:
    st.text("Saved before:")
    st.audio(inbox.content_of(earlier), format=sound_type(f".{earlier.audio_path.rpartition('.')[2]}"))
show_progress(person.speaker, clips)
if kind != FREE:
    edit_own_phrases(person.speaker, person.language, is_open=kind == OWN and not texts)

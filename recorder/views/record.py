"""Record: one phrase after the other, each take judged at once and saved on request."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath

import streamlit as st

from recorder import inbox, mover, phrases, reading, runs, takes
from recorder.views.microphone import KEYS, microphone
from recorder.views.rows import play
from recorder.views.shared import Voice, as_plain, consenting_voice, judge, say, show_said, voice
from stages.common.params import load_params
from stages.common.plurals import counted
from stages.common.stage import UserError

PHRASES, OWN, FREE = "Phrases", "My own phrases", "Free speech"
SKIP, LEAVE, BACK = "Skip", "Leave it as it is", "Back"
DOUBLE_CLICK_S = 0.7  # of an unsteady hand
state = st.session_state
params = load_params()


@dataclass
class Place:
    """Where somebody is in one kind of text, with the take that waits to be saved.

    `phrase` stays the same whatever is recorded or written elsewhere meanwhile.
    """

    kind: str
    speaker: str
    language: str
    turn: int = 0
    phrase: str = ""  # "": the next one, or free speech
    is_again: bool = False  # the phrase was chosen by Back
    take: takes.Take | None = None
    can_hear: bool = True  # the microphone still has the take
    in_set: int = 0
    skipped: list[str] = field(default_factory=list)
    visited: list[str] = field(default_factory=list)
    message: tuple[str, str] | None = None  # its kind, as `say` takes it, and its words
    pressed_once: str = ""
    pressed_at_s: float = 0.0

    @property
    def is_unsaved(self) -> bool:
        return self.take is not None and not self.take.blocked

    @property
    def said_key(self) -> str:
        """Key of the text that belongs to the take."""
        return f"said {self.take.id}"

    def turn_to(self, phrase: str) -> None:
        """Show a phrase again; "" chooses the next one."""
        self.turn += 1
        self.phrase, self.is_again, self.take, self.can_hear = phrase, bool(phrase), None, True

    def go_on(self) -> None:
        self.visited.append(self.phrase)
        self.skipped = [one for one in self.skipped if one != self.phrase]
        self.turn_to("")


def find_place(person: Voice, kind: str, is_opened: bool) -> Place:
    """Where this person stopped in this language and kind of text; is_opened: the page was not shown a moment ago."""
    place = state.setdefault("places", {}).setdefault((person, kind), Place(kind, person.speaker, person.language))
    if is_opened or state.get("place") is not place:
        place.message, place.pressed_once = None, ""
        if place.is_unsaved:
            place.can_hear = False  # the microphone has forgotten it
            place.message = ("warning", "Not saved yet: save this recording, or record it again.")
    state["place"] = place
    return place


def may_drop(place: Place, button: str) -> bool:
    """Whether a take that could be saved may be dropped: only the second press does it, no double click."""
    now_s = time.monotonic()
    if not place.is_unsaved or (place.pressed_once == button and now_s > place.pressed_at_s + DOUBLE_CLICK_S):
        return True
    place.pressed_once, place.pressed_at_s = button, now_s
    place.message = ("warning", f"Not saved yet. To delete this recording, press {button} again.")
    return False


def skip(place: Place, button: str) -> None:
    if may_drop(place, button):
        phrase = place.phrase
        place.go_on()
        place.message = None
        if button == SKIP:
            place.skipped.append(phrase)  # behind those that were skipped before it
            place.message = ("success", "Skipped. It comes again later.")


def back(place: Place) -> None:
    if place.visited and may_drop(place, BACK):  # a second press of a double click may find none left
        place.message = None
        place.turn_to(place.visited.pop())


def another_set(place: Place) -> None:
    place.in_set, place.message = 0, None
    place.turn += 1


def save(place: Place, earlier: inbox.StoredClip | None) -> None:
    """Save the take, instead of the earlier one if there is one. A second press finds no take."""
    take = place.take
    if take is None:
        return
    text = state.get(place.said_key, "") if place.kind == FREE else place.phrase
    prompt_id = phrases.prompt_id(place.language, place.phrase) if place.phrase else None
    try:
        _, is_new = inbox.save_clip(
            take, text=text, language=place.language, speaker=place.speaker, prompt_id=prompt_id
        )
        if earlier and is_new:
            inbox.delete(earlier)
    except (UserError, OSError) as error:
        place.message = ("error", f"Not saved: {error}")
        return
    if not is_new:
        place.take, place.message = None, ("error", "Not saved: this recording was saved before. Record it again.")
        return
    place.message = ("success", f"Saved: {take.figures['duration_s']:.1f} seconds.")
    place.in_set += earlier is None
    place.go_on()
    mover.start_moving()
    try:
        if runs.is_due():
            runs.start("new recordings")
    except UserError as error:
        place.message = ("error", f"{place.message[1]} Training did not start: {error}")


def rest(place: Place) -> None:
    st.success(f"Well done: {place.in_set} recorded, all saved. Rest, or come back any day.")
    st.button(f"{params.recorder.set_size} more", type="primary", shortcut=KEYS["more"], width="stretch",
              on_click=another_set, args=(place,))  # fmt: skip
    show_message(place)


def record_phrase(place: Place) -> None:
    """Show the phrase and the microphone; a recording becomes the take that waits to be saved."""
    count = f"{place.in_set} of {params.recorder.set_size} recorded"
    count += f", {len(place.skipped)} skipped for later" if place.skipped else ""
    st.caption(f"Speak as you always do. {count}." if place.kind != FREE else f"{count}.")
    prompt = f"{place.speaker} {place.language} {place.kind} {place.turn} {place.phrase}"
    recording = microphone(
        "microphone",
        prompt,
        place.phrase or "Say whatever you like. Then write down what you said.",
        place.language if place.phrase else "en",
        params.recorder,
        has_take=place.take is not None,
    )
    if recording and recording.prompt == prompt:
        place.take = takes.from_recording(recording.samples, recording.sample_rate_hz, params.prepare)
        place.can_hear, place.message, place.pressed_once = True, None, ""
    elif recording:  # it was still on its way when something else was chosen
        place.message = ("error", "Not saved: the phrase had changed. Go back and record it again.")
    if place.take and place.kind == FREE:
        st.text_area("What was said, word for word", key=place.said_key, persist_state="session")


def show_buttons(place: Place, earlier: inbox.StoredClip | None) -> None:
    """In the same place with and without a take, for people who aim slowly."""
    words = "Save and next" if not place.take or not place.take.findings else "Save anyway and next"
    if earlier:
        words = "Save instead of the earlier one"
    with st.container(horizontal=True):
        st.button(words, type="primary", shortcut=KEYS["save"], disabled=not place.is_unsaved, on_click=save,
                  args=(place, earlier))  # fmt: skip
        if place.kind != FREE:
            button = LEAVE if earlier else SKIP
            st.button(button, shortcut=KEYS["skip"], on_click=skip, args=(place, button))
            st.button(BACK, shortcut=KEYS["back"], on_click=back, args=(place,), disabled=not place.visited)


def show_message(place: Place) -> None:
    if place.message:
        kind, words = place.message
        getattr(st, kind)(as_plain(words))


def read_aloud(place: Place, clips: list[inbox.StoredClip]) -> None:
    """The phrase, the take and what to do with it."""
    earlier = choose_phrase(place, clips) if place.kind != FREE else None
    if not place.phrase and place.kind == OWN:
        st.info("You have no phrases of your own yet. Write some below.")
        return
    record_phrase(place)
    show_buttons(place, earlier)
    show_message(place)
    if place.take:
        judge(place.take)
        if not place.can_hear:
            play(lambda: place.take.content, place.take.suffix, "The recording that is not saved yet")
    if earlier:
        st.text("Saved before:")
        play(partial(inbox.content_of, earlier), PurePosixPath(earlier.audio_path).suffix, earlier.text)


def show_progress(clips: list[inbox.StoredClip]) -> None:
    minutes = sum(clip.duration_s or 0 for clip in clips) / 60
    st.divider()
    st.markdown(f"**{counted(len(clips), 'recording')}, {minutes:.1f} minutes**")
    milestone = reading.next_milestone(len(clips))
    if milestone is None:
        st.write("All three goals reached. More recordings still help, above all free speech.")
    else:
        goal = f"{milestone.clips - len(clips)} more to {milestone.clips} recordings"
        st.progress(len(clips) / milestone.clips, text=goal)
    with st.expander("What 50, 250 and 500 recordings bring"):
        for goal in reading.MILESTONES:
            st.markdown(f"**{goal.clips}.** {goal.brings} ([{goal.source}]({goal.link}))")
        st.caption("These studies had other models and voices: yours may differ.")


def edit_own_phrases(place: Place) -> None:
    own = reading.own_phrases(place.speaker, place.language)
    with (
        st.expander("My own phrases, words and names", expanded=place.kind == OWN and not own),
        st.form(f"own-{place.speaker}-{place.language}", border=False),
    ):
        st.write("Names, places, commands, words of your work. They come first.")
        text = st.text_area("One on each line", "\n".join(own), height=160, max_chars=50_000)
        if st.form_submit_button("Keep these phrases"):
            own = phrases.from_text(text)
            reading.save_own_phrases(place.speaker, place.language, own)
            say("own phrases", f"Kept: {counted(len(own), 'phrase')}.")
            if place.take is None:
                place.phrase, place.is_again = "", False  # a new one may come first
            st.rerun()
        show_said("own phrases")


def choose_phrase(place: Place, clips: list[inbox.StoredClip]) -> inbox.StoredClip | None:
    """Choose what is read next, if nothing is chosen; returns the recording that a new take would replace."""
    texts = reading.own_phrases(place.speaker, place.language)
    if place.kind == PHRASES:
        texts = list(dict.fromkeys([*texts, *phrases.from_file(place.language)]))
    counts = reading.recorded_counts(clips, place.speaker)
    place.skipped = [one for one in place.skipped if one in texts]  # own phrases may have been taken out
    place.phrase = place.phrase or reading.next_phrase(texts, place.language, counts, place.skipped) or ""
    this_prompt = phrases.prompt_id(place.language, place.phrase)
    if place.is_again:
        return next((clip for clip in reversed(clips) if clip.prompt_id == this_prompt), None)
    if texts and all(counts[phrases.prompt_id(place.language, text)] for text in texts):
        st.info("Every phrase is recorded. Recording each once more helps too.")
    return None


st.title("Record")
is_opened = "kind" not in state
state.setdefault("kind", state["place"].kind if "place" in state else PHRASES)
place = find_place(voice(), state["kind"], is_opened)
consenting_voice()
st.segmented_control(
    "What to say",
    [PHRASES, OWN, FREE],
    key="kind",
    required=True,
    width="stretch",
    persist_state="page",  # while somebody new reads what they agree to
)
clips = [clip for clip in inbox.stored_clips() if clip.speaker == place.speaker]
if place.in_set >= params.recorder.set_size:
    rest(place)
else:
    read_aloud(place, clips)
show_progress(clips)
if place.kind != FREE:
    edit_own_phrases(place)

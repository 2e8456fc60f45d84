"""Clips: listen to the recordings, correct their texts, delete them; charts of all of them together."""

from __future__ import annotations

from html import escape
from pathlib import Path

import streamlit as st

from recorder import collection, inbox, mover
from recorder.inbox import StoredClip
from recorder.views import charts
from recorder.views.shared import as_plain, sound_type, spoken_text
from stages.common.plurals import counted
from stages.common.stage import UserError
from stages.speech.clips import Clip

RECORDINGS, PICTURES, REVIEW, REJECTED, OTHERS = "Recordings", "Pictures", "To check", "Not used", "Other folders"
ON_A_PAGE = 20
ROWS_SHOWN = 100
STILL_HELD = "Older versions of the data still hold it: the end of this page says how to erase them."

state = st.session_state


def say(words: str, is_problem: bool = False) -> None:
    """Show this above the list the next time the page is drawn."""
    state["clips_message"] = (words, is_problem)


def open_clip(clip: StoredClip | None, what: str = "") -> None:
    """One recording at a time is played, corrected or about to be deleted."""
    state["opened"] = (clip.file, what) if clip else None


def correct(clip: StoredClip) -> None:
    try:
        inbox.correct_text(clip, state[f"text {clip.file}"])
    except (UserError, OSError) as error:
        say(f"Not saved: {error}", is_problem=True)
        return
    mover.start_moving()
    open_clip(None)
    say("Text corrected. The next training uses it.")


def delete(clip: StoredClip) -> None:
    try:
        inbox.delete(clip)
    except OSError as error:
        say(f"Not deleted: {error}", is_problem=True)
        return
    mover.start_moving()
    open_clip(None)
    say(f"Recording {clip.id} is deleted. {STILL_HELD}")


def delete_all_of_speaker() -> None:
    speaker = state["speaker_to_delete"]
    if state["name_again"].strip() != speaker:
        say("Nothing was deleted: the typed name is different.", is_problem=True)
        return
    clips = [clip for clip in inbox.stored_clips() if clip.speaker == speaker]
    try:
        with st.spinner(f"Deleting {counted(len(clips), 'recording')}"):
            for clip in clips:
                inbox.delete(clip)
    except OSError as error:
        say(f"Not all were deleted: {error}", is_problem=True)
        return
    mover.start_moving()
    say(f"Deleted: {counted(len(clips), 'recording')} of {speaker}. {STILL_HELD}")


def play(clip: StoredClip, autoplay: bool) -> None:
    try:
        sound = inbox.content_of(clip)
    except UserError as error:
        st.error(as_plain(str(error)))
        return
    st.audio(sound, format=sound_type(Path(clip.audio_path).suffix), autoplay=autoplay, alt=clip.text)


def quietly(parts: list[str]) -> str:
    """A line of smaller text as HTML, broken only between its parts."""
    unbroken = (f'<span style="display: inline-block">{escape(part)}</span>' for part in parts if part)
    return f'<div dir="auto" style="opacity: 0.75; font-size: 0.9em">{" · ".join(unbroken)}</div>'


def show_list(items: list[tuple[str, list[str]]], where_the_rest_is: str) -> None:
    """Texts with details, as many as a page can hold."""
    rows = "".join(
        f'<li dir="auto" style="margin-bottom: 0.8em">{escape(text)}{quietly(parts)}</li>'
        for text, parts in items[:ROWS_SHOWN]
    )
    st.html(f'<ul style="list-style: none; padding: 0; overflow-wrap: anywhere">{rows}</ul>')
    if len(items) > ROWS_SHOWN:
        st.text(f"{len(items) - ROWS_SHOWN} more: {where_the_rest_is}.")


def details(clip: StoredClip | Clip) -> list[str]:
    """Speaker, language and length."""
    length = f"{clip.duration_s:.1f} s" if clip.duration_s is not None else ""
    return [clip.speaker or "no name", collection.language_name(clip.language), length]


def show_clip(clip: StoredClip) -> None:
    what = state["opened"][1] if state.get("opened") and state["opened"][0] == clip.file else ""
    with st.container(border=True):
        if what == "correct":
            st.text_area("What was said, word for word", clip.text, key=f"text {clip.file}", height="content")
        else:
            spoken_text(clip.text, clip.language or "")
        made = (clip.recorded_at or "")[:16].replace("T", " ")
        st.html(quietly([*details(clip), "uploaded" if clip.source == "uploaded" else "", made]))
        if what in ("play", "correct"):
            play(clip, autoplay=what == "play")
        if what == "delete":
            st.warning(f"Delete this recording (id {clip.id})? No later training uses it. {STILL_HELD}")
        with st.container(horizontal=True):
            if what == "correct":
                st.button("Save", key=f"save {clip.file}", type="primary", on_click=correct, args=(clip,))
                st.button("Cancel", key=f"leave {clip.file}", on_click=open_clip, args=(None,))
            elif what == "delete":
                st.button("Delete it", key=f"really {clip.file}", type="primary", on_click=delete, args=(clip,))
                st.button("Keep it", key=f"keep {clip.file}", on_click=open_clip, args=(None,))
            else:
                st.button("Play", key=f"play {clip.file}", on_click=open_clip, args=(clip, "play"))
                st.button("Correct the text", key=f"correct {clip.file}", on_click=open_clip, args=(clip, "correct"))
                st.button("Delete", key=f"delete {clip.file}", on_click=open_clip, args=(clip, "delete"))


def first_page() -> None:
    state["clips_page"] = 1


def show_recordings(clips: list[StoredClip]) -> None:
    if not clips:
        st.info("Nothing is recorded yet. Begin on the Record page, or add recordings on the Upload page.")
        if others := collection.other_folders():
            st.write(as_plain(f"Training also uses recordings from elsewhere: {', '.join(others)} (in data/raw)."))
        return
    words = st.text_input("Search in texts, speakers and languages", key="clips_search", on_change=first_page)
    found = collection.search(collection.newest_first(clips), words)
    minutes = sum(clip.duration_s or 0.0 for clip in found) / 60
    st.text(f"{len(found)} of {counted(len(clips), 'recording')}, {minutes:.1f} minutes, the newest first")
    pages = max(1, -(-len(found) // ON_A_PAGE))
    page = min(state.get("clips_page", 1), pages)
    if pages > 1:
        page = st.pagination(pages, default=page, key=f"page of {pages} {words}")
    state["clips_page"] = page
    for clip in found[(page - 1) * ON_A_PAGE : page * ON_A_PAGE]:
        show_clip(clip)
    explain_erasing()
    speakers = sorted({clip.speaker for clip in clips if clip.speaker})
    if speakers:
        ask_for_speaker(speakers)


def explain_erasing() -> None:
    with st.expander("How to erase recordings for good"):
        st.write(
            "A deleted recording is not used in any later training. But older versions of the data still hold it, and "
            "the present model has learnt from it. To erase those too, run one of these in a terminal in this folder. "
            "It lists what would be removed, and asks first:"
        )
        st.code("make forget CLIP=the id of the recording", language=None, wrap_lines=True)
        st.code('make forget SPEAKER="the name of the speaker"', language=None, wrap_lines=True)
        st.write("Add HUB=1 to remove published copies too. Copies of this folder on other machines need the same.")


def ask_for_speaker(speakers: list[str]) -> None:
    with (
        st.expander("Delete all recordings of one speaker"),
        st.form("all of one speaker", border=False, clear_on_submit=True),
    ):
        st.selectbox("Speaker", speakers, key="speaker_to_delete")
        st.text_input("To confirm, type the name again", key="name_again")
        st.form_submit_button("Delete all recordings of this speaker", on_click=delete_all_of_speaker)


def show_pictures(clips: list) -> None:
    if not clips:
        st.info("Nothing is recorded yet.")
        return
    st.subheader("Minutes by language and speaker")
    voices = collection.minutes_by_voice(clips)
    charts.bars(voices[:ON_A_PAGE], "min", "Minutes by language and speaker")
    if len(voices) > ON_A_PAGE:
        st.text(f"and {len(voices) - ON_A_PAGE} more with fewer minutes")
    st.subheader("Length")
    charts.histogram([clip.duration_s for clip in clips], "seconds", "Length")
    st.subheader("Loudness")
    st.write("The loudest parts of each recording. Speech close to the microphone is mostly at -30 to -15 dB.")
    charts.histogram([clip.level_dbfs for clip in clips], "dB of full scale", "Loudness")
    st.subheader("Distance to the noise")
    st.write("How far the speech is above the background. Above 20 dB is good, below 12 dB is noisy.")
    charts.histogram([clip.snr_db for clip in clips], "dB", "Speech above noise")


def show_rejected(clips: list[StoredClip]) -> None:
    rows = collection.rejected(clips)
    if not rows:
        st.info("The last training could use every recording.")
        return
    st.write(f"The last training could not use {len(rows)} of the recordings. For each: why, and what to do.")
    text_of = {clip.file: clip.text for clip in clips}
    items = [(f"{row['reason']}: {row['remedy']}", [text_of.get(row["file"], ""), row["file"]]) for row in rows]
    show_list(items, "see data/prepared/rejected.jsonl")


def show_to_review(clips: list[StoredClip]) -> None:
    rows = collection.to_review(clips)
    if not rows:
        st.info("Nothing to check in the recordings of the last training.")
        return
    st.write(f"Training uses these recordings ({len(rows)}). Listen whether the text is right.")
    items = [(row["text"], [f"{row['reason']}: {row['listen_for']}", row["file"]]) for row in rows]
    show_list(items, "see data/prepared/review.jsonl and data/review/base_model.jsonl")


def show_others(others: list) -> None:
    if not others:
        st.info("The last training used no recordings from other folders.")
        return
    st.write(
        "Recordings in other folders of data/raw, as they were at the last training. Correct their texts there, in the "
        "table or text file beside the sound, and train again."
    )
    words = st.text_input("Search in texts, speakers and languages", key="others_search")
    found = collection.search(others, words)
    st.text(f"{len(found)} of {counted(len(others), 'recording')}")
    items = [(clip.text, [*details(clip), f"data/raw/{clip.recorded_file}"]) for clip in found]
    show_list(items, "search to see them")


st.title("Clips")
# Texts are typed in any script: each takes the direction of its own letters.
st.html("<style>textarea { unicode-bidi: plaintext; text-align: start }</style>")
clips = inbox.stored_clips()
if message := state.pop("clips_message", None):
    words, is_problem = message
    (st.error if is_problem else st.success)(as_plain(words))
if waiting := inbox.waiting():
    st.caption(f"Saved, not yet in data/raw: {counted(waiting, 'change')}. A running training must end first.")
section = st.segmented_control(
    "Show",
    [RECORDINGS, PICTURES, REVIEW, REJECTED, OTHERS],
    default=RECORDINGS,
    required=True,
    key="clips_section",
    label_visibility="collapsed",
)
if section == RECORDINGS:
    show_recordings(clips)
elif section == PICTURES:
    show_pictures([*clips, *collection.from_other_folders()])
elif section == REVIEW:
    show_to_review(clips)
elif section == REJECTED:
    show_rejected(clips)
else:
    show_others(collection.from_other_folders())

"""Clips: listen to the recordings, correct their texts, delete them; what to check."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath

import streamlit as st

from recorder import collection, inbox, mover
from recorder.inbox import StoredClip
from recorder.views.rows import a_page_of, open_row, opened, play, prepared_sound, show_row, small, spoken
from recorder.views.shared import as_plain, say, show_said
from stages.common.plurals import counted
from stages.common.stage import UserError

CORRECT, DELETE = "Correct the text", "Delete"  # a row's buttons
STILL_HELD = "Older versions of the data still hold it: the end of this page says how to erase them."


def change(do: Callable[[], None], words: str) -> None:
    """Put a change into the inbox, and say so; the row stays open if it is refused."""
    try:
        do()
    except (UserError, OSError) as error:
        say("clips", f"Not saved: {error}", "error")
        return
    mover.start_moving()
    open_row("", "")
    say("clips", words)


def correct(clip: StoredClip) -> None:
    text = st.session_state[f"text {clip.file}"]
    change(lambda: inbox.correct_text(clip, text), "Text corrected. The next training uses it.")


def delete(clip: StoredClip) -> None:
    change(lambda: inbox.delete(clip), f"Recording {clip.id} is deleted. {STILL_HELD}")


def show_clip(clip: StoredClip) -> None:
    key, sound, suffix = clip.file, partial(inbox.content_of, clip), PurePosixPath(clip.audio_path).suffix
    made = (clip.recorded_at or "")[:16].replace("T", " ")
    length = f"{clip.duration_s:.1f} s" if clip.duration_s is not None else ""
    source = "uploaded" if clip.source == "uploaded" else ""
    below = small([clip.speaker or "no name", collection.language_name(clip.language), length, source, made])
    if opened(key) not in (CORRECT, DELETE):
        show_row(key, spoken(clip.text, clip.language) + below, sound, CORRECT, DELETE, suffix=suffix, alt=clip.text)
        return
    with st.container(border=True):
        if opened(key) == CORRECT:
            st.text_area("What was said, word for word", clip.text, key=f"text {key}", height="content")
            st.html(below)
            play(sound, suffix, clip.text)
            press, answers = correct, ("Save", "Cancel")
        else:
            st.html(spoken(clip.text, clip.language) + below)
            st.warning(f"Delete this recording (id {clip.id})? No later training uses it. {STILL_HELD}")
            press, answers = delete, ("Delete it", "Keep it")
        with st.container(horizontal=True):
            st.button(answers[0], key=f"{answers[0]} {key}", type="primary", on_click=press, args=(clip,))
            st.button(answers[1], key=f"{answers[1]} {key}", on_click=open_row, args=("", ""))


def show_recordings(clips: list[StoredClip]) -> None:
    if not clips:
        st.info("Nothing is recorded yet. Begin on the Record page, or add recordings on the Upload page.")
        if others := collection.other_folders():
            st.write(as_plain(f"Training also uses recordings from elsewhere: {', '.join(others)} (in data/raw)."))
        return
    words = st.text_input("Search in texts, speakers and languages", key="clips_search")
    found = collection.search(clips[::-1], words)
    minutes = sum(clip.duration_s or 0.0 for clip in found) / 60
    st.text(f"{len(found)} of {counted(len(clips), 'recording')}, {minutes:.1f} minutes, the newest first")
    for clip in a_page_of(found, f"recordings {words}"):
        show_clip(clip)
    with st.expander("How to erase recordings for good"):
        st.write(
            "A deleted recording is not used in any later training. But older versions of the data still hold it, and "
            "the present model has learnt from it. To erase those too, run one of these in a terminal in this folder. "
            "It lists what would be removed, and asks first:"
        )
        st.code("make forget CLIP=the id of the recording", language=None, wrap_lines=True)
        st.code('make forget SPEAKER="the name of the speaker"', language=None, wrap_lines=True)
        st.write("Add HUB=1 to remove published copies too. Copies of this folder on other machines need the same.")


def show_to_review(clips: list[StoredClip]) -> None:
    rows = collection.to_review(clips)
    if not rows:
        st.info("Nothing to check in the recordings of the last training.")
        return
    st.write(f"Training uses these recordings ({len(rows)}). Listen whether the text is right.")
    for number, row in enumerate(a_page_of(rows, "review")):
        html = spoken(row["text"], None) + small([f"{row['reason']}: {row['listen_for']}", row["file"]])
        show_row(f"{number} {row['id']}", html, partial(prepared_sound, row["id"]), alt=row["text"])


def show_rejected(clips: list[StoredClip]) -> None:
    rows = collection.rejected(clips)
    if not rows:
        st.info("The last training could use every recording.")
        return
    st.write(f"The last training could not use {len(rows)} of the recordings. For each: why, and what to do.")
    text_of = {clip.file: clip.text for clip in clips}
    for number, row in enumerate(a_page_of(rows, "rejected")):
        html = spoken(f"{row['reason']}: {row['remedy']}", "en") + small([text_of.get(row["file"], ""), row["file"]])
        show_row(str(number), html, None)


SECTIONS = {"Recordings": show_recordings, "To check": show_to_review, "Not used": show_rejected}

st.title("Clips")
# Texts are typed in any script: each takes the direction of its own letters.
st.html("<style>textarea { unicode-bidi: plaintext; text-align: start }</style>")
show_said("clips")
if waiting := inbox.waiting():
    st.caption(f"Saved, not yet in data/raw: {counted(waiting, 'change')}. A running training must end first.")
section = st.segmented_control(
    "Show", list(SECTIONS), default="Recordings", required=True, key="section", label_visibility="collapsed"
)
SECTIONS[section](inbox.stored_clips())

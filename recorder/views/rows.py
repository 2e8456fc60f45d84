"""Recordings in a list: what was said in each, details and Play; one at a time is open, to be played or changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import streamlit as st

from recorder.phrases import LANGUAGES
from recorder.views.shared import as_plain
from stages.common.stage import UserError
from stages.speech import prepared

ON_A_PAGE = 20
state = st.session_state


def a_page_of(found: Sequence, name: str) -> Sequence:
    """Of a long list the part that a person has turned to; `name` names the list."""
    pages = -(-len(found) // ON_A_PAGE)
    page = st.pagination(pages, key=f"page of {name}") if pages > 1 else 1
    return found[(page - 1) * ON_A_PAGE : page * ON_A_PAGE]


def show_row(
    key: str, html: str, sound: Callable[[], bytes] | None, *changes: str, suffix: str = ".flac", alt: str = ""
) -> None:
    """A recording in a frame: Play, and a button for each of `changes`, which opens it for that.

    key: no other row of the page has it. sound: a file of type `suffix`, or UserError; None: it cannot be played here.
    """
    with st.container(border=True):
        st.html(html)
        if sound and opened(key) == "Play":
            play(sound, suffix, alt, autoplay=True)
        with st.container(horizontal=True):
            for change in (*(["Play"] if sound else []), *changes):
                st.button(change, key=f"{change} {key}", on_click=open_row, args=(key, change))


def open_row(key: str, change: str) -> None:
    """Close what is open, and open this; `change` is the word on its button, "" for none."""
    state["opened"] = (key, change)


def opened(key: str) -> str:
    """What a row is open for: the word on the button, "" if it is closed."""
    at, change = state.get("opened", ("", ""))
    return change if at == key else ""


def play(sound: Callable[[], bytes], suffix: str, alt: str, autoplay: bool = False) -> None:
    known = {".mp3": "mpeg", ".m4a": "mp4", ".oga": "ogg", ".opus": "ogg"}
    try:
        content = sound()
    except UserError as error:
        st.error(as_plain(str(error)))
        return
    st.audio(content, f"audio/{known.get(suffix, suffix.removeprefix('.'))}", autoplay=autoplay, alt=alt)


def prepared_sound(identity: str) -> bytes:
    """A recording as the model hears it, FLAC. Raises: UserError if it is missing."""
    path = prepared.path_of(identity)
    if path is None:
        raise UserError("This recording was deleted, or is not on this computer ('dvc checkout' fetches it).")
    return prepared.content(path)


def spoken(text: str, language: str | None) -> str:
    """HTML of a text in a person's language, marked as such for screen readers, in its own direction."""
    direction = LANGUAGES[language].direction if language in LANGUAGES else "auto"
    return (
        f'<p lang="{escape(language or "")}" dir="{direction}" style="margin: 0.3em 0; overflow-wrap: anywhere">'
        f"{escape(text)}</p>"
    )


def small(parts: Sequence[str]) -> str:
    """HTML of a line of smaller text, broken only between its parts."""
    unbroken = (f'<span style="display: inline-block">{escape(part)}</span>' for part in parts if part)
    return f'<div dir="auto" style="opacity: 0.75; font-size: 0.9em">{" · ".join(unbroken)}</div>'

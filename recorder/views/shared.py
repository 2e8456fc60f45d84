"""Parts of several pages: who speaks, what people agree to, what happened after a press, a take and what is wrong."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import streamlit as st

from recorder import inbox, mover, pictures
from recorder.listener import Listener
from recorder.phrases import LANGUAGES
from recorder.takes import Take
from stages.speech.text import VOXTRAL_LANGUAGES

CONSENT = (
    "I agree that my voice is recorded on this computer and used to train a speech recogniser for me. "
    "Recordings, texts and my name stay on this computer. They are sent nowhere unless somebody here publishes or "
    "copies them on purpose. I can listen to my recordings, and delete them, on the Clips page at any time. "
    "Older copies, and a model that has learnt from them, remain until whoever set this up erases them."
)
SOMEONE_ELSE = ""
state = st.session_state


@dataclass(frozen=True)
class Voice:
    """Who speaks in this tab, and in which language; SOMEONE_ELSE until that person has given a name."""

    speaker: str
    language: str


@st.cache_resource
def listener() -> Listener:
    """One for all tabs: it holds the model in memory, until nobody has asked for a while."""
    return Listener()


def voice() -> Voice:
    """As chosen in the sidebar (see app.py)."""
    return Voice(state.get("speaker") or SOMEONE_ELSE, state["language"])


def consenting_voice() -> Voice:
    """The voice. Its person first gives a name and, once, agrees to being recorded; until then the page ends here."""
    person = voice()
    if not person.speaker:
        _ask_name()
        st.stop()
    if person.speaker not in inbox.consents():
        have_agreed([person.speaker], inbox.consents(), CONSENT, "Before the first recording")
        st.stop()
    return person


def have_agreed(
    speakers: Sequence[str], agreed: Collection[str], wording: str, title: str, publish: bool | None = None
) -> bool:
    """Whether all have agreed; else asks the first who has not, and stores the answer. publish: see record_consent."""
    speaker = next((one for one in speakers if one not in agreed), None)
    if speaker is None:
        return True
    st.subheader(title)
    st.text(f"For: {speaker}")
    st.write(wording)
    st.caption("This page is in English. Somebody may read it to you.")
    # Keys with the name: a tick must not pass to the next one.
    ticked = st.checkbox("I have read this, and I agree.", key=f"agrees {publish} {speaker}")
    if st.button("Continue", key=f"continue {publish} {speaker}", type="primary", disabled=not ticked):
        inbox.record_consent(speaker, wording, publish)
        mover.start_moving()
        st.rerun()
    return False


def sidebar() -> None:
    """Who speaks, in which language. Both are kept in the page's address: a reload in a tab keeps its person."""
    known = known_speakers()
    asked = st.query_params
    with st.sidebar:
        if "speaker" not in state:
            # Nobody of several is chosen: what is saved under another's name stays there.
            only = known[0] if len(known) == 1 else None
            state["speaker"] = asked["speaker"].strip() if "speaker" in asked else only
        names = {*known, state["speaker"]} - {None, SOMEONE_ELSE}
        if names:
            # Not a text field: a typed name that is not confirmed would look chosen while another is in force. Text can
            # be pasted into a selectbox, too.
            st.radio(
                "Who is speaking?",
                [*sorted(names, key=str.casefold), SOMEONE_ELSE],
                key="speaker",
                index=None,
                format_func=_label,
                persist_state="session",
                help="The name is kept with each recording, so that several people can use this machine.",
            )
        speaker = state["speaker"]
        if "language" not in state:
            clips = inbox.stored_clips()[::-1]
            last = next((clip.language for clip in clips if clip.speaker == speaker), None)
            wanted = [asked.get("language"), last, (st.context.locale or "en")[:2], "en"]
            state["language"] = next(code for code in wanted if code in LANGUAGES)
        st.selectbox(
            "Language",
            sorted(LANGUAGES, key=lambda code: LANGUAGES[code].name),
            key="language",
            format_func=lambda code: f"{LANGUAGES[code].name} · {LANGUAGES[code].own_name}",
            persist_state="session",
        )
        if state["language"] not in VOXTRAL_LANGUAGES:
            st.caption(
                f"Voxtral understands {LANGUAGES[state['language']].name} less well than the "
                f"{len(VOXTRAL_LANGUAGES)} languages it was made for. Your recordings can still help it: after a "
                "training, the Results page says how much."
            )
    if speaker is not None:
        asked["speaker"] = speaker
    asked["language"] = state["language"]


def known_speakers() -> list[str]:
    """Everybody who has recordings here or has agreed to be recorded; who recorded last comes first."""
    of_clips = [clip.speaker for clip in inbox.stored_clips()[::-1] if clip.speaker]
    return list(dict.fromkeys([*of_clips, *inbox.consents()]))


def say(place: str, words: str, kind: str = "success") -> None:
    """Show this when `show_said(place)` is called next; `kind`: success, info, warning or error."""
    state.setdefault("said", {})[place] = (kind, words)


def show_said(place: str) -> None:
    """What the last press at this place of a page has led to, once."""
    if said := state.get("said", {}).pop(place, None):
        kind, words = said
        getattr(st, kind)(as_plain(words))


def as_plain(text: str) -> str:
    """Text that Streamlit's markdown shows letter by letter."""
    # Before any other character Markdown would show the backslash.
    return re.sub(f"([{re.escape(string.punctuation)}])", r"\\\1", text)


def judge(take: Take) -> None:
    """A picture of a take, and what to do about it, in words."""
    if take.samples.size:
        picture, words = pictures.waveform(take.samples)
        st.image(picture, alt=words, width="stretch")
    for finding in take.findings:
        (st.error if finding.blocking else st.warning)(finding.words)
    if not take.findings:
        st.success(f"This is good: {take.figures['duration_s']:.1f} seconds.")


def _label(speaker: str) -> str:
    """Markdown for the list. Streamlit tells choices apart by it: in italics, no name can equal "Someone else"."""
    return "*Someone else*" if speaker == SOMEONE_ELSE else as_plain(speaker)


def _ask_name() -> None:
    st.write("Your recordings teach a speech recogniser to understand you. It does not need to be done in one day.")
    if known := known_speakers():
        st.subheader("Who is speaking?")
        with st.container(horizontal=True):
            for speaker in known:
                st.button(as_plain(speaker), key=f"is {speaker}", on_click=_speaks, args=(speaker,))
        st.write("Or somebody new:")
    with st.form("name", border=False):
        name = st.text_input("Your name, or any name for this voice", max_chars=60)
        if st.form_submit_button("Start", type="primary"):
            if name.strip():
                _speaks(name.strip())
                st.rerun()
            st.warning("Type a name first.")


def _speaks(speaker: str) -> None:
    st.query_params["speaker"] = speaker
    del state["speaker"]  # the sidebar takes it from the address

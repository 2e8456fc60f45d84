"""Upload: recordings made elsewhere, looked through in a table before they are saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
import streamlit as st

from recorder import inbox, mover, takes, uploads
from recorder.phrases import LANGUAGES
from recorder.views.shared import CONSENT, as_plain, consenting_voice, have_agreed, say, show_said
from stages.common.params import load_params
from stages.common.plurals import counted
from stages.common.stage import UserError
from stages.speech import audio
from stages.speech.names import AUDIO_SUFFIXES

HELP = """
- One recording or many: WAV, FLAC, MP3, OGG, Opus, M4A, WebM. Or one ZIP with all of them.
- Type below what was said, or upload it too: a text file of the same name for each recording, or one table (CSV, TSV,
  JSONL) with the columns file and text. Data sets and subtitles are read as well.
- Recordings of a few seconds to half a minute each are best.
"""
SHOWN_PROBLEMS = 3
state = st.session_state


def examine(upload: uploads.Upload) -> list[takes.Take]:
    """Measure and check each recording; the takes come without samples, which are ten times as large as the file."""
    limits = load_params().prepare
    examined = []
    bar = st.progress(0.0, text="Checking the recordings")
    for number, pair in enumerate(upload.pairs, 1):
        take = takes.from_file(pair.content, suffix_of(pair.name), limits)
        examined.append(replace(take, samples=np.zeros(0)))
        done = f"{number} of {counted(len(upload.pairs), 'recording')} checked"
        bar.progress(number / len(upload.pairs), text=done)
    bar.empty()
    return examined


def suffix_of(name: str) -> str:
    """The ending under which an uploaded file is stored; its content decides what it is."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in AUDIO_SUFFIXES else ".sound"


def show_problems(problems: list[uploads.Problem]) -> None:
    """A table may name thousands of missing files: the first in words, all in a list."""
    if not problems:
        return
    first = "\n".join(f"- {as_plain(f'{one.file}: {one.words}')}" for one in problems[:SHOWN_PROBLEMS])
    st.warning(f"{counted(len(problems), 'thing')} in these files could not be used:\n\n{first}")
    if len(problems) > SHOWN_PROBLEMS:
        st.dataframe([{"Where": one.file, "What is wrong, and what to do": one.words} for one in problems])


def table(upload: uploads.Upload, examined: list[takes.Take], speaker: str, language: str) -> list[dict]:
    """A table of the upload to correct.

    Streamlit keeps corrections by row; here they stay with their recording when files are added or removed.
    """
    given = []
    for pair, take in zip(upload.pairs, examined, strict=True):
        remarks = [finding.words for finding in take.findings]
        if pair.language and pair.language not in LANGUAGES:
            remarks.append(f"Its language {pair.language} is unknown: choose one.")
        given.append(
            {
                "Save": not take.blocked,
                "File": pair.name,
                "What was said": pair.text,
                "Remarks": " ".join(remarks),
                "Language": pair.language if pair.language in LANGUAGES else language,
                "Speaker": pair.speaker or speaker,
                "Seconds": take.figures.get("duration_s"),
            }
        )
    recordings = [(pair.name, take.id) for pair, take in zip(upload.pairs, examined, strict=True)]
    key = f"table {hash(tuple(recordings))} {language}"
    if state.get("shown_table") != key:
        state.update(shown_table=key, corrected_before=state.get("corrected", {}))
    rows = st.data_editor(
        [row | state["corrected_before"].get(one, {}) for row, one in zip(given, recordings, strict=True)],
        key=key,
        hide_index=True,
        disabled=["File", "Seconds", "Remarks"],
        column_config={
            "What was said": st.column_config.TextColumn(width="large"),
            "Language": st.column_config.SelectboxColumn(options=list(LANGUAGES), required=True),
            "Seconds": st.column_config.NumberColumn(format="%.1f"),
        },
        width="stretch",
    )
    corrected = {
        one: {column: row[column] for column in row if row[column] != before[column]}
        for one, row, before in zip(recordings, rows, given, strict=True)
    }
    state["corrected"] = state["corrected_before"] | corrected
    return rows


def listen(upload: uploads.Upload, examined: list[takes.Take]) -> None:
    readable = [number for number, take in enumerate(examined) if take.figures]
    if readable:
        number = st.selectbox("Listen to", readable, format_func=lambda number: upload.pairs[number].name)
        samples, sample_rate_hz = audio.decode(upload.pairs[number].content)
        st.audio(samples.T, sample_rate=sample_rate_hz)


def save(rows: list[dict], examined: list[takes.Take], person: str) -> None:
    """Save the ticked recordings; if some are refused, the table stays, with the reasons."""
    saved, known, refused = 0, 0, []
    for row, take in zip(rows, examined, strict=True):
        if not row["Save"]:
            continue
        speaker = (row["Speaker"] or "").strip() or person
        text = row["What was said"] or ""
        try:
            _, is_new = inbox.save_clip(take, text=text, language=row["Language"], speaker=speaker, source="uploaded")
            saved, known = saved + is_new, known + (not is_new)
        except (UserError, OSError) as error:
            refused.append(f"Not saved: {row['File']}: {error}")
    mover.start_moving()
    words = f"{saved} saved."
    if known:
        words += f" {known} {'was' if known == 1 else 'were'} here already, not saved again."
    say("upload", "\n\n".join([words, *refused]), "error" if refused else "success")
    if not refused:
        state["upload_round"] += 1
        state.update(corrected={}, shown_table=None)
    st.rerun()


st.title("Upload")
person = consenting_voice()
state.setdefault("upload_round", 0)
st.markdown(HELP)
files = st.file_uploader(
    "Recordings, texts, tables or a ZIP", accept_multiple_files=True, key=f"files-{state['upload_round']}"
)
show_said("upload")
if files:
    identity = [file.file_id for file in files]
    if state.get("examined", (None,))[0] != identity:
        with st.spinner("Reading the files"):
            upload = uploads.read_uploads([(file.name, file.getvalue()) for file in files])
        state["examined"] = (identity, upload, examine(upload))
    _, upload, examined = state["examined"]
    show_problems(upload.problems)
    if upload.pairs:
        st.write("Look through the texts. A wrong text teaches wrong words.")
        rows = table(upload, examined, person.speaker, person.language)
        listen(upload, examined)
        names = sorted({(row["Speaker"] or "").strip() for row in rows if row["Save"]} - {""})
        may_save = have_agreed(names, inbox.consents(), CONSENT, "Before these recordings are saved")
        count = sum(row["Save"] for row in rows)
        if st.button(f"Save {counted(count, 'recording')}", type="primary", disabled=not may_save):
            with st.spinner("Saving"):
                save(rows, examined, person.speaker)
    else:
        st.info("No recording is among these files.")
else:
    state.pop("examined", None)  # free the memory
    state["shown_table"] = None

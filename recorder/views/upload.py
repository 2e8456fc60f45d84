"""Upload: recordings made elsewhere, looked through in a table before they are saved."""

from __future__ import annotations

import streamlit as st

from recorder import inbox, takes, uploads
from recorder.phrases import LANGUAGES
from recorder.views.shared import as_plain, consenting_voice, suffix_of
from stages.pipeline.params import load_params
from stages.pipeline.stage import UserError

HELP = """
- One recording or many: WAV, FLAC, MP3, OGG, Opus, M4A, WebM. Or one ZIP with all of them.
- What was said can be typed below, or come along: a text file of the same name beside each recording, or one table
  (CSV, TSV, JSONL) with the columns file and text.
- Recordings of a few seconds to half a minute each are best.
"""
state = st.session_state


def examine(upload: uploads.Upload, language: str) -> list[takes.Take]:
    """Each recording measured and judged."""
    limits = load_params().prepare
    examined = []
    bar = st.progress(0.0, text="The recordings are being checked")
    for number, pair in enumerate(upload.pairs, 1):
        examined.append(
            takes.from_file(pair.content, suffix_of(pair.name), pair.text, pair.language or language, limits)
        )
        bar.progress(number / len(upload.pairs), text=f"{number} of {len(upload.pairs)} recordings checked")
    bar.empty()
    return examined


def table(upload: uploads.Upload, examined: list[takes.Take], speaker: str, language: str) -> list[dict]:
    """What was uploaded, to be corrected by the person."""
    rows = [
        {
            "Save": not take.blocked,
            "File": pair.name,
            "What was said": pair.text,
            "Remarks": " ".join(finding.words for finding in take.findings),
            "Language": pair.language if pair.language in LANGUAGES else language,
            "Speaker": pair.speaker or speaker,
            "Seconds": take.figures.get("duration_s"),
        }
        for pair, take in zip(upload.pairs, examined, strict=True)
    ]
    return st.data_editor(
        rows,
        key=f"table-{state['upload_round']}",
        hide_index=True,
        disabled=["File", "Seconds", "Remarks"],
        column_config={
            "What was said": st.column_config.TextColumn(width="large"),
            "Language": st.column_config.SelectboxColumn(options=list(LANGUAGES), required=True),
            "Seconds": st.column_config.NumberColumn(format="%.1f"),
        },
        width="stretch",
    )


def listen(upload: uploads.Upload, examined: list[takes.Take]) -> None:
    readable = [number for number, take in enumerate(examined) if take.samples.size]
    if readable:
        number = st.selectbox("Listen to", readable, format_func=lambda number: upload.pairs[number].name)
        st.audio(examined[number].samples, sample_rate=examined[number].sample_rate_hz)


def save(rows: list[dict], examined: list[takes.Take]) -> None:
    """Save what is ticked; what cannot be saved stays in the table, with the reason."""
    limits = load_params().prepare
    saved, known, refused = 0, 0, []
    bar = st.progress(0.0, text="Saving")
    chosen = [(row, take) for row, take in zip(rows, examined, strict=True) if row["Save"]]
    for number, (row, take) in enumerate(chosen, 1):
        text, language = row["What was said"] or "", row["Language"]
        try:
            judged = takes.with_text(take, text, language, limits)
            _, is_new = inbox.save_clip(
                judged, text=text, language=language, speaker=row["Speaker"] or None, source="uploaded"
            )
            saved, known = saved + is_new, known + (not is_new)
        except UserError as error:
            refused.append(f"{row['File']}: {error}")
        bar.progress(number / len(chosen))
    inbox.start_moving()
    words = f"{saved} saved."
    if known:
        words += f" {known} were here already and are not saved again."
    state["upload_result"] = (words, refused)
    if not refused:
        state["upload_round"] += 1
    st.rerun()


st.title("Upload")
person = consenting_voice()
state.setdefault("upload_round", 0)
st.markdown(HELP)
files = st.file_uploader(
    "Recordings, texts, tables or a ZIP", accept_multiple_files=True, key=f"files-{state['upload_round']}"
)
if result := state.pop("upload_result", None):
    words, refused = result
    st.success(words)
    for problem in refused:
        st.error(as_plain(f"Not saved: {problem}"))
if files:
    identity = (person.language, *(file.file_id for file in files))
    if state.get("examined", (None,))[0] != identity:
        with st.spinner("The files are being read"):
            upload = uploads.read_uploads([(file.name, file.getvalue()) for file in files])
        state["examined"] = (identity, upload, examine(upload, person.language))
    _, upload, examined = state["examined"]
    for problem in upload.problems:
        st.warning(as_plain(f"{problem.file}: {problem.words}"))
    if upload.pairs:
        st.write("Look through the texts. A wrong text teaches wrong words.")
        rows = table(upload, examined, person.speaker, person.language)
        listen(upload, examined)
        if st.button(f"Save {sum(row['Save'] for row in rows)} recordings", type="primary"):
            save(rows, examined)
    else:
        st.info("There is no recording among these files.")
elif "examined" in state:
    del state["examined"]  # the recordings need not stay in memory

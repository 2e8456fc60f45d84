"""The recording page: `make recorder`, or `python -m streamlit run recorder/app.py` in the project's folder.

Started with `python -m`, so that the project's own modules are found.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from recorder import inbox
from recorder.views.shared import as_plain, sidebar
from stages.common.stage import UserError

st.set_page_config(
    page_title="ownvoice", page_icon=str(Path(__file__).parent / "microphone/icon.svg"), layout="centered"
)
page = st.navigation(
    [
        st.Page("views/record.py", title="Record", icon=":material/mic:", url_path="record", default=True),
        st.Page("views/upload.py", title="Upload", icon=":material/upload_file:", url_path="upload"),
        st.Page("views/clips.py", title="Clips", icon=":material/library_music:", url_path="clips"),
        st.Page("views/train.py", title="Train", icon=":material/model_training:", url_path="train"),
        st.Page("views/results.py", title="Results", icon=":material/monitoring:", url_path="results"),
        st.Page("views/try_it.py", title="Try it", icon=":material/hearing:", url_path="try-it"),
        st.Page("views/publish.py", title="Publish", icon=":material/publish:", url_path="publish"),
    ]
)
# The theme's own colour for the chosen one of several is too faint on a dark ground.
st.html("<style>button[data-selected=true], button[data-selected=true] * { color: inherit !important }</style>")
# "Press Ctrl+Enter to apply" puzzles who is about to press Save, which applies it too.
st.html("<style>[data-testid=stTextArea] [data-testid=InputInstructions] { display: none }</style>")
try:
    sidebar()
    if problem := inbox.problem():
        st.warning(f"Recordings are safe in data/inbox, but not yet in data/raw: {as_plain(problem)}")
        st.button("Take them in now", on_click=inbox.start_moving)
    elif inbox.waiting():
        inbox.start_moving()
    page.run()
except UserError as error:
    st.error(as_plain(str(error)))

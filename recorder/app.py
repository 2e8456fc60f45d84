"""The recording page: `make recorder`, or `python -m streamlit run recorder/app.py` in the project's folder.

Started with `python -m`, so that the project's own modules are found.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from recorder import inbox, mover
from recorder.views.shared import as_plain, sidebar
from stages.common.stage import UserError

PAGES = (
    ("record", "Record", "mic"),
    ("upload", "Upload", "upload_file"),
    ("clips", "Clips", "library_music"),
    ("train", "Train", "model_training"),
    ("results", "Results", "monitoring"),
    ("try_it", "Try it", "hearing"),
    ("publish", "Publish", "publish"),
)
STYLE = """<style>
/* The theme's own colour for the chosen one of several is too faint on a dark ground. */
button[data-selected=true], button[data-selected=true] * { color: inherit !important }
/* "Press Ctrl+Enter to apply" puzzles who is about to press Save, which applies it too. */
[data-testid=stTextArea] [data-testid=InputInstructions] { display: none }
</style>"""


def main() -> None:
    icon = str(Path(__file__).parent / "microphone/icon.svg")
    st.set_page_config(page_title="ownvoice", page_icon=icon, layout="centered")
    page = st.navigation(
        [
            st.Page(
                f"views/{name}.py",
                title=title,
                icon=f":material/{symbol}:",
                url_path=name.replace("_", "-"),
                default=name == "record",
            )
            for name, title, symbol in PAGES
        ]
    )
    st.html(STYLE)
    try:
        sidebar()
        if problem := mover.problem():
            st.warning(f"Recordings are safe in data/inbox, but not yet in data/raw: {as_plain(problem)}")
            st.button("Take them in now", on_click=mover.start_moving)
        elif inbox.waiting():
            mover.start_moving()
        page.run()
    except (UserError, OSError) as error:  # OSError: the disk is full
        st.error(as_plain(str(error)))


if __name__ == "__main__":  # the process of "Try it" imports this file, under another name
    main()

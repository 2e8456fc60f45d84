"""The microphone on a page: recorder/microphone/ as a Streamlit component."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from recorder.phrases import LANGUAGES
from stages.common.params import RecorderParams

FOLDER = Path(__file__).parent.parent / "microphone"
RATES_HZ = range(8_000, 384_001)
# All keys of the page. While it records, each of them ends the recording: a slip must not throw it away.
KEYS = {"record": "Space", "listen": "L", "save": "S", "skip": "K", "back": "B", "more": "M"}
SPARE_S = 5.0  # a take ends a little after the longest allowed, when the browser is busy

_component = st.components.v2.component(
    "microphone",
    html=(FOLDER / "microphone.html").read_text(encoding="utf-8"),
    css=(FOLDER / "microphone.css").read_text(encoding="utf-8"),
    js=(FOLDER / "microphone.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True, eq=False)
class Recording:
    """What the microphone heard for one prompt: mono samples [frames] in [-1, 1]."""

    samples: np.ndarray
    sample_rate_hz: int
    prompt: str


def microphone(
    key: str,
    prompt: str,
    phrase: str,
    language: str,
    settings: RecorderParams,
    has_take: bool,
    to_be_saved: bool = True,
) -> Recording | None:
    """Show phrase, record button and meter. Returns a recording once, on the run after it ended.

    prompt: names what is recorded; when it changes, the last take is forgotten and the button gets the focus.
    to_be_saved: before a tab with an unsaved take is closed or reloaded, the browser asks.
    """
    result = _component(
        key=key,
        data={
            "prompt": prompt,
            "phrase": phrase,
            "language": language,
            "direction": LANGUAGES[language].direction,
            "longest_s": settings.longest_take_s,
            "stop_after_silence_s": settings.stop_after_silence_s,
            "has_take": has_take,
            "keys": KEYS,
            "to_be_saved": to_be_saved,
        },
        on_take_change=lambda: None,
    )
    return read_recording(result.take, settings.longest_take_s) if result.take else None


def read_recording(sent: dict, longest_s: float) -> Recording | None:
    """What a browser sent; None if it is not a recording of ours: a browser can send anything."""
    try:
        rate_hz, prompt = int(sent["sample_rate_hz"]), str(sent["prompt"])
        pcm = base64.b64decode(sent["samples"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None
    if rate_hz not in RATES_HZ or len(pcm) % 2 or len(pcm) / 2 > (longest_s + SPARE_S) * rate_hz:
        return None
    return Recording(np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768, rate_hz, prompt)

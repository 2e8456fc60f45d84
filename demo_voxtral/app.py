"""A page to speak to: it shows what a Voxtral understands before and after tuning.

    HF_MODEL_ID=USER/NAME python app.py

The settings are environment variables; README.md lists them.
"""

from __future__ import annotations

import html
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
# Read when torch is imported: threads that wait soon sleep, and leave the processor to other programs.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import gradio as gr
import numpy as np
import pycountry
import recogniser  # brings spaces, which must come before torch
import sound
import torch
from recogniser import SetupError

LANGUAGES = "en,es,fr,pt,hi,de,nl,it"  # those that Voxtral was made for
FIND_OUT = ("Let the model find out", "")
LONGEST_S, LARGEST_MB = 180, 50  # of a recording
# Recordings that may wait for their turn: a phrase takes a GPU about 5 s with two models, so the last one of 20 waits
# for two minutes; on a slow CPU each takes minutes.
WAITING, WAITING_IF_SLOW = 20, 3
KEPT_S = 3600  # recordings are deleted after this
STYLE = """
.gradio-container {max-width: 60rem !important; margin: 0 auto !important}
.transcript textarea {font-size: 1.25rem; line-height: 1.5; unicode-bidi: plaintext; text-align: start}
.transcript textarea:disabled {-webkit-text-fill-color: var(--body-text-color); opacity: 1}
.recording button, .recording time {color: var(--body-text-color) !important}
.message:not(:empty) {padding: 0.75rem 1rem; border-radius: 8px; font-size: 1.1rem; border-inline-start: 6px solid}
.problem {background: #fdecea; color: #6b0f0f; border-color: #b3261e}
.note {background: #fff4d6; color: #4a3500; border-color: #9a6b00}
.done {position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%)}
.dark .problem {background: #3b1513; color: #ffd9d6; border-color: #ff8a80}
.dark .note {background: #362a08; color: #ffe7ad; border-color: #ffcc4d}
"""

# The system's own letters, and darker small print than Gradio's.
THEME = gr.themes.Default(primary_hue="blue", text_size="lg", font=["system-ui", "sans-serif"]).set(
    block_label_text_color="*neutral_800",
    block_title_text_color="*neutral_800",
    body_text_color_subdued="*neutral_700",
    body_text_color_subdued_dark="*neutral_200",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
)


@dataclass(frozen=True)
class Settings:
    """Settings from the environment; README.md explains each."""

    model: str
    base: str | None
    model_name: str
    languages: tuple[str, ...]
    default_language: str  # "": the model finds out
    title: str


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Raises: SetupError for an invalid value, or if no model is named."""
    values = {name: value.strip() for name, value in environment.items() if value.strip()}
    if "HF_MODEL_ID" not in values:
        raise SetupError("HF_MODEL_ID is not set. It names the model: USER/NAME on the Hub, or a folder.")
    codes = [code.strip() for code in values.get("LANGUAGES", LANGUAGES).split(",") if code.strip()]
    for code in codes:
        if pycountry.languages.get(alpha_2=code) is None:
            raise SetupError(f"LANGUAGES holds {code!r}, which is not a code of two letters such as en, de or hi.")
    model = values["HF_MODEL_ID"]
    return Settings(
        model=model,
        base=values.get("BASE_MODEL"),
        model_name=values.get("MODEL_NAME", model.partition("@")[0]),
        languages=tuple(codes),
        default_language=codes[0] if "LANGUAGES" in values and codes else "",
        title=values.get("TITLE", "Speech recognition for one voice"),
    )


def gpu_seconds(parts: Sequence[np.ndarray], language: str | None) -> int:
    return recogniser.gpu_seconds([len(part) for part in parts], tuned.sample_rate_hz, models=2 if base else 1)


@recogniser.on_gpu(gpu_seconds)
def hear(parts: Sequence[np.ndarray], language: str | None) -> list[recogniser.Heard] | None:
    """What each model hears, base first; None if the GPU has too little memory.

    ZeroGPU runs this in another process, so arguments and result can be pickled, and models are globals.
    """
    with turn:
        try:
            return [model.transcribe(parts, language) for model in (base, tuned) if model]
        except torch.OutOfMemoryError:
            return None


def transcribe(path: str | None, language: str) -> list[str]:
    """A message as HTML, then each model's transcript."""
    nothing = [""] * (2 if base else 1)
    try:
        if path is None:
            raise sound.Refused("There is no recording yet. Record something, or upload a file.")
        samples = sound.read(Path(path), tuned.sample_rate_hz, LONGEST_S)
        heard = hear(sound.cut(samples, tuned.sample_rate_hz, tuned.window_samples), language or None)
        if heard is None:
            raise sound.Refused("There is too little memory for this recording. Try a shorter one.")
    except sound.Refused as problem:
        return [message("problem", str(problem)), *nothing]
    texts = [one.text for one in heard]
    if any(one.looped for one in heard):
        return [message("note", "A model began to repeat itself and was stopped."), *texts]
    if not texts[-1]:
        return [message("note", "The model heard no words in this recording. Speak closer, or louder."), *texts]
    return [message("done", "Transcribed."), *texts]


def message(kind: str = "", words: str = "") -> str:
    """HTML of a line that screen readers say when it appears."""
    return f'<div class="message {kind}" role="alert">{html.escape(words)}</div>'


def build_page() -> gr.Blocks:
    with gr.Blocks(title=settings.title, analytics_enabled=False, delete_cache=(KEPT_S // 4, KEPT_S)) as page:
        gr.Markdown(f"# {settings.title}\n\nSay something, or upload a recording, and see what the model understands.")
        recording = gr.Audio(
            sources=["microphone", "upload"],
            type="filepath",
            label="Your recording",
            buttons=[],
            editable=False,
            elem_classes="recording",
            waveform_options={"waveform_color": "#7b8494", "waveform_progress_color": "#2563eb"},
        )
        language = gr.Dropdown(
            [(pycountry.languages.get(alpha_2=code).name.partition(" (")[0], code) for code in settings.languages]
            + [FIND_OUT],
            value=settings.default_language,
            label="Spoken language",
        )
        button = gr.Button("Transcribe", variant="primary")
        words = gr.HTML(message())
        with gr.Row():
            transcripts = [
                gr.Textbox(label=label, lines=4, min_width=300, elem_classes="transcript", interactive=False)
                for label in ([f"Before: {base.name}"] if base else []) + [f"After: {settings.model_name}"]
            ]
        gr.Markdown(
            f"Up to {LONGEST_S} seconds and {LARGEST_MB} MB. A recording is only transcribed, and deleted within "
            f"{KEPT_S * 5 // 4 // 60} minutes."
            + (" **This computer has no graphics card: a sentence takes minutes.**" if tuned.is_slow else "")
        )
        button.click(transcribe, [recording, language], [words, *transcripts], api_name="transcribe")
    return page


def build_notice(problem: SetupError) -> gr.Blocks:
    """The page if there is no model."""
    with gr.Blocks(title="Not set up", analytics_enabled=False) as page:
        gr.Markdown("# This demo is not set up")
        gr.HTML(message("problem", str(problem)))
    return page


turn = threading.Lock()  # one recording at a time: the adapter is switched on and off for all
try:
    settings = read_settings(os.environ)
    base, tuned = recogniser.load(settings.model, settings.base)  # at module level, as ZeroGPU requires
    page = build_page()
    page.queue(max_size=WAITING_IF_SLOW if tuned.is_slow else WAITING, default_concurrency_limit=1)
except SetupError as problem:
    print(f"demo: {problem}", flush=True)
    page = build_notice(problem)

if __name__ == "__main__":
    page.launch(
        theme=THEME,
        css=STYLE,
        max_file_size=LARGEST_MB * 2**20,
        ssr_mode=False,
        footer_links=[],
    )

"""Prompts and batches: the same as the library's own, and a loss on the transcript alone."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from stages.pipeline.params import ModelParams
from stages.pipeline.stage import UserError
from stages.speech.clips import Clip
from stages.voxtral.loading import find_model, load_model, load_processor, read_sizes
from stages.voxtral.prompts import IGNORED, Prompter
from tests.workspaces import TINY_MODEL


@pytest.fixture(scope="module")
def prompter(tmp_path_factory) -> Prompter:
    source = find_model(ModelParams(name=str(TINY_MODEL), revision=None, dtype="auto"))
    processor = load_processor(source)
    return Prompter(
        processor, read_sizes(load_model(source, torch.float32).config, processor), tmp_path_factory.mktemp("p")
    )


@pytest.fixture(scope="module")
def clips(prompter) -> list[Clip]:
    """Two clips of one window and one of two, in three languages."""
    made = []
    rng = np.random.default_rng(0)
    for number, (seconds, language, text) in enumerate(
        [(1.2, "en", "turn on the light"), (6.5, "de", "zwei"), (3.9, "hi", "नमस्ते")]
    ):
        name = f"{number}.flac"
        soundfile.write(prompter.folder / name, rng.normal(0, 0.1, round(seconds * 16_000)), 16_000)
        made.append(Clip(f"{number:016x}", name, text, language, "s", f"s/{name}", seconds, -3, -20, 30, 0))
    return made


def test_batch_is_what_the_library_makes_of_the_same_sound(prompter, clips):
    arrays = [soundfile.read(prompter.folder / clip.audio_path, dtype="float32")[0] for clip in clips]
    expected = prompter.processor.apply_transcription_request(
        audio=arrays,
        language=[clip.language for clip in clips],
        model_id="any",
        sampling_rate=16_000,
        format=["WAV"] * len(clips),
        audio_kwargs={
            "pad_to_multiple_of": prompter.sizes.window_samples,
            "max_source_positions": prompter.sizes.window_frames,
        },
    )
    batch = prompter.transcription_batch(clips)
    assert batch["input_ids"].equal(expected["input_ids"])
    assert batch["attention_mask"].equal(expected["attention_mask"])
    # The library's own way writes 16-bit WAV in between.
    assert batch["input_features"].shape == expected["input_features"].shape == (4, 128, 400)
    assert torch.allclose(batch["input_features"], expected["input_features"], atol=1e-3)


def test_each_clip_is_asked_for_in_its_own_language(prompter, clips):
    texts = prompter.processor.batch_decode(prompter.transcription_batch(clips)["input_ids"], skip_special_tokens=False)
    for clip, text in zip(clips, texts, strict=True):
        assert text.endswith(f"[/INST]lang:{clip.language}[TRANSCRIBE]")


def test_loss_falls_on_transcript_and_end_alone(prompter, clips):
    batch = prompter.training_batch(clips)
    for row, clip in enumerate(clips):
        counted = batch["labels"][row] != IGNORED
        assert batch["labels"][row][counted].tolist() == prompter.target_ids(clip.text)
        assert batch["labels"][row][counted][-1] == prompter.sizes.eos_token_id
        assert batch["input_ids"][row][counted].tolist() == batch["labels"][row][counted].tolist()
        assert batch["attention_mask"][row][counted].all()
    padding = batch["input_ids"] == prompter.sizes.pad_token_id
    assert padding.any() and not batch["attention_mask"][padding].any()


def test_transcript_survives_its_tokens(prompter):
    for text in ["turn on the light", "नमस्ते दुनिया", "Grüße, 25 °C!", "今日は"]:
        assert prompter.processor.decode(prompter.target_ids(text), skip_special_tokens=True) == text


def test_too_long_transcript_is_named_never_cut(prompter, clips):
    long = replace(clips[0], text="word " * 1000, recorded_file="diary/7.wav")
    with pytest.raises(UserError, match=r"clip 0000000000000000 \(diary/7\.wav\) makes \d+ tokens, .* at most 1024"):
        prompter.check_lengths([clips[1], long])
    assert len(prompter.target_ids(long.text)) > 1000

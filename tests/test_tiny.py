"""The tiny model of the demo: its sizes, what it hears, and the speech it was made from."""

import json
import random
import shutil

import numpy as np
import pytest
import soundfile
import torch

from stages.speech.scoring import score_clip, summarise
from stages.voxtral.tiny import demo_voice, pretrain, speech
from stages.voxtral.transcription import transcribe
from tests.tiny_model import open_tiny
from tests.workspaces import DEMO_CLIPS, ROOT, TINY_MODEL

needs_synthesisers = pytest.mark.skipif(
    not (shutil.which("espeak-ng") and shutil.which("flite")), reason="espeak-ng and flite are not installed"
)


def test_embedded_files_stay_small():
    """They are in git, and every `make demo` copies them."""
    for folder, most_bytes in ((TINY_MODEL, 8e6), (DEMO_CLIPS, 4e6)):
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= most_bytes
    assert "espeak-ng" in (ROOT / "data/demo/README.md").read_text()


def test_demo_clips_are_complete_fit_one_window_and_say_words_of_the_grammar():
    """A word that the tiny model never heard could not be learnt in the demo."""
    rows = [json.loads(line) for line in (DEMO_CLIPS / "clips.jsonl").read_text().splitlines()]
    assert len(rows) == len({row["text"] for row in rows}) == 120
    assert {row["audio_path"] for row in rows} == {path.name for path in DEMO_CLIPS.glob("*.opus")}
    for row in rows:
        info = soundfile.info(DEMO_CLIPS / row["audio_path"])
        assert 0.5 < info.frames / info.samplerate < pretrain.WINDOW_S
    assert {word for row in rows for word in row["text"].split()} <= set(speech.words_of_the_grammar())


def test_demo_voice_is_in_no_training_voice():
    rng = random.Random(0)
    voices = [speech.random_voice(rng) for _ in range(2000)]
    assert demo_voice.VOICE.name.split("+")[1] not in {voice.name.partition("+")[2] for voice in voices}
    assert demo_voice.VOICE.pitch < min(voice.pitch for voice in voices)


def test_features_of_training_are_those_of_the_processor():
    """Else the tiny model would be trained on other input than the pipeline gives it."""
    processor = open_tiny()[1].processor
    samples = (0.1 * np.random.default_rng(0).normal(size=16_000 * pretrain.WINDOW_S)).astype(np.float32)
    ours = pretrain.scaled(torch.from_numpy(pretrain.mel_power(samples)).float()[None] + pretrain.LOG_FLOOR)
    expected = processor.feature_extractor(samples, sampling_rate=16_000, return_tensors="pt")["input_features"]
    assert ours.shape == expected.shape == (1, 128, 400)
    # float16 in the corpus: 11 bits of values up to 14, divided by 4.
    assert torch.allclose(ours, expected, atol=2**-9)


@needs_synthesisers
@pytest.mark.slow
def test_unseen_sentences_in_voices_like_those_it_learned_are_understood(tmp_path, make_clip):
    """At most 5 % of words wrong on sentences kept from training, in voices drawn as training's were."""
    rng = random.Random(2026)
    clips = []
    while len(clips) < 200:
        text = speech.random_command(rng) if rng.random() < 0.6 else speech.random_digits(rng)
        if not speech.is_held_out(text):
            continue
        samples, _ = speech.synthesise(text, speech.random_voice(rng))
        if len(samples) > (pretrain.WINDOW_S - 0.1) * 16_000:
            continue
        path = tmp_path / f"{len(clips)}.flac"
        soundfile.write(path, np.clip(samples, -1, 1), 16_000)
        clips.append(make_clip(text, audio_path=str(path), duration_s=len(samples) / 16_000))
    heard = transcribe(*open_tiny(), clips, batch_size=50)
    scores = [score_clip(clip.text, text) for clip, text in zip(clips, heard, strict=True)]
    assert summarise(scores)["wer"] <= 0.05

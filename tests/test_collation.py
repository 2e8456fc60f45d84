"""Prompts and batches: the same as the library's own, and a loss on the transcript alone."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from stages.common.stage import UserError
from stages.speech.augment import Variant
from stages.speech.clips import Clip
from stages.voxtral.collation import IGNORED, Collator
from tests.tiny_model import open_tiny


@pytest.fixture(scope="module")
def collator() -> Collator:
    return open_tiny()[1]


@pytest.fixture
def clips(tmp_path, make_clip) -> list[Clip]:
    """Two clips of one window and one of two, in three languages."""
    made = []
    rng = np.random.default_rng(0)
    for seconds, language, text in [(1.2, "en", "turn on the light"), (6.5, "de", "zwei"), (3.9, "hi", "नमस्ते")]:
        path = tmp_path / f"{language}.flac"
        soundfile.write(path, rng.normal(0, 0.1, round(seconds * 16_000)), 16_000)
        made.append(make_clip(text, language=language, audio_path=str(path), duration_s=seconds))
    return made


def test_batch_is_what_the_library_makes_of_the_same_sound(collator, clips):
    arrays = [soundfile.read(clip.audio_path, dtype="float32")[0] for clip in clips]
    expected = collator.processor.apply_transcription_request(
        audio=arrays,
        language=[clip.language for clip in clips],
        model_id="any",
        sampling_rate=16_000,
        format=["WAV"] * len(clips),
        audio_kwargs={
            "pad_to_multiple_of": collator.sizes.window_samples,
            "max_source_positions": collator.sizes.window_frames,
        },
    )
    batch = collator.transcription_batch(clips)
    assert batch["input_ids"].equal(expected["input_ids"])
    assert batch["attention_mask"].equal(expected["attention_mask"])
    # The library's own way writes 16-bit WAV in between.
    assert batch["input_features"].shape == expected["input_features"].shape == (4, 128, 400)
    assert torch.allclose(batch["input_features"], expected["input_features"], atol=1e-3)


def test_features_are_those_of_the_whole_window(collator):
    """The silence behind the sound is not transformed, but made up: for every length and level."""
    rng = np.random.default_rng(1)
    extractor, sizes = collator.processor.feature_extractor, collator.sizes
    for length in [1, 399, 400, 16_000, 33_333, sizes.window_samples - 700, sizes.window_samples - 1]:
        for level in (1e-5, 0.3):
            samples = rng.normal(0, level, length).astype(np.float32)
            whole = extractor(
                samples, sampling_rate=16_000, padding=True, pad_to_multiple_of=sizes.window_samples, truncation=False,
                return_tensors="pt",
            )["input_features"]  # fmt: skip
            assert torch.allclose(collator.features_of(samples), whole, rtol=0, atol=2e-6), (length, level)


def test_loss_is_that_of_transcript_and_end_with_a_mask_and_a_logit_for_every_position(collator, clips):
    model, _ = open_tiny()
    plain = collator.transcription_batch(clips)
    targets = [collator.target_ids(clip.text) for clip in clips]
    assert {target[-1] for target in targets} == {collator.sizes.eos_token_id}
    longest = max(map(len, targets))
    ids = torch.tensor([target + [collator.sizes.pad_token_id] * (longest - len(target)) for target in targets])
    labels = torch.tensor([target + [IGNORED] * (longest - len(target)) for target in targets])
    with torch.inference_mode():
        expected = model(
            input_ids=torch.cat([plain["input_ids"], ids], dim=1),
            attention_mask=torch.cat([plain["attention_mask"], (labels != IGNORED).long()], dim=1),
            input_features=plain["input_features"],
            labels=torch.cat([torch.full_like(plain["input_ids"], IGNORED), labels], dim=1),
        )
        ours = model(**collator.training_batch(clips))
    assert ours.logits.shape[1] < expected.logits.shape[1]
    assert ours.loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)


def test_variant_has_the_windows_of_its_clip_and_the_clip_stays_as_it_is(collator, clips):
    """Validation and test clips are no variants: their features are the same bytes before, between and after."""
    for clip in clips:
        plain = collator.features(clip)
        for epoch in range(3):
            changed = collator.features(Variant(**vars(clip), seed=0, epoch=epoch))
            assert changed.shape == plain.shape and changed.isfinite().all() and not changed.equal(plain)
        assert collator.features(clip).equal(plain)


def test_too_long_transcript_is_named_never_cut(collator, clips):
    long = replace(clips[0], text="word " * 1000, recorded_file="diary/7.wav")
    with pytest.raises(UserError, match=rf"clip {long.id} \(diary/7\.wav\) makes \d+ tokens, .* at most 1024"):
        collator.check_lengths([clips[1], long])
    assert len(collator.target_ids(long.text)) > 1000

"""The encoder cache: the same model as without it, entries that depend on their own clip alone, nothing lost."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from stages.common.stage import UserError
from stages.voxtral import encoder_cache
from stages.voxtral.collation import Collator
from stages.voxtral.encoder_cache import is_frozen, take_encoder_out
from stages.voxtral.transcription import transcribe
from tests.tiny_model import SOURCE, are_close, loss_and_gradients, open_adapted, open_tiny
from tests.workspaces import content_of


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("OWNVOICE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/encoded"


@pytest.fixture
def clips(demo_clips):
    return demo_clips[:12]


def encode(clips, identity=SOURCE.identity, dtype=torch.float32):
    """A fresh tiny model's Collator once its encoder is taken out."""
    model, collator = open_tiny(dtype=dtype)
    return take_encoder_out(model, collator, clips, identity)


def test_loss_gradients_and_transcripts_are_those_with_the_encoder(cache, clips):
    model, collator = open_adapted("projector", "decoder")
    assert is_frozen(model)
    expected = transcribe(model, collator, clips, batch_size=4)
    loss, gradients = loss_and_gradients(model, collator.training_batch(clips[:8]))
    model, collator = open_adapted("projector", "decoder")
    collator = take_encoder_out(model, collator, clips, SOURCE.identity)
    assert not list(model.get_base_model().model.audio_tower.parameters())
    assert transcribe(model, collator, clips, batch_size=5) == expected
    assert len(set(expected)) > 6
    cached_loss, cached_gradients = loss_and_gradients(model, collator.training_batch(clips[:8]))
    assert cached_loss == pytest.approx(loss, rel=1e-6)
    assert are_close(cached_gradients, gradients)


def test_entry_depends_on_its_own_clip_alone_bit_for_bit(tmp_path, monkeypatch, clips):
    """Whatever its neighbours and the order: else a run that finds half a cache would give another model."""
    made = []
    for number, parts in enumerate([[clips], [clips[5:8], clips[::-1]]]):
        monkeypatch.setenv("OWNVOICE_CACHE", str(tmp_path / str(number)))
        for part in parts:
            encoded = encode(part)
        made.append([encoded.features(clip) for clip in clips])
    assert made[0][0].shape == (1, 200, 160)
    assert all(one.equal(two) for one, two in zip(*made, strict=True))


def test_clip_longer_than_a_window_has_all_of_them(cache, clips, tmp_path):
    path = tmp_path / "long.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000 * 13), 16_000)
    long = replace(clips[0], id="f" * 16, audio_path=str(path), duration_s=13.0)
    model, collator = open_tiny()
    with torch.inference_mode():
        expected = model.model.audio_tower(collator.features(long)).last_hidden_state
    found = encode([clips[0], long, clips[1]]).features(long)
    assert found.shape == (4, 200, 160) and torch.allclose(found, expected, atol=1e-4)


def test_encoder_runs_once_for_each_clip(cache, clips, monkeypatch):
    encode(clips[:7])
    before = content_of(cache)
    heard = []
    features_of = Collator.features_of
    monkeypatch.setattr(Collator, "features_of", lambda self, sound: heard.append(1) or features_of(self, sound))
    encode(clips)
    assert len(heard) == len(clips) - 7
    assert len(before) == 7 and before.items() <= content_of(cache).items() and len(content_of(cache)) == len(clips)


def test_other_model_precision_code_or_sound_has_entries_of_its_own(cache, clips, monkeypatch, tmp_path):
    """Else training would hear another model's outputs, or what a clip was before it was recorded again."""
    first = encode(clips[:2]).features(clips[0])
    encode(clips[:2], identity="another")
    assert encode(clips[:2], dtype=torch.bfloat16).features(clips[0]).dtype == torch.bfloat16
    path = Path(shutil.copy(clips[0].audio_path, tmp_path / "clip.flac"))
    clip = replace(clips[0], audio_path=str(path))
    assert encode([clip]).features(clip).equal(first) and len(content_of(cache)) == 6
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    assert not encode([clip]).features(clip).equal(first)
    monkeypatch.setattr(encoder_cache, "code_hash", lambda *_: "another")
    encode(clips[:2])
    assert len(content_of(cache)) == 9


def test_damaged_entry_is_an_error_and_the_next_run_makes_it_again(cache, clips):
    encoded = encode(clips[:3])
    whole = encoded.features(clips[1])
    path = encoded.store._path(encoded.key(clips[1]))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=rf"clip {clips[1].id} is damaged or gone: run it again"):
        encoded.features(clips[1])
    assert encode(clips[:3]).features(clips[1]).equal(whole)


def test_disk_too_full_for_all_entries_leaves_the_encoder_in_the_model(cache, clips, monkeypatch, capsys):
    needed = 12 * 200 * 160 * 4  # bytes: 12 clips of a window, 200 positions of width 160, float32
    for missing_bytes in (1, 0):
        free = encoder_cache.SPARE_BYTES + needed - missing_bytes
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(0, 0, free))
        model, collator = open_tiny()
        encoded = take_encoder_out(model, collator, clips, SOURCE.identity)
        assert (encoded is collator) == bool(missing_bytes) == bool(list(model.model.audio_tower.parameters()))
        assert capsys.readouterr().out.startswith("no encoder cache: ") == bool(missing_bytes)

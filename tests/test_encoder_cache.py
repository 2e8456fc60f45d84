"""The encoder cache: the same model as without it, entries that depend on their own clip alone, nothing lost."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from stages.common.stage import UserError
from stages.speech.augment import Variant
from stages.voxtral import encoder_cache
from stages.voxtral.collation import Collator
from stages.voxtral.encoder_cache import is_frozen, is_projector_frozen, remember_last_sound, take_encoder_out
from stages.voxtral.transcription import transcribe
from tests.tiny_model import SOURCE, are_close, loss_and_gradients, open_adapted, open_tiny


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("OWNVOICE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/encoded"


@pytest.fixture
def clips(demo_clips):
    return demo_clips[:12]


def encode(clips, projector_too=False, identity=SOURCE.identity, dtype=torch.float32):
    """A fresh tiny model's Collator once its encoder is taken out."""
    model, collator = open_tiny(dtype=dtype)
    return take_encoder_out(model, collator, clips, identity, projector_too)


def entries(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.rglob("*") if path.is_file()}


@pytest.mark.parametrize("scope", [("projector", "decoder"), ("decoder",)])
def test_loss_and_gradients_are_those_with_the_encoder(cache, clips, scope):
    model, collator = open_adapted(*scope)
    assert is_frozen(model) and is_projector_frozen(model) is ("projector" not in scope)
    loss, gradients = loss_and_gradients(model, collator.training_batch(clips[:8]))
    model, collator = open_adapted(*scope)
    collator = take_encoder_out(model, collator, clips, SOURCE.identity, is_projector_frozen(model))
    assert not list(model.get_base_model().model.audio_tower.parameters())
    cached_loss, cached_gradients = loss_and_gradients(model, collator.training_batch(clips[:8]))
    assert cached_loss == pytest.approx(loss, rel=1e-6)
    assert are_close(cached_gradients, gradients)


@pytest.mark.parametrize("projector_too", [False, True])
def test_transcripts_are_those_with_the_encoder(cache, clips, projector_too):
    model, collator = open_tiny()
    expected = transcribe(model, collator, clips, batch_size=4)
    encoded = take_encoder_out(model, collator, clips, SOURCE.identity, projector_too)
    assert transcribe(model, encoded, clips, batch_size=5) == expected
    assert len(set(expected)) > 6


def test_entries_need_the_space_that_was_checked(cache, clips):
    for projector_too in (False, True):
        model, collator = open_tiny()
        needed = encoder_cache._window_bytes(model, projector_too) * collator.windows_in(clips[0])
        assert encode(clips[:1], projector_too).features(clips[0]).nbytes == needed


def test_entry_depends_on_its_own_clip_alone_bit_for_bit(tmp_path, monkeypatch, clips):
    """Whatever its neighbours and the order: else a run that finds half a cache would give another model."""
    made = []
    for number, parts in enumerate([[clips], [clips[::-1]], [clips[5:8], clips]]):
        monkeypatch.setenv("OWNVOICE_CACHE", str(tmp_path / str(number)))
        for part in parts:
            encoded = encode(part)
        made.append([encoded.features(clip) for clip in clips])
    assert made[0][0].shape == (1, 200, 160)
    for other in made[1:]:
        assert all(one.equal(two) for one, two in zip(other, made[0], strict=True))


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
    before = entries(cache)
    heard = []
    features_of = Collator.features_of
    monkeypatch.setattr(Collator, "features_of", lambda self, sound: heard.append(1) or features_of(self, sound))
    encode(clips)
    assert len(heard) == len(clips) - 7
    assert len(before) == 7 and before.items() <= entries(cache).items() and len(entries(cache)) == len(clips)


def test_other_model_precision_place_or_code_has_entries_of_its_own(cache, clips, monkeypatch):
    encode(clips[:2])
    encode(clips[:2], identity="another")
    assert encode(clips[:2], dtype=torch.bfloat16).features(clips[0]).dtype == torch.bfloat16
    encode(clips[:2], projector_too=True)
    monkeypatch.setattr(encoder_cache, "code_hash", lambda *_: "another")
    encode(clips[:2])
    assert len(entries(cache)) == 10


def test_each_variant_has_an_entry_of_its_own_beside_that_of_its_clip(cache, clips):
    plain = encode(clips[:2])
    before = entries(cache)
    kinds = [("light", 0, 1), ("light", 0, 2), ("light", 1, 1), ("strong", 0, 1)]
    variants = [Variant(**vars(clip), level=a, seed=b, number=c) for clip in clips[:2] for a, b, c in kinds]
    model, collator = open_tiny()
    with torch.inference_mode():
        expected = model.model.audio_tower(collator.features(variants[3])).last_hidden_state
    encoded = encode([*variants, *clips[:2]])
    assert torch.allclose(encoded.features(variants[3]), expected, atol=1e-4)
    assert len({encoded.features(clip).numpy().tobytes() for clip in [*clips[:2], *variants]}) == 10
    assert len(entries(cache)) == 10 and before.items() <= entries(cache).items()
    assert encoded.features(clips[0]).equal(plain.features(clips[0]))


def test_changed_sound_under_the_same_name_is_encoded_again(cache, clips, tmp_path):
    path = tmp_path / "clip.flac"
    heard = []
    for seed in range(2):
        soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 16_000), 16_000)
        clip = replace(clips[0], audio_path=str(path))
        heard.append(encode([clip]).features(clip))
    assert not heard[0].equal(heard[1])


def test_damaged_entry_is_an_error_and_the_next_run_makes_it_again(cache, clips):
    encoded = encode(clips[:3])
    whole = encoded.features(clips[1])
    path = encoded.store._path(encoded.key(clips[1]))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=rf"clip {clips[1].id} is damaged or gone: run it again"):
        encoded.features(clips[1])
    assert encode(clips[:3]).features(clips[1]).equal(whole)


def test_full_disk_leaves_the_encoder_in_the_model(cache, clips, monkeypatch, capsys):
    monkeypatch.setattr(encoder_cache, "SPARE_BYTES", shutil.disk_usage("/").total * 2)
    model, collator = open_tiny()
    assert take_encoder_out(model, collator, clips, SOURCE.identity, projector_too=False) is collator
    assert list(model.model.audio_tower.parameters())
    assert capsys.readouterr().out.startswith("no encoder cache: ")


def test_sound_heard_twice_in_a_row_is_encoded_once(clips):
    model, collator = open_tiny()
    expected = [transcribe(model, collator, [clip], batch_size=1) for clip in clips[:2]]
    runs = []
    model.model.audio_tower.register_forward_hook(lambda *_: runs.append(1))
    remember_last_sound(model)
    heard = [transcribe(model, collator, [clips[number]], batch_size=1) for number in (0, 0, 1, 0)]
    assert heard == [expected[0], expected[0], expected[1], expected[0]]
    assert len(runs) == 3


def test_encoder_that_is_trained_is_not_frozen():
    assert not is_frozen(open_tiny()[0].train())
    assert not is_frozen(open_adapted("encoder", "decoder")[0])

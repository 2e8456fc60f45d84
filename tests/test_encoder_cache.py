"""The encoder cache: the same model as without it, entries that depend on their own clip alone, nothing lost."""

import shutil
from dataclasses import replace

import pytest
import torch

from stages.common.params import LoraParams, ModelParams
from stages.common.stage import UserError
from stages.speech import prepared
from stages.speech.augment import Variant
from stages.speech.clips import Clip, read_clips
from stages.voxtral import adapters, encoder_cache
from stages.voxtral.collation import Collator
from stages.voxtral.encoder_cache import (
    EncodedPrompter,
    is_frozen,
    is_projector_frozen,
    remember_last_sound,
    take_encoder_out,
)
from stages.voxtral.loading import find_model, load_model, load_processor, read_sizes
from stages.voxtral.transcription import transcribe
from tests.workspaces import TINY_MODEL, add_demo_clips, make_workspace, run_stages

SOURCE = find_model(ModelParams(name=str(TINY_MODEL), revision=None, dtype="auto"))
LORA = LoraParams(r=4, alpha=8, dropout=0.0, scope=["projector", "decoder"])


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Clip]:
    workspace = make_workspace(tmp_path_factory.mktemp("encoder"))
    add_demo_clips(workspace, 12)
    run_stages(workspace, "prepare")
    folder = workspace / "data/prepared"
    return [replace(clip, audio_path=str(folder / clip.audio_path)) for clip in read_clips(folder / "clips.jsonl")]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OWNVOICE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/encoded"


def load(folder):
    """The tiny model and its collator."""
    model, processor = load_model(SOURCE, torch.float32), load_processor(SOURCE)
    return model, Collator(processor, read_sizes(model.config, processor), folder)


def adapted(scope):
    torch.manual_seed(0)
    model, collator = load(TINY_MODEL)
    return adapters.add_lora(model, LORA.model_copy(update={"scope": scope})).train(), collator


def entries(cache) -> dict[str, torch.Tensor]:
    return {
        path.name: torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        for path in cache.rglob("*")
        if path.is_file()
    }


def outputs(collator: EncodedPrompter, clips) -> dict[str, torch.Tensor]:
    return {clip.id: collator.features(clip) for clip in clips}


@pytest.mark.parametrize(("scope", "adapted_layers"), [(["projector", "decoder"], 2 + 14), (["decoder"], 14)])
def test_loss_and_gradients_are_those_with_the_encoder(cache, clips, scope, adapted_layers):
    losses, gradients = [], []
    for cached in (False, True):
        model, collator = adapted(scope)
        assert is_frozen(model) and is_projector_frozen(model) is ("projector" not in scope)
        if cached:
            collator = take_encoder_out(model, collator, clips, SOURCE.identity, is_projector_frozen(model))
            parts = model.get_base_model().model
            assert not list(parts.audio_tower.parameters())
            assert bool(list(parts.multi_modal_projector.parameters())) is ("projector" in scope)
        loss = model(**collator.training_batch(clips[:8])).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) == 2 * adapted_layers
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][name], gradient, rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("projector_too", [False, True])
def test_transcripts_are_those_with_the_encoder(cache, clips, projector_too):
    model, collator = load(TINY_MODEL)
    expected = transcribe(model, collator, clips, batch_size=4)
    encoded = take_encoder_out(model, collator, clips, SOURCE.identity, projector_too)
    assert transcribe(model, encoded, clips, batch_size=5) == expected
    assert len(set(expected)) > 6


def test_room_that_is_asked_for_is_what_entries_take(cache, clips):
    for projector_too in (False, True):
        model, collator = load(TINY_MODEL)
        asked = encoder_cache._window_bytes(model, projector_too) * collator.windows_in(clips[0])
        outputs = take_encoder_out(model, collator, clips[:1], SOURCE.identity, projector_too).features(clips[0])
        assert outputs.nbytes == asked


def test_projector_that_is_trained_has_entries_of_its_own(cache, clips):
    for number, projector_too in enumerate([True, False, True]):
        model, collator = load(TINY_MODEL)
        take_encoder_out(model, collator, clips[:2], SOURCE.identity, projector_too)
        assert len(entries(cache)) == (2, 4, 4)[number]


def test_entry_depends_on_its_own_clip_alone_bit_for_bit(tmp_path, monkeypatch, clips):
    """Whoever stood beside it, in whatever order: else a run that finds half a cache would end as another model."""
    made = []
    for number, order in enumerate([clips, clips[::-1], clips[5:6] + clips[:5] + clips[6:]]):
        monkeypatch.setenv("OWNVOICE_CACHE", str(tmp_path / str(number)))
        model, collator = load(TINY_MODEL)
        for part in (order[:3], order) if number == 2 else (order,):
            model, collator = load(TINY_MODEL)
            encoded = take_encoder_out(model, collator, part, SOURCE.identity, projector_too=False)
        made.append(outputs(encoded, clips))
    assert made[0][clips[0].id].shape == (1, 200, 160)
    for other in made[1:]:
        assert all(other[clip_id].equal(output) for clip_id, output in made[0].items())


def test_clip_longer_than_a_window_has_all_of_them(cache, clips, tmp_path):
    import numpy as np
    import soundfile

    path = tmp_path / "long.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000 * 13), 16_000)
    long = replace(clips[0], id="f" * 16, audio_path=str(path), duration_s=13.0)
    model, collator = load(TINY_MODEL)
    with torch.inference_mode():
        expected = model.model.audio_tower(collator.features(long)).last_hidden_state
    encoded = take_encoder_out(model, collator, [clips[0], long, clips[1]], SOURCE.identity, projector_too=False)
    assert encoded.features(long).shape == (4, 200, 160)
    assert torch.allclose(encoded.features(long), expected, atol=1e-4)


def test_encoder_runs_once_for_each_clip(cache, clips, monkeypatch):
    model, collator = load(TINY_MODEL)
    take_encoder_out(model, collator, clips[:7], SOURCE.identity, projector_too=False)
    before = entries(cache)
    asked = []
    monkeypatch.setattr(Collator, "features_of", lambda self, samples: asked.append(samples) or features(self, samples))
    model, collator = load(TINY_MODEL)
    take_encoder_out(model, collator, clips, SOURCE.identity, projector_too=False)
    assert len(asked) == len(clips) - 7
    after = entries(cache)
    assert len(before) == 7 and len(after) == len(clips)
    assert all(after[name].equal(content) for name, content in before.items())


features = Collator.features_of


def test_other_model_or_precision_has_entries_of_its_own(cache, clips):
    for number, (identity, dtype) in enumerate(
        [("a", torch.float32), ("b", torch.float32), ("a", torch.bfloat16)], start=1
    ):
        model, processor = load_model(SOURCE, dtype), load_processor(SOURCE)
        collator = Collator(processor, read_sizes(model.config, processor), TINY_MODEL)
        encoded = take_encoder_out(model, collator, clips[:2], identity, projector_too=False)
        assert encoded.features(clips[0]).dtype == dtype
        assert len(entries(cache)) == 2 * number


def test_each_variant_has_an_entry_of_its_own_beside_the_clips_unchanged_one(cache, clips):
    model, collator = load(TINY_MODEL)
    alone = take_encoder_out(model, collator, clips[:2], SOURCE.identity, projector_too=False)
    before, plain = entries(cache), outputs(alone, clips[:2])
    kinds = [("light", 0, 1), ("light", 0, 2), ("light", 1, 1), ("strong", 0, 1)]
    variants = [
        Variant(**vars(clip), level=level, seed=seed, number=number)
        for clip in clips[:2] for level, seed, number in kinds
    ]  # fmt: skip
    model, collator = load(TINY_MODEL)
    with torch.inference_mode():
        expected = model.model.audio_tower(collator.features(variants[3])).last_hidden_state
    encoded = take_encoder_out(model, collator, [*variants, *clips[:2]], SOURCE.identity, projector_too=False)
    assert torch.allclose(encoded.features(variants[3]), expected, atol=1e-4)
    heard = [encoded.features(clip) for clip in [*clips[:2], *variants]]
    assert len({tensor.numpy().tobytes() for tensor in heard}) == len(entries(cache)) == 10
    assert all(heard[place].equal(plain[clip.id]) for place, clip in enumerate(clips[:2]))
    assert all(entries(cache)[name].equal(content) for name, content in before.items())


def test_variant_has_the_windows_of_its_clip_and_the_clip_is_heard_as_ever(clips):
    """Validation and test clips are no variants: their features are the same bytes before, between and after."""
    _, collator = load(TINY_MODEL)
    for clip in clips:
        plain = collator.features(clip)
        for number in range(3):
            changed = collator.features(Variant(**vars(clip), level="strong", seed=0, number=number))
            assert changed.shape == plain.shape and changed.isfinite().all() and not changed.equal(plain)
        assert collator.features(clip).equal(plain)


def test_changed_sound_under_the_same_name_is_encoded_anew(cache, clips, tmp_path):
    path = tmp_path / "clip.flac"
    clip = replace(clips[0], audio_path=str(path))
    heard = []
    for original in clips[:2]:
        path.write_bytes(prepared.content(path.parent / original.audio_path))
        model, collator = load(TINY_MODEL)
        heard.append(take_encoder_out(model, collator, [clip], SOURCE.identity, projector_too=False).features(clip))
    assert not heard[0].equal(heard[1])


def test_damaged_entry_is_told_and_made_again_by_the_next_run(cache, clips):
    model, collator = load(TINY_MODEL)
    encoded = take_encoder_out(model, collator, clips[:3], SOURCE.identity, projector_too=False)
    whole = encoded.features(clips[1])
    [path] = [path for path in cache.rglob("*") if path.name == encoded.store._path(encoded.key(clips[1])).name]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=rf"the entry of clip {clips[1].id} is damaged or gone: run it again"):
        encoded.features(clips[1])
    model, collator = load(TINY_MODEL)
    assert (
        take_encoder_out(model, collator, clips[:3], SOURCE.identity, projector_too=False)
        .features(clips[1])
        .equal(whole)
    )


def test_full_disk_leaves_the_encoder_in_its_place_and_says_so(cache, clips, monkeypatch, capsys):
    monkeypatch.setattr(encoder_cache, "SPARE_BYTES", shutil.disk_usage("/").total * 2)
    model, collator = load(TINY_MODEL)
    assert take_encoder_out(model, collator, clips, SOURCE.identity, projector_too=False) is collator
    assert list(model.model.audio_tower.parameters())
    assert capsys.readouterr().out.startswith("no encoder cache: 0.0 GB needed in ")


def test_sound_heard_again_at_once_is_encoded_once(clips):
    model, collator = load(TINY_MODEL)
    expected = [transcribe(model, collator, [clip], batch_size=1) for clip in clips[:2]]
    runs = []
    model.model.audio_tower.register_forward_hook(lambda *_: runs.append(1))
    remember_last_sound(model)
    heard = [transcribe(model, collator, [clips[number]], batch_size=1) for number in (0, 0, 1, 0)]
    assert heard == [expected[0], expected[0], expected[1], expected[0]]
    assert len(runs) == 3


def test_encoder_that_is_trained_is_not_frozen():
    model, _ = load(TINY_MODEL)
    assert not is_frozen(model.train())
    with_encoder = LORA.model_copy(update={"scope": ["encoder", "decoder"]})
    assert not is_frozen(adapters.add_lora(model, with_encoder))

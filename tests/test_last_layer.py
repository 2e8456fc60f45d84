"""The last layer at kept positions only: the same loss and gradients, and really less work."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stages.common.params import LoraParams
from stages.voxtral import adapters
from stages.voxtral.last_layer import only_kept_positions
from stages.voxtral.loading import load_model
from stages.voxtral.transcription import transcribe
from tests.test_encoder_cache import SOURCE, clips, load  # noqa: F401  a fixture
from tests.workspaces import TINY_MODEL

LORA = LoraParams(r=4, alpha=8, dropout=0.0, scope=["encoder", "projector", "decoder"])


def adapted(trimmed: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    model = adapters.add_lora(load_model(SOURCE, torch.float32), LORA).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zeros at first: half of the gradients would be nothing
            torch.nn.init.normal_(parameter, std=0.02)
    if trimmed:
        only_kept_positions(model)
    return model


def test_loss_and_gradients_are_those_of_the_whole_layer_for_less_work(clips):  # noqa: F811
    _, collator = load(TINY_MODEL)
    # Transcripts of different lengths, and clips of one and of two windows.
    long = replace(clips[1], text=clips[1].text + " and on and on and on")
    batch = collator.training_batch([clips[0], long, *clips[2:6]])
    losses, gradients, flop = [], [], []
    for trimmed in (False, True):
        model = adapted(trimmed)
        with FlopCounterMode(display=False) as counter:
            loss = model(**batch).loss
            loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
        flop.append(counter.get_total_flops())
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients[1].values())
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][name], gradient, rtol=1e-3, atol=1e-6), name
    assert flop[1] < 0.95 * flop[0]


def test_names_of_the_weights_stay():
    assert [name for name, _ in adapted(True).named_parameters()] == [
        name for name, _ in adapted(False).named_parameters()
    ]


def test_transcripts_and_passes_without_kept_positions_stay_as_they_are(clips):  # noqa: F811
    model, collator = load(TINY_MODEL)
    inputs = collator.transcription_batch(clips[:4])
    with torch.inference_mode():
        expected = transcribe(model, collator, clips, batch_size=4), model(**inputs).logits
        only_kept_positions(model)
        model(**collator.training_batch(clips[:4]))  # what it remembers must not reach the next pass
        assert model(**inputs).logits.equal(expected[1])
        assert transcribe(model, collator, clips, batch_size=4) == expected[0]


def test_other_attention_is_left_alone(clips):  # noqa: F811
    model, collator = load(TINY_MODEL)
    model.config.text_config._attn_implementation = "eager"
    only_kept_positions(model)
    batch = collator.training_batch(clips[:2])
    assert (
        model.model(**{k: v for k, v in batch.items() if k in ("input_ids", "input_features")})
        .last_hidden_state[:, 0]
        .any()
    )


def test_gradients_recomputed_on_the_way_back_are_the_same(clips):  # noqa: F811
    _, collator = load(TINY_MODEL)
    batch = collator.training_batch(clips[:4])
    gradients = []
    for recomputed in (False, True):
        model = adapted(True)
        if recomputed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model(**batch).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][name], gradient, rtol=1e-3, atol=1e-6), name

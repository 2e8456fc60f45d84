"""The last layer at kept positions only: the same loss and gradients, and really less work."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stages.voxtral.last_layer import only_kept_positions
from stages.voxtral.transcription import transcribe
from tests.tiny_model import are_close, loss_and_gradients, open_adapted, open_tiny

ALL = ("encoder", "projector", "decoder")


@pytest.mark.parametrize("recomputed", [False, True])
def test_loss_and_gradients_are_those_of_the_whole_layer_for_less_work(demo_clips, recomputed):
    """recomputed: with gradient checkpointing, which runs the whole layer."""
    whole, collator = open_adapted(*ALL)
    long = replace(demo_clips[1], text=demo_clips[1].text + " and on and on and on")
    batch = collator.training_batch([demo_clips[0], long, *demo_clips[2:6]])
    kept, _ = open_adapted(*ALL)
    only_kept_positions(kept)
    if recomputed:
        kept.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with FlopCounterMode(display=False) as whole_flop:
        loss, gradients = loss_and_gradients(whole, batch)
    with FlopCounterMode(display=False) as kept_flop:
        kept_loss, kept_gradients = loss_and_gradients(kept, batch)
    assert kept_loss == pytest.approx(loss, rel=1e-6)
    assert are_close(kept_gradients, gradients)  # also their names, by which adapters are stored
    assert recomputed or kept_flop.get_total_flops() < 0.95 * whole_flop.get_total_flops()


def test_transcripts_and_passes_without_kept_positions_stay_as_they_are(demo_clips):
    model, collator = open_tiny()
    clips = demo_clips[:4]
    inputs = collator.transcription_batch(clips)
    with torch.inference_mode():
        texts, logits = transcribe(model, collator, clips, batch_size=4), model(**inputs).logits
        only_kept_positions(model)
        model(**collator.training_batch(clips))  # what it remembers must not reach the next pass
        assert model(**inputs).logits.equal(logits)
        assert transcribe(model, collator, clips, batch_size=4) == texts


def test_other_attention_is_left_as_it_is():
    model, _ = open_tiny()
    model.config.text_config._attn_implementation = "eager"
    only_kept_positions(model)
    assert "forward" not in vars(model.model.language_model.layers[-1])

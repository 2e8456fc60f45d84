"""Transcription: the same text alone or in a batch, and never without end."""

import torch

from stages.voxtral.transcription import max_new_tokens, strip_language_tag, transcribe
from tests.tiny_model import open_tiny


def test_transcripts_do_not_depend_on_the_batch(demo_clips):
    model, collator = open_tiny()
    alone = transcribe(model, collator, demo_clips, batch_size=1)
    assert alone == transcribe(model, collator, demo_clips, batch_size=7)
    assert alone == transcribe(model, collator, demo_clips[::-1], batch_size=24)[::-1]
    assert len(set(alone)) > len(demo_clips) / 2, "the model says the same whatever it hears"


def test_endless_transcript_ends_by_the_length_of_the_sound(demo_clips):
    model, collator = open_tiny()
    with torch.no_grad():
        model.lm_head.weight[collator.sizes.eos_token_id] = 0  # the end token rarely wins
    clips = demo_clips[:3]
    for clip, text in zip(clips, transcribe(model, collator, clips, batch_size=3), strict=True):
        assert len(collator.target_ids(text)) <= max_new_tokens(clip.duration_s) + 1


def test_language_tag_of_a_prompt_without_language_is_no_speech():
    assert strip_language_tag("lang:de guten Tag") == "guten Tag"
    assert strip_language_tag(" lang:en") == ""
    assert strip_language_tag("a slang:en word") == "a slang:en word"

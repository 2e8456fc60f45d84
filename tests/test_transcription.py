"""Transcription: the same text alone or in a batch, and never without end."""

import pytest
import torch

from stages.common.params import ModelParams
from stages.speech.clips import read_clips
from stages.voxtral.collation import Collator
from stages.voxtral.loading import find_model, load_model, load_processor, read_sizes
from stages.voxtral.transcription import max_new_tokens, strip_language_tag, transcribe
from tests.workspaces import TINY_MODEL, add_demo_clips, make_workspace, run_stages


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """(model, collator, clips) of 24 demo clips."""
    workspace = make_workspace(tmp_path_factory.mktemp("transcription"))
    add_demo_clips(workspace, 24)
    run_stages(workspace, "prepare")
    source = find_model(ModelParams(name=str(TINY_MODEL), revision=None, dtype="auto"))
    processor, model = load_processor(source), load_model(source, torch.float32)
    collator = Collator(processor, read_sizes(model.config, processor), workspace / "data/prepared")
    return model, collator, read_clips(workspace / "data/prepared/clips.jsonl")


def test_transcripts_do_not_depend_on_the_batch(prepared):
    model, collator, clips = prepared
    alone = transcribe(model, collator, clips, batch_size=1)
    assert alone == transcribe(model, collator, clips, batch_size=7)
    assert alone == transcribe(model, collator, clips[::-1], batch_size=24)[::-1]
    assert len(set(alone)) > len(clips) / 2, "the model says the same whatever it hears"


def test_endless_transcript_is_cut_by_the_length_of_the_sound(prepared):
    model, collator, clips = prepared
    head = model.lm_head.weight.detach().clone()
    try:
        with torch.no_grad():
            model.lm_head.weight[collator.sizes.eos_token_id] = 0  # as unlikely as any other word: it rarely wins
        texts = transcribe(model, collator, clips[:3], batch_size=3)
    finally:
        with torch.no_grad():
            model.lm_head.weight.copy_(head)
    for clip, text in zip(clips, texts, strict=False):
        assert len(collator.target_ids(text)) <= max_new_tokens(clip.duration_s) + 1


def test_language_tag_of_a_prompt_without_language_is_no_speech():
    assert strip_language_tag("lang:de guten Tag") == "guten Tag"
    assert strip_language_tag(" lang:en") == ""
    assert strip_language_tag("a slang:en word") == "a slang:en word"

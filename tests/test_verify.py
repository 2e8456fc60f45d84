"""The check before publishing: a correct model passes however it rounds, a wrong one is refused, in any precision."""

from dataclasses import replace

import pytest
import torch

from stages.common.stage import UserError
from stages.hub.release import ROUNDING, check_weights, clips_to_check, difference
from stages.speech.clips import read_clips
from stages.voxtral.models import open_model, open_tuned
from stages.voxtral.transcription import logits_of, transcripts_of
from tests.tiny_model import SOURCE

DTYPES = [torch.float32, torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def evaluated(request, trained_project):
    """The trained project's model in a precision, three test clips, and what an evaluation keeps of them."""
    model, collator = open_model(SOURCE, request.param)
    model = open_tuned(trained_project / "data/checkpoints/best", model, request.param)
    clips = read_clips(trained_project / "data/split/test.jsonl")[:3]
    clips = [replace(clip, audio_path=str(trained_project / "data/prepared" / clip.audio_path)) for clip in clips]
    heard = transcripts_of(model, collator, clips, batch_size=3)
    expected = [
        {"id": clip.id, "text": one.text, "tokens": one.tokens, "logits": one.logits}
        for clip, one in zip(clips, heard, strict=True)
    ]
    return model, collator, clips, expected


def problems(evaluated) -> list[str]:
    """What the check says of the model as it is now."""
    model, collator, clips, expected = evaluated
    dtype = str(model.dtype).removeprefix("torch.")
    found = []
    for clip, one in zip(clips, expected, strict=True):
        logits = logits_of(model, collator, clip, one["tokens"])
        found.append(difference({"text": one["text"], "logits": logits}, one, dtype))
    return [problem for problem in found if problem]


def in_adapter(model: torch.nn.Module, part: str) -> dict[str, torch.Tensor]:
    return {name: weight.data for name, weight in model.named_parameters() if part in name and "lora_" in name}


def without_training(model):
    for weight in in_adapter(model, "lora_B").values():
        weight.zero_()


def layers_exchanged(model):
    for name, weight in in_adapter(model, "language_model.layers.0.").items():
        other = in_adapter(model, name.replace("layers.0.", "layers.1."))[name.replace("layers.0.", "layers.1.")]
        kept = weight.clone()
        weight.copy_(other)
        other.copy_(kept)


def less_training(model):
    for weight in in_adapter(model, "lora_B").values():
        weight.mul_(0.7)


def of_another_seed(model):
    generator = torch.Generator().manual_seed(1)
    for weight in in_adapter(model, "lora_B").values():
        weight.copy_(weight[torch.randperm(len(weight), generator=generator)])


@pytest.mark.parametrize("plant", [without_training, layers_exchanged, less_training, of_another_seed])
def test_wrong_adapter_is_refused(evaluated, plant):
    if evaluated[0].dtype != torch.float32 and plant in (layers_exchanged, less_training):
        pytest.skip("this short a training changes the logits by less than half precision rounds: check_weights")
    before = {name: weight.clone() for name, weight in in_adapter(evaluated[0], "").items()}
    plant(evaluated[0])
    found = problems(evaluated)
    for name, weight in in_adapter(evaluated[0], "").items():
        weight.copy_(before[name])
    assert found and "rounding in" in found[0]


def test_same_model_passes_without_a_batch_and_with_its_adapter_merged(evaluated):
    """Catches: transcripts compared bit for bit, which refuses correct models in half precision."""
    model = evaluated[0]
    assert problems(evaluated) == []
    model.merge_adapter()
    merged = problems(evaluated)
    model.unmerge_adapter()
    assert merged == []


def test_other_text_or_another_weight_file_is_refused(tmp_path):
    """Catches: a damaged tokenizer, and a damaged tensor whose effect is smaller than rounding."""
    clip = {"id": "a", "text": "one two", "logits": [8.0, 9.0]}
    assert difference(clip, clip, "float32") is None
    assert "reads 'one too'" in difference(clip | {"text": "one too"}, clip, "bfloat16")
    assert "differ by 41.52%" in difference(clip | {"logits": [8.0, 14.0]}, clip, "bfloat16")
    assert ROUNDING["float32"] < ROUNDING["float16"] < ROUNDING["bfloat16"] < 0.1
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"evaluated")
    hashed = {"weights": {weights.name: "18b25d4c5ed44dd50bbfc4bd95fbf81ab5c4a5bb3b5ea6d0bb5c5b0ba4e5dc8a"}}
    with pytest.raises(UserError, match=r"model\.safetensors is not the one that was evaluated"):
        check_weights({weights.name: weights}, hashed)


def test_checked_clips_are_first_those_that_tell_the_models_apart():
    """Catches: a check on clips that a model without its training hears in the same way."""
    predictions = [
        {"id": name, "model": model, "hypothesis": "y" if name in told_apart else "same"}
        for name in "abcdef"
        for model, told_apart in (("base", ""), ("tuned", "cef"))
    ]
    evaluated = {"clips": [{"id": name, "tokens": [1], "logits": [2.0]} for name in "abcdef"]}
    chosen = clips_to_check(predictions, evaluated, 4)
    assert [clip["id"] for clip in chosen] == ["c", "e", "f", "a"]
    assert chosen[0] == {"id": "c", "tokens": [1], "logits": [2.0], "text": "y"}

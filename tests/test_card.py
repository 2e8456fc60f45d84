"""The model card: what it says follows from the stages' figures, and the Hub understands its metadata."""

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from stages import card as stage
from stages.speech.caveats import conclusion

BASE = "mistralai/Voxtral-Mini-3B-2507"


def metrics_of(wer: float, cer: float) -> dict:
    rates = {"wer": wer, "cer": cer, "wer_low": wer - 0.0321, "wer_high": wer + 0.0432}
    rates |= {"wer_as_written": wer + 0.1, "cer_as_written": cer + 0.1, "rtfx": 4.2}
    return rates | {"substitutions": 31, "deletions": 7, "insertions": 5, "reference_words": 412, "clips": 57}


@pytest.fixture
def inputs(params) -> dict[str, dict]:
    """What the earlier stages leave behind, as small as the card needs it."""
    settings = {**params.train.model_dump(), "learning_rate": 0.0001, "clips_per_update": 8, "quantisation": None}
    training = {
        "settings": {**settings, "model": params.model.model_dump()},
        "versions": {"torch": "2.9.1", "transformers": "4.57.1"},
        "base_model": BASE,
        "base_model_identity": f"{BASE}@3060fe34b35ba5d44202ce9ff3c097642914f8f3",
        "window": {"samples": 480000, "frames": 3000},
        "device": "NVIDIA A10G",
        "train_clips": 301,
        "train_minutes": 21.5,
        "trainable_parameters": 12345678,
        "epochs_run": 9.0,
        "best_epoch": 4.0,
        "caveats": ["Training longer may help."],
        "best_validation_wer": 0.1234,
        "seconds": 987.6,
    }
    return {
        "data/prepared/summary.json": {
            "clips": 400,
            "minutes": 28.75,
            "languages": {"de": 90, "en": 310},
            "rejected": 13,
        },
        "data/split/summary.json": {"clips": {"train": 301, "validation": 42, "test": 57}},
        "data/checkpoints/training.json": training,
        "data/evaluation/metrics.json": {
            "units": 49,
            "units_by": "prompt",
            "base": metrics_of(0.4567, 0.2345),
            "tuned": metrics_of(0.1357, 0.0468),
            "precision": {"dtype": "bfloat16", "quantisation": None},
            "improvement": {"wer_relative": 0.7, "low": 0.6, "high": 0.8, "p_value": 0.0005, "visible_difference": 0.09}
            | {"difference": 0.321, "difference_low": 0.261, "difference_high": 0.389},
        },
    }


@pytest.fixture
def card(workspace, inputs):
    """`card()` runs the stage on `inputs` and loads what it wrote as the Hub's client does."""

    def render() -> ModelCard:
        for name, content in inputs.items():
            path = workspace / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        stage.main()
        return ModelCard.load("data/card/README.md")

    return render


def test_metadata_is_what_the_hub_searches_by_and_settings_are_quoted_as_they_are(card, set_param):
    set_param("push.repo_id", "ann/my-voice")
    set_param("card.license", "cc-by-nc-4.0")
    set_param("card.speaker", "An old fisherman.")
    set_param("card.title", "Fish: a {{ test }} --- with <b> & 'quotes'")
    rendered = card()
    data = rendered.data
    assert (data.license, data.pipeline_tag, data.base_model) == (
        "cc-by-nc-4.0", "automatic-speech-recognition", BASE,
    )  # fmt: skip
    assert {"voxtral", "personal-speech", "ownvoice"} <= set(data.tags)
    assert data.language == ["en", "de"]  # the most frequent first
    assert 'language="en"' in rendered.text and "en (310)" in rendered.text and "de (90)" in rendered.text
    assert data.model_name == "my-voice"
    assert "recordings (21.5 minutes). An old fisherman.\n" in rendered.text
    assert rendered.text.lstrip().startswith("# Fish: a {{ test }} --- with <b> & 'quotes'\n")
    assert {(result.metric_type, result.metric_name): result.metric_value for result in data.eval_results} == {
        ("wer", "WER (this model)"): 13.57,
        ("cer", "CER (this model)"): 4.68,
        ("wer", "WER (base model)"): 45.67,
        ("cer", "CER (base model)"): 23.45,
    }


def test_text_has_the_figures_of_both_models_and_of_the_data(card, inputs):
    text = card().text
    rows = dict(re.findall(r"^\| ([^|]+?) \| (.+) \|$", text, re.MULTILINE))
    assert rows["Word error rate"] == "45.7 % | **13.6 %**"
    assert rows["95 % interval"] == "42.5 % to 50.0 % | 10.4 % to 17.9 %"
    assert rows["Word error rate, as written"] == "55.7 % | 23.6 %"
    assert rows["Character error rate"] == "23.4 % | 4.7 %"
    assert rows["Replaced, missed, added words"] == "31, 7, 5 | 31, 7, 5"
    for part in (
        conclusion(inputs["data/evaluation/metrics.json"]),  # as in the report
        "from 301 recordings (21.5 minutes)",
        "on 57 recordings (412 words)",
        "The intervals are over 49 phrases, each counted as one.",
        "400 usable recordings, 28.75 minutes, 13 rejected",
        "Learning rate 1.00e-04, 8 clips an update, 9 epochs, seed 0, 987.6 s on NVIDIA A10G",
    ):
        assert part in text
    assert "49 different test phrases are few: they can hardly show a change of less than 9 points" in text
    assert "Training longer may help." in text
    assert "is bounded by 49 phrases in the test" in text


def test_other_peoples_speech_is_on_the_card_or_said_to_be_unmeasured(card, inputs):
    assert "worse than the base model; that was not measured." in card().text
    inputs["data/evaluation/metrics.json"]["other_speakers"] = {
        "base": metrics_of(0.1, 0.05),
        "tuned": metrics_of(0.12, 0.06),
        "improvement": {"difference_low": -0.034, "difference_high": 0.004},
    }
    text = card().text
    assert "On 57 recordings of other people the word error rate went from 10.0 % to 12.0 %" in text
    assert "(95 % interval of the change: -0.4 to +3.4 points)" in text and "not measured" not in text


LOADED = {
    "lora": [
        "LoRA adapters of rank 16 (alpha 32, dropout 0.0) on encoder, projector, decoder: 12,345,678 trainable",
        f'VoxtralForConditionalGeneration.from_pretrained("{BASE}"',
        'PeftModel.from_pretrained(model, "ann/my-voice")',
    ],
    "qlora": ["held in 4 bits (NF4) while training, where it alone has a word error rate of 43.2 %", "PeftModel"],
    "full": [
        "Full fine-tuning: 12,345,678 trainable parameters",
        'VoxtralForConditionalGeneration.from_pretrained("ann/my-voice"',
        '"pad_to_multiple_of": 32000, "max_source_positions": 200',
    ],
}


@pytest.mark.parametrize("mode", LOADED)
def test_code_on_the_card_loads_an_adapter_over_its_base_and_a_full_model_by_itself(card, inputs, set_param, mode):
    """Catches: a published model that nobody can load as its card says."""
    set_param("push.repo_id", "ann/my-voice")
    training, metrics = inputs["data/checkpoints/training.json"], inputs["data/evaluation/metrics.json"]
    training["settings"] |= {"mode": mode, "quantisation": "4 bits (NF4)" if mode == "qlora" else None}
    training["window"] = {"samples": 32000, "frames": 200}
    metrics["base_quantised"] = {"wer": 0.432}
    rendered = card()
    assert rendered.data.library_name == ("transformers" if mode == "full" else "peft")
    assert ("lora" in rendered.data.tags) == ("PeftModel" in rendered.text) == (mode != "full")
    assert all(part in rendered.text for part in LOADED[mode])
    (code,) = re.findall(r"```python\n(.*?)```", rendered.text, re.DOTALL)
    compile(code, "card", "exec")


def test_language_that_voxtral_was_not_made_for_is_named(card, inputs):
    assert "Voxtral was made for" not in card().text
    inputs["data/prepared/summary.json"]["languages"] = {"en": 3, "pl": 40, "de": 1, "uk": 2}
    assert (
        "made for English, Spanish, French, Portuguese, Hindi, German, Dutch, Italian. In Polish, Ukrainian the "
        in (card().text)
    )


def test_local_base_is_no_base_model_of_the_hub_and_no_path_is_published(card, inputs, set_param):
    folder = "/home/ann/models/voxtral"
    training = inputs["data/checkpoints/training.json"]
    training["settings"]["model"]["name"] = folder
    training |= {"base_model": folder, "base_model_identity": "folder:0123abcd"}
    rendered = card()
    assert rendered.data.base_model is None and "base_model" not in rendered.content.split("---\n")[1]
    assert "huggingface.co/data" not in rendered.content
    assert re.findall(r"""(?:^|[\s"'(=\[])(/[\w.-]+/\S*)""", rendered.content) == []
    assert str(Path.cwd()) not in rendered.content
    assert "needs its base voxtral, a folder of the machine that it was made on." in rendered.text
    set_param("push.merged", True)
    assert 'subfolder="merged"' in card().text

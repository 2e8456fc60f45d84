"""Write the model card, in data/card/README.md.

    python -m stages.card           (or `dvc repro card`)

Reads the summaries of prepare and split, training.json and metrics.json; the text is templates/model_card.md.j2.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pycountry
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from stages.common import paths
from stages.common.files import read_json, whole_folder, write_whole
from stages.common.params import Params, load_params
from stages.common.plurals import counted
from stages.common.stage import announce, run
from stages.speech.caveats import caveats, conclusion, held, units_in_words
from stages.speech.text import VOXTRAL_LANGUAGES

TEMPLATE = paths.TEMPLATES / "model_card.md.j2"


def eval_results(metrics: dict, languages: list[str]) -> list[EvalResult]:
    """Base and tuned error rates for the card's model-index, in percent as leaderboards have them."""
    return [
        EvalResult(
            task_type="automatic-speech-recognition",
            task_name="Speech recognition",
            dataset_type="private",
            dataset_name="Recordings of the person this model is for, held out from training",
            dataset_args={"language": ", ".join(languages)},
            metric_type=kind,
            metric_name=f"{kind.upper()} ({label})",
            metric_value=round(100 * metrics[model][kind], 2),
        )
        for model, label in (("tuned", "this model"), ("base", "base model"))
        for kind in ("wer", "cer")
    ]


def render_card(params: Params, prepared: dict, split: dict, training: dict, metrics: dict) -> ModelCard:
    """The card, with valid Hub metadata."""
    languages = sorted(prepared["languages"], key=lambda language: -prepared["languages"][language])
    is_adapter = training["settings"]["mode"] != "full"
    is_local = training["base_model_identity"].startswith("folder:")
    # Of a local folder only the name: the card may become public.
    base_model = Path(training["base_model"]).name if is_local else training["base_model"]
    repo_id = params.push.repo_id or "USER/NAME"
    card_data = ModelCardData(
        language=languages,
        license=params.card.license,
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="automatic-speech-recognition",
        base_model=None if is_local else base_model,  # the Hub accepts only its own ids
        tags=["voxtral", "personal-speech", "ownvoice", *(["lora"] if is_adapter else [])],
        model_name=repo_id.rpartition("/")[2],
        eval_results=eval_results(metrics, languages),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ModelCard.from_template(
            card_data,
            template_path=str(TEMPLATE),
            params=params,
            prepared=prepared,
            split=split,
            training=training,
            metrics=metrics,
            repo_id=repo_id,
            languages=languages,
            base_model=base_model,
            base_model_is_local=is_local,
            adapter=is_adapter,
            # The code on the card loads an adapter over its base, else a whole model.
            on_base=is_adapter and not (is_local and params.push.merged),
            made_for=", ".join(VOXTRAL_LANGUAGES.values()),
            weaker_languages=", ".join(
                pycountry.languages.get(alpha_2=code).name for code in languages if code not in VOXTRAL_LANGUAGES
            ),
            conclusion=conclusion(metrics),
            caveats=caveats(metrics),
            units=units_in_words(metrics),
            held=held(metrics),
            percent=lambda fraction: f"{100 * fraction:.1f} %",
            counted=counted,
        )


def main() -> str:
    params = load_params()
    announce("card", **params.card.model_dump())
    card = render_card(
        params,
        prepared=read_json(paths.PREPARED / "summary.json"),
        split=read_json(paths.SPLIT / "summary.json"),
        training=read_json(paths.CHECKPOINTS / "training.json"),
        metrics=read_json(paths.EVALUATION / "metrics.json"),
    )
    with whole_folder(paths.CARD) as folder:
        write_whole(folder / "README.md", str(card).encode())
    return f"{paths.CARD / 'README.md'}"


if __name__ == "__main__":
    run("card", main)

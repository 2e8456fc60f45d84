"""How long to train on few clips: least updates, early stopping, and what the best checkpoint is chosen by.

    python -m tests.benchmarks.small_sets --out FILE [--min-updates 0 60 120 180 300] [--clips 10 20 50] [--seeds 0 1 2]
    python -m tests.benchmarks.small_sets --out FILE --patience 5
    python -m tests.benchmarks.small_sets --out FILE --table

Four speakers of the Free Spoken Digit Dataset, the demo's model, with as many validation clips as a split of so many
would give. Each training is a line of FILE, with the words wrong on validation and test at each validation; a training
that is there is not run again. An hour or more on a core. Needs the recordings beside the checkout
(tests/workspaces.py).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy

from stages.common.params import load_params
from stages.speech.clips import Clip, read_clips
from stages.speech.scoring import score_clip, summarise
from stages.train import choose_clips, open_trainee
from stages.voxtral import encoder_cache, last_layer, training
from stages.voxtral.loading import find_model
from stages.voxtral.transcription import transcribe
from tests.benchmarks.digits import SPEAKERS
from tests.workspaces import SPEECH, add_digits, make_workspace, read_rows, run_stages

TEST_CLIPS = 60
DRAWS = 10_000


class Listen(TrainerCallback):
    """Transcribes the test clips at each validation."""

    def __init__(self, collator, clips: Sequence[Clip]) -> None:
        self.collator, self.clips, self.rows = collator, clips, []

    def on_evaluate(self, args, state, control, metrics, model, lr_scheduler, **kwargs) -> None:
        texts = transcribe(model, self.collator, self.clips, len(self.clips))
        scores = [score_clip(clip.text, text, clip.language) for clip, text in zip(self.clips, texts, strict=True)]
        cools = lr_scheduler.lr_lambdas[0].cools_from
        row = {"step": state.global_step, "cools": cools is not None and state.global_step > cools}
        validation = {name: metrics[f"eval_{name}"] for name in ("wer", "loss", "selection")}
        self.rows.append(row | validation | {"test": summarise(scores)["wer"]})
        model.train()


def train(clips: int, seed: int, min_updates: int, patience: int | None, scope: list[str]) -> list[dict]:
    """The validations of one training in the present workspace."""
    params = load_params()
    lora = params.train.lora.model_copy(update={"scope": scope})
    changes = {"max_clips": clips, "seed": seed, "min_updates": min_updates, "early_stopping_patience": patience}
    settings = params.train.model_copy(update=changes | {"lora": lora, "clips_per_update": 8, "batch_size": 8})
    parts = {part: read_clips(Path(f"data/split/{part}.jsonl")) for part in ("train", "validation", "test")}
    chosen = choose_clips(parts["train"], settings)
    # As many as split.validation_fraction of so few would be: 1, 3 and 7 of 10, 20 and 50.
    few = {"max_clips": max(round(clips * 0.1 / 0.75), 1)}
    validation = choose_clips(parts["validation"], settings.model_copy(update=few))
    test = choose_clips(parts["test"], settings.model_copy(update={"max_clips": TEST_CLIPS, "seed": 0}))
    torch.manual_seed(seed)
    source = find_model(params.model)
    model, collator, _ = open_trainee(source, params.model_copy(update={"train": settings}))
    last_layer.only_kept_positions(model)
    if encoder_cache.is_frozen(model):
        collator = encoder_cache.take_encoder_out(model, collator, [*chosen, *validation, *test], source.identity)
    rate = training.resolve_learning_rate(settings, model.config.text_config.hidden_size)
    settings = settings.model_copy(update={"learning_rate": rate})
    listen = Listen(collator, test)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = training.build_trainer(
            model, collator, chosen, validation, settings, False, Path(scratch), [listen]
        )  # fmt: skip
        trainer.args.save_strategy = SaveStrategy.NO  # only the figures are wanted
        training.fit(trainer, None)
    return listen.rows


def best(rows: Sequence[dict], by: str = "selection") -> float:
    """Wrong words on the test clips by the checkpoint with the lowest `by`."""
    return min(rows, key=lambda row: row[by])["test"]


def stopped(rows: Sequence[dict], patience: int) -> Sequence[dict]:
    """The validations that early stopping without a cool-down would have had."""
    lowest, since = float("inf"), 0
    for number, row in enumerate(rows, 1):
        lowest, since = (row["selection"], 0) if row["selection"] < lowest else (lowest, since + 1)
        if since == patience:
            return rows[:number]
    return rows


def interval(differences: Sequence[float], speakers: Sequence[str]) -> str:
    """Mean difference in points, with the 95 % interval from drawing speakers, then their trainings, anew."""
    groups = [np.array(differences)[np.array(speakers) == name] for name in sorted(set(speakers))]
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        chosen = [groups[at] for at in random.integers(len(groups), size=len(groups))]
        drawn.append(np.concatenate([random.choice(group, len(group)) for group in chosen]).mean())
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{100 * np.mean(differences):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def section(head: str, rows: dict[str, Sequence[tuple[str, float, float]]]) -> None:
    """Print a table. rows: (speaker, before, after) of each training."""
    print(f"\n| {head} | 95 % interval of the difference, points | trainings |\n|---|---|---|---|---|")
    for title, triples in rows.items():
        if triples:
            speakers, before, after = zip(*triples, strict=True)
            difference = interval(np.subtract(after, before), speakers)
            print(f"| {title} | {np.mean(before):.1%} | {np.mean(after):.1%} | {difference} | {len(triples)} |")


def table(found: Sequence[dict]) -> None:
    """All tables that the trainings of a file give."""
    whole, stopping = {}, {}
    for row in found:
        kind = whole if row["patience"] is None else stopping
        kind[row["speaker"], row["clips"], row["seed"], row["min_updates"], row["patience"]] = row["rows"]
    keys = sorted(whole)
    kinds = sorted({(key[1], key[3]) for key in keys})
    longer = {
        f"{clips} clips, {updates} updates": [
            (key[0], best(whole[*key[:3], 0, None]), best(whole[key]))
            for key in keys
            if (key[1], key[3]) == (clips, updates) and (*key[:3], 0, None) in whole
        ]
        for clips, updates in kinds
        if updates
    }
    section("| as before | with min_updates", longer)
    for title, by in (("loss alone", "loss"), ("the last", None)):
        rows = {
            f"{clips} clips, min_updates {updates}": [
                (key[0], best(whole[key]), best(whole[key], by) if by else whole[key][-1]["test"])
                for key in keys
                if (key[1], key[3]) == (clips, updates)
            ]
            for clips, updates in kinds
        }
        section(f"| chosen by WER, then loss | {title}", rows)
    plain, annealed, not_stopped = {}, {}, {}
    for patience in (1, 2, 3, 5):
        early = [key for key in keys if len(stopped(whole[key], patience)) < len(whole[key])]
        title = f"patience {patience}: {len(early)} of {len(keys)}"
        plain[title] = [(key[0], best(whole[key]), best(stopped(whole[key], patience))) for key in early]
    for patience in sorted({key[4] for key in stopping}):
        cooled = {key: rows for key, rows in stopping.items() if key[4] == patience and rows[-1]["cools"]}
        annealed[f"patience {patience}"] = [
            (key[0], best([row for row in rows if not row["cools"]]), best(rows)) for key, rows in cooled.items()
        ]
        not_stopped[f"patience {patience}"] = [
            (key[0], best(whole[*key[:4], None]), best(rows))
            for key, rows in cooled.items()
            if (*key[:4], None) in whole
        ]
    section("early stopping | not stopped | stopped at once", plain)
    section("early stopping | stopped at once | with a cool-down", annealed)
    section("early stopping | not stopped | with a cool-down", not_stopped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--min-updates", type=int, nargs="+", default=[0, 60, 120, 180, 300])
    parser.add_argument("--clips", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--speakers", nargs="+", default=SPEAKERS)
    parser.add_argument("--scope", nargs="+", default=["projector", "decoder"], help="encoder too: six times slower")
    parser.add_argument("--patience", type=int, help="stop early, with a cool-down")
    parser.add_argument("--table", action="store_true", help="print what is there")
    options = parser.parse_args()
    if options.table:
        table(read_rows(options.out))
        return
    if not SPEECH.is_dir():
        raise SystemExit(f"no recordings in {SPEECH}")
    out = options.out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        for speaker in options.speakers:
            workspace = make_workspace(Path(folder) / speaker, split__group_by="clip")
            add_digits(workspace, speaker)
            run_stages(workspace, "prepare", "split")
        for seed, clips, min_updates, speaker in itertools.product(
            options.seeds, options.clips, options.min_updates, options.speakers
        ):
            key = {"speaker": speaker, "clips": clips, "seed": seed, "min_updates": min_updates}
            key["patience"] = options.patience
            done = [{name: row[name] for name in key} for row in (read_rows(out) if out.exists() else [])]
            if key not in done:
                os.chdir(Path(folder) / speaker)
                rows = train(clips, seed, min_updates, options.patience, options.scope)
                with out.open("a") as file:
                    file.write(json.dumps(key | {"rows": rows}) + "\n")


if __name__ == "__main__":
    main()

"""Training: the plain recipe against ours, on the same clips, model, scope, order and clips per update, in one run.

    python -m tests.benchmarks.training [--sizes tiny middle 3b] [--mode lora|qlora|full]

The plain recipe is what is published again and again: Trainer, batches of 2, the processor called for each batch, the
encoder run every time, a logit for every position. Some minutes on two cores for tiny and middle; 3b needs a GPU.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import transformers
from datasets import Dataset
from transformers import IntervalStrategy, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from stages.common.params import ModelParams, Params, TrainParams, load_params
from stages.speech.clips import Clip
from stages.speech.prepared import read_prepared
from stages.train import open_trainee
from stages.voxtral import batches, encoder_cache, last_layer, training
from stages.voxtral.collation import IGNORED, Collator
from stages.voxtral.loading import find_model, training_dtype
from tests.benchmarks.models import SIZES, machine, make_clips, make_model
from tests.workspaces import ROOT, SPEECH

EPOCHS = 3
CLIPS_PER_UPDATE = 8


class Clock(TrainerCallback):
    """Seconds of each epoch and the loss of each step."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.losses: list[float] = []

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.began_s = time.monotonic()

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        self.epochs.append(time.monotonic() - self.began_s)

    def on_log(self, args, state, control, logs, **kwargs) -> None:
        self.losses += [logs["loss"]] if "loss" in logs else []


class PlainOrder(batches.SimilarLengths):
    def __iter__(self):
        return (index for index, _ in super().__iter__())


class PlainTrainer(Trainer):
    """Only the order of the clips is ours, so that losses can be compared step by step."""

    def _get_train_sampler(self, train_dataset=None):
        return self.sampler


def plain_arguments(learning_rate: float, folder: Path, params: TrainParams, dtype: torch.dtype) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder), num_train_epochs=EPOCHS, per_device_train_batch_size=2,
        gradient_accumulation_steps=CLIPS_PER_UPDATE // 2, learning_rate=learning_rate,
        warmup_steps=params.warmup_fraction, lr_scheduler_type=params.scheduler, logging_steps=1, save_strategy="no",
        remove_unused_columns=False, label_names=["labels"], report_to=[], disable_tqdm=True, dataloader_num_workers=1,
        bf16=dtype == torch.bfloat16, fp16=dtype == torch.float16, use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )  # fmt: skip


def plain_collator(collator: Collator):
    """Sound to a training batch by the processor, as its documentation shows it."""

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        sounds = [read_prepared(Path(row["audio_path"])) for row in rows]
        sizes = collator.sizes
        windows = {"pad_to_multiple_of": sizes.window_samples, "max_source_positions": sizes.window_frames}
        batch = collator.processor.apply_transcription_request(
            audio=sounds, language=[row["language"] for row in rows], model_id="voxtral", sampling_rate=16_000,
            format=["WAV"] * len(rows), audio_kwargs=windows,
        )  # fmt: skip
        targets = [collator.target_ids(row["text"]) for row in rows]
        longest = max(map(len, targets))
        pad = collator.sizes.pad_token_id
        ids = torch.tensor([target + [pad] * (longest - len(target)) for target in targets])
        labels = torch.tensor([target + [IGNORED] * (longest - len(target)) for target in targets])
        return {
            "input_features": batch["input_features"],
            "input_ids": torch.cat([batch["input_ids"], ids], dim=1),
            "attention_mask": torch.cat([batch["attention_mask"], (labels != IGNORED).long()], dim=1),
            "labels": torch.cat([torch.full_like(batch["input_ids"], IGNORED), labels], dim=1),
        }

    return collate


def open_seeded(params: Params):
    """The model's source, the same trainee each time, and its collator."""
    source = find_model(params.model)
    transformers.set_seed(0)
    model, collator, _ = open_trainee(source, params)
    return source, model, collator


def train_plainly(clips: list[Clip], params: Params, scratch: Path, dtype: torch.dtype) -> Clock:
    clock = Clock()
    _, model, collator = open_seeded(params)
    rate = training.resolve_learning_rate(params.train, model.config.text_config.hidden_size)
    trainer = PlainTrainer(
        model=model, args=plain_arguments(rate, scratch, params.train, dtype), callbacks=[clock],
        data_collator=plain_collator(collator), train_dataset=Dataset.from_list([asdict(c) for c in clips]),
    )  # fmt: skip
    lengths = [
        len(collator.prompt_ids(collator.windows_in(c), c.language)) + len(collator.target_ids(c.text)) for c in clips
    ]
    trainer.sampler = PlainOrder(lengths, CLIPS_PER_UPDATE, 0, lambda: trainer.state.epoch or 0)
    trainer.train()
    return clock


def train_ours(clips: list[Clip], params: Params, scratch: Path, dtype: torch.dtype) -> tuple[Clock, float, int]:
    """The clock, the seconds that filling the cache took, and the most memory in bytes."""
    clock = Clock()
    source, model, collator = open_seeded(params)
    last_layer.only_kept_positions(model)
    began_s = time.monotonic()
    if encoder_cache.is_frozen(model):
        collator = encoder_cache.take_encoder_out(model, collator, clips, source.identity)
    cache_s = time.monotonic() - began_s
    rate = training.resolve_learning_rate(params.train, model.config.text_config.hidden_size)
    resolved = {"learning_rate": rate, "batch_size": CLIPS_PER_UPDATE, "clips_per_update": CLIPS_PER_UPDATE}
    train = params.train.model_copy(update=resolved)
    trainer = training.build_trainer(model, collator, clips, clips[:1], train, dtype, scratch, [clock])
    trainer.args.eval_strategy, trainer.args.save_strategy = IntervalStrategy.NO, SaveStrategy.NO  # as in the plain one
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer.train()
    return clock, cache_s, training.peak_memory_bytes()


def compare(size: str, count: int, mode: str, scope: list[str]) -> None:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        os.environ["OWNVOICE_CACHE"] = str(folder / "cache")
        (folder / "clips").mkdir()
        clips = make_clips(folder / "clips", count)
        settings = load_params(ROOT / "params.yaml")
        lora = settings.train.lora.model_copy(update={"r": 8, "alpha": 16, "scope": scope})
        changes = {"mode": mode, "lora": lora, "epochs": EPOCHS, "early_stopping_patience": None}
        train = settings.train.model_copy(update=changes)
        model = ModelParams(name=str(make_model(size, folder / "model")), revision=None, dtype="auto")
        params = settings.model_copy(update={"model": model, "train": train})
        for dtype in sorted({torch.float32, training_dtype("auto")}, key=str, reverse=True):
            shutil.rmtree(folder / "cache", ignore_errors=True)
            ours, cache_s, peak_bytes = train_ours(clips, params, folder / "ours", dtype)
            gc.collect()
            plain = train_plainly(clips, params, folder / "plain", dtype)
            gc.collect()
            precision = str(dtype).removeprefix("torch.") + " autocast" * (dtype != torch.float32)
            print(f"\n### {size}: {mode} on {' + '.join(scope)}, {precision}, {count} clips x {EPOCHS} epochs\n")
            report(ours, plain, count, cache_s)
            if torch.cuda.is_available():
                print(f"Peak memory {peak_bytes / 1e9:.1f} GB.")


def report(ours: Clock, plain: Clock, count: int, cache_s: float) -> None:
    """Print the table of one comparison."""
    difference = np.abs(np.array(ours.losses) - np.array(plain.losses)).max()
    rows = {
        "all epochs, cache building counted": (sum(plain.epochs) / EPOCHS, (cache_s + sum(ours.epochs)) / EPOCHS),
        "from the second epoch on": (np.mean(plain.epochs[1:]), np.mean(ours.epochs[1:])),
    }
    print("| clips/s | plain | ours | ratio |\n|---|---|---|---|")
    for title, (before_s, after_s) in rows.items():
        print(f"| {title} | {count / before_s:.2f} | {count / after_s:.2f} | {before_s / after_s:.1f} |")
    print(f"\nFilling the encoder cache took {cache_s:.2f} s. Losses of {len(ours.losses)} updates")
    print(f"({ours.losses[0]:.4f} to {ours.losses[-1]:.4f}) differ by at most {difference:.1e}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny", "middle"])
    parser.add_argument("--mode", choices=["lora", "qlora", "full"], default="lora")
    parser.add_argument("--scope", nargs="+", default=["decoder"])
    parser.add_argument("--clips", type=int, default=64)
    arguments = parser.parse_args()
    if not SPEECH.is_dir():
        raise SystemExit(f"no recordings in {SPEECH}")
    print(f"Training on {machine()}")
    for size in arguments.sizes:
        if size == "3b" and not torch.cuda.is_available():
            print("\n3b: skipped, there is no GPU here")
            continue
        compare(size, arguments.clips, arguments.mode, arguments.scope)


if __name__ == "__main__":
    main()

"""The training loop: Hugging Face's Trainer, validated by real transcription, resumable after any crash.

Checkpoints are in the cache (scratch.py). The best one has the lowest validation WER; on equal WER, common with a dozen
validation clips, the lowest validation loss.
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import ProgressCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import SCHEDULER_NAME
from transformers.trainer_callback import ExportableState, TrainerState
from transformers.trainer_utils import EvalLoopOutput

from stages.common.files import read_json, write_csv, write_json, write_whole
from stages.common.params import TrainParams
from stages.common.stage import UserError
from stages.speech import augment
from stages.speech.clips import Clip
from stages.speech.scoring import score_clip, summarise
from stages.voxtral import batches, memory, processes
from stages.voxtral.collation import IGNORED, Collator
from stages.voxtral.loading import device, use_bitsandbytes
from stages.voxtral.schedule import CoolDown, Schedule, length_of
from stages.voxtral.scratch import COMPLETE, step_of
from stages.voxtral.transcription import transcribe

BATCH_SIZE = "batch_size.json"  # the one found for train.batch_size auto
KEPT_CHECKPOINTS = 2  # the best and the newest (or the one before, if that is the best): one of them is complete
LORA_LEARNING_RATE_TIMES_WIDTH = 0.3
FULL_TO_LORA_LEARNING_RATE = 0.2
OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_bnb_8bit"}  # train.optimizer, as the Trainer calls it


def resolve_learning_rate(params: TrainParams, decoder_width: int) -> float:
    """`train.learning_rate`; auto falls with the decoder's width as Adam's best rate does (muP, Yang et al. 2022, arXiv
    2203.03466). The factor gives width 3072 the middle of the published LoRA rates, 5e-5 to 2e-4.
    """
    if params.learning_rate != "auto":
        return params.learning_rate
    rate = LORA_LEARNING_RATE_TIMES_WIDTH / decoder_width
    return FULL_TO_LORA_LEARNING_RATE * rate if params.mode == "full" else rate


def resolve_batch_size(
    model: nn.Module, collator: Collator, clips: Sequence[Clip], params: TrainParams, dtype: torch.dtype, scratch: Path
) -> int:
    """`train.batch_size`; auto is the most that fits into the memory, measured once and kept for a resumed run, and 1
    with FSDP, as nothing can be measured before the model is on the GPUs.
    """
    if params.batch_size != "auto":
        return params.batch_size
    if processes.uses_fsdp():
        return 1
    most = params.clips_per_update // processes.world_size()
    if (scratch / BATCH_SIZE).exists():
        return memory.largest_divisor(most, read_json(scratch / BATCH_SIZE))
    longest = max(clips, key=lambda clip: (collator.windows_in(clip), len(clip.text)))
    with torch.autocast(device().type, dtype, enabled=dtype != torch.float32):
        own = memory.largest_batch(model, lambda size: collator.training_batch([longest] * size), most, params)
    batch_size = min(processes.gather({processes.rank(): own}).values())
    if processes.is_main():
        write_json(scratch / BATCH_SIZE, batch_size)
    return batch_size


def build_trainer(
    model: nn.Module,
    collator: Collator,
    train_clips: Sequence[Clip],
    validation_clips: Sequence[Clip],
    params: TrainParams,
    dtype: torch.dtype,
    scratch: Path,
    callbacks: Sequence[TrainerCallback],
) -> Trainer:
    """A Trainer over clips, with validation WER, early stopping and checkpoints in `scratch`.

    params: with numbers for learning_rate, batch_size and clips_per_update. dtype: what to compute in.
    """
    on_gpu = torch.cuda.is_available()
    if processes.uses_fsdp():
        processes.shard_by_layer(model)
    if params.optimizer == "adamw_8bit":
        use_bitsandbytes()
    length = length_of(len(train_clips), params)
    arguments = TrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=length.epochs,
        per_device_train_batch_size=params.batch_size,
        per_device_eval_batch_size=params.batch_size,
        gradient_accumulation_steps=params.clips_per_update // (params.batch_size * processes.world_size()),
        activation_checkpointing=params.gradient_checkpointing,
        optim=OPTIMIZERS[params.optimizer],
        learning_rate=params.learning_rate,
        warmup_steps=params.warmup_fraction,  # below 1, the Trainer takes it as a share of all steps
        lr_scheduler_type=params.scheduler,
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_gradient_norm,
        use_cpu=not on_gpu,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,  # with loss scaling
        eval_strategy="steps",
        eval_steps=length.updates_to_validation,
        save_strategy="steps",
        save_steps=length.updates_to_validation,
        save_total_limit=KEPT_CHECKPOINTS,
        metric_for_best_model="selection",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        logging_steps=1,
        logging_nan_inf_filter=False,
        log_level_replica="error",  # as loading.py sets it for the first process
        disable_tqdm=False,
        seed=params.seed,
        data_seed=params.seed,
        dataloader_pin_memory=on_gpu,
        dataloader_num_workers=min(8, os.cpu_count() or 1) if on_gpu else 0,
        dataloader_persistent_workers=on_gpu,
        accelerator_config={"non_blocking": on_gpu},  # the next batch travels while this one is computed
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        label_names=["labels"],
        prediction_loss_only=True,
        report_to=[],
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # the Trainer would else copy the model to every GPU by DataParallel
    trainer = VoxtralTrainer(
        collator,
        validation_clips,
        params.clips_per_update,
        model=model,
        args=arguments,
        data_collator=collator.training_batch,
        train_dataset=ClipsByEpoch(train_clips, params),
        eval_dataset=validation_clips,  # the Trainer wants one
        callbacks=[MarkComplete(), *callbacks],
    )
    if processes.uses_fsdp() and dtype == torch.bfloat16:
        # accelerate would also reduce the gradients and round the loss in bfloat16.
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        trainer.accelerator.state.fsdp_plugin.mixed_precision_policy = policy
    if arguments.fp16 and not on_gpu:  # accelerate would leave it out without a word
        trainer.accelerator.native_amp, trainer.accelerator.scaler = True, torch.amp.GradScaler("cpu")
    if params.early_stopping_patience:
        trainer.add_callback(CoolDown(params.early_stopping_patience))
    trainer.remove_callback(ProgressCallback)
    return trainer


@dataclass(frozen=True)
class ClipsByEpoch(Dataset):
    """The training clips, unchanged or augmented, by (index, epoch)."""

    clips: Sequence[Clip]
    params: TrainParams

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, place: tuple[int, int]) -> Clip:
        index, epoch = place
        return augment.of_epoch(self.clips[index], epoch, self.params)


def fit(trainer: Trainer, checkpoint: Path | None) -> None:
    """Train to the end, from `checkpoint` if there is one.

    A training that had ended is only read again: the Trainer would make one more update.
    """
    scratch = Path(trainer.args.output_dir)
    if checkpoint and torch.load(checkpoint / SCHEDULER_NAME)["lr_lambdas"][0]["ends"] <= step_of(checkpoint):
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        return
    progress = Progress()
    trainer.add_callback(progress)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError:
        if (scratch / BATCH_SIZE).exists() and processes.is_main():
            write_json(scratch / BATCH_SIZE, max(1, trainer.args.per_device_train_batch_size // 2))
        raise
    finally:
        progress.bar.close()  # else the bar is drawn again below an error


class VoxtralTrainer(Trainer):
    """A Trainer that puts clips of similar length together and transcribes the validation clips."""

    def __init__(self, collator: Collator, validation_clips: Sequence[Clip], clips_per_update: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.collator = collator
        self.validation_clips = validation_clips
        self.clips_per_update = clips_per_update

    def _get_train_sampler(self, train_dataset: ClipsByEpoch | None = None) -> batches.SimilarLengths:
        """transformers' LengthGroupedSampler would draw another order in a resumed epoch and on more devices."""
        clips = (train_dataset or self.train_dataset).clips
        lengths = [
            len(self.collator.prompt_ids(self.collator.windows_in(clip), clip.language))
            + len(self.collator.target_ids(clip.text))
            for clip in clips
        ]
        return batches.SimilarLengths(lengths, self.clips_per_update, self.args.seed, lambda: self.state.epoch or 0)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LambdaLR:
        warmup = self.args.get_warmup_steps(num_training_steps)
        schedule = Schedule(self.args.lr_scheduler_type.value, warmup, num_training_steps)
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, schedule)
        return self.lr_scheduler

    def evaluation_loop(self, *_: object, **__: object) -> EvalLoopOutput:
        """Loss by token, `wer`, `perplexity` and `selection` (which the best checkpoint is chosen by) as metrics.

        None of them depends on how the clips are divided among batches and devices.
        Raises: UserError if the loss is not finite.
        """
        model = self.accelerator.unwrap_model(self.model)
        loss = self.validation_loss(model)
        if not math.isfinite(loss):
            raise UserError(
                f"training diverged at step {self.state.global_step}: the validation loss is {loss}; "
                f"lower train.learning_rate (now {self.args.learning_rate:.1e})"
            )
        clips = self.validation_clips
        texts = transcribe(model, self.collator, clips, self.args.eval_batch_size)
        totals = summarise(
            [score_clip(clip.text, text, clip.language) for clip, text in zip(clips, texts, strict=True)]
        )
        metrics = {
            "eval_loss": loss,
            "eval_wer": totals["wer"],
            "eval_perplexity": math.exp(min(loss, 50)),
            "eval_selection": selection(totals["wer"], loss, totals["reference_words"]),
        }
        return EvalLoopOutput(None, None, metrics, len(clips))

    @torch.no_grad()
    def validation_loss(self, model: nn.Module) -> float:
        """Cross entropy by token over the validation clips."""
        model.eval()
        summed, tokens = 0.0, 0
        longest_first = sorted(self.validation_clips, key=lambda clip: -clip.duration_s)
        for clips, counts in processes.own_batches(longest_first, self.args.eval_batch_size, model):
            batch = self._prepare_inputs(self.collator.training_batch(clips))
            counted = int((batch["labels"][:, 1:] != IGNORED).sum())
            with self.compute_loss_context_manager():
                loss = model(**batch).loss.item()
            if counts:
                summed += counted * loss
                tokens += counted
        model.train()
        shares = processes.gather({processes.rank(): (summed, tokens)}).values()
        return sum(share for share, _ in shares) / sum(count for _, count in shares)


def selection(wer: float, loss: float, reference_words: int) -> float:
    """Lower is better: the WER, and between equal WERs the loss, which weighs less than half a wrong word."""
    return wer + 0.5 / reference_words * loss / (1 + loss)


class MarkComplete(TrainerCallback):
    """Marks a checkpoint once all its files are written, so that a run never resumes from a partial one."""

    def on_save(self, args, state, control, **kwargs) -> None:
        processes.wait_for_all()  # each process writes a file of its own
        if processes.is_main():
            write_whole(Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE, b"")


class Stopwatch(TrainerCallback, ExportableState):
    """Seconds of training up to a checkpoint, over all resumed parts; kept in the Trainer's checkpoints."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds_before = seconds
        self.began_s = time.monotonic()

    def state(self) -> dict:
        seconds = self.seconds_before + time.monotonic() - self.began_s
        return {"args": {"seconds": seconds}, "attributes": {}}


class Progress(TrainerCallback):
    """A bar over the steps, with one line for each validation."""

    def __init__(self) -> None:
        self.bar = tqdm(desc="train", unit="step", disable=not processes.is_main())

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.bar.reset(state.max_steps)
        self.bar.update(state.global_step)

    def on_step_end(self, args, state, control, lr_scheduler, **kwargs) -> None:
        self.bar.total = lr_scheduler.lr_lambdas[0].ends
        self.bar.update(state.global_step - self.bar.n)

    def on_evaluate(self, args, state, control, metrics, **kwargs) -> None:
        if processes.is_main():
            self.bar.write(
                f"train: epoch {state.epoch:.1f}  validation WER {metrics['eval_wer']:.1%}  "
                f"loss {metrics['eval_loss']:.3f}"
            )


CURVE_COLUMNS = ["step", "epoch", "train_loss", "validation_loss", "validation_perplexity", "validation_wer"]


def write_curve(path: Path, log_history: Sequence[dict]) -> None:
    """One row per validation; its training loss is the mean since the validation before."""
    rows, losses = [], []
    for entry in log_history:
        if "loss" in entry:
            losses.append(entry["loss"])
        if "eval_loss" in entry and losses:
            row = [sum(losses) / len(losses), entry["eval_loss"], entry["eval_perplexity"], entry["eval_wer"]]
            row = [entry["step"], round(entry["epoch"], 3), *(round(value, 5) for value in row)]
            rows.append(dict(zip(CURVE_COLUMNS, row, strict=True)))
            losses = []
    write_csv(path, CURVE_COLUMNS, rows)


def peak_memory_bytes() -> int:
    """Most memory used so far: on the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

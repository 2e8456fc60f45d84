"""Transcription: clip after clip as the model's documentation shows it, against ours, on the same clips, in one run.

    python -m tests.benchmarks.transcription [--sizes tiny middle 3b] [--clips 64]

Two minutes on two cores for tiny and middle; 3b needs a GPU. RTFx is seconds of sound for each second of work.
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from stages.common.params import ModelParams
from stages.speech.audio import read_prepared
from stages.speech.clips import Clip
from stages.voxtral import encoder_cache
from stages.voxtral.collation import Collator, max_new_tokens
from stages.voxtral.loading import find_model, resolve_dtype
from stages.voxtral.models import open_model
from stages.voxtral.transcription import strip_language_tag, transcribe
from tests.benchmarks.models import SIZES, machine, make_clips, make_model, require_recordings
from tests.workspaces import TINY_MODEL

BATCH_SIZE = 16


@torch.inference_mode()
def transcribe_plainly(model, collator: Collator, clips: Sequence[Clip]) -> list[str]:
    texts = []
    for clip in clips:
        samples = read_prepared(Path(clip.audio_path))
        inputs = collator.processor.apply_transcription_request(
            audio=[samples], language=[clip.language], model_id="voxtral", sampling_rate=16_000, format=["WAV"],
            audio_kwargs={
                "pad_to_multiple_of": collator.sizes.window_samples,
                "max_source_positions": collator.sizes.window_frames,
            },
        ).to(model.device, dtype=model.dtype)  # fmt: skip
        made = model.generate(
            **inputs, max_new_tokens=max_new_tokens(clip.duration_s), do_sample=False,
            eos_token_id=collator.sizes.eos_token_id, pad_token_id=collator.sizes.pad_token_id,
        )  # fmt: skip
        [text] = collator.processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        texts.append(strip_language_tag(text))
    return texts


def timed(work, *arguments, **keywords) -> tuple[list[str], float]:
    began_s = time.monotonic()
    texts = work(*arguments, **keywords)
    return texts, time.monotonic() - began_s


def compare(size: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        os.environ["OWNVOICE_CACHE"] = str(folder / "cache")
        (folder / "clips").mkdir()
        clips = make_clips(folder / "clips", count)
        # The tiny model knows when a sentence ends; one with random weights speaks until it is stopped.
        name = TINY_MODEL if size == "tiny" else make_model(size, folder / "model")
        source = find_model(ModelParams(name=str(name), revision=None, dtype="auto"))
        model, collator = open_model(source, resolve_dtype("auto"))
        transcribe_plainly(model, collator, clips[:2])  # what is done once at the start is nobody's
        plain, plain_s = timed(transcribe_plainly, model, collator, clips)
        ours, ours_s = timed(transcribe, model, collator, clips, BATCH_SIZE)
        without_encoder = copy.deepcopy(model)
        encoded, encoding_s = timed(encoder_cache.take_encoder_out, without_encoder, collator, clips, source.identity)
        cached, cached_s = timed(transcribe, without_encoder, encoded, clips, BATCH_SIZE)
    sound_s = sum(clip.duration_s for clip in clips)
    print(f"\n### {size}: {count} clips, {sound_s / 60:.1f} minutes of sound, {BATCH_SIZE} at once\n")
    print("| | clips/s | RTFx | ratio | other texts |\n|---|---|---|---|---|")
    for title, texts, seconds in (
        ("clip after clip", plain, plain_s),
        ("ours", ours, ours_s),
        ("ours, encoder outputs in the cache", cached, cached_s),
    ):
        others = sum(text != expected for text, expected in zip(texts, plain, strict=True))
        print(f"| {title} | {count / seconds:.2f} | {sound_s / seconds:.0f} | {plain_s / seconds:.1f} | {others} |")
    print(f"\nFilling the cache took {encoding_s:.1f} s.")
    for texts in (ours, cached):
        for text, expected in zip(texts, plain, strict=True):
            if text != expected:
                print(f"- {expected[:70]!r} became {text[:70]!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny", "middle"])
    parser.add_argument("--clips", type=int, default=64)
    arguments = parser.parse_args()
    require_recordings()
    print(f"Transcription on {machine()}")
    for size in arguments.sizes:
        if size == "3b" and not torch.cuda.is_available():
            print("\n3b: skipped, there is no GPU here")
            continue
        compare(size, arguments.clips)


if __name__ == "__main__":
    main()

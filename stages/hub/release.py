"""The model's release: which files are published, the search for secrets in them, and the check that they work.

Files are named one by one. The receipt lists the others, which stay here.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

from stages.common import paths
from stages.common.cache import fingerprint
from stages.common.files import read_json, sha256_of_file
from stages.common.params import Params, PushParams
from stages.common.stage import UserError
from stages.hub.client import TOKENS
from stages.speech.caveats import verdict

BEST = paths.CHECKPOINTS / "best"
# Of data/checkpoints/best: weights only as safetensors, which hold no code.
WEIGHTS = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-?????-of-?????.safetensors",
    "model.safetensors.index.json",
)
PROCESSOR = (
    "processor_config.json",
    "preprocessor_config.json",
    "tekken.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
# Path on the Hub: path here.
RESULTS = {
    "README.md": paths.CARD / "README.md",
    "training.json": paths.CHECKPOINTS / "training.json",
    "curve.csv": paths.CHECKPOINTS / "curve.csv",
    "metrics.json": paths.EVALUATION / "metrics.json",
}
LONGEST_HEADER_BYTES = 100_000_000  # safetensors' own limit; a broken file can name any size
HOMES = rb"""(?<![\w./:-])(/home/|/Users/|/root/|[A-Za-z]:\\\\?Users\\)[^\s"'<>)]*"""


def chosen_files() -> tuple[dict[str, Path], dict[str, Path], list[str]]:
    """The model and its results, each {path on the Hub: file here}, and the files that stay here.

    Raises: UserError if a file is missing.
    """
    model = model_files(BEST)
    if not any(name.endswith(".safetensors") for name in model):
        raise UserError(f"{BEST} holds no model: run 'dvc repro'")
    for path in RESULTS.values():
        if not path.is_file():
            raise UserError(f"{path} is missing: run 'dvc repro'")
    folders = (paths.CHECKPOINTS, paths.EVALUATION, paths.CARD)
    present = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    return model, RESULTS, sorted(path.as_posix() for path in present - {*model.values(), *RESULTS.values()})


def model_files(folder: Path) -> dict[str, Path]:
    """Files of a saved model and its processor that may be published, by name."""
    return {
        path.name: path
        for path in sorted(folder.glob("*"))
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in (*WEIGHTS, *PROCESSOR))
    }


def is_adapter(model: Mapping[str, Path]) -> bool:
    return "adapter_config.json" in model


def check_harmless(files: Mapping[str, Path]) -> None:
    """Raises: UserError naming the first file that holds a token, or the name of a folder of this machine."""
    from huggingface_hub import get_token

    token = get_token()
    here = [str(folder) for folder in {Path.cwd(), Path.home()} if folder != Path(folder.anchor)]
    folders = re.compile(
        b"|".join([HOMES, *(rb"(?<![\w./:-])" + re.escape(folder.encode()) + rb"(?![\w-])" for folder in here)])
    )
    for name, path in files.items():
        content = _readable_part(path)
        if TOKENS.search(content.decode(errors="replace")) or (token and token.encode() in content):
            raise UserError(f"{path} holds an access token, so {name} is not published: remove it there")
        if found := folders.search(content):
            raise UserError(
                f"{path} names a folder of this machine ({found[0].decode(errors='replace')}), so {name} is not "
                f"published: remove it there, or give model.name and card.speaker without it"
            )


def _readable_part(path: Path) -> bytes:
    """A file's bytes; of weights only the header, as numbers hold no names."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")  # huggingface/safetensors: size of the header, then the header
        return file.read(min(size, LONGEST_HEADER_BYTES))


def reason_to_refuse(params: PushParams, metrics: Mapping) -> str | None:
    """Why a model with these metrics may not be published under these params; None if it may."""
    found = verdict(metrics)
    if params.require == "none" or found == "better" or (params.require == "not_worse" and found != "worse"):
        return _forgets_too_much(params.max_forgetting, metrics.get("other_speakers"))
    figures = f"word error rate {metrics['base']['wer']:.1%} before, {metrics['tuned']['wer']:.1%} after"
    low, high = metrics["improvement"]["low"], metrics["improvement"]["high"]
    if low is not None:  # else the base model made no mistake
        figures += f", improvement {low:.0%} to {high:.0%} (95 % interval)"
    return (
        f"the tuned model is not shown to be {params.require.replace('_', ' ')}: {figures}; record more clips, or set "
        f"a weaker push.require in params.yaml"
    )


def _forgets_too_much(allowed: float | None, other_speakers: Mapping | None) -> str | None:
    """A test of non-inferiority: the whole interval of the difference has to be on the allowed side."""
    if allowed is None:
        return None
    if other_speakers is None:
        return "push.max_forgetting is set without other people's speech to measure on: set evaluate.other_speakers"
    highest = -other_speakers["improvement"]["difference_low"]
    if highest <= allowed:
        return None
    return (
        f"for other people the word error rate may be {100 * highest:.1f} points higher (95 % interval), and "
        f"push.max_forgetting allows {100 * allowed:.1f}: train fewer epochs or a smaller rank, or name more speech in "
        f"evaluate.other_speakers"
    )


def clips_to_check(predictions: Sequence[dict], count: int, batch_size: int) -> dict[str, str]:
    """{clip id: the tuned model's transcript} of at least `count` test clips, in whole batches of the evaluation.

    In half precision a transcript can depend on its batch. Batches with the most clips that the base hears differently
    come first: on the others, a model without its training would pass.
    """
    base = {row["id"]: row["hypothesis"] for row in predictions if row["model"] == "base"}
    # The order of stages.voxtral.transcription.transcribe.
    tuned = sorted((row for row in predictions if row["model"] == "tuned"), key=lambda row: -row["duration_s"])
    batches = [tuned[start : start + batch_size] for start in range(0, len(tuned), batch_size)]
    batches.sort(key=lambda batch: -sum(base[row["id"]] != row["hypothesis"] for row in batch))
    chosen: dict[str, str] = {}
    for batch in batches:
        if len(chosen) < count:
            chosen |= {row["id"]: row["hypothesis"] for row in batch}
    return chosen


def check_reproduces(
    models: Sequence[Mapping[str, Path]], expected: Mapping[str, str], merge_into: Path | None = None
) -> None:
    """Load exactly these files in a process of its own and compare what each model hears with the evaluation.

    models: the files of each, {path on the Hub: file here}. merge_into: a folder that the first model, with the adapter
    in it, is written to, to be loaded and compared as well.
    Raises: UserError naming the first clip that is heard differently.
    """
    with tempfile.TemporaryDirectory(prefix="ownvoice-push-") as temporary:
        folders = []
        for number, files in enumerate(models):
            folders.append(Path(temporary, f"model-{number}"))
            folders[-1].mkdir()
            for name, path in files.items():
                (folders[-1] / name).symlink_to(path.resolve())
        request, reply = Path(temporary, "request.json"), Path(temporary, "reply.json")
        asked = {"models": folders, "clips": list(expected), "merge_into": merge_into, "reply": reply}
        request.write_text(json.dumps(asked, default=str))
        result = subprocess.run([sys.executable, "-m", "stages.voxtral.verify", str(request)], check=False)
        if result.returncode != 0 or not reply.exists():
            raise UserError("the files to publish do not load, see above: nothing was sent")
        replies = read_json(reply)
    for heard, (clip, text) in itertools.product(replies, expected.items()):
        if heard[clip] != text:
            raise UserError(
                f"the files to publish do not work as evaluated: clip {clip} was heard as {text!r}, and now "
                f"as {heard[clip]!r}; nothing was sent: run 'dvc repro evaluate' on this machine"
            )


def merge(model: Mapping[str, Path], params: Params, expected: Mapping[str, str]) -> dict[str, Path]:
    """The whole model with this adapter in it, by name: made and checked once, then taken from the cache."""
    key = {
        "files": {name: sha256_of_file(path) for name, path in model.items()},
        "base": read_json(RESULTS["training.json"])["base_model_identity"],
        "dtype": params.model.dtype,
        "versions": {package: version(package) for package in ("torch", "transformers", "peft", "safetensors")},
    }
    folder = paths.cache_root() / "merged" / fingerprint(key)[:16]
    if not folder.exists():
        shutil.rmtree(folder.parent, ignore_errors=True)  # of other adapters, each as large as the base
        check_reproduces([model], expected, merge_into=folder)
    return model_files(folder)

"""The model's release: which files are published, the search for secrets in them, and the check that they work.

Files are named one by one. The receipt lists the others, which stay here.
"""

from __future__ import annotations

import itertools
import json
import math
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
from stages.common.params import PushParams
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
EVALUATED = paths.EVALUATION / "evaluated.json"
# Path on the Hub: path here.
RESULTS = {
    "README.md": paths.CARD / "README.md",
    "training.json": paths.CHECKPOINTS / "training.json",
    "curve.csv": paths.CHECKPOINTS / "curve.csv",
    "metrics.json": paths.EVALUATION / "metrics.json",
}
LONGEST_HEADER_BYTES = 100_000_000  # safetensors' own limit; a broken file can name any size
# Share by which the logits of a clip's tokens may differ, by precision. Half precision: 4 times the relative rounding
# error (2**-10, 2**-7); measured were up to 0.74 of it (32 layers each in encoder and decoder), 1.35 with the adapter
# merged, 12 to 22 without the training. float32: a GPU's convolutions may round to TF32 (0.14 %; else 5e-7).
ROUNDING = {"float32": 2**-9, "float16": 2**-8, "bfloat16": 2**-5}
HOMES = rb"""(?<![\w./:-])(/home/|/Users/|/root/|[A-Za-z]:\\\\?Users\\)[^\s"'<>)]*"""


def chosen_files() -> tuple[dict[str, Path], dict[str, Path], list[str]]:
    """The model and its results, each {path on the Hub: file here}, and the files that stay here.

    Raises: UserError if a file is missing.
    """
    model = model_files(BEST)
    if not any(name.endswith(".safetensors") for name in model):
        raise UserError(f"{BEST} holds no model: run 'dvc repro'")
    for path in (*RESULTS.values(), EVALUATED):
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


def check_weights(model: Mapping[str, Path], evaluated: Mapping) -> None:
    """Raises: UserError naming the first weight file that is not, byte for byte, the evaluated one.

    Of a single damaged tensor the check below sees nothing if its effect is smaller than rounding.
    """
    weights = {name: sha256_of_file(path) for name, path in model.items() if name.endswith(".safetensors")}
    if weights != evaluated["weights"]:
        name = min(set(weights.items()) ^ set(evaluated["weights"].items()))[0]
        raise UserError(f"{BEST / name} is not the one that was evaluated; nothing was sent: run 'dvc repro'")


def clips_to_check(predictions: Sequence[dict], evaluated: Mapping, count: int) -> list[dict]:
    """`count` test clips, each {id, text, tokens, logits} as the tuned model heard it.

    First those that the base hears differently: on the others, a model without its training comes closest to it.
    """
    base, tuned = (
        {row["id"]: row["hypothesis"] for row in predictions if row["model"] == model} for model in ("base", "tuned")
    )
    clips = sorted(evaluated["clips"], key=lambda clip: base[clip["id"]] == tuned[clip["id"]])
    return [{**clip, "text": tuned[clip["id"]]} for clip in clips[:count]]


def check_reproduces(
    models: Sequence[Mapping[str, Path]], expected: Sequence[dict], dtype: str, merge_into: Path | None = None
) -> None:
    """Load exactly these files in a process of its own and compare what they make of each clip with the evaluation.

    Each model gets a clip's prompt and the transcript's tokens, and must give each token the logit that it had in the
    evaluation, up to rounding: bit for bit would refuse correct models, as other batches, machines, and weights with
    the adapter in them round differently, and one token that tips over changes all behind it. Tokens, as text can be
    cut into other tokens than those that were generated. See ROUNDING.

    models: the files of each, {path on the Hub: file here}. expected: of clips_to_check. dtype: the evaluation's.
    merge_into: a folder that the first model, with the adapter in it, is written to, to be loaded and compared as well.
    Raises: UserError naming the first clip that a model makes something else of.
    """
    with tempfile.TemporaryDirectory(prefix="ownvoice-push-") as temporary:
        folders = []
        for number, files in enumerate(models):
            folders.append(Path(temporary, f"model-{number}"))
            folders[-1].mkdir()
            for name, path in files.items():
                (folders[-1] / name).symlink_to(path.resolve())
        request, reply = Path(temporary, "request.json"), Path(temporary, "reply.json")
        tokens = {clip["id"]: clip["tokens"] for clip in expected}
        asked = {"models": folders, "clips": tokens, "merge_into": merge_into, "reply": reply}
        request.write_text(json.dumps(asked, default=str))
        result = subprocess.run([sys.executable, "-m", "stages.voxtral.verify", str(request)], check=False)
        if result.returncode != 0 or not reply.exists():
            raise UserError("the files to publish do not load, see above: nothing was sent")
        replies = read_json(reply)
    for made, clip in itertools.product(replies, expected):
        if problem := difference(made[clip["id"]], clip, dtype):
            raise UserError(
                f"the files to publish do not work as evaluated: {problem}; nothing was sent: run 'dvc repro --force "
                f"--single-item evaluate' on this machine, then push again"
            )


def difference(made: Mapping, expected: Mapping, dtype: str) -> str | None:
    """What tells apart {text, logits} of a clip from the evaluation's; None if rounding explains it.

    Compared is the length of the logits' difference with that of the logits: a share that does not depend on how large
    a model's logits are.
    """
    if made["text"] != expected["text"]:
        return (
            f"clip {expected['id']} reads {made['text']!r} with these files, and {expected['text']!r} in the evaluation"
        )
    share = math.dist(made["logits"], expected["logits"]) / math.hypot(*expected["logits"])
    if share <= ROUNDING[dtype]:
        return None
    return (
        f"clip {expected['id']}, heard as {expected['text']!r}: its tokens' logits differ by {share:.2%} from the "
        f"evaluation's, and rounding in {dtype} explains {ROUNDING[dtype]:.2%}"
    )


def merge(model: Mapping[str, Path], expected: Sequence[dict], precision: Mapping) -> dict[str, Path]:
    """The whole model with this adapter in it, by name: made and checked once, then taken from the cache.

    precision: of metrics.json. Raises: UserError if the evaluation held the base in 4 bits.
    """
    if precision["quantisation"]:
        raise UserError(
            f"push.merged is true, but the evaluation held the base in {precision['quantisation']}, so that the whole "
            f"model was not measured: set evaluate.precision to whole, or push.merged to false"
        )
    key = {
        "files": {name: sha256_of_file(path) for name, path in model.items()},
        "base": read_json(RESULTS["training.json"])["base_model_identity"],
        "dtype": precision["dtype"],
        "versions": {package: version(package) for package in ("torch", "transformers", "peft", "safetensors")},
    }
    folder = paths.cache_root() / "merged" / fingerprint(key)[:16]
    if not folder.exists():
        shutil.rmtree(folder.parent, ignore_errors=True)  # of other adapters, each as large as the base
        check_reproduces([model], expected, precision["dtype"], merge_into=folder)
    return model_files(folder)

"""Sentences to read aloud from nvidia/Granary, which a thread of the page streams from the Hub into the cache."""

from __future__ import annotations

import re
import threading
import time
import traceback
from pathlib import Path

from recorder.phrases import LANGUAGES, OPENING, find_language, usable
from stages.common.files import read_jsonl, write_jsonl
from stages.common.paths import cache_root
from stages.common.stage import UserError

GRANARY = "nvidia/Granary"
# Speeches from parliament are cleaner sentences than the captions of videos: in this order of preference.
CORPORA = ("voxpopuli", "ytc", "yodas")
ROWS_READ = 5000
CHUNK_BYTES = 2 << 20  # of the manifest, read at once: some thousand rows
PHRASES = 300
RETRY_AFTER_S = 600.0
_next_try_s: dict[str, float] = {}  # by language
_problems: dict[str, str] = {}


def granary_phrases(language: str) -> list[str] | None:
    """What has been fetched; None if nothing has been."""
    path = _cached(language)
    return [row["text"] for row in read_jsonl(path)[1:]] if path.exists() else None


def granary_problem(language: str) -> str | None:
    """Why there are no phrases from Granary, in plain words; None if there are, or may be soon."""
    if not find_language(language).in_granary:
        return f"{GRANARY} has no phrases in {LANGUAGES[language].name}."
    return _problems.get(language)


def start_granary(language: str) -> None:
    """Fetch phrases in a thread, unless they are here, Granary has none, or the last try was a moment ago."""
    now_s = time.monotonic()
    is_missing = find_language(language).in_granary and not _cached(language).exists()
    if is_missing and now_s >= _next_try_s.get(language, 0.0):
        _next_try_s[language] = now_s + RETRY_AFTER_S
        _problems.pop(language, None)
        threading.Thread(target=_fetch, args=(language,), daemon=True).start()


def sentences(text: str) -> list[str]:
    """The whole sentences of a passage, without incomplete ones at its beginning and end."""
    # Not after a full stop behind one or two letters, an abbreviation: 'Mr. President'.
    parts = re.split(r"(?<=[!?…])\s+|(?<=\w{3}\.)\s+", text.strip())
    return [part for part in parts if part.endswith((".", "!", "?", "…")) and not part.lstrip(OPENING)[:1].islower()]


def stream(language: str) -> tuple[dict, list[str]]:
    """Where the phrases come from (data set, revision, configuration, licence), and at most PHRASES of them.

    The phrases are spread evenly over the usable ones in the first rows, because neighbouring rows are of one speech:
    a revision always gives the same. Raises: UserError if none is usable, and the errors of the Hub's client.
    """
    from datasets import get_dataset_config_names, load_dataset
    from huggingface_hub import HfApi

    revision = HfApi().dataset_info(GRANARY, timeout=10).sha
    there = get_dataset_config_names(GRANARY, revision=revision)
    config = next((name for corpus in CORPORA if (name := f"{language}_{corpus}") in there), None)
    if config is None:
        raise UserError(f"{GRANARY} has no phrases in {find_language(language).name}.")
    rows = load_dataset(GRANARY, config, split="asr", streaming=True, revision=revision, chunksize=CHUNK_BYTES)
    texts = (row["text"] for row in rows.select_columns(["text"]).take(ROWS_READ))
    phrases = usable((sentence for text in texts for sentence in sentences(text)), language)
    if not phrases:
        raise UserError(f"{GRANARY} holds no phrase in {find_language(language).name} that can be used.")
    source = {"dataset": GRANARY, "revision": revision, "config": config, "license": "CC BY 4.0"}
    return source, phrases[:: max(1, len(phrases) // PHRASES)][:PHRASES]


def _fetch(language: str) -> None:
    try:
        source, phrases = stream(language)
        write_jsonl(_cached(language), [source, *({"text": text} for text in phrases)])
    except UserError as error:
        _problems[language] = str(error)
    except Exception as error:  # noqa: BLE001  the page shows one sentence, its terminal the traceback
        traceback.print_exc()
        _problems[language] = (
            f"{GRANARY} could not be read ({type(error).__name__}): check the network, and that HF_HUB_OFFLINE is not "
            f"set. The next try is in {RETRY_AFTER_S / 60:.0f} minutes."
        )


def _cached(language: str) -> Path:
    return cache_root() / "phrases" / f"granary-{language}.jsonl"

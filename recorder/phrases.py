"""Languages and phrases to read aloud: written for this project, the person's own, or streamed from nvidia/Granary.

    python -m recorder.phrases LANGUAGE COUNT SECONDS

streams up to COUNT phrases from Granary into the cache and gives up after SECONDS. The page starts it as a process of
its own (`start_granary`): the client for data sets is slow to import, and the network may hang.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
import time
import traceback
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from stages.common.files import read_jsonl, write_jsonl, write_whole
from stages.common.paths import cache_root
from stages.common.stage import UserError
from stages.speech.text import JOINERS, WITHOUT_SPACES, clean, normalise

FOLDER = Path(__file__).with_suffix("")
ROOT = Path(__file__).parent.parent

GRANARY = "nvidia/Granary"
# Speeches from parliament are cleaner sentences than the captions of videos: in this order of preference.
GRANARY_CORPORA = ("voxpopuli", "ytc", "yodas")
ROWS_READ = 5000
CHUNK_BYTES = 2 << 20  # of the manifest, read at once: some thousand rows
LIMIT_S, RETRY_AFTER_S = 60.0, 600.0

WORDS = (3, 15)  # shortest and longest phrase
CHARACTERS = (5, 40)  # the same for languages without spaces between words
OPENING = " ¿¡'\"‘“„«‹「『("
PUNCTUATION = set(OPENING + ".,;:!?…-–—’”»›」』)、。！？・،؛؟।·")
# The languages of Granary that badwords-py 3.0.0 has a word list for, each with words that are on the list by mistake:
# a donkey, tiredness, a delay, a cousin, a table, the number six, a ball ...
ORDINARY_WORDS = {
    "cs": [],
    "da": [],
    "de": [],
    "el": ["γάιδαρος"],
    "en": [],
    "es": [],
    "fi": ["väsyttää"],
    "fr": ["retard", "zut"],
    "hu": [],
    "it": [],
    "nl": ["lust", "nicht"],
    "pl": [],
    "pt": ["mesa"],
    "ro": [],
    "ru": [],
    "sv": ["sex"],
    "uk": ["м'яч"],
}


@dataclass(frozen=True)
class Language:
    """A language that there are phrases in; `scripts` begin the Unicode names of its letters."""

    code: str  # ISO 639-1
    name: str
    own_name: str
    direction: Literal["ltr", "rtl"] = "ltr"
    scripts: tuple[str, ...] = ("LATIN",)
    in_granary: bool = True


LANGUAGES = {
    language.code: language
    for language in (
        Language("ar", "Arabic", "العربية", "rtl", scripts=("ARABIC",), in_granary=False),
        Language("bg", "Bulgarian", "български", scripts=("CYRILLIC",)),
        Language("cs", "Czech", "čeština"),
        Language("da", "Danish", "dansk"),
        Language("de", "German", "Deutsch"),
        Language("el", "Greek", "ελληνικά", scripts=("GREEK",)),
        Language("en", "English", "English"),
        Language("es", "Spanish", "español"),
        Language("et", "Estonian", "eesti"),
        Language("fi", "Finnish", "suomi"),
        Language("fr", "French", "français"),
        Language("hi", "Hindi", "हिन्दी", scripts=("DEVANAGARI",), in_granary=False),
        Language("hr", "Croatian", "hrvatski"),
        Language("hu", "Hungarian", "magyar"),
        Language("it", "Italian", "italiano"),
        Language("ja", "Japanese", "日本語", scripts=("HIRAGANA", "KATAKANA", "CJK", "IDEOGRAPHIC"), in_granary=False),
        Language("lt", "Lithuanian", "lietuvių"),
        Language("lv", "Latvian", "latviešu"),
        Language("mt", "Maltese", "Malti"),
        Language("nl", "Dutch", "Nederlands"),
        Language("pl", "Polish", "polski"),
        Language("pt", "Portuguese", "português"),
        Language("ro", "Romanian", "română"),
        Language("ru", "Russian", "русский", scripts=("CYRILLIC",)),
        Language("sk", "Slovak", "slovenčina"),
        Language("sl", "Slovenian", "slovenščina"),
        Language("sv", "Swedish", "svenska"),
        Language("uk", "Ukrainian", "українська", scripts=("CYRILLIC",)),
    )
}


def find_language(code: str) -> Language:
    """Raises: UserError if the code is not one of LANGUAGES."""
    if code not in LANGUAGES:
        raise UserError(f"there are no phrases in language {code!r}: choose one of {', '.join(LANGUAGES)}")
    return LANGUAGES[code]


def from_file(code: str) -> list[str]:
    """The phrases written for this project, in their order. Raises: UserError for an unknown language."""
    find_language(code)
    lines = (FOLDER / f"{code}.txt").read_text(encoding="utf-8").splitlines()
    return [clean(line) for line in lines if line.strip() and not line.startswith("#")]


def own_phrases(text: str) -> list[str]:
    """The lines of a text box or file: cleaned, each only once, without those that say nothing."""
    return _without_doubles(clean(line) for line in text.splitlines())


def prompt_id(language: str, text: str) -> str:
    """An id such as `de-1a2b3c4d`, the same for all spellings of a phrase in case and punctuation."""
    return f"{language}-{hashlib.sha256(normalise(text).encode()).hexdigest()[:8]}"


def _without_doubles(texts: Iterable[str]) -> list[str]:
    by_what_is_said: dict[str, str] = {}
    for text in texts:
        by_what_is_said.setdefault(normalise(text), text)
    by_what_is_said.pop("", None)
    return list(by_what_is_said.values())


# What may be shown


def usable(texts: Iterable[str], language: str) -> list[str]:
    """The texts that a person can be asked to read: cleaned, in their order, each once.

    They have 3 to 15 words (Japanese: 5 to 40 characters), begin with a letter, hold only letters of the language's
    script and punctuation (so no digits, addresses or control strings such as `[AUDIO]`), and no word of the list of
    profanities in badwords-py. It has no list for bg, et, hr, lt, lv, mt, sk, sl, ar and hi; its list for ja matches
    whole words only, which Japanese does not mark. In these languages profanity is not filtered.
    """
    spoken = find_language(language)
    return _without_profanity(
        [text for text in _without_doubles(map(clean, texts)) if _is_readable(text, spoken)], language
    )


def _is_readable(text: str, language: Language) -> bool:
    if language.code in WITHOUT_SPACES:
        shortest, longest = CHARACTERS
        length = len(text)
    else:
        shortest, longest = WORDS
        length = sum(any(char.isalpha() for char in word) for word in text.split())
    return (
        shortest <= length <= longest
        and text.lstrip(OPENING)[:1].isalpha()
        and not re.search(r"\w[.:]\w", text)  # addresses and abbreviations
        and all(char in PUNCTUATION or char in JOINERS or _is_of(char, language) for char in text)
    )


def _is_of(char: str, language: Language) -> bool:
    """Whether it is a letter, or a mark on a letter, of the language's script."""
    return unicodedata.category(char)[0] in "LM" and unicodedata.name(char, "").startswith(language.scripts)


def _without_profanity(texts: list[str], language: str) -> list[str]:
    if language not in ORDINARY_WORDS:
        return texts
    from badwords import Options, ProfanityFilter

    profanities = ProfanityFilter()
    # Without its look-alike tables, which take a Cyrillic word for a Latin one that it resembles.
    profanities.init([language], processing_transliterate=False, processing_replace_homoglyphs=False)
    profanities.add_whitelist(ORDINARY_WORDS[language])
    profane = profanities.is_profane_many(texts, Options(split_on_punctuation=True))
    return [text for text, is_profane in zip(texts, profane, strict=True) if not is_profane]


# Phrases from Granary: the page's side


def _cached(language: str, suffix: str) -> Path:
    """The phrases of a language, the log of the last try, or why there are none."""
    return cache_root() / "phrases" / f"granary-{language}{suffix}"


def granary_phrases(language: str) -> list[str] | None:
    """What has been streamed; None if nothing has been."""
    path = _cached(language, ".jsonl")
    return [row["text"] for row in read_jsonl(path)[1:]] if path.exists() else None


def granary_problem(language: str) -> str | None:
    """One sentence that says why there are no phrases from Granary; None if there are, or may be soon."""
    if not find_language(language).in_granary:
        return f"{GRANARY} has no phrases in {LANGUAGES[language].name}."
    path = _cached(language, ".problem")
    return path.read_text(encoding="utf-8") if path.exists() else None


def start_granary(
    language: str, count: int = 300, limit_s: float = LIMIT_S, retry_after_s: float = RETRY_AFTER_S
) -> subprocess.Popen | None:
    """Stream phrases in a process of its own, which outlives this one.

    Returns: the process; None if the phrases are already there, if Granary has none, or if the last try began less than
        `retry_after_s` ago (so two never run at once).
    """
    log_path = _cached(language, ".log")
    if not find_language(language).in_granary or _cached(language, ".jsonl").exists():
        return None
    if log_path.exists() and time.time() - log_path.stat().st_mtime < retry_after_s:
        return None
    log_path.parent.mkdir(parents=True, exist_ok=True)
    _cached(language, ".problem").unlink(missing_ok=True)
    with log_path.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "recorder.phrases", language, str(count), str(limit_s)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},  # the working folder may be another one
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


# Phrases from Granary: the process of its own


def granary(language: str, count: int) -> tuple[dict, list[str]]:
    """Where they come from (data set, revision, configuration, licence), and up to `count` phrases.

    The phrases are spread evenly over the usable ones in the first rows, because neighbouring rows are of one speech:
    a revision always gives the same. Raises: UserError if none is usable, and the errors of the Hub's client.
    """
    from datasets import get_dataset_config_names, load_dataset
    from huggingface_hub import HfApi

    revision = HfApi().dataset_info(GRANARY, timeout=10).sha
    there = get_dataset_config_names(GRANARY, revision=revision)
    config = next((name for corpus in GRANARY_CORPORA if (name := f"{language}_{corpus}") in there), None)
    if config is None:
        raise UserError(f"{GRANARY} has no phrases in {find_language(language).name}.")
    rows = load_dataset(GRANARY, config, split="asr", streaming=True, revision=revision, chunksize=CHUNK_BYTES)
    texts = (row["text"] for row in rows.select_columns(["text"]).take(ROWS_READ))
    phrases = usable((sentence for text in texts for sentence in sentences(text)), language)
    if not phrases:
        raise UserError(f"{GRANARY} holds no phrase in {find_language(language).name} that can be used.")
    source = {"dataset": GRANARY, "revision": revision, "config": config, "license": "CC BY 4.0"}
    return source, phrases[:: max(1, len(phrases) // count)][:count]


def sentences(text: str) -> list[str]:
    """The whole sentences of a passage, without incomplete ones at its beginning and end."""
    # Not after a full stop behind one or two letters, an abbreviation: 'Mr. President'.
    parts = re.split(r"(?<=[!?…])\s+|(?<=\w{3}\.)\s+", text.strip())
    return [part for part in parts if part.endswith((".", "!", "?", "…")) and not part.lstrip(OPENING)[:1].islower()]


def main(language: str, count: int, limit_s: float) -> None:
    """Write the phrases into the cache, or why there are none, and end the process."""
    # A thread, not an alarm: a signal waits for the network call to return.
    limit = threading.Timer(limit_s, give_up, [language, f"{GRANARY} could not be read within {limit_s:g} seconds."])
    limit.daemon = True
    limit.start()

    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        source, phrases = granary(language, count)
    except UserError as error:
        give_up(language, str(error))
    except OfflineModeIsEnabled:
        give_up(language, "The Hugging Face Hub is not asked while HF_HUB_OFFLINE is set.")
    except HfHubHTTPError as error:
        give_up(language, f"The Hugging Face Hub refused {GRANARY} (status {error.response.status_code}).")
    except (httpx2.HTTPError, ConnectionError, TimeoutError) as error:
        print(repr(error), file=sys.stderr)
        give_up(language, "The Hugging Face Hub cannot be reached: check the network.")
    except Exception:  # noqa: BLE001  the page shows one sentence, the log the traceback
        traceback.print_exc()
        give_up(language, f"Reading {GRANARY} failed: see {_cached(language, '.log')}.")
    write_jsonl(_cached(language, ".jsonl"), [source, *({"text": text} for text in phrases)])
    print(f"phrases: {len(phrases)} from {source['config']} at {source['revision']}", flush=True)
    os._exit(0)


def give_up(language: str, problem: str) -> NoReturn:
    """End this process at once, whatever its threads wait for."""
    write_whole(_cached(language, ".problem"), problem.encode())
    print(f"phrases: {problem}", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))

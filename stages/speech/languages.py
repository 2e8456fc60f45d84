"""Which language codes a Voxtral prompt can carry, and which language a text is written in."""

from __future__ import annotations

import functools
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

AS_IN_LIBRARY = {"nb": "no"}  # Bokmål, which it calls Norwegian beside Nynorsk (nn)


@functools.cache
def _codes() -> frozenset[str]:
    # pycountry's file itself, and of its 7,900 languages only what is asked for: a tenth of a second less.
    (folder,) = find_spec("pycountry").submodule_search_locations
    listed = Path(folder, "databases/iso639-3.json").read_text(encoding="utf-8")
    return frozenset(re.findall(r'"alpha_2": *"(\w+)"', listed))


def is_accepted(code: str) -> bool:
    """True for the codes (ISO 639-1, such as `en`) that mistral-common takes in a transcription request.

    It asks the same list (tests/test_languages.py compares), but takes as long to import as all of prepare's own work.
    """
    return code.lower() in _codes()


@functools.lru_cache(maxsize=100_000)  # asked for twice for each clip
def other_language(text: str, language: str) -> tuple[str, float] | None:
    """The most probable language (ISO 639-1) of a text and its probability, where that is not `language`.

    None where it is, or where the library does not know `language`. Its probabilities are careful: of the phrases in
    recorder/phrases, whole and their beginnings, one in 14,000 gets another language with more than 0.9, 191 with 0.5.
    """
    expected = AS_IN_LIBRARY.get(language, language)
    identifier = _identifier()
    if expected not in identifier.nb_classes:
        return None
    likely, probability = identifier.classify(text)
    return (likely, probability) if likely != expected else None


@functools.cache
def _identifier() -> LanguageIdentifier:
    from py3langid import langid  # imported here: it takes most of a second, and the filter is optional

    identifier = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    # Those that a clip can have: dialects with three letters would only take probability from their neighbours.
    identifier.set_languages([code for code in identifier.labels if is_accepted(code)])
    return identifier

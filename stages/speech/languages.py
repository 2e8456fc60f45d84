"""Which language codes a Voxtral prompt can carry."""

from __future__ import annotations

import functools


@functools.cache
def _codes() -> frozenset[str]:
    import pycountry  # imported here: it takes a tenth of a second

    return frozenset(language.alpha_2 for language in pycountry.languages if hasattr(language, "alpha_2"))


def is_accepted(code: str) -> bool:
    """True for the codes (ISO 639-1, such as `en`) that mistral-common takes in a transcription request.

    It asks the same list (tests/test_languages.py compares), but takes as long to import as all of prepare's own work.
    """
    return code.lower() in _codes()

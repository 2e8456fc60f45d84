"""Which language codes a Voxtral prompt can carry."""

from __future__ import annotations

import functools


@functools.cache
def is_accepted(code: str) -> bool:
    """True for the codes (ISO 639-1, such as `en`) that mistral-common takes in a transcription request."""
    from mistral_common.protocol.transcription.request import TranscriptionRequest
    from pydantic import ValidationError

    try:
        TranscriptionRequest(audio=b"", language=code)
    except ValidationError:
        return False
    return True

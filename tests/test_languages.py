"""Which language codes a Voxtral prompt can carry."""

import itertools
import string

import pytest
from mistral_common.protocol.transcription.request import TranscriptionRequest
from pydantic import ValidationError

from stages.speech.languages import is_accepted


# ISO 639-1; the first eight are those that Mistral names for Voxtral Mini (mistral.ai/news/voxtral).
@pytest.mark.parametrize("code", ["en", "es", "fr", "pt", "hi", "de", "nl", "it", "ja", "sw", "no"])
def test_two_letter_code_is_accepted(code):
    assert is_accepted(code)


@pytest.mark.parametrize("code", ["pt-BR", "en_US", "eng", "deu", "english", "xx", "e", "", " ", " en", "en\n", "हि"])
def test_anything_else_is_refused(code):
    assert not is_accepted(code)


def test_codes_are_those_that_a_transcription_request_takes():
    def takes(code: str) -> bool:
        try:
            TranscriptionRequest(audio=b"", language=code)
        except ValidationError:
            return False
        return True

    codes = ["".join(letters) for letters in itertools.product(string.ascii_lowercase, repeat=2)]
    accepted = {code for code in codes if is_accepted(code)}
    assert len(accepted) > 150
    assert accepted == {code for code in codes if takes(code)}

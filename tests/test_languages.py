"""Which language codes a Voxtral prompt can carry."""

import pytest

from stages.speech.languages import is_accepted


# ISO 639-1; the first eight are those that Mistral names for Voxtral Mini (mistral.ai/news/voxtral).
@pytest.mark.parametrize("code", ["en", "es", "fr", "pt", "hi", "de", "nl", "it", "ja", "sw", "no"])
def test_two_letter_code_is_accepted(code):
    assert is_accepted(code)


@pytest.mark.parametrize("code", ["pt-BR", "en_US", "eng", "deu", "english", "xx", "e", "", " ", " en", "en\n", "हि"])
def test_anything_else_is_refused(code):
    assert not is_accepted(code)

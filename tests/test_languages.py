"""Which language codes a Voxtral prompt can carry, and that a settings key alone loads what knows languages."""

import itertools
import os
import string
import subprocess
import sys

import pytest
from mistral_common.protocol.transcription.request import TranscriptionRequest
from pydantic import ValidationError

from stages.speech.text import is_accepted
from tests.workspaces import ROOT


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


def test_what_knows_languages_is_loaded_only_when_asked(workspace, set_param, record):
    record("phone/a.wav").with_suffix(".txt").write_text("Ich gehe jetzt nach Hause und esse etwas")
    code = "import sys; from stages import prepare; prepare.main(); print('py3langid' in sys.modules)"
    loaded = []
    for limit in (None, 1.0):
        set_param("prepare.filters.max_other_language", limit)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        loaded.append(ran.stdout.split()[-1])
    assert loaded == ["False", "True"]

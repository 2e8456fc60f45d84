"""Sizes in the headers of WAV, AIFF and AU files are hints: all sound that is there is heard."""

import io
import struct

import numpy as np
import pytest

from stages.speech import audio
from tests.sounds import encode, speech_like

RATE_HZ = 16_000
SOUND = speech_like(3, RATE_HZ)
WAV, AIFF, AU = (encode(SOUND, RATE_HZ, kind, "PCM_16") for kind in ("WAV", "AIFF", "AU"))
DATA, COMM, SSND = WAV.index(b"data") + 4, AIFF.index(b"COMM") + 10, AIFF.index(b"SSND") + 4
SECOND = 2 * RATE_HZ  # bytes
TAG = b"LIST" + struct.pack("<I", 10) + b"INFOabcdef"


def changed(content: bytes, order: str, **sizes: int) -> bytes:
    """With other numbers of 4 bytes at these places (_PLACE=NUMBER)."""
    made = bytearray(content)
    for place, size in sizes.items():
        at = int(place.removeprefix("_"))
        made[at : at + 4] = (size % 2**32).to_bytes(4, order)
    return bytes(made)


def wav(riff: int, data: int, content: bytes = WAV, at: int = DATA) -> bytes:
    return changed(content, "little", _4=riff, **{f"_{at}": data})


ULAW = encode(SOUND, RATE_HZ, "WAV", "ULAW")
STEREO = encode(np.stack([SOUND, SOUND], axis=1), RATE_HZ, "WAV", "PCM_24")
SIZE, LONG = len(WAV) - 8, 3 * SECOND


# Catches: three quarters of a recording are thrown away because its recorder crashed, or files were joined.
@pytest.mark.parametrize(
    ("content", "seconds"),
    [
        pytest.param(WAV, 3, id="right"),
        pytest.param(wav(0, 0), 3, id="recorder crashed before it wrote sizes"),
        pytest.param(wav(-1, -1), 3, id="written to a pipe"),
        pytest.param(wav(SIZE, 0), 3, id="one size missing"),
        pytest.param(wav(36 + SECOND, SECOND), 3, id="sizes of the last save"),
        pytest.param(wav(SIZE + 44, LONG + 44), 3, id="header counted twice"),
        pytest.param(WAV + b"\0", 3, id="odd byte behind"),
        pytest.param(WAV + b"TAG" + bytes(125), 3, id="tag of MP3 behind"),
        pytest.param(WAV + TAG, 3, id="chunk behind"),
        pytest.param(wav(SIZE + len(TAG), LONG) + TAG, 3, id="chunk behind, counted"),
        pytest.param(wav(0, 0, WAV[:12] + TAG + WAV[12:], DATA + len(TAG)), 3, id="crashed, with a chunk before"),
        pytest.param(WAV + WAV, 6, id="two joined"),
        pytest.param(WAV + TAG + WAV + wav(0, 0), 9, id="three joined, a chunk between, the last crashed"),
        pytest.param(wav(0, 0, ULAW, ULAW.index(b"data") + 4), 3, id="crashed, mu-law"),
        pytest.param(wav(0, 0, STEREO, STEREO.index(b"data") + 4), 3, id="crashed, stereo of 24 bits"),
        pytest.param(AIFF, 3, id="AIFF right"),
        pytest.param(changed(AIFF, "big", _4=0, **{f"_{COMM}": 0, f"_{SSND}": 0}), 3, id="AIFF crashed"),
        pytest.param(
            changed(AIFF, "big", _4=38 + SECOND, **{f"_{COMM}": RATE_HZ, f"_{SSND}": 8 + SECOND}), 3, id="AIFF stale"
        ),
        pytest.param(AIFF + AIFF, 6, id="AIFF joined"),
        pytest.param(changed(AU, "big", _8=0), 3, id="AU crashed"),
        pytest.param(changed(AU, "big", _8=SECOND), 3, id="AU stale"),
    ],
)
def test_all_sound_is_heard_whatever_the_header_says(content, seconds):
    samples, rate_hz = audio.decode(content)
    assert len(samples) / rate_hz == pytest.approx(seconds, abs=0.01)
    again = np.tile(SOUND, seconds // 3)
    assert samples[: len(again), 0] == pytest.approx(again[: len(samples)], abs=0.02)  # mu-law is coarse
    part, _ = audio.decode(io.BytesIO(content), seconds - 1.5, seconds - 0.5)
    assert (part == samples[round((seconds - 1.5) * rate_hz) : round((seconds - 0.5) * rate_hz)]).all()


# Catches: a broken copy is learnt with the whole of its text.
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (WAV[: len(WAV) // 2], "ends after 1.5 of 3.0 s: copy or export it again"),
        (AIFF[: len(AIFF) // 2], "ends after 1.5 of 3.0 s: copy or export it again"),
        (WAV[:DATA] + bytes(4), "no sound in this file"),
        (WAV + STEREO, "several recordings of different kinds"),
    ],
)
def test_broken_copy_or_mixed_recordings_are_refused(content, words):
    with pytest.raises(audio.UnreadableSound, match=words):
        audio.decode(content)


# Catches: PyAV's own traceback on the screen for a file that holds nothing.
def test_an_empty_file_is_refused_without_a_traceback(tmp_path, capfd):
    (tmp_path / "a.mp3").touch()
    with (tmp_path / "a.mp3").open("rb") as file, pytest.raises(audio.UnreadableSound, match="empty"):
        audio.decode(file)
    assert "Traceback" not in capfd.readouterr().err

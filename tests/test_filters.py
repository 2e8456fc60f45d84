"""Filters and the list of doubts: nothing of slow and halting speech is left out."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages import prepare
from stages.common.files import read_jsonl
from stages.speech import audio, filters, quality
from stages.speech.clips import read_clips
from stages.speech.duplicates import find_duplicates
from tests.recordings import DEMO_ROWS
from tests.sounds import encode_by_ffmpeg
from tests.workspaces import DEMO_CLIPS, SPEECH

PREPARED = Path("data/prepared")


def spoken(number: int) -> np.ndarray:
    return audio.to_mono_16k(*audio.decode((DEMO_CLIPS / DEMO_ROWS[number]["audio_path"]).read_bytes()))


def encoded(samples: np.ndarray, container: str, codec: str) -> bytes:
    """A mono clip at 16 kHz as another file, at 32 kbit/s."""
    return encode_by_ffmpeg(samples.astype(np.float32), 16_000, container, codec, bit_rate=32_000)


def shape(samples: np.ndarray) -> str:
    return quality.fingerprint(quality.power_spectra(samples))


def test_text_that_cannot_have_been_said_is_rejected(params):
    """Catches: a text of another recording that is learned."""
    figures = {"duration_s": 2.0, "level_dbfs": -20.0, "clipped_fraction": 0.0}
    reason, remedy = prepare.check_figures(figures, params.prepare, "seventy letters " * 10)
    assert reason == "too many words" and "70 characters a second is above prepare.max_characters_per_s 60" in remedy
    assert prepare.check_figures(figures, params.prepare, "seventy letters " * 5) is None


@pytest.mark.parametrize(
    ("text", "fields", "reason"),
    [
        ("seventy letters " * 5, {"duration_s": 2.0}, "many words"),
        ("no", {"duration_s": 4.0}, "few words"),
        ("words", {"snr_db": 5.0}, "noise"),
        ("words", {"clipped_fraction": 0.01}, "clipping"),
        ("words", {"bandwidth_hz": 3700.0}, "telephone sound"),
        ("namaste", {"language": "hi"}, "other script"),
    ],
)
def test_doubtful_clip_is_kept_and_listed(make_clip, text, fields, reason):
    """Catches: a doubt that leaves a clip of untypical speech out, or that nobody is told of."""
    good, doubtful = make_clip("hello there", bandwidth_hz=7000.0), make_clip(text, **fields)
    kept, rejections, to_review = filters.apply_filters([good, doubtful], {})
    assert (kept, rejections) == ([good, doubtful], [])
    assert [(item.clip, item.reason) for item in to_review] == [(doubtful, reason)]


@pytest.mark.parametrize(
    ("text", "language", "fraction"),
    [
        ("namaste", "hi", 0.0),
        ("これはペンです。", "ja", 1.0),
        ("Привет Ann", "ru", 6 / 9),
        ("12 34", "de", None),
        ("12 für", "de", 1.0),
    ],
)
def test_share_of_letters_in_the_script_of_the_language(text, language, fraction):
    """Catches: a language whose own letters count as another script."""
    assert filters.script_fraction(text, language) == (None if fraction is None else pytest.approx(fraction))


COPIES = {
    "mp3": lambda samples: audio.decode(encoded(samples, "mp3", "libmp3lame")),
    "8 kHz": lambda samples: (samples[::2, None], 8000),
    "softer": lambda samples: (0.1 * samples[:, None], 16_000),
    "silence around it": lambda samples: (np.pad(samples, (1500, 2000))[:, None], 16_000),
}


@pytest.mark.parametrize("copy", COPIES)
def test_same_take_in_another_file_counts_once(make_clip, copy):
    samples = spoken(1)
    other = audio.to_mono_16k(*COPIES[copy](samples))
    first = make_clip("words", id="first", duration_s=len(samples) / 16_000)
    again = make_clip("Words.", id="again", duration_s=len(other) / 16_000)
    found = find_duplicates([first, again], {"first": shape(samples), "again": shape(other)})
    assert found == {"again": "first"}
    kept, rejections, _ = filters.apply_filters([first, again], found)
    assert kept == [first]
    assert rejections[0].reason == "same sound twice" and first.recorded_file in rejections[0].remedy


def test_same_sound_with_two_texts_is_kept_for_a_person_to_decide(make_clip):
    first, again = make_clip("one", id="first"), make_clip("two", id="again")
    kept, rejections, to_review = filters.apply_filters([first, again], {"again": "first"})
    assert (kept, rejections) == ([first, again], [])
    assert "which of the two texts is right" in to_review[0].listen_for


def test_slow_halting_and_telephone_speech_stays_in_and_nothing_of_the_demo_is_doubtful(workspace):
    """Catches: limits that suit fluent speakers alone; a bandwidth measured from a file's rate, not from its sound."""
    shutil.copytree(DEMO_CLIPS, workspace / "data/raw/demo")
    folder = workspace / "data/raw/mine"
    folder.mkdir()
    part = spoken(0)[:8000]
    slow = np.concatenate([part, np.zeros(16_000 * 12)] * 2 + [part])
    telephone = audio.to_mono_16k(spoken(1)[:16_000:2, None], 8000)
    for name, samples, said in (("slow", slow, "Y- y- yes"), ("telephone", telephone, "hello")):
        soundfile.write(folder / f"{name}.wav", samples, 16_000)
        (folder / f"{name}.txt").write_text(said)
    prepare.main()
    assert len(read_clips(PREPARED / "metadata.jsonl")) == len(DEMO_ROWS) + 2
    assert read_jsonl(PREPARED / "rejected.jsonl") == []
    doubts = {(row["file"], row["reason"]) for row in read_jsonl(PREPARED / "review.jsonl")}
    assert doubts == {("mine/slow.wav", "few words"), ("mine/telephone.wav", "telephone sound")}


@pytest.mark.skipif(not SPEECH.is_dir(), reason=f"no recordings of real people in {SPEECH.name}/ beside the checkout")
def test_real_sentences_spoken_twice_both_stay_and_copies_of_them_do_not(workspace):
    folder = workspace / "data/raw/kathleen"
    shutil.copytree(SPEECH / "kathleen", folder)
    with (folder / "transcripts.csv").open() as file:
        rows = list(csv.DictReader(file))
    copied = rows[:20]
    for row in copied:
        samples, rate_hz = audio.decode((folder / row["file"]).read_bytes())
        mp3 = encoded(audio.to_mono_16k(samples, rate_hz), "mp3", "libmp3lame")
        (folder / f"copy of {row['file']}.mp3").write_bytes(mp3)
    with (folder / "transcripts.csv").open("a") as file:
        csv.writer(file).writerows([f"copy of {row['file']}.mp3", row["text"]] for row in copied)
    prepare.main()
    clips = read_clips(PREPARED / "metadata.jsonl")
    assert {clip.recorded_file for clip in clips} >= {f"kathleen/{row['file']}" for row in rows}
    rejected = read_jsonl(PREPARED / "rejected.jsonl")
    assert {row["reason"] for row in rejected} == {"same sound twice"}
    assert all("copy of" in row["file"] for row in rejected) and len(rejected) >= 18

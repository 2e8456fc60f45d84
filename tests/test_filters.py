"""Filters and the look-through list: each limit by itself, and defaults that leave slow and halting speech in."""

import csv
import io
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from stages import prepare
from stages.common.files import read_json, read_jsonl
from stages.speech import audio, filters, quality
from stages.speech.clips import read_clips
from stages.speech.duplicates import find_duplicates
from tests.workspaces import DEMO_CLIPS, ROOT, SPEECH

PREPARED = Path("data/prepared")
DEMO_ROWS = [json.loads(line) for line in (DEMO_CLIPS / "clips.jsonl").read_text().splitlines()]
PHRASES = {
    path.stem: [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    for path in sorted((ROOT / "recorder/phrases").glob("*.txt"))
}


@pytest.fixture
def limits(params):
    """`limits(min_snr_db=6.0)`: the default filters with changes."""
    return lambda **changes: params.prepare.filters.model_copy(update=changes)


def spoken(number: int) -> np.ndarray:
    samples, rate_hz = audio.decode((DEMO_CLIPS / DEMO_ROWS[number]["audio_path"]).read_bytes())
    return audio.to_mono_16k(samples, rate_hz)


def encoded(samples: np.ndarray, container: str, codec: str, rate_hz: int = 16_000) -> bytes:
    """A mono clip at 16 kHz as another file, at 32 kbit/s."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate_hz, layout="mono")
        stream.bit_rate = 32_000
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate = 16_000
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return buffer.getvalue()


def shape(samples: np.ndarray) -> str:
    return quality.fingerprint(quality.power_spectra(samples))


@pytest.mark.parametrize(
    ("limit", "fields", "reason"),
    [
        ({"max_characters_per_s": 30.0}, {"text": "seventy letters " * 5, "duration_s": 2.0}, "too many words"),
        ({"min_characters_per_s": 1.0}, {"text": "no", "duration_s": 4.0}, "too few words"),
        ({"min_snr_db": 6.0}, {"text": "noise", "snr_db": 5.0}, "too noisy"),
        ({"min_bandwidth_hz": 4200.0}, {"text": "telephone", "bandwidth_hz": 3700.0}, "narrow bandwidth"),
        ({"min_script_fraction": 0.5}, {"text": "namaste ji नमस्ते", "language": "hi"}, "wrong script"),
    ],
)
def test_limit_leaves_out_what_lies_beyond_it_and_null_keeps_it_on_the_list(make_clip, limits, limit, fields, reason):
    good = make_clip("hello there", bandwidth_hz=7000.0)
    bad = make_clip(fields.pop("text"), **{"bandwidth_hz": 7000.0, **fields})
    kept, rejections, to_review = filters.apply_filters([good, bad], {}, limits(**limit))
    assert (kept, to_review) == ([good], [])
    assert [(rejection.file, rejection.reason) for rejection in rejections] == [(bad.recorded_file, reason)]
    (key,) = limit
    assert f"prepare.filters.{key}" in rejections[0].remedy
    kept, rejections, to_review = filters.apply_filters([good, bad], {}, limits(**dict.fromkeys(limit)))
    assert (kept, rejections, [item.clip for item in to_review]) == ([good, bad], [], [bad])


def test_text_of_another_language_is_left_out_only_where_that_is_sure(make_clip, limits):
    texts = {
        "I am going home now to eat something": "kept",
        "Ich gehe jetzt nach Hause und esse etwas": "left out",
        "Guten Morgen!": "listed",  # two words: never left out, however sure
        "Ελένη Παπαδοπούλου": "listed",
    }
    clips = [make_clip(text) for text in texts]
    for limit, left_out in ((0.9, 1), (1.0, 0), (None, 0)):
        kept, rejections, to_review = filters.apply_filters(clips, {}, limits(max_other_language=limit))
        assert [rejection.reason for rejection in rejections] == ["wrong language"] * left_out
        assert [clip.text for clip in clips if clip not in kept] == list(texts)[1:2] * left_out
        listed = [item.clip.text for item in to_review if item.reason == "other language"]
        assert listed == ([] if limit is None else list(texts)[1 + left_out : 2] + list(texts)[3:])
    rejection = filters.apply_filters(clips, {}, limits(max_other_language=0.9))[1][0]
    assert rejection.remedy.startswith("de by 100%, not en; prepare.filters.max_other_language is 0.9")


def test_phrases_of_28_languages_stay_under_their_own_and_most_go_under_another(make_clip, limits):
    limits = limits(max_other_language=0.9, max_characters_per_s=None)
    assert len(PHRASES) >= 28
    found = []
    for language, phrases in PHRASES.items():
        clips = [make_clip(phrase, language=language) for phrase in phrases]
        assert filters.apply_filters(clips, {}, limits)[1] == [], language
        others = [make_clip(phrase, language="sw") for phrase in phrases if len(set(phrase.lower().split())) >= 6]
        found += [len(filters.apply_filters(others, {}, limits)[1]) / max(len(others), 1)]
    assert np.mean(found) > 0.6


def test_clips_of_one_text_beyond_the_limit_are_left_out_in_order(make_clip, limits):
    clips = [make_clip(text, id=str(n)) for n, text in enumerate(["Yes!", "yes", "no", "YES", "yes."])]
    kept, rejections, _ = filters.apply_filters(clips, {}, limits(max_clips_per_text=2))
    assert [clip.id for clip in kept] == ["0", "1", "2"]
    assert [rejection.reason for rejection in rejections] == ["text too often"] * 2
    assert len(filters.apply_filters(clips, {}, limits())[0]) == 5


@pytest.mark.parametrize(
    ("text", "language", "fraction"),
    [
        ("namaste", "hi", 0.0),
        ("これはペンです。", "ja", 1.0),
        ("Привет Ann", "ru", 6 / 9),
        ("12 34", "de", None),
    ],
)
def test_share_of_letters_in_the_script_of_the_language(text, language, fraction):
    assert filters.script_fraction(text, language) == (None if fraction is None else pytest.approx(fraction))


COPIES = {
    "mp3": lambda samples: audio.decode(encoded(samples, "mp3", "libmp3lame")),
    "8 kHz": lambda samples: (samples[::2, None], 8000),
    "softer": lambda samples: (0.1 * samples[:, None], 16_000),
    "silence around it": lambda samples: (np.pad(samples, (1500, 2000))[:, None], 16_000),
}


@pytest.mark.parametrize("copy", COPIES)
def test_same_take_in_another_file_counts_once(make_clip, limits, copy):
    samples = spoken(1)
    other = audio.to_mono_16k(*COPIES[copy](samples))
    first = make_clip("words", id="first", duration_s=len(samples) / 16_000)
    again = make_clip("Words.", id="again", duration_s=len(other) / 16_000)
    found = find_duplicates([first, again], {"first": shape(samples), "again": shape(other)})
    assert found == {"again": "first"}
    kept, rejections, _ = filters.apply_filters([first, again], found, limits())
    assert kept == [first]
    assert rejections[0].reason == "same sound twice" and first.recorded_file in rejections[0].remedy
    kept, _, to_review = filters.apply_filters([first, again], found, limits(same_sound_once=False))
    assert kept == [first, again] and [item.reason for item in to_review] == ["same sound twice"]


def test_same_sound_with_two_texts_is_kept_for_a_person_to_decide(make_clip, limits):
    first, again = make_clip("one", id="first"), make_clip("two", id="again")
    kept, rejections, to_review = filters.apply_filters([first, again], {"again": "first"}, limits())
    assert (kept, rejections) == ([first, again], [])
    assert "which of the two texts is right" in to_review[0].listen_for


def test_demo_clips_are_all_different_and_none_is_doubtful(workspace):
    shutil.copytree(DEMO_CLIPS, workspace / "data/raw/demo")
    prepare.main()
    assert len(read_clips(PREPARED / "metadata.jsonl")) == len(DEMO_ROWS)
    assert read_jsonl(PREPARED / "rejected.jsonl") == read_jsonl(PREPARED / "review.jsonl") == []


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


@pytest.mark.skipif(not SPEECH.is_dir(), reason=f"no recordings of real people in {SPEECH.name}/ beside the checkout")
def test_telephone_sound_is_flagged_and_left_out_only_when_asked(workspace, set_param):
    folder = workspace / "data/raw/digits"
    folder.mkdir(parents=True)
    for digit in ("one_a", "two_a"):
        source = SPEECH / f"digits/{'1' if digit[0] == 'o' else '2'}_nicolas_5.wav"
        shutil.copy(source, folder / f"{digit}.wav")
        (folder / f"{digit}.txt").write_text(digit[:3])
    shutil.copy(DEMO_CLIPS / DEMO_ROWS[0]["audio_path"], folder / "wide.wav")
    (folder / "wide.txt").write_text(DEMO_ROWS[0]["text"])
    prepare.main()
    assert read_json(PREPARED / "summary.json")["to_review_by_reason"] == {"telephone sound": 2}
    set_param("prepare.filters.min_bandwidth_hz", 4200.0)
    prepare.main()
    assert [clip.recorded_file for clip in read_clips(PREPARED / "metadata.jsonl")] == ["digits/wide.wav"]
    (stored,) = PREPARED.glob("audio/*/*")
    assert stored == PREPARED / read_clips(PREPARED / "metadata.jsonl")[0].audio_path


def test_slow_speech_with_long_pauses_and_stutter_stays_in(workspace):
    folder = workspace / "data/raw/slow"
    folder.mkdir(parents=True)
    samples = spoken(0)
    slow = np.concatenate([samples[:8000], np.zeros(16_000 * 12)] * 2 + [samples[:8000]])
    soundfile.write(folder / "yes.wav", slow, 16_000)
    (folder / "yes.txt").write_text("Y- y- yes")
    prepare.main()
    (clip,) = read_clips(PREPARED / "metadata.jsonl")
    assert clip.duration_s > 25
    assert [row["reason"] for row in read_jsonl(PREPARED / "review.jsonl")] == ["few words"]

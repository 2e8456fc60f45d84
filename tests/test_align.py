"""`make align`: each line of a text on its own sound in the .srt, or no .srt and the line named."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages import prepare
from stages.commands import align
from stages.common.dvc import locked_repository
from stages.common.files import read_jsonl
from stages.common.params import load_params
from stages.common.stage import UserError
from stages.speech import alignment, audio, subtitles
from stages.speech.alignment import Line
from stages.speech.clips import RawClip, read_clips
from tests.workspaces import DEMO_CLIPS, ROOT, SPEECH, TINY_MODEL, init_dvc

PREPARED = Path("data/prepared")
RATE_HZ = 16_000
# Demo clips that the tiny model understands, almost or wholly.
UNDERSTOOD = ["001", "002", "003", "007", "010", "013", "019", "020", "026", "028", "032", "037", "038", "041", "042"]
MISHEARD = "two four nine two zero"  # by the tiny model, in clip 028
ABSENT = "we sailed along the coast for nine days"
TEXTS = {row["audio_path"][:3]: row["text"] for row in read_jsonl(DEMO_CLIPS / "clips.jsonl")}


def mono(path: Path) -> np.ndarray:
    return audio.to_mono_16k(*audio.decode(path.read_bytes()))


def joined(sounds: list[np.ndarray]) -> np.ndarray:
    """One after the other, in the soft noise of a room, with pauses of 0.6 to 1.2 s between them."""
    random = np.random.default_rng(0)
    pauses = [np.zeros(int(RATE_HZ * random.uniform(0.6, 1.2))) for _ in range(len(sounds) + 1)]
    quiet = np.concatenate([part for pair in zip(pauses, sounds, strict=False) for part in pair] + pauses[-1:])
    return (quiet + random.normal(0, 1e-3, len(quiet))).astype(np.float32)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Largest normalised cross-correlation."""
    length = len(one) + len(other)
    products = np.fft.irfft(np.fft.rfft(one, length) * np.conj(np.fft.rfft(other, length)), length)
    return float(products.max() / np.sqrt((one**2).sum() * (other**2).sum()))


def assert_on_its_own_sound(text: str, found: np.ndarray, sounds: dict[str, list[np.ndarray]]) -> None:
    own = max(alike(found, sound) for sound in sounds[text])
    others = max(alike(found, sound) for other in sounds if other != text for sound in sounds[other])
    assert own > 0.95 > others, text
    assert abs(len(found) - len(sounds[text][0])) < 0.8 * RATE_HZ


@pytest.fixture
def talk(workspace, set_param, monkeypatch) -> Path:
    """Where the recording is to be; the tiny model hears it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    init_dvc(workspace)
    set_param("model.name", str(TINY_MODEL))
    set_param("model.revision", None)
    path = workspace / "data/raw/tv/talk.wav"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def demo_talk(talk) -> dict[str, list[np.ndarray]]:
    """Demo clips one after the other, with their lines; {text: [sound]}."""
    sounds = {TEXTS[number]: [mono(DEMO_CLIPS / f"{number}.opus")] for number in UNDERSTOOD}
    soundfile.write(talk, joined([sound for (sound,) in sounds.values()]), RATE_HZ)
    talk.with_suffix(".txt").write_text("".join(f"{text}\n" for text in sounds))
    return sounds


def test_each_line_lands_on_its_own_sound_and_a_line_that_is_not_said_is_named(talk, demo_talk, capsys):
    texts = list(demo_talk)
    said = [text for text in texts if text != MISHEARD]
    talk.with_suffix(".txt").write_text("\n".join([*said[:5], "", ABSENT, *said[5:]]))
    with pytest.raises(UserError, match="1 of 15 lines not found"):
        align.main()
    printed = capsys.readouterr().out
    assert f"tv/talk.wav line 7 '{ABSENT}'" in printed
    assert "'two four " in next(line for line in printed.splitlines() if "is in no line" in line)
    assert not talk.with_suffix(".srt").exists()

    talk.with_suffix(".txt").write_text("\n".join(said))
    with locked_repository(), pytest.raises(UserError, match="run make align again"):
        align.main()
    assert not talk.with_suffix(".srt").exists()
    align.main("data/raw/tv/talk.wav")
    assert "15 of 15 transcripts in the cache" in capsys.readouterr().out
    before = talk.with_suffix(".srt").read_bytes()
    prepare.main()
    clips = read_clips(PREPARED / "metadata.jsonl")
    assert [clip.text for clip in clips] == said
    assert {(clip.session, clip.recorded_file) for clip in clips} == {("talk.wav", "tv/talk.wav")}
    for clip in clips:
        assert_on_its_own_sound(clip.text, audio.read_prepared(PREPARED / clip.audio_path), demo_talk)
    for file in (None, str(talk)):
        with pytest.raises(UserError, match="subtitles"):
            align.main(file)
    assert talk.with_suffix(".srt").read_bytes() == before


def test_one_recording_without_its_lines_does_not_keep_subtitles_from_another(talk, demo_talk, set_param):
    set_param("prepare.max_duration_s", 8.0)
    texts = list(demo_talk)
    for name, lines in (("short", texts[:2]), ("wrong", [*texts[:2], ABSENT]), ("right", texts[:3])):
        path = talk.with_stem(name)
        soundfile.write(path, joined([demo_talk[text][0] for text in texts[: 2 if name == "short" else 3]]), RATE_HZ)
        path.with_suffix(".txt").write_text("\n".join(lines))
    talk.unlink()
    with pytest.raises(UserError, match=r"tv/wrong\.wav: 1 of 3 lines not found"):
        align.main()
    assert [path.name for path in sorted(talk.parent.glob("*.srt"))] == ["right.srt"]
    align.main(str(talk.with_stem("short")))  # chosen by name, however short
    assert talk.with_name("short.srt").exists()


@pytest.mark.skipif(not SPEECH.is_dir(), reason=f"no recordings of real people in {SPEECH.name}/ beside the checkout")
def test_lines_of_a_real_speaker_are_on_their_own_sound_or_not_found(talk):
    """Catches: a line that is learned with another line's sound, where the model mishears much."""
    with (SPEECH / "digits/transcripts.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["speaker"] == "nicolas"]
    random = np.random.default_rng(0)
    random.shuffle(rows)
    sounds: dict[str, list[np.ndarray]] = {}
    for start in range(0, 120, 3):
        digits = [np.pad(mono(SPEECH / "digits" / row["file"]), (0, 1600)) for row in rows[start : start + 3]]
        text = " ".join(row["text"] for row in rows[start : start + 3])
        sounds.setdefault(text, []).append(np.concatenate(digits))
    whole = joined([sound for some in sounds.values() for sound in some])
    soundfile.write(talk, whole, RATE_HZ)
    text = "\n".join(text for text, some in sounds.items() for _ in some)
    params = load_params()
    cut = align.cut_in_pauses(RawClip("tv", "tv/talk.wav", text), params.prepare)
    (heard,) = align.hear([cut], params)
    placed = alignment.place(alignment.lines_of(text), cut.pieces, heard, "en")
    found = [one for one in placed if align.problem_of(one, align.AGREEMENT) is None]
    assert len(found) >= 8
    for one in found:
        sound = whole[round(one.begins_s * RATE_HZ) : round(one.ends_s * RATE_HZ)]
        assert_on_its_own_sound(one.text, sound, sounds)


@pytest.mark.parametrize(
    ("beside", "words"),
    [("talk.srt", "talk.srt exists"), ("talk.de.vtt", "talk.de.vtt exists"), ("talk.mp3", "would share its subtitles")],
)
def test_nothing_is_written_over_or_shared(talk, beside, words):
    (talk.parent / beside).write_text("")
    with pytest.raises(UserError, match=words):
        align.subtitles_path(talk)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (None, "data/raw has no recording with a text of several lines"),
        ("nowhere.wav", "nowhere.wav is not a recording in data/raw"),
        ("data/raw/tv/talk.wav", "write its text, a line for each sentence, into talk.txt"),
    ],
)
def test_what_cannot_be_aligned_is_one_line(talk, record, file, words):
    """Catches: a recording that is passed over without a word."""
    record("tv/talk.wav").with_suffix(".txt").write_text("one line")
    with pytest.raises(UserError, match=words):
        align.main(file)


@pytest.mark.parametrize(("target", "value"), [("align", "AGREEMENT=much"), ("review", "WER=0,5")])
def test_wrong_number_after_make_is_one_line(target, value):
    """Catches: usage and an error of argparse's, or the default in place of what was asked for."""
    name, text = value.split("=")
    command = [sys.executable, "-m", f"stages.commands.{target}"]
    ran = subprocess.run(command, env={**os.environ, name: text}, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1
    assert re.fullmatch(rf"{target}: {name} is '{text}': give a number such as {name}=0\.\d\n", ran.stderr)


def test_subtitles_keep_times_and_texts(tmp_path):
    """Catches: a line that comes back under other words or at another time."""
    texts = ["Tom & Jerry <i>say</i> {x} 1 < 2", "5", "¿Qué?", "-->"]
    times = [(0.0, 1.5), (59.9996, 61.25), (3599.0, 3600.001), (4000.0, 4001.0)]
    lines = [
        Line(number, text, begins_s=begins_s, ends_s=ends_s)
        for number, (text, (begins_s, ends_s)) in enumerate(zip(texts, times, strict=True), 1)
    ]
    (tmp_path / "talk.srt").write_text(align.as_srt(lines))
    cues = list(subtitles.read(tmp_path / "talk.srt", tmp_path))
    assert [(cue.text, cue.begins_s, cue.ends_s) for cue in cues] == [
        (text, round(begins_s, 3), round(ends_s, 3)) for text, (begins_s, ends_s) in zip(texts, times, strict=True)
    ]

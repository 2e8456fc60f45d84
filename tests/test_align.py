"""`make align`: each line of a text on its own sound in the .srt, or no .srt and the line named."""

import csv
import re
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
from stages.speech.clips import Clip, RawClip, read_clips
from tests.workspaces import DEMO_CLIPS, SPEECH, TINY_MODEL, init_dvc

PREPARED = Path("data/prepared")
RATE_HZ = 16_000
# Demo clips that the tiny model understands, almost or wholly.
UNDERSTOOD = ["001", "002", "003", "007", "010", "013", "019", "020", "026", "028", "032", "037", "038", "041", "042"]
MISHEARD = "two four nine two zero"  # by the tiny model, in clip 028
ABSENT = "we sailed along the coast for nine days"
TEXTS = {row["audio_path"][:3]: row["text"] for row in read_jsonl(DEMO_CLIPS / "clips.jsonl")}


def mono(path: Path) -> np.ndarray:
    return audio.to_mono_16k(*audio.decode(path.read_bytes()))


def joined(sounds: list[np.ndarray]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """One after the other, in the soft noise of a room, with pauses of 0.6 to 1.2 s; begin and end of each, in s."""
    random = np.random.default_rng(0)
    parts, times, now_s = [], [], 0.0
    for sound in [*sounds, np.zeros(0)]:
        pause = np.zeros(int(RATE_HZ * random.uniform(0.6, 1.2)))
        parts += [pause, sound]
        begins_s = now_s + len(pause) / RATE_HZ
        now_s = begins_s + len(sound) / RATE_HZ
        times.append((begins_s, now_s))
    quiet = np.concatenate(parts)
    return (quiet + random.normal(0, 1e-3, len(quiet))).astype(np.float32), times[:-1]


def assert_on_its_own_sound(line: Line | Clip, number: int, times: list[tuple[float, float]]) -> None:
    """From the pause before the sound of this number to the pause after it."""
    assert line.begins_s > ([0, *(ends_s for _, ends_s in times)][number] or -1), line.text
    assert line.ends_s < [*(begins_s for begins_s, _ in times), np.inf][number + 1], line.text
    assert line.ends_s - line.begins_s > 0.7 * np.diff(times[number]).item(), line.text


@pytest.fixture
def talk(workspace, set_param, monkeypatch) -> Path:
    """Demo clips one after the other, with their lines beside them; the tiny model hears them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    init_dvc(workspace)
    set_param("model.name", str(TINY_MODEL))
    set_param("model.revision", None)
    path = workspace / "data/raw/tv/talk.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, joined([mono(DEMO_CLIPS / f"{number}.opus") for number in UNDERSTOOD])[0], RATE_HZ)
    path.with_suffix(".txt").write_text("\n".join(TEXTS[number] for number in UNDERSTOOD))
    return path


def test_each_line_lands_on_its_own_sound_and_a_line_that_is_not_said_is_named(talk, capsys):
    """Catches: a clip with another clip's words, or subtitles with a line missing."""
    texts = [TEXTS[number] for number in UNDERSTOOD]
    said = [text for text in texts if text != MISHEARD]
    talk.with_suffix(".txt").write_text("\n".join([*said[:5], "...", ABSENT, *said[5:]]))
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
    _, times = joined([mono(DEMO_CLIPS / f"{number}.opus") for number in UNDERSTOOD])
    for clip in clips:
        assert_on_its_own_sound(clip, texts.index(clip.text), times)
    for file in (None, str(talk)):
        with pytest.raises(UserError, match="subtitles"):
            align.main(file)
    with pytest.raises(UserError, match="exists"):  # also if they came while the model heard it
        align.subtitles_path(talk)
    assert talk.with_suffix(".srt").read_bytes() == before


def test_one_recording_without_its_lines_does_not_keep_subtitles_from_another(talk, set_param):
    """Catches: hours of transcription whose result is thrown away for one wrong line."""
    set_param("prepare.max_duration_s", 8.0)
    texts = [TEXTS[number] for number in UNDERSTOOD[:3]]
    for name, lines in (("short", texts[:2]), ("wrong", [*texts[:2], ABSENT]), ("right", texts)):
        path = talk.with_stem(name)
        sounds = [mono(DEMO_CLIPS / f"{number}.opus") for number in UNDERSTOOD[: 2 if name == "short" else 3]]
        soundfile.write(path, joined(sounds)[0], RATE_HZ)
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
        rows = [row for row in csv.DictReader(file) if row["speaker"] == "jackson"]
    np.random.default_rng(0).shuffle(rows)
    sounds = [np.pad(mono(SPEECH / "digits" / row["file"]), (0, 1600)) for row in rows[:120]]
    whole, times = joined([np.concatenate(sounds[start : start + 3]) for start in range(0, 120, 3)])
    soundfile.write(talk, whole, RATE_HZ)
    text = "\n".join(" ".join(row["text"] for row in rows[start : start + 3]) for start in range(0, 120, 3))
    params = load_params()
    cut = align.cut_in_pauses(RawClip("tv", "tv/talk.wav", text), params.prepare)
    lines = alignment.place(alignment.lines_of(text), cut.pieces, align.hear(cut, params), "en")
    found = [number for number, line in enumerate(lines) if align.problem_of(line, align.AGREEMENT) is None]
    assert len(found) >= 5, found
    for number in found:
        assert_on_its_own_sound(lines[number], number, times)


@pytest.mark.parametrize(
    ("file", "text", "beside", "words"),
    [
        (None, "one line", "", "data/raw has no recording with a text of several lines"),
        ("nowhere.wav", "one line", "", "nowhere.wav is not a recording in data/raw"),
        ("data/raw/tv/talk.wav", "one line", "", "write its text, a line for each sentence, into talk.txt"),
        ("data/raw/tv/talk.wav", "two\nlines", "talk.mp3", "is not a recording in data/raw with a text"),  # of either
        ("data/raw/tv/talk.wav", "two\nlines", "talk.de.vtt", "talk.de.vtt exists: remove it"),
    ],
)
def test_what_cannot_be_aligned_is_one_line(talk, file, text, beside, words):
    """Catches: a recording that is passed over without a word, and subtitles written over or shared."""
    talk.with_suffix(".txt").write_text(text)
    if beside:
        (talk.parent / beside).write_text("")
    with pytest.raises(UserError, match=words):
        align.main(file)


@pytest.mark.parametrize(("target", "name", "value"), [("align", "AGREEMENT", "much"), ("review", "WER", "0,5")])
def test_wrong_number_after_make_is_one_line(run_stage, target, name, value):
    """Catches: usage and an error of argparse's, or the default in place of what was asked for."""
    ran = run_stage(f"commands.{target}", **{name: value})
    assert ran.returncode == 1
    assert re.fullmatch(rf"{target}: {name} is '{value}': give a number such as {name}=0\.\d\n", ran.stderr)


@pytest.mark.parametrize("agreement", [0.0, 70.0, float("nan")])
def test_agreement_that_is_no_share_is_refused(agreement):
    """Catches: subtitles written whatever is heard, or an hour of work for a number that no line can reach."""
    with pytest.raises(UserError, match="AGREEMENT is"):
        align.main(agreement=agreement)


@pytest.mark.parametrize(("text", "problem"), [("(hello)", "remove its brackets"), ("hello (you)", None)])
def test_line_that_a_subtitle_would_lose_is_named(text, problem):
    """Catches: words in brackets, which are said, left out of the clips as if they named a sound."""
    found = align.problem_of(Line(1, text, "hello", 1.0, True, 0.0, 1.0), 0.7)
    assert found is None if problem is None else problem in found


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
    assert [(cue["text"], cue["begins_s"], cue["ends_s"]) for cue in cues] == [
        (text, round(begins_s, 3), round(ends_s, 3)) for text, (begins_s, ends_s) in zip(texts, times, strict=True)
    ]

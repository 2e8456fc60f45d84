"""Every layout that people bring: tables, Common Voice, Kaldi, NeMo, audiofolder, subtitles; by name, nothing lost."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages import prepare
from stages.common.files import read_jsonl
from stages.speech.clips import RawClip, read_clips
from stages.speech.sources import locate, read_sources
from tests.test_sources import put, rejected

PREPARED = Path("data/prepared")


@pytest.fixture
def raw(tmp_path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def clips_of(raw: Path) -> list[RawClip]:
    """Clips of a folder from which nothing is rejected."""
    clips, rejections = read_sources(raw)
    assert rejections == []
    return clips


# Tables


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["metadata.csv", "export of my phone.tsv", "Liste.csv"])
def test_table_of_any_name_is_read_with_any_usual_delimiter(raw, delimiter, mark, name):
    put(raw, "phone/a.wav")
    put(raw, "phone/b.wav")
    rows = [["File", "Text", "speaker"], ["b.wav", "well, two; three", "ann"], ["a.wav", "one", ""]]
    lines = [delimiter.join(f'"{cell}"' if delimiter in cell else cell for cell in row) for row in rows]
    put(raw, f"phone/{name}", mark + "\r\n".join(lines) + "\r\n")
    assert {(clip.path_in_source, clip.text, clip.speaker) for clip in clips_of(raw)} == {
        ("b.wav", "well, two; three", "ann"),
        ("a.wav", "one", None),
    }


def test_row_with_times_is_a_part_of_its_recording(raw):
    put(raw, "phone/talk.wav")
    bad = "".join(f"talk.wav,one,{time},1.5\n" for time in ("soon", "-1", "nan", "inf"))
    put(raw, "phone/metadata.csv", "file,text,begins_s,ends_s\ntalk.wav,one,0,1.5\ntalk.wav,two,1.5,3.25\n" + bad)
    assert [(clip.text, clip.begins_s, clip.ends_s, clip.session) for clip in read_sources(raw)[0]] == [
        ("one", 0.0, 1.5, "talk.wav"),
        ("two", 1.5, 3.25, "talk.wav"),
    ]
    assert rejected(raw) == {f"phone/metadata.csv:{line}": "unreadable row" for line in range(4, 8)}


def test_table_that_is_about_something_else_leaves_the_text_files_alone(raw):
    for name, content in {"a.wav": "sound", "a.txt": "one", "prices.csv": "apple,1\npear,2\n"}.items():
        put(raw, f"phone/{name}", content)
    assert [clip.text for clip in clips_of(raw)] == ["one"]


# LJSpeech's form: no header, id|text|and perhaps the text written out


LIGHTS, MUSIC, YEAR = "turn off the kitchen lights", "switch off the music", "it was in 1455, Mr. Jones said"
WRITTEN = "it was in fourteen fifty-five, mister jones said"


def read_columns(raw: Path, rows: list[str], header: str = "") -> tuple[list[tuple[str, str | None]], dict[str, str]]:
    """(text, speaker) of the recordings, in the order of the rows, and why others are refused."""
    for number in range(len(rows)):
        put(raw, f"lj/wavs/{number}.wav")
    lines = [header] * bool(header) + [f"{number}|{row}" for number, row in enumerate(rows)]
    put(raw, "lj/metadata.csv", "\n".join(lines) + "\n")
    clips = [clip for clip in read_sources(raw)[0] if (raw / clip.recorded_file).exists()]
    return [(clip.text, clip.speaker) for clip in clips], rejected(raw)


# Catches: the number, the name or the path in a third column is learnt as what was said.
@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        # A length
        ([f"{LIGHTS}|3.2", f"{MUSIC}|1.234"], [(LIGHTS, None), (MUSIC, None)]),
        ([f"{LIGHTS}|1,5", f"{MUSIC}|2"], [(LIGHTS, None), (MUSIC, None)]),
        (["yes|1.2", "no|0.9"], [("yes", None), ("no", None)]),
        ([f"{LIGHTS}|3.2", f"{MUSIC}|", MUSIC], [(LIGHTS, None), (MUSIC, None), (MUSIC, None)]),
        # Numbers for speakers: no word and no recording is lost if they are not read
        ([f"{LIGHTS}|3", f"{MUSIC}|7", f"{LIGHTS}|3", f"{MUSIC}|7"], [(LIGHTS, None), (MUSIC, None)] * 2),
        # A speaker
        ([f"{LIGHTS}|Ann Lee", f"{MUSIC}|p225"] * 3, [(LIGHTS, "Ann Lee"), (MUSIC, "p225")] * 3),
        ([f"{LIGHTS}|ann", f"{LIGHTS}|bob"] * 2, [(LIGHTS, "ann"), (LIGHTS, "bob")] * 2),  # one text in all rows
        ([f"{LIGHTS}|ann", f"{MUSIC}|ann", MUSIC], [(LIGHTS, "ann"), (MUSIC, "ann"), (MUSIC, None)]),
        # The text written out
        ([f"{YEAR}|{WRITTEN}", f"{MUSIC}|", MUSIC], [(WRITTEN, None), (MUSIC, None), (MUSIC, None)]),
        (["Stop!|stop", "Go!|go"], [("stop", None), ("go", None)]),
        ([f"{YEAR}|{WRITTEN}", "7|seven"], [(WRITTEN, None), ("seven", None)]),
        (["昨日は2008年でした|昨日は二千八年でした"], [("昨日は二千八年でした", None)]),
        # A path
        ([f"{LIGHTS}|wavs/0.wav", f"{MUSIC}|wavs/1.wav"], [(LIGHTS, None), (MUSIC, None)]),
        # Four columns and more
        ([f"{YEAR}|{WRITTEN}|ann|3.2"] * 2, [(WRITTEN, "ann")] * 2),
        ([f"{LIGHTS}|3.2|ann|"] * 2, [(LIGHTS, "ann")] * 2),
    ],
)
def test_further_column_of_a_table_without_a_header_is_told_by_all_its_rows(raw, rows, wanted):
    assert read_columns(raw, rows) == (wanted, {})


# Catches: a guess, by which the wrong one of two columns would be learnt.
@pytest.mark.parametrize(
    "rows",
    [
        [f"{LIGHTS}|ann"],  # one row
        [f"{LIGHTS}|ann", f"{MUSIC}|bob"],
        ["stop|ann", "go|ann", "stop|ann"],  # short texts are like names
        [f"ann|{LIGHTS}", f"bob|{MUSIC}", f"ann|{MUSIC}", f"bob|{LIGHTS}"],
        ["hello ann|ann", "bye ann|ann"],
        ["seven|7", "eight|8"],
        ["7|seven", "7|seven", "8|eight", "8|eight"],
        [f"{LIGHTS}|mach das Licht in der Küche aus", f"{MUSIC}|mach die Musik aus"],
        [f"{LIGHTS}|en", f"{MUSIC}|en"],  # a language
        [f"{LIGHTS}|spk1 {LIGHTS}", f"{MUSIC}|spk1 {MUSIC}"],
        [f"{LIGHTS}|{WRITTEN}", f"{MUSIC}|3.2"],
        [f"ann|3.2|{LIGHTS}", f"ann|3.2|{MUSIC}"],
        [f"{LIGHTS}|ann|old", f"{MUSIC}|ann|old"],  # two that may be speakers
    ],
)
def test_table_without_a_header_whose_columns_cannot_be_told_is_refused_by_name(raw, rows):
    clips, refused = read_columns(raw, rows)
    assert clips == []
    recordings = {f"lj/wavs/{number}.wav": "no transcript" for number in range(len(rows))}
    assert refused == {"lj/metadata.csv": "unreadable row"} | recordings
    assert "id|text|speaker" in read_sources(raw)[1][0].remedy


# Catches: the remedy that a refused table names does not help; a header of other names is learnt, or spoils the column.
@pytest.mark.parametrize(
    ("header", "rows", "wanted"),
    [
        ("id|text|speaker", ["stop|ann", "go|bob"], [("stop", "ann"), ("go", "bob")]),
        ("\ufeffid|raw text|text\r", ["7|seven", "8|eight"], [("seven", None), ("eight", None)]),
        ("id|speaker_id|transcript", ["ann|stop", "bob|go"], [("stop", "ann"), ("go", "bob")]),
        ("id|text|lang|begins_s", [f"{LIGHTS}|en|0.5"], [(LIGHTS, None)]),
        ("name|words|seconds", [f"{LIGHTS}|3", f"{MUSIC}|2"], [(LIGHTS, None), (MUSIC, None)]),
        ("name|words|who", [f"{LIGHTS}|ann", f"{MUSIC}|ann"], [(LIGHTS, "ann"), (MUSIC, "ann")]),
    ],
)
def test_header_that_names_no_file_still_names_the_columns(raw, header, rows, wanted):
    assert read_columns(raw, rows, header) == (wanted, {})


def test_recording_called_like_a_header_is_a_row_like_others(raw):
    put(raw, "lj/wavs/id.wav")
    assert read_columns(raw, [f"{MUSIC}|{MUSIC}"], "id|text|text")[0] == [("text", None), (MUSIC, None)]


# Catches: a mistake in one row costs the others, or is learnt.
def test_row_that_does_not_go_with_the_others_is_refused_alone(raw):
    good = [f"{LIGHTS} {number}" for number in range(20)]
    clips, refused = read_columns(raw, [*good, "hello | there"])
    assert [text for text, _ in clips] == good
    assert refused == {"lj/metadata.csv:21": "unreadable row", "lj/wavs/20.wav": "no transcript"}
    wrong = ["please stop it now|ann", "stop|3.2", "go|bob"]
    clips, refused = read_columns(raw, [*(f"{YEAR}|{WRITTEN}" for _ in range(40)), *wrong])
    assert clips == [(WRITTEN, None)] * 40
    assert {file for file in refused if ":" in file} == {f"lj/metadata.csv:{number}" for number in (41, 42, 43)}


# Common Voice: the columns of release 21's validated.tsv


COMMON_VOICE = "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\taccents\t"
COMMON_VOICE += "variant\tlocale\tsegment\n"


def test_common_voice_finds_its_clips_speakers_and_languages(raw):
    put(raw, "cv/clips/common_voice_de_1.mp3")
    put(raw, "cv/clips/common_voice_de_2.mp3")
    row = 'cafe01\tcommon_voice_de_1.mp3\ts1\t"Ach", sagte er.\t\t2\t0\t\t\t\t\tde\t\n'
    other = "cafe02\tcommon_voice_de_2.mp3\ts2\tNein\t\t2\t0\t\t\t\t\tzh-CN\t\n"
    put(raw, "cv/validated.tsv", COMMON_VOICE + row + other)
    put(raw, "cv/train.tsv", COMMON_VOICE + row)
    assert clips_of(raw) == [
        RawClip("cv", "cv/clips/common_voice_de_1.mp3", '"Ach", sagte er.', language="de", speaker="cafe01"),
        RawClip("cv", "cv/clips/common_voice_de_2.mp3", "Nein", language="zh", speaker="cafe02"),
    ]


def test_common_voice_clip_that_nobody_confirmed_is_rejected(raw):
    put(raw, "cv/clips/a.mp3")
    put(raw, "cv/clips/b.mp3")
    put(raw, "cv/validated.tsv", "client_id\tpath\tsentence\nx\ta.mp3\tone\n")
    put(raw, "cv/invalidated.tsv", "client_id\tpath\tsentence\nx\tb.mp3\tzwei\n")
    assert rejected(raw) == {"cv/clips/b.mp3": "no transcript"}


# Kaldi


def kaldi(raw: Path, **files: str) -> None:
    for name, content in files.items():
        put(raw, f"k/{name.replace('_', '.')}", content)


def test_kaldi_folder_without_segments_has_an_utterance_for_each_recording(raw):
    put(raw, "k/wav/a.flac")
    put(raw, "k/wav/b.wav")
    kaldi(raw, wav_scp="u2 wav/b.wav\nu1 wav/a.flac\n", text="u1 one two\nu2 drei\n", utt2spk="u1 ann\nu2 bob\n")
    assert clips_of(raw) == [
        RawClip("k", "k/wav/a.flac", "one two", speaker="ann"),
        RawClip("k", "k/wav/b.wav", "drei", speaker="bob"),
    ]


def test_kaldi_segments_are_parts_and_minus_one_is_the_end(raw):
    put(raw, "k/talk.wav")
    kaldi(raw, wav_scp="r talk.wav\n", text="u2 two\nu1 one\n", segments="u1 r 0.5 1.25\nu2 r 1.25 -1\n")
    assert [(clip.text, clip.begins_s, clip.ends_s) for clip in clips_of(raw)] == [
        ("two", 1.25, None),
        ("one", 0.5, 1.25),
    ]


def test_command_in_wav_scp_is_refused_in_words_and_never_run(raw, tmp_path):
    put(raw, "k/a.wav")
    kaldi(raw, wav_scp=f"u1 touch {tmp_path}/ran; cat a.wav |\nu2 a.wav\n", text="u1 one\nu2 two\n")
    clips, rejections = read_sources(raw)
    assert [clip.text for clip in clips] == ["two"]
    assert rejected(raw) == {"k/wav.scp:1": "shell pipe", "k/text:1": "missing audio"}
    assert "never run" in rejections[0].remedy
    assert not (tmp_path / "ran").exists()


def test_kaldi_lines_that_do_not_belong_together_are_each_rejected(raw):
    put(raw, "k/a.wav")
    put(raw, "k/b.wav")
    kaldi(
        raw,
        wav_scp="r a.wav\n",
        text="u1 one\nu1 again\nlost words\nu3 three\n",
        segments="u1 r 0 1\nmute r 1 2\nu3 r zero 2\n",
    )
    assert [clip.text for clip in read_sources(raw)[0]] == ["one"]
    assert rejected(raw) == {
        "k/text:2": "unreadable row",
        "k/text:3": "missing audio",
        "k/segments:2": "no transcript",
        "k/segments:3": "unreadable row",
        "k/text:4": "missing audio",
        "k/b.wav": "no transcript",
    }


@pytest.mark.parametrize("path", ["/etc/hostname", "../other/a.wav"])
@pytest.mark.parametrize("layout", ["kaldi", "nemo", "csv"])
def test_path_out_of_the_folder_has_no_location_in_any_layout(raw, layout, path):
    put(raw, "other/a.wav")
    if layout == "kaldi":
        put(raw, "k/wav.scp", f"u1 {path}\n")
        put(raw, "k/text", "u1 one\n")
    elif layout == "nemo":
        put(raw, "k/manifest.json", json.dumps({"audio_filepath": path, "text": "one", "duration": 1.0}))
    else:
        put(raw, "k/metadata.csv", f"file,text\n{path},one\n")
    (clip,) = [clip for clip in read_sources(raw)[0] if clip.source == "k"]
    assert locate(raw, clip) is None


# NeMo and audiofolder


@pytest.mark.parametrize("name", ["manifest.json", "train_manifest.jsonl"])
def test_nemo_manifest_has_offsets_and_durations(raw, name):
    put(raw, "n/talk.wav")
    rows = [
        {"audio_filepath": "talk.wav", "offset": 1.5, "duration": 2.25, "text": "two", "lang": "de"},
        {"audio_filepath": "talk.wav", "duration": 1.5, "text": "one"},
        {"audio_filepath": "talk.wav", "text": "all"},
    ]
    put(raw, f"n/{name}", "".join(json.dumps(row) + "\n" for row in rows))
    assert [(clip.text, clip.begins_s, clip.ends_s, clip.language) for clip in clips_of(raw)] == [
        ("two", 1.5, 3.75, "de"),
        ("one", 0.0, 1.5, None),
        ("all", None, None, None),
    ]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_audiofolder_names_recordings_relative_to_each_metadata_file(raw, kind):
    for part in ("train", "test/deep"):
        put(raw, f"af/{part}/a.mp3")
        if kind == "csv":
            put(raw, f"af/{part}/metadata.csv", f"file_name,transcription\na.mp3,{part}\n")
        else:
            put(raw, f"af/{part}/metadata.jsonl", json.dumps({"file_name": "a.mp3", "text": part}))
    assert {(clip.path_in_source, clip.text) for clip in clips_of(raw)} == {
        ("train/a.mp3", "train"),
        ("test/deep/a.mp3", "test/deep"),
    }


# Subtitles


SRT = "1\n00:00:00,500 --> 00:00:02,000\nGood <i>morning</i>,\nAnn.\n\n2\n00:00:02,000 --> 00:00:03,500\nHow are you?\n"
VTT = (
    "WEBVTT - talk\nKind: captions\n\nNOTE made by hand\n\nSTYLE\n::cue { color: red }\n\n"
    "first\n00:00.500 --> 00:02.000 align:start\n<v Ann>Good morning,\nAnn.</v>\n\n"
    "00:02.000 --> 00:03.500\n&lt;How&gt; are you?\n"
)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["talk.srt", "talk.de.srt"])
def test_subtitles_beside_a_recording_cut_it(raw, end, name):
    put(raw, "tv/talk.mp4")
    put(raw, f"tv/{name}", "\ufeff" + SRT.replace("\n", end))
    clips = clips_of(raw)
    assert [(clip.path_in_source, clip.text, clip.begins_s, clip.ends_s) for clip in clips] == [
        ("talk.mp4", "Good morning, Ann.", 0.5, 2.0),
        ("talk.mp4", "How are you?", 2.0, 3.5),
    ]
    assert {clip.language for clip in clips} == {"de" if ".de." in name else None}


def test_webvtt_notes_and_styles_are_no_words_and_a_voice_is_the_speaker(raw):
    put(raw, "tv/talk.wav")
    put(raw, "tv/talk.vtt", VTT)
    assert [(clip.text, clip.begins_s, clip.speaker) for clip in clips_of(raw)] == [
        ("Good morning, Ann.", 0.5, "Ann"),
        ("<How> are you?", 2.0, None),
    ]


BAD_CUES = "\n3\n00:00:xx --> 00:00:05,000\nwords\n\n4\n00:00:06,000 --> 00:00:07,000\n[applause]\n"
ROLLING = "WEBVTT\n\n00:00.000 --> 00:02.000\nso<00:00:00.500><c> we</c><00:00:01.000><c> go</c>\n"


@pytest.mark.parametrize(
    ("files", "clips", "reasons"),
    [
        ({"talk.srt": SRT + BAD_CUES}, 2, {"talk.srt:10": "unreadable row", "talk.srt:14": "no speech in cue"}),
        ({"talk.vtt": ROLLING}, 0, {"talk.vtt": "rolling captions", "talk.wav": "no transcript"}),
        ({"talk.en.srt": SRT, "talk.de.srt": SRT}, 0, {"talk.wav": "subtitles twice"}),  # none is chosen
        ({"talk.txt": "one", "other.srt": SRT}, 1, {"other.srt": "missing audio"}),
    ],
)
def test_subtitles_that_cannot_be_used_are_rejected_with_their_line(raw, files, clips, reasons):
    for name, content in {"talk.wav": "sound", **files}.items():
        put(raw, f"tv/{name}", content)
    assert len(read_sources(raw)[0]) == clips
    assert rejected(raw) == {f"tv/{name}": reason for name, reason in reasons.items()}


def test_text_and_subtitles_that_agree_cut_and_those_that_differ_are_refused(raw):
    for name in ("same", "other"):
        put(raw, f"tv/{name}.wav")
        put(raw, f"tv/{name}.srt", SRT)
    put(raw, "tv/same.txt", "Good morning, Ann. How are you?")
    put(raw, "tv/other.txt", "Good evening.")
    clips, _ = read_sources(raw)
    assert [(clip.path_in_source, clip.begins_s) for clip in clips] == [("same.wav", 0.5), ("same.wav", 2.0)]
    assert rejected(raw) == {"tv/other.wav": "two transcripts"}


def test_subtitles_cut_a_recording_that_a_manifest_names_without_times(raw):
    put(raw, "tv/talk.wav")
    put(raw, "tv/talk.srt", SRT)
    row = {"audio_path": "talk.wav", "text": "Good morning, Ann! How are you?", "speaker": "ann", "session": "monday"}
    put(raw, "tv/clips.jsonl", json.dumps(row))
    assert [(clip.begins_s, clip.speaker, clip.session) for clip in clips_of(raw)] == [
        (0.5, "ann", "monday"),
        (2.0, "ann", "monday"),
    ]


def test_link_to_a_folder_is_named_not_followed(raw, tmp_path):
    put(raw, "phone/a.wav")
    put(raw, "phone/a.txt", "one")
    put(tmp_path, "elsewhere/b.wav")
    (raw / "phone/link").symlink_to(tmp_path / "elsewhere")
    (raw / "phone/gone.wav").symlink_to(tmp_path / "nothing.wav")
    assert rejected(raw) == {"phone/link": "link to a folder", "phone/gone.wav": "no transcript"}


# All of it, through the stage


def tone(path: Path, number: int, duration_s: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time_s = np.arange(int(duration_s * 16_000)) / 16_000
    soundfile.write(path, 0.2 * np.sin(2 * np.pi * (200 + 3 * number) * time_s), 16_000)


@pytest.mark.parametrize("seed", range(2))
def test_every_recording_ends_up_exactly_once_as_a_clip_or_among_the_rejected(workspace, seed):
    chance = random.Random(seed)
    names = ["jsonl", "csv", "lj", "cv", "kaldi", "nemo", "af", "txt"]
    number = 0
    texts: dict[str, str] = {}
    for layout in names:
        folder = workspace / "data/raw" / layout
        inner = {"lj": "wavs/", "cv": "clips/", "af": "train/"}.get(layout, "")
        rows = []
        for _ in range(12):
            number += 1
            name = f"rec_{number}"
            # Too short, too long, or no sound at all, each now and then.
            tone(folder / f"{inner}{name}.wav", number, chance.choice([1.0, 1.0, 1.0, 0.05, 31.0]))
            if chance.random() < 0.1:
                (folder / f"{inner}{name}.wav").write_bytes(f"no sound {number}".encode())
            if chance.random() < 0.8:
                rows.append((name, f"text {number}"))
                texts[f"{layout}/{inner}{name}.wav"] = f"text {number}"
        chance.shuffle(rows)
        for name, text in rows if layout == "txt" else []:
            (folder / f"{name}.txt").write_text(text)
        manifests = {
            "jsonl": {"clips.jsonl": [json.dumps({"audio_path": f"{n}.wav", "text": t}) for n, t in rows]},
            "csv": {"a list.csv": ["file;text", *(f"{n}.wav;{t}" for n, t in rows)]},
            "lj": {"metadata.csv": [f"{n}|{t}" for n, t in rows]},
            "cv": {"validated.tsv": ["client_id\tpath\tsentence", *(f"x\t{n}.wav\t{t}" for n, t in rows)]},
            "kaldi": {"wav.scp": [f"{n} {n}.wav" for n, _ in rows], "text": [f"{n} {t}" for n, t in reversed(rows)]},
            "nemo": {"m.json": [json.dumps({"audio_filepath": f"{n}.wav", "text": t}) for n, t in rows]},
            "af": {"train/metadata.csv": ["file_name,text", *(f"{n}.wav,{t}" for n, t in rows)]},
        }
        for manifest, lines in manifests.get(layout, {}).items():
            (folder / manifest).write_text("\n".join(lines) + "\n")
    prepare.main()
    clips = read_clips(PREPARED / "metadata.jsonl")
    seen = [clip.recorded_file for clip in clips] + [row["file"] for row in read_jsonl(PREPARED / "rejected.jsonl")]
    assert sorted(seen) == sorted(path.relative_to("data/raw").as_posix() for path in Path("data/raw").rglob("*.wav"))
    assert len(seen) == 96 and len(clips) > 30
    assert {clip.recorded_file: clip.text for clip in clips}.items() <= texts.items()

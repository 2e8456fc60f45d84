"""Every form that people bring: tables, Common Voice, LJSpeech, NeMo, audiofolder, subtitles; by name, nothing lost."""

import json
import random
from pathlib import Path

import pytest

from stages import prepare
from stages.common.files import read_jsonl
from stages.speech.clips import RawClip, read_clips
from stages.speech.sources import read_sources
from tests.test_sources import put, rejected

PREPARED = Path("data/prepared")


def clips_of(raw: Path) -> list[RawClip]:
    """Clips of a folder from which nothing is rejected."""
    clips, rejections = read_sources(raw)
    assert rejections == []
    return clips


# Catches: a delimiter, a byte order mark or a name of the file for which a table is not read.
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize(("mark", "name"), [("", "metadata.csv"), ("\ufeff", "monday/export of my phone.tsv")])
def test_table_of_any_name_is_read_with_any_usual_delimiter(raw, delimiter, mark, name):
    folder = put(raw, f"phone/{name}").parent
    rows = [["File", "Text", "speaker"], ["b.wav", "well, two; three", "ann"], ["a.wav", "one", ""]]
    lines = [delimiter.join(f'"{cell}"' if delimiter in cell else cell for cell in row) for row in rows]
    put(raw, f"phone/{name}", mark + "\r\n".join(lines) + "\r\n")
    for recording in ("a.wav", "b.wav"):
        put(folder, recording)
    assert [(raw / clip.recorded_file, clip.text, clip.speaker) for clip in clips_of(raw)] == [
        (folder / "b.wav", "well, two; three", "ann"),
        (folder / "a.wav", "one", None),
    ]


# LJSpeech's form: no header, id|text|and perhaps the text written out


LIGHTS, MUSIC, YEAR = "turn off the kitchen lights", "switch off the music", 'it was in 1455, Mr. "Jones" said'
WRITTEN = 'it was in fourteen fifty-five, mister "jones" said'


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
        # A length, a number for the speaker
        ([f"{LIGHTS}|3.2", f"{MUSIC}|7"], [(LIGHTS, None), (MUSIC, None)]),
        (["yes|1.2", "no|0.9"], [("yes", None), ("no", None)]),
        # A speaker, if names come again
        ([f"{LIGHTS}|Ann Lee", f"{MUSIC}|p225"] * 3, [(LIGHTS, "Ann Lee"), (MUSIC, "p225")] * 3),
        ([f"{LIGHTS}|ann", f"{MUSIC}|ann", MUSIC], [(LIGHTS, "ann"), (MUSIC, "ann"), (MUSIC, None)]),
        ([f"{LIGHTS}|ann|old"] * 2, [(LIGHTS, None)] * 2),  # which of the two?
        ([f"{LIGHTS}|en"] * 2, [(LIGHTS, None)] * 2),
        # The text written out
        ([f"{YEAR}|{WRITTEN}", f"{MUSIC}|", MUSIC], [(WRITTEN, None), (MUSIC, None), (MUSIC, None)]),
        ([f"{YEAR}|{WRITTEN}", "7|seven"], [(WRITTEN, None), ("seven", None)]),
        (["昨日は2008年でした|昨日は二千八年でした"], [("昨日は二千八年でした", None)]),
        ([f"{LIGHTS}|wavs/0.wav", f"{MUSIC}|wavs/1.wav"], [(LIGHTS, None), (MUSIC, None)]),
        ([f"{YEAR}|{WRITTEN}|ann|3.2"] * 2, [(WRITTEN, "ann")] * 2),
    ],
)
def test_further_column_of_a_table_without_a_header_is_told_by_all_its_rows(raw, rows, wanted):
    assert read_columns(raw, rows) == (wanted, {})


# Catches: a guess, by which the wrong one of two columns would be learnt.
@pytest.mark.parametrize(
    "rows",
    [
        ["stop|ann", "go|ann", "stop|ann"],  # short texts are like names
        ["ann|7", "bob|8", "ann|9"],  # digits are said, too
        ["Dr. Ann van der Berg|7", "Dr. Ann van der Berg|8"],
        ["やまだたろう|はい", "やまだたろう|いえ"],  # a name of as many characters as a sentence
        ["severe dysarthria, patient three|hello", "severe dysarthria, patient three|water"],
        [f"ann|{LIGHTS}", f"bob|{MUSIC}", f"ann|{MUSIC}", f"bob|{LIGHTS}"],
        [f"{LIGHTS}|mach das Licht in der Küche aus", f"{MUSIC}|mach die Musik aus"],
        [f"{LIGHTS}|{WRITTEN}", f"{MUSIC}|3.2"],
    ],
)
def test_table_without_a_header_whose_columns_cannot_be_told_is_refused_by_name(raw, rows):
    clips, refused = read_columns(raw, rows)
    assert clips == []
    assert refused == {"lj/metadata.csv": "table not read"}
    assert "id|text|speaker" in read_sources(raw)[1][0].remedy


# Catches: the remedy that a refused table names does not help; a header of other names is learnt, or spoils the column.
@pytest.mark.parametrize(
    ("header", "rows", "wanted"),
    [
        ("id|text|speaker", ["stop|ann", "go|bob"], [("stop", "ann"), ("go", "bob")]),
        ("\ufeffid|raw text|text\r", ["7|seven", "8|eight"], [("seven", None), ("eight", None)]),
        ("id|text|lang|begins_s", [f"{LIGHTS}|en|0.5"], [(LIGHTS, None)]),
        ("name|words|seconds", [f"{LIGHTS}|3", f"{MUSIC}|2"], [(LIGHTS, None), (MUSIC, None)]),
    ],
)
def test_header_that_names_no_file_still_names_the_columns(raw, header, rows, wanted):
    assert read_columns(raw, rows, header) == (wanted, {})


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


# Every layout: what is read


# The columns of release 21's validated.tsv
COMMON_VOICE = "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\taccents\t"
COMMON_VOICE += "variant\tlocale\tsegment\n"
VOICES = 'ca\ta.mp3\ts1\t"Ach", sagte er.\t\t2\t0\t\t\t\t\tde\t\ncb\tb.mp3\ts2\tNein\t\t2\t0\t\t\t\t\tzh-CN\t\n'
SRT = "1\n00:00:00,500 --> 00:00:02,000\nGood <i>morning</i>,\nAnn.\n\n2\n00:00:02,000 --> 00:00:03,500\nHow are you?\n"
VTT = (
    "WEBVTT - talk\nKind: captions\n\nNOTE made by hand\n\nSTYLE\n::cue { color: red }\n\n"
    "first\n00:00.500 --> 00:02.000 align:start\n<v  A&#110;n>Good morning,\nAnn.</v>\n\n"
    "00:02.000 --> 00:03.500\n&lt;How&gt; are you?\n"
)
NEMO = [
    {"audio_filepath": "a.wav", "offset": 1.5, "duration": 2.25, "text": "two", "lang": "de"},
    {"audio_filepath": "a.wav", "duration": 1.5, "text": "one"},
    {"audio_filepath": "a.wav", "text": "all"},
]
PARTS = "file,text,begins_s,ends_s\na.wav,one,0,1.5\na.wav,two,1.5,3.25\n"
SUBTITLED = {"audio_path": "a.wav", "text": "Good morning, Ann! How are you?", "speaker": "ann", "session": "monday"}


def part(name: str, text: str, begins_s: float | None = None, ends_s: float | None = None, **others: str) -> RawClip:
    """Parts of a recording share its session."""
    session = {"session": name} if begins_s is not None else {}
    return RawClip("x", f"x/{name}", text, begins_s=begins_s, ends_s=ends_s, **session | others)


@pytest.mark.parametrize(
    ("files", "clips"),
    [
        ({"t.csv": PARTS}, [part("a.wav", "one", 0.0, 1.5), part("a.wav", "two", 1.5, 3.25)]),
        ({"a.txt": "one", "prices.csv": "apple,1\npear,2\n"}, [part("a.wav", "one")]),  # about something else
        (
            {"clips/a.mp3": "", "clips/b.mp3": "", "validated.tsv": COMMON_VOICE + VOICES, "train.tsv": COMMON_VOICE},
            [
                part("clips/a.mp3", '"Ach", sagte er.', language="de", speaker="ca"),
                part("clips/b.mp3", "Nein", language="zh", speaker="cb"),
            ],
        ),
        (
            {"train_manifest.jsonl": "\n".join(map(json.dumps, NEMO))},
            [part("a.wav", "two", 1.5, 3.75, language="de"), part("a.wav", "one", 0.0, 1.5), part("a.wav", "all")],
        ),
        (  # relative to each metadata file
            {"1/b.mp3": "", "1/metadata.jsonl": '{"file_name": "b.mp3", "text": "one"}',
             "2/b.mp3": "", "2/metadata.jsonl": '{"file_name": "b.mp3", "text": "two"}',
             "metadata.jsonl": '{"file_name": "a.wav", "text": "a"}'},
            [part("a.wav", "a"), part("1/b.mp3", "one"), part("2/b.mp3", "two")],
        ),
        (
            {"a.de.srt": "\ufeff" + SRT.replace("\n", "\r\n")},
            [
                part("a.wav", "Good morning, Ann.", 0.5, 2.0, language="de"),
                part("a.wav", "How are you?", 2.0, 3.5, language="de"),
            ],
        ),
        (
            {"a.vtt": VTT},
            [part("a.wav", "Good morning, Ann.", 0.5, 2.0, speaker="Ann"), part("a.wav", "<How> are you?", 2.0, 3.5)],
        ),
        ({"a.de.txt": "eins"}, [part("a.wav", "eins", language="de")]),
        (  # a recording that the table leaves out
            {"b.wav": "", "t.csv": "file,text\nb.wav,two\n", "a.srt": SRT.split("\n\n")[0] + "\n"},
            [part("b.wav", "two"), part("a.wav", "Good morning, Ann.", 0.5, 2.0)],
        ),
        (
            {"a.srt": SRT, "clips.jsonl": json.dumps(SUBTITLED)},
            [
                part("a.wav", "Good morning, Ann.", 0.5, 2.0, speaker="ann", session="monday"),
                part("a.wav", "How are you?", 2.0, 3.5, speaker="ann", session="monday"),
            ],
        ),
    ],
)  # fmt: skip
def test_each_layout_is_read_with_texts_times_speakers_and_languages(raw, files, clips):
    if "clips/a.mp3" not in files:
        put(raw, "x/a.wav")
    for name, content in files.items():
        put(raw, f"x/{name}", content)
    assert clips_of(raw) == clips


# Every layout: what is refused


BAD_CUES = "\n3\n00:00:xx --> 00:00:05,000\nwords\n\n4\n00:00:06,000 --> 00:00:07,000\n[applause]\n"
ROLLING = "WEBVTT\n\n00:00.000 --> 00:02.000\nso<00:00:00.500><c> we</c><00:00:01.000><c> go</c>\n"
BAD_TIMES = "".join(f"a.wav,one,{time},1.5\n" for time in ("soon", "-1", "nan", "inf"))


@pytest.mark.parametrize(
    ("files", "clips", "reasons"),
    [
        ({"t.csv": PARTS + BAD_TIMES}, 2, {f"t.csv:{line}": "unreadable row" for line in range(4, 8)}),
        # What nobody confirmed
        ({"validated.tsv": COMMON_VOICE, "invalidated.tsv": COMMON_VOICE + VOICES}, 0, {"a.wav": "no transcript"}),
        ({"a.srt": SRT + BAD_CUES}, 2, {"a.srt:10": "unreadable row", "a.srt:14": "no speech in cue"}),
        ({"a.vtt": ROLLING}, 0, {"a.vtt": "rolling captions", "a.wav": "no transcript"}),
        ({"a.en.srt": SRT, "a.de.srt": SRT}, 0, {"a.wav": "two transcripts"}),  # none is chosen
        ({"a.txt": "one", "a.de.txt": "eins"}, 0, {"a.wav": "two transcripts"}),
        ({"a.txt": "one", "other.srt": SRT}, 1, {"other.srt": "missing audio"}),
        ({"a.txt": "Good morning, Ann. How are you?", "a.srt": SRT}, 2, {"a.txt": "not needed"}),
        ({"a.txt": "Good evening.", "a.srt": SRT}, 0, {"a.wav": "two transcripts"}),
    ],
)
def test_what_cannot_be_used_in_a_layout_is_rejected_with_its_line(raw, files, clips, reasons):
    put(raw, "x/a.wav")
    for name, content in files.items():
        put(raw, f"x/{name}", content)
    assert len(read_sources(raw)[0]) == clips
    assert rejected(raw) == {f"x/{name}": reason for name, reason in reasons.items()}


# All of it, through the stage


INNER_FOLDERS = {"jsonl": "", "csv": "", "lj": "wavs/", "cv": "clips/", "nemo": "", "af": "train/", "txt": ""}


def manifests_of(layout: str, rows: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Lines of each file that says in a layout which recording (without its ending) holds which text."""
    return {
        "jsonl": {"clips.jsonl": [json.dumps({"audio_path": f"{n}.wav", "text": t}) for n, t in rows]},
        "csv": {"a list.csv": ["file;text", *(f"{n}.wav;{t}" for n, t in rows)]},
        "lj": {"metadata.csv": [f"{n}|{t}" for n, t in rows]},
        "cv": {"validated.tsv": ["client_id\tpath\tsentence", *(f"x\t{n}.wav\t{t}" for n, t in rows)]},
        "nemo": {"m.json": [json.dumps({"audio_filepath": f"{n}.wav", "text": t}) for n, t in rows]},
        "af": {"train/metadata.csv": ["file_name,text", *(f"{n}.wav,{t}" for n, t in rows)]},
        "txt": {f"{n}.txt": [t] for n, t in rows},
    }[layout]


# Catches: a recording lost, or paired with another's text (by position: rec_10 sorts before rec_2), in any layout.
def test_every_recording_ends_up_once_as_a_clip_with_its_own_text_or_among_the_rejected(workspace, record):
    chance = random.Random(0)
    number = 0
    said: dict[str, str] = {}
    for layout, inner in INNER_FOLDERS.items():
        folder = workspace / "data/raw" / layout
        rows = []
        for _ in range(12):
            number += 1
            name = f"rec_{number}"
            # Too short, too long, or no sound at all, each now and then.
            duration_s = chance.choice([1.0, 1.0, 1.0, 0.05, 31.0])
            record(f"{layout}/{inner}{name}.wav", duration_s, hertz=200 + 3 * number)
            if chance.random() < 0.1:
                (folder / f"{inner}{name}.wav").write_bytes(f"no sound {number}".encode())
            if chance.random() < 0.8:
                rows.append((name, f"text {number}"))
                said[f"{layout}/{inner}{name}.wav"] = f"text {number}"
        chance.shuffle(rows)
        for file, lines in manifests_of(layout, rows).items():
            put(folder, file, "\n".join(lines) + "\n")
    prepare.main()
    clips = read_clips(PREPARED / "metadata.jsonl")
    seen = [clip.recorded_file for clip in clips] + [row["file"] for row in read_jsonl(PREPARED / "rejected.jsonl")]
    assert sorted(seen) == sorted(path.relative_to("data/raw").as_posix() for path in Path("data/raw").rglob("*.wav"))
    assert len(seen) == 84 and len(clips) > 30
    assert {clip.recorded_file: clip.text for clip in clips}.items() <= said.items()

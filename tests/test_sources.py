"""What lies in data/raw: every layout, pairing by name, and nothing left out without a word."""

import json
import re
import unicodedata
from pathlib import Path

import pytest

from stages.common.stage import UserError
from stages.speech.clips import RawClip
from stages.speech.sources import locate, locate_all, read_source, read_sources


@pytest.fixture
def raw(tmp_path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def put(raw: Path, name: str, content: str | bytes = b"sound") -> Path:
    path = raw / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(raw: Path) -> dict[str, str]:
    """Text by recording, of a folder from which nothing is rejected."""
    clips, rejections = read_sources(raw)
    assert rejections == []
    assert len({clip.recorded_file for clip in clips}) == len(clips)
    return {clip.recorded_file: clip.text for clip in clips}


def rejected(raw: Path) -> dict[str, str]:
    """Reason by file."""
    rejections = read_sources(raw)[1]
    assert all(rejection.remedy for rejection in rejections)
    assert len({rejection.file for rejection in rejections}) == len(rejections)
    return {rejection.file: rejection.reason for rejection in rejections}


def test_clips_jsonl_keeps_every_field(raw):
    put(raw, "phone/a.wav")
    row = {
        "audio_path": "a.wav",
        "text": "Hello, you.",
        "language": "de",
        "speaker": "ann",
        "session": "monday",
        "prompt_id": "p1",
        "recorded_at": "2025-01-01T10:00:00Z",
    }
    put(raw, "phone/clips.jsonl", json.dumps(row) + "\n")
    clip = RawClip("phone", "phone/" + row.pop("audio_path"), **row)
    assert read_sources(raw) == ([clip], [])


def test_clips_jsonl_row_with_a_line_separator_stays_one_row(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/clips.jsonl", json.dumps({"audio_path": "a.wav", "text": "one\u2028two"}, ensure_ascii=False))
    assert texts(raw) == {"phone/a.wav": "one\u2028two"}


@pytest.mark.parametrize(
    "line",
    [
        '{"audio_path": "b.wav", "text": "two"',
        "b.wav two",
        '["b.wav", "two"]',
        '{"audio_path": "b.wav"}',
        '{"text": "two"}',
        '{"audio_path": 2, "text": "two"}',
        '{"audio_path": "b.wav", "text": null}',
        b'{"audio_path": "b.wav", "text": "\xff"}',
    ],
)
def test_bad_row_is_rejected_with_its_line_number_and_the_others_stay(raw, line):
    put(raw, "phone/a.wav")
    put(raw, "phone/c.wav")
    line = line if isinstance(line, bytes) else line.encode()
    first, last = b'{"audio_path": "a.wav", "text": "one"}', b'{"audio_path": "c.wav", "text": "three"}'
    put(raw, "phone/clips.jsonl", b"\n".join([first, line, last]))
    clips, _ = read_sources(raw)
    assert [(clip.path_in_source, clip.text) for clip in clips] == [("a.wav", "one"), ("c.wav", "three")]
    assert rejected(raw) == {"phone/clips.jsonl:2": "unreadable row"}


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ("file,text\na.wav,well, hello\n", "metadata.csv:2"),  # not cut at the comma
        ("file,text\na.wav\n", "metadata.csv:2"),
        ('file,text\na.wav,"hello\nb.wav,two\n', "metadata.csv:3"),  # the quote swallows no row
        ("a.wav,hello\n", "metadata.csv"),
        ("file,text\na.wav,Müller\n".encode("latin-1"), "metadata.csv"),  # not guessed
        ("a|one\na two\n", "metadata.csv:2"),
    ],
)
def test_table_or_row_that_cannot_be_read_is_rejected_by_name(raw, table, where):
    put(raw, "phone/metadata.csv", table)
    assert rejected(raw) == {f"phone/{where}": "unreadable row"}
    assert "hello" not in {clip.text for clip in read_sources(raw)[0]}


def test_csv_text_over_two_lines_keeps_its_words_apart(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/metadata.csv", 'file,text\na.wav,"hello\nworld"\n')
    assert {file: text.split() for file, text in texts(raw).items()} == {"phone/a.wav": ["hello", "world"]}


# The layout of keithito.com/LJ-Speech-Dataset: id|transcription|normalised transcription, sound in wavs/ID.wav.
def test_ljspeech_takes_the_normalised_text_and_finds_the_recording(raw):
    put(raw, "lj/wavs/LJ001-0001.wav")
    put(raw, "lj/LJ001-0002.flac")
    rows = 'LJ001-0001|in 1455, he "said"|in fourteen fifty-five, he "said"\nLJ001-0002|one, two\n'
    put(raw, "lj/metadata.csv", rows)
    assert texts(raw) == {
        "lj/wavs/LJ001-0001.wav": 'in fourteen fifty-five, he "said"',
        "lj/LJ001-0002.flac": "one, two",
    }


def test_text_files_of_the_same_name_are_transcripts(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/deep/b.FLAC")
    put(raw, "phone/a.txt", "\ufeffone\n")
    put(raw, "phone/deep/b.txt", "two")
    assert texts(raw) == {"phone/a.wav": "one\n", "phone/deep/b.FLAC": "two"}


# mozilla-ai/speech-to-text-finetune pairs sorted file names with rows by position: rec_10 sorts before rec_2.
@pytest.mark.parametrize("layout", ["jsonl", "csv", "ljspeech", "txt"])
def test_pairing_is_by_name_also_from_the_eleventh_recording_on(raw, layout):
    numbers = range(1, 13)
    for number in numbers:
        put(raw, f"phone/rec_{number}.wav", f"sound {number}")
        if layout == "txt":
            put(raw, f"phone/rec_{number}.txt", f"text {number}")
    rows = {
        "jsonl": ("clips.jsonl", [f'{{"audio_path": "rec_{n}.wav", "text": "text {n}"}}' for n in numbers]),
        "csv": ("metadata.csv", ["file,text", *(f"rec_{n}.wav,text {n}" for n in numbers)]),
        "ljspeech": ("metadata.csv", [f"rec_{n}|text {n}" for n in numbers]),
    }
    if layout in rows:
        name, lines = rows[layout]
        put(raw, f"phone/{name}", "\n".join(lines))
    clips, rejections = read_sources(raw)
    assert rejections == []
    pairs = {locate(raw, clip).read_text(): clip.text for clip in clips}
    assert pairs == {f"sound {number}": f"text {number}" for number in numbers}


def test_text_files_say_what_no_row_says(raw):
    for name in ("a", "b"):
        put(raw, f"phone/{name}.wav")
        put(raw, f"phone/{name}.txt", f"{name} in its text file")
    put(raw, "phone/notes.txt", "about these recordings")
    put(raw, "phone/clips.jsonl", '{"audio_path": "./a.wav", "text": "a in the manifest"}')
    assert texts(raw) == {"phone/a.wav": "a in the manifest", "phone/b.wav": "b in its text file"}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("A.WAV", "a.wav"),
        ("a", "a.wav"),
        ("größe.wav", unicodedata.normalize("NFD", "größe.wav")),  # as macOS writes it
        ("b", None),  # b.wav or b.mp3
        ("c.wav", None),  # c.wav.mp3 has a row of its own
        ("x/a", None),
        ("a.mp3", None),
    ],
)
def test_row_finds_the_one_recording_that_it_can_mean(raw, name, file):
    for other in ("a.wav", "b.wav", "b.mp3", "c.wav.mp3", unicodedata.normalize("NFD", "größe.wav")):
        put(raw, f"phone/{other}")
    put(raw, "phone/metadata.csv", f"file,text\n{name},one\nc.wav.mp3,two\n")
    found = {clip.text: clip.recorded_file for clip in read_sources(raw)[0]}
    assert found == {"one": f"phone/{file or name}", "two": "phone/c.wav.mp3"}


@pytest.mark.parametrize("name", ["table.csv", "metadata.csv", "a.txt"])
def test_utf_16_is_read(raw, name):
    put(raw, "phone/a.wav")
    put(raw, f"phone/{name}", ("Müller" if name == "a.txt" else "file;text\r\na.wav;Müller\r\n").encode("utf-16"))
    assert texts(raw) == {"phone/a.wav": "Müller"}


def test_text_file_without_recording_or_in_another_encoding_is_rejected(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/a.txt", "Müller".encode("latin-1"))
    put(raw, "phone/b.txt", "two")
    reasons = {"phone/a.txt": "unreadable row", "phone/a.wav": "no transcript", "phone/b.txt": "missing audio"}
    assert rejected(raw) == reasons


def test_sources_come_in_the_order_of_their_names(raw):
    for source in ("b", "a", "c"):
        put(raw, f"{source}/x.wav")
        put(raw, f"{source}/x.txt", source)
    assert list(texts(raw)) == ["a/x.wav", "b/x.wav", "c/x.wav"]


@pytest.mark.parametrize("manifest", ["clips.jsonl", "metadata.csv", None])
def test_recording_that_no_transcript_names_is_rejected(raw, manifest):
    put(raw, "phone/a.wav")
    put(raw, "phone/deep/b.opus")
    if manifest == "clips.jsonl":
        put(raw, "phone/clips.jsonl", '{"audio_path": "a.wav", "text": "one"}')
    elif manifest == "metadata.csv":
        put(raw, "phone/metadata.csv", "file,text\na.wav,one")
    else:
        put(raw, "phone/a.txt", "one")
    clips, rejections = read_sources(raw)
    assert [clip.recorded_file for clip in clips] == ["phone/a.wav"]
    assert [(rejection.file, rejection.reason) for rejection in rejections] == [("phone/deep/b.opus", "no transcript")]
    assert (manifest or "b.txt") in rejections[0].remedy


def test_recording_outside_of_a_source_folder_is_rejected(raw):
    put(raw, "loose.wav")
    put(raw, "notes.md", "not sound")
    clips, rejections = read_sources(raw)
    assert clips == []
    assert [(item.file, item.reason) for item in rejections] == [("loose.wav", "in no source folder")]


def test_missing_or_empty_folder_holds_nothing(tmp_path, raw):
    assert read_sources(tmp_path / "nowhere") == ([], [])
    assert read_sources(raw) == ([], [])


OUTSIDE = ["../other/a.wav", "deep/../../other/a.wav", "../../outside.wav", "..", "/etc/hostname", "../phone2/a.wav"]


@pytest.mark.parametrize("path", [*OUTSIDE, "out.wav", "folder/outside.wav", "a\0.wav", "loop.wav"])
def test_path_that_leaves_its_source_or_is_none_has_no_location(raw, path):
    for name in ("other/a.wav", "phone2/a.wav", "phone/deep/b.wav", "../outside.wav"):
        put(raw, name)
    for link, target in (("out.wav", raw.parent / "outside.wav"), ("folder", raw.parent), ("loop.wav", "loop.wav")):
        (raw / "phone" / link).symlink_to(target)
    clip = RawClip("phone", f"phone/{path}", "text")
    assert locate(raw, clip) is None
    assert locate_all(raw, [clip]) == [None]


@pytest.mark.parametrize("path", ["a.wav", "deep/b.wav", "deep/../a.wav", "link.wav"])
def test_path_that_stays_inside_is_found(raw, path):
    put(raw, "phone/a.wav")
    put(raw, "phone/deep/b.wav")
    (raw / "phone/link.wav").symlink_to("a.wav")
    clip = RawClip("phone", f"phone/{path}", "text")
    assert locate(raw, clip) == (raw / "phone" / path).resolve()
    assert [Path(found).resolve() for found in locate_all(raw, [clip])] == [locate(raw, clip)]


# Catches: DVC leaves out all that lies beside .dvc, so that recordings would be trained on and never stored.
@pytest.mark.parametrize("mark", [".git/config", ".git", ".dvc/config"])
@pytest.mark.parametrize("place", ["phone", "phone/deep/er", "."])
def test_repository_in_data_raw_is_refused_in_one_line_before_anything_is_read(raw, place, mark):
    put(raw, "phone/deep/er/a.wav")
    put(raw, f"{place}/{mark}", "gitdir: elsewhere")
    folder, name = re.escape(str(raw / place)), re.escape(mark.split("/")[0])
    words = rf"^{folder} is a repository of its own \(it holds {name}\), [^\n]*$"
    with pytest.raises(UserError, match=words) as refused:
        read_sources(raw)
    assert ("delete .git in it" in str(refused.value)) == (name == r"\.git")  # recordings may be links into .dvc


def test_repository_around_data_raw_or_in_the_folder_of_other_people_is_no_mistake(tmp_path):
    put(tmp_path, ".git/config")
    put(tmp_path, ".dvc/config")
    put(tmp_path, "raw/phone/a.wav")
    put(tmp_path, "raw/phone/a.txt", "one")
    assert texts(tmp_path / "raw") == {"phone/a.wav": "one"}
    put(tmp_path, "others/.git/config")
    put(tmp_path, "others/b.wav")
    put(tmp_path, "others/b.txt", "two")
    assert [clip.text for clip in read_source(tmp_path / "others")[0]] == ["two"]


# Catches: DVC does not follow the link, so that its recordings would be trained on and never stored.
def test_link_to_a_folder_is_no_source(raw, tmp_path):
    put(tmp_path, "elsewhere/b.wav")
    put(tmp_path, "elsewhere/b.txt", "two")
    (raw / "link").symlink_to(tmp_path / "elsewhere")
    assert read_sources(raw)[0] == []
    assert rejected(raw) == {"link": "link to a folder"}

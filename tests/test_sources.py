"""What lies in data/raw: every layout, pairing by name, and nothing left out without a word."""

import json
import os
import re
import unicodedata
from pathlib import Path

import pytest

from stages.common.stage import UserError
from stages.speech.clips import RawClip
from stages.speech.sources import locate, read_source, read_sources


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
        "text": "Hello,\u2028you.",  # a line separator, which ends no row
        "language": "de",
        "speaker": "ann",
        "session": "monday",
        "prompt_id": "p1",
        "recorded_at": "2025-01-01T10:00:00Z",
    }
    put(raw, "phone/clips.jsonl", json.dumps(row, ensure_ascii=False) + "\n")
    clip = RawClip("phone", "phone/" + row.pop("audio_path"), **row)
    assert read_sources(raw) == ([clip], [])


GOOD = b'{"audio_path": "a.wav", "text": "one"}\n'


# Catches: a mistake in one row costs the others or a word, is guessed at, or is named without its line.
@pytest.mark.parametrize(
    ("name", "content", "where", "kept"),
    [
        ("clips.jsonl", GOOD + b'{"audio_path": "b.wav", "text": "two"\n' + GOOD, ":2", ["one"]),
        ("clips.jsonl", GOOD + b'["b.wav", "two"]', ":2", ["one"]),
        ("clips.jsonl", GOOD + b'{"text": "two"}', ":2", ["one"]),
        ("clips.jsonl", GOOD + b'{"audio_path": "b.wav", "text": null}', ":2", ["one"]),
        ("clips.jsonl", GOOD + b'{"audio_path": "b.wav", "text": "\xff"}', ":2", ["one"]),
        ("metadata.csv", b"file,text\na.wav,well, hello\nb.wav,two\n", ":2", ["two"]),  # not cut at the comma
        ("metadata.csv", b"file,text\na.wav\nb.wav,two\n", ":2", ["two"]),
        ("metadata.csv", b"a|one\na two\n", ":2", ["one"]),
    ],
)
def test_row_or_table_that_cannot_be_read_is_rejected_by_name_and_the_others_stay(raw, name, content, where, kept):
    put(raw, f"phone/{name}", content)
    assert rejected(raw) == {f"phone/{name}{where}": "unreadable row"}
    assert [clip.text for clip in read_sources(raw)[0]] == kept


# Catches: a table that is not read is passed over, or costs a complaint for each recording; a guess at its encoding.
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("metadata.csv", b"apples,3\n", "must name the columns, file and text"),
        ("list.csv", "file,text\nrec_1.wav,привет\n".encode("cp1251"), "save it as CSV in UTF-8"),
        ("list.csv", "file,text\nrec_1.wav,zażółć\n".encode("cp1250"), "save it as CSV in UTF-8"),
        ("list.xlsx", b"PK", "save it as CSV"),
        ("list.json", b'{"rec_1.wav": 3}', "none of its objects"),
    ],
)
def test_table_that_is_not_read_is_named_once_with_the_recordings_that_wait_for_it(raw, name, content, words):
    for number in range(7):
        put(raw, f"phone/wavs/rec_{number}.wav")
    put(raw, f"phone/{name}", content)
    clips, (rejection,) = read_sources(raw)
    assert clips == []
    assert (rejection.file, rejection.reason) == (f"phone/{name}", "table not read")
    assert words in rejection.remedy
    assert rejection.remedy.startswith("it was not read, because ")
    assert "7 recordings without a text: wavs/rec_0.wav" in rejection.remedy and "and 2 more" in rejection.remedy


def test_text_file_belongs_to_the_recording_of_the_same_name_in_its_own_folder_if_no_row_does(raw):
    for name in ("a.wav", "deep/a.FLAC", "b.wav"):
        put(raw, f"phone/{name}")
    for name, text in {
        "a.txt": "\ufeffone\n",
        "deep/a.txt": "two",
        "b.txt": "in its text file",
        "notes.txt": "x",
    }.items():
        put(raw, f"phone/{name}", text)
    put(raw, "phone/clips.jsonl", '{"audio_path": "./b.wav", "text": "in the table"}')
    assert rejected(raw) == {"phone/b.wav": "two transcripts"}  # none is guessed
    put(raw, "phone/b.txt", "In the table.")
    said = {"phone/a.wav": "one\n", "phone/deep/a.FLAC": "two", "phone/b.wav": "in the table"}
    assert texts(raw) == said


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("A.WAV", "a.wav"),
        ("a", "a.wav"),
        ("größe.wav", unicodedata.normalize("NFD", "größe.wav")),  # as macOS writes it
        ("c.wav", None),  # c.wav.mp3 has a row of its own
        ("x/a", None),
        ("a.mp3", "a.wav"),  # it was converted since
        ("./a.wav.WAV", "a.wav"),
        ("\u200ba.wav\ufeff", "a.wav"),
        ("C:\\\\Users\\\\ann\\\\set\\\\a.wav", "a.wav"),
        ("/home/ann/set/wavs/a.wav", "a.wav"),
        ("../a.wav", None),
    ],
)
def test_row_finds_the_one_recording_that_it_can_mean(raw, name, file):
    for other in ("a.wav", "b.wav", "b.mp3", "c.wav.mp3", unicodedata.normalize("NFD", "größe.wav")):
        put(raw, f"phone/{other}")
    put(raw, "phone/metadata.csv", f"file,text\n{name},one\nc.wav.mp3,two\n")
    found = {clip.text: clip.recorded_file for clip in read_sources(raw)[0]}
    assert found == {"one": f"phone/{file or name}", "two": "phone/c.wav.mp3"}


def test_name_that_fits_two_recordings_and_recording_with_two_texts_are_refused_by_name(raw):
    for name in ("a.wav", "b.wav", "b.mp3", "c.wav", "d.wav"):
        put(raw, f"phone/{name}", name)
    put(raw, "phone/talks.csv", "file,text\na.wav,right\nb,other\nc,one\nC,two\nd.wav,same\n")
    put(raw, "phone/old/clips.jsonl", '{"audio_path": "../a.wav", "text": "wrong"}')
    put(raw, "phone/old/talks.csv", "file,text\n../d.wav,Same!\n")
    assert [(clip.recorded_file, clip.text) for clip in read_sources(raw)[0]] == [("phone/d.wav", "same")]
    assert rejected(raw) == {
        "phone/talks.csv:3": "name fits several",
        "phone/a.wav": "two transcripts",
        "phone/c.wav": "two transcripts",
    }


@pytest.mark.parametrize("place", [b"phone/\xff", b"\xff/a"])
def test_recording_whose_name_is_not_utf_8_is_rejected_although_it_has_a_text(raw, place):
    put(raw, os.fsdecode(place) + ".wav")
    put(raw, os.fsdecode(place) + ".txt", "one")
    assert read_sources(raw)[0] == []
    assert rejected(raw) == {place.decode(errors="backslashreplace") + ".wav": "no transcript"}


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", "Müller\n"), ("table.csv", 'file;text\r\na.wav;"Müller\n"\r\n')]
)
def test_utf_16_and_quoted_lines_are_read(raw, name, content):
    put(raw, "phone/a.wav")
    put(raw, f"phone/{name}", content.encode("utf-16"))
    assert texts(raw) == {"phone/a.wav": "Müller\n"}


def test_text_file_without_recording_or_in_another_encoding_is_rejected(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/a.txt", "zażółć".encode("cp1250"))
    put(raw, "phone/b.txt", "two")
    reasons = {"phone/a.txt": "unreadable row", "phone/a.wav": "no transcript", "phone/b.txt": "missing audio"}
    assert rejected(raw) == reasons


def test_sources_come_in_the_order_of_their_names_and_what_is_in_none_is_named(tmp_path, raw):
    assert read_sources(tmp_path / "nowhere") == read_sources(raw) == ([], [])
    for source in ("b", "a", "c"):
        put(raw, f"{source}/x.wav")
        put(raw, f"{source}/x.txt", source)
    assert list(texts(raw)) == ["a/x.wav", "b/x.wav", "c/x.wav"]
    put(raw, "loose.wav")
    put(raw, "notes.md", "not sound")
    assert rejected(raw) == {"loose.wav": "in no source folder"}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        *((path, "phone/a.wav") for path in ("a.wav", "deep/../a.wav", "link.wav")),
        *((path, None) for path in ("../phone2/a.wav", "deep/../../phone2/a.wav", "..", "/etc/hostname", "a\0.wav")),
        *((path, None) for path in ("out.wav", "folder/outside.wav", "loop.wav")),  # links
    ],
)
def test_path_has_a_location_only_inside_its_source(raw, path, found):
    for name in ("phone/a.wav", "phone/deep/b.wav", "phone2/a.wav", "../outside.wav"):
        put(raw, name)
    for link, target in {"link": "a.wav", "out": raw.parent / "outside.wav", "loop": "loop.wav"}.items():
        (raw / f"phone/{link}.wav").symlink_to(target)
    (raw / "phone/folder").symlink_to(raw.parent)
    assert locate(raw, RawClip("phone", f"phone/{path}", "text")) == (found and (raw / found).resolve())


# Catches: DVC leaves out all that lies beside .dvc, so that recordings would be trained on and never stored.
@pytest.mark.parametrize(("place", "mark"), [("phone", ".git/config"), ("phone/deep/er", ".dvc/config"), (".", ".git")])
def test_repository_in_data_raw_is_refused_before_anything_is_read(raw, place, mark):
    put(raw, "phone/deep/er/a.wav")
    put(raw, f"{place}/{mark}", "gitdir: elsewhere")
    with pytest.raises(UserError, match=re.escape(f"{raw / place} is a repository of its own")):
        read_sources(raw)


# Catches: recordings that a .dvcignore names are trained on and never stored.
def test_file_that_hides_recordings_from_dvc_is_refused_before_anything_is_read(raw):
    put(raw, "phone/deep/a.wav")
    put(raw, "phone/deep/.dvcignore", "*.wav")
    with pytest.raises(UserError, match=re.escape(f"{raw}/phone/deep/.dvcignore keeps DVC from storing")):
        read_sources(raw)


def test_repository_in_the_folder_of_other_people_is_no_mistake(tmp_path):
    put(tmp_path, "others/.git/config")
    put(tmp_path, "others/b.wav")
    put(tmp_path, "others/b.txt", "two")
    assert [clip.text for clip in read_source(tmp_path / "others")[0]] == ["two"]


# Catches: DVC does not follow the link, so that its recordings would be trained on and never stored.
def test_link_to_a_folder_is_named_and_not_followed(raw, tmp_path):
    put(tmp_path, "elsewhere/b.wav")
    put(tmp_path, "elsewhere/b.txt", "two")
    put(raw, "phone/a.wav")
    put(raw, "phone/a.txt", "one")
    (raw / "link").symlink_to(tmp_path / "elsewhere")
    (raw / "phone/link").symlink_to(tmp_path / "elsewhere")
    (raw / "phone/gone.wav").symlink_to(tmp_path / "nothing.wav")
    assert [clip.text for clip in read_sources(raw)[0]] == ["one"]
    links = {"link": "link to a folder", "phone/link": "link to a folder"}
    assert rejected(raw) == links | {"phone/gone.wav": "no transcript"}

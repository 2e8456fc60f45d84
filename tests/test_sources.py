"""What lies in data/raw: every layout, pairing by name, and nothing left out without a word."""

import json
import re
from pathlib import Path

import pytest

from stages.common.stage import UserError
from stages.speech.clips import RawClip
from stages.speech.sources import locate, read_source, read_sources


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


def test_clips_jsonl_with_byte_order_mark_crlf_and_blank_lines_is_read(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/b.wav")
    rows = '\ufeff{"audio_path": "a.wav", "text": "one"}\r\n\r\n{"audio_path": "b.wav", "text": "two"}\r\n'
    put(raw, "phone/clips.jsonl", rows)
    assert texts(raw) == {"phone/a.wav": "one", "phone/b.wav": "two"}


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


@pytest.mark.parametrize("name", ["metadata.csv", "transcripts.csv"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_with_header_is_read_with_or_without_byte_order_mark(raw, name, mark, end):
    put(raw, "phone/a.wav")
    put(raw, "phone/b.wav")
    rows = ["file,text,speaker", "a.wav,hello,ann", 'b.wav,"well, ""hello"" again",']
    put(raw, f"phone/{name}", mark + end.join(rows) + end)
    clips, rejections = read_sources(raw)
    assert rejections == []
    assert [(clip.path_in_source, clip.text, clip.speaker) for clip in clips] == [
        ("a.wav", "hello", "ann"),
        ("b.wav", 'well, "hello" again', None),
    ]


def test_csv_columns_may_stand_in_any_order(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/metadata.csv", "language,text,file\nhi,नमस्ते,a.wav\n")
    assert read_sources(raw) == ([RawClip("phone", "phone/a.wav", "नमस्ते", language="hi")], [])


def test_csv_row_with_a_comma_and_no_quotes_is_rejected_not_cut(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/b.wav")
    put(raw, "phone/metadata.csv", "file,text\na.wav,well, hello\nb.wav,two\n")
    clips, _ = read_sources(raw)
    assert [clip.text for clip in clips] == ["two"]
    assert rejected(raw) == {"phone/metadata.csv:2": "unreadable row", "phone/a.wav": "no transcript"}


def test_csv_row_without_a_text_column_is_rejected(raw):
    put(raw, "phone/metadata.csv", "file,text\na.wav\n")
    assert rejected(raw) == {"phone/metadata.csv:2": "unreadable row"}


def test_csv_text_over_two_lines_keeps_its_words_apart(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/metadata.csv", 'file,text\na.wav,"hello\nworld"\n')
    assert {file: text.split() for file, text in texts(raw).items()} == {"phone/a.wav": ["hello", "world"]}


def test_csv_quote_that_never_closes_does_not_swallow_the_rows_after_it(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/b.wav")
    put(raw, "phone/metadata.csv", 'file,text\na.wav,"hello\nb.wav,two\n')
    clips, rejections = read_sources(raw)
    assert [clip.text for clip in clips if "b.wav" in clip.text] == []
    assert "unreadable row" in {rejection.reason for rejection in rejections}


def test_csv_without_a_header_says_what_to_write(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/metadata.csv", "a.wav,hello\n")
    assert rejected(raw) == {"phone/metadata.csv": "unreadable row", "phone/a.wav": "no transcript"}


def test_csv_in_latin_1_is_rejected_not_guessed(raw):
    put(raw, "phone/metadata.csv", "file,text\na.wav,Müller\n".encode("latin-1"))
    assert rejected(raw) == {"phone/metadata.csv": "unreadable row"}


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


def test_ljspeech_row_without_a_bar_is_rejected(raw):
    put(raw, "lj/wavs/a.wav")
    put(raw, "lj/metadata.csv", "a|one\nb two\n")
    assert rejected(raw) == {"lj/metadata.csv:2": "unreadable row"}


def test_ljspeech_row_without_a_recording_names_the_file_that_is_missing(raw):
    put(raw, "lj/metadata.csv", "a|one\n")
    assert [clip.recorded_file for clip in read_sources(raw)[0]] == ["lj/wavs/a.wav"]


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


def test_manifest_comes_before_text_files(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/a.txt", "from the text file")
    put(raw, "phone/clips.jsonl", '{"audio_path": "a.wav", "text": "from the manifest"}')
    assert texts(raw) == {"phone/a.wav": "from the manifest"}


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


def test_recording_without_transcript_is_rejected_also_below_a_hidden_folder(tmp_path):
    raw = tmp_path / ".workspace" / "raw"
    put(raw, "phone/a.wav")
    assert rejected(raw) == {"phone/a.wav": "no transcript"}


def test_recording_named_with_a_leading_dot_slash_is_listed(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/clips.jsonl", '{"audio_path": "./a.wav", "text": "one"}')
    assert rejected(raw) == {}


def test_text_file_without_recording_is_rejected(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/a.txt", "one")
    put(raw, "phone/b.txt", "two")
    assert rejected(raw) == {"phone/b.txt": "missing audio"}


def test_text_file_that_is_not_utf_8_is_rejected(raw):
    put(raw, "phone/a.wav")
    put(raw, "phone/a.txt", "Müller".encode("latin-1"))
    assert rejected(raw)["phone/a.txt"] == "unreadable row"


def test_recording_outside_of_a_source_folder_is_rejected(raw):
    put(raw, "loose.wav")
    put(raw, "notes.md", "not sound")
    clips, rejections = read_sources(raw)
    assert clips == []
    assert [(item.file, item.reason) for item in rejections] == [("loose.wav", "in no source folder")]


# What telephones, browsers and cameras record by default.
@pytest.mark.parametrize("suffix", [".m4a", ".mp4", ".aac", ".webm", ".wma", ".amr", ".3gp", ".mkv", ".mov"])
@pytest.mark.parametrize("layout", ["jsonl", "txt"])
def test_recording_of_a_telephone_or_browser_is_a_clip(raw, suffix, layout):
    put(raw, f"phone/memo{suffix}")
    put(raw, f"phone/unlisted{suffix.upper()}")
    if layout == "jsonl":
        put(raw, "phone/clips.jsonl", json.dumps({"audio_path": f"memo{suffix}", "text": "one"}))
    else:
        put(raw, "phone/memo.txt", "one")
    assert read_sources(raw)[0] == [RawClip("phone", f"phone/memo{suffix}", "one")]
    assert rejected(raw) == {f"phone/unlisted{suffix.upper()}": "no transcript"}


def test_missing_or_empty_folder_holds_nothing(tmp_path, raw):
    assert read_sources(tmp_path / "nowhere") == ([], [])
    assert read_sources(raw) == ([], [])


@pytest.mark.parametrize("path", ["../other/a.wav", "deep/../../other/a.wav", "../../outside.wav", ".."])
def test_path_that_leaves_its_source_by_dots_has_no_location(raw, path):
    put(raw, "other/a.wav")
    put(raw, "phone/deep/b.wav")
    put(raw.parent, "outside.wav")
    assert locate(raw, RawClip("phone", f"phone/{path}", "text")) is None


def test_absolute_path_has_no_location(raw):
    outside = put(raw.parent, "outside.wav")
    assert locate(raw, RawClip("phone", f"phone/{outside}", "text")) is None


def test_link_out_of_its_source_has_no_location(raw):
    outside = put(raw.parent, "outside.wav")
    put(raw, "phone/a.wav")
    (raw / "phone/link.wav").symlink_to(outside)
    (raw / "phone/folder").symlink_to(raw.parent)
    assert locate(raw, RawClip("phone", "phone/link.wav", "text")) is None
    assert locate(raw, RawClip("phone", "phone/folder/outside.wav", "text")) is None


def test_neighbour_with_the_same_beginning_of_its_name_is_outside(raw):
    put(raw, "phone2/a.wav")
    put(raw, "phone/b.wav")
    assert locate(raw, RawClip("phone", "phone/../phone2/a.wav", "text")) is None


@pytest.mark.parametrize("path", ["a.wav", "deep/b.wav", "deep/../a.wav", "link.wav"])
def test_path_that_stays_inside_is_found(raw, path):
    put(raw, "phone/a.wav")
    put(raw, "phone/deep/b.wav")
    (raw / "phone/link.wav").symlink_to("a.wav")
    assert locate(raw, RawClip("phone", f"phone/{path}", "text")) == (raw / "phone" / path).resolve()


def test_path_that_no_file_can_have_has_no_location(raw):
    put(raw, "phone/a.wav")
    (raw / "phone/loop.wav").symlink_to("loop.wav")
    assert locate(raw, RawClip("phone", "phone/a\0.wav", "text")) is None
    assert locate(raw, RawClip("phone", "phone/loop.wav", "text")) is None


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

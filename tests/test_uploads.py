"""Uploads: text reaches its sound by name and only by name; a ZIP can neither climb out, nor fill memory or disk."""

import functools
import io
import json
import random
import stat
import warnings
import zipfile

import numpy as np
import pytest
import soundfile

from recorder import uploads
from recorder.uploads import Pair, Upload, read_uploads


def pack(files: dict[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def upload(files: dict[str, bytes | str]) -> Upload:
    return read_uploads(
        [(name, content if isinstance(content, bytes) else content.encode()) for name, content in files.items()]
    )


def problems(files: dict[str, bytes | str]) -> list[str]:
    """The files that are named as problems."""
    found = upload(files).problems
    assert all(problem.words.endswith(".") for problem in found)
    return [problem.file for problem in found]


@pytest.fixture(autouse=True)
def temporary_files(tmp_path, monkeypatch):
    """The folder for temporary files; nothing is left in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def test_table_and_text_file_give_text_language_and_speaker_by_name_and_the_rest_is_typed():
    table = 'speaker;sentence;extra;file;language\r\nAnn;"Well, ""you""; hello";7;a.wav;DE\r\n'
    files = {"a.wav": b"one", "b.M4A": b"two", "c.wav": b"three", "t.csv": table.encode("utf-16"), "c.txt": "words"}
    pairs = [Pair("a.wav", b"one", 'Well, "you"; hello', "de", "Ann"), Pair("c.wav", b"three", "words")]
    assert sorted(upload(files).pairs, key=str) == sorted([*pairs, Pair("b.M4A", b"two")], key=str)
    assert problems(files) == []


@pytest.mark.parametrize(
    "files",
    [
        {"metadata.csv": "a|hello\n", "wavs/a.wav": b"one"},
        {"validated.tsv": "path\tsentence\na.wav\thello\n", "clips/a.wav": b"one"},
    ],
)
def test_zip_of_a_whole_data_set_is_read_as_prepare_reads_it(files):
    result = upload({"set.zip": pack({f"set/deep/{name}": content for name, content in files.items()})})
    assert [(pair.name.split("/")[-1], pair.content, pair.text) for pair in result.pairs] == [
        ("a.wav", b"one", "hello")
    ]
    assert result.problems == []


def test_cues_of_subtitles_come_in_as_recordings_of_their_own():
    sound = io.BytesIO()
    soundfile.write(sound, np.linspace(-1, 1, 30_000), 10_000, format="WAV")
    cues = "1\n00:00:00,500 --> 00:00:01,000\none\n\n2\n00:00:01,000 --> 00:00:02,750\ntwo\n"
    result = upload({"talk.wav": sound.getvalue(), "talk.srt": cues})
    assert result.problems == []
    assert [(pair.name, pair.text) for pair in result.pairs] == [("talk.flac", "one"), ("talk.flac", "two")]
    samples = [soundfile.read(io.BytesIO(pair.content))[0] for pair in result.pairs]
    assert [len(part) for part in samples] == [5_000, 17_500]
    assert samples[1] == pytest.approx(np.linspace(-1, 1, 30_000)[10_000:27_500], abs=1e-4)
    assert problems({"talk.wav": b"no sound", "talk.srt": cues}) == [
        "talk.wav from 0.500 s to 1.000 s",
        "talk.wav from 1.000 s to 2.750 s",
    ]


def test_markup_and_invisible_characters_come_out_as_plain_text():
    files = {"<b>\u202ea\x1b.wav": b"", "t.csv": "file,text\n<b>a.wav,a < b & c > d;\x00\u200b ok\n"}
    assert upload(files) == Upload([Pair("<b>a.wav", b"", "a < b & c > d; ok")], [])


def test_row_without_a_sound_and_text_file_without_a_sound_are_named():
    files = {"a.wav": b"", "t.csv": "file,text\na.wav,one\nb.wav,two\n../c.wav,three\n"}
    assert problems(files) == ["b.wav", "../c.wav"]
    assert [pair.text for pair in upload(files).pairs] == ["one"]
    assert problems({"a.wav": b"", "c.txt": "three"}) == ["c.txt"]


@pytest.mark.parametrize("other", ["won,de,Ann", "one,fr,Ann", "one,de,Bob"])
def test_two_texts_languages_or_speakers_for_one_sound_are_named_and_neither_is_taken(other):
    files = {"a.wav": b"", "t.csv": f"file,text,language,speaker\na.wav,one,de,Ann\na.wav,{other}\n"}
    assert upload(files).pairs == [Pair("a.wav", b"")]
    assert problems(files) == ["a.wav"]


@pytest.mark.parametrize("name", ["other/a.wav", "", "..", "deep", "/b.wav"])
def test_row_with_another_name_finds_nothing(name):
    result = upload({"set.zip": pack({"deep/a.wav": "one"}), "t.jsonl": json.dumps({"file": name, "text": "hello"})})
    assert result.pairs == [Pair("a.wav", b"one")]
    assert len(result.problems) == 1


def test_second_zip_is_named_and_not_read_and_a_table_beside_the_first_is():
    """A table of one ZIP must never give its texts to recordings of another."""
    first, second = pack({"deep/a.wav": "1", "deep/b.wav": "2"}), pack({"a.wav": "2", "c.wav": "3"})
    result = upload({"first.zip": first, "second.zip": second, "t.csv": "file,text\na.wav,one\nc.wav,three\n"})
    assert result.pairs == [Pair("a.wav", b"1", "one"), Pair("b.wav", b"2")]
    assert [problem.file for problem in result.problems] == ["second.zip", "c.wav"]


@pytest.mark.parametrize("name", ["picture.png", "memo", "one/LICENSE"])
def test_file_that_is_neither_sound_nor_text_nor_table_is_named(name):
    for files in ({name: b"x", "a.wav": b""}, {"set.zip": pack({name: b"x", "a.wav": b""})}):
        assert [pair.name for pair in upload(files).pairs] == ["a.wav"]
        assert problems(files) == [name]


def test_what_computers_put_beside_files_is_left_out_without_a_word():
    names = ["__MACOSX/._a.wav", "__MACOSX/deep/a.wav", "deep/.DS_Store", "._b.wav", "deep/Thumbs.db", "desktop.ini"]
    files = {"set.zip": pack({"a.wav": "one", **dict.fromkeys(names, "junk")}), ".DS_Store": b"", "._c.wav": b""}
    assert upload(files) == Upload([Pair("a.wav", b"one")], [])


@pytest.mark.parametrize(
    ("name", "table", "where"),
    [
        ("t.csv", "a.wav;hello,2\nhello,3\n,\n4,5\n", "t.csv"),
        ("t.csv", "file,text\na.wav,well, hello\n", "t.csv:2"),
        ("t.txt", "привет".encode("cp1251"), "t.txt"),
        ("clips.jsonl", "[" * 100_000, "clips.jsonl"),
    ],
)
def test_row_or_table_that_cannot_be_read_is_named_and_the_sound_stays(name, table, where):
    files = {"a.wav": b"one", "t.wav": b"two", name: table}
    assert [(pair.name, pair.text) for pair in upload(files).pairs] == [("a.wav", ""), ("t.wav", "")]
    assert problems(files) == [where]


@pytest.mark.parametrize(
    "name",
    [
        *("../a.wav", "deep/../../a.wav", "/a.wav", "..\\..\\a.wav", "C:\\a.wav", ".\u200b./a.wav"),  # climb out
        *(".a.wav", "deep/.hidden/a.wav", "x/" * 400 + "a.wav", "x" * 300 + ".wav"),
        *("good.wav", "good.wav/b.wav"),  # replace another
    ],
)
def test_name_that_cannot_be_used_is_refused_and_nothing_is_written_elsewhere(workspace, name):
    before = sorted(workspace.parent.rglob("*"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr("good.wav", "good")
        archive.writestr("b.wav", "other")
        archive.writestr(name, "evil")
    for files in ([("set.zip", buffer.getvalue())], [("good.wav", b"good"), ("b.wav", b"other"), (name, b"evil")]):
        result = read_uploads(files)
        assert result.pairs == [Pair("b.wav", b"other"), Pair("good.wav", b"good")]
        assert len(result.problems) == 1
    assert sorted(workspace.parent.rglob("*")) == before


@pytest.mark.parametrize("kind", ["link", "pipe", "bzip2", "encrypted", "zip in a zip", "damaged"])
def test_file_in_a_zip_that_is_refused_leaves_the_others(kind):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        refused = zipfile.ZipInfo("a.zip" if kind == "zip in a zip" else "a.wav")
        refused.external_attr = ({"link": stat.S_IFLNK, "pipe": stat.S_IFIFO}.get(kind, 0) | 0o777) << 16
        refused.compress_type = zipfile.ZIP_BZIP2 if kind == "bzip2" else zipfile.ZIP_STORED  # without a memory limit
        archive.writestr(refused, "one" * 50)
        archive.writestr("good.wav", "good")
    content = bytearray(buffer.getvalue())
    if kind == "encrypted":  # in its local and in its central header
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            content[content.index(signature) + offset] |= 1
    elif kind == "damaged":
        content[content.index(b"oneone")] ^= 1
    files = {"set.zip": bytes(content)}
    assert upload(files).pairs == [Pair("good.wav", b"good")]
    assert [name.split(".")[0] for name in problems(files)] == ["a"]
    assert kind != "encrypted" or "has a password" in upload(files).problems[0].words


@pytest.mark.parametrize(
    "content", [b"", b"no zip", pack({"a.wav": "one"})[:-10], b"PK\x05\x06" + b"\xff" * 18, pack({})]
)
def test_broken_or_empty_zip_is_named(content):
    assert upload({"set.zip": content}).pairs == []
    assert problems({"set.zip": content}) == ["set.zip"]


def test_zip_with_any_byte_wrong_never_raises():
    intact = pack({"deep/a.wav": "one" * 50, "größe.wav": "two", "t.csv": "file,text\na.wav,one\n", "b.zip": "x"})
    chance = random.Random(0)
    for _ in range(200):
        content = bytearray(intact)
        for _ in range(chance.choice((1, 2, 8))):
            content[chance.randrange(len(content))] = chance.choice((0, 255, chance.randrange(256)))
        result = read_uploads([("set.zip", bytes(content[: chance.choice((None, chance.randrange(len(content))))]))])
        assert result.pairs or result.problems


# Zip programs write names in the computer's own encoding (here: UTF-8 unmarked as macOS does, and Shift JIS).
@pytest.mark.parametrize(("raw", "shown"), [("größe.wav".encode(), "größe.wav"), ("声.wav".encode("shift-jis"), None)])
def test_name_in_another_encoding_comes_in(raw, shown):
    placeholder = b"x" * (len(raw) - 4) + b".wav"
    content = pack({placeholder.decode(): "one"}).replace(placeholder, raw)
    (pair,) = upload({"set.zip": content}).pairs
    assert pair.content == b"one"
    assert shown is None or pair.name == shown
    assert upload({"set.zip": content, "t.csv": f"file,text\n{pair.name},hello\n"}).pairs[0].text == "hello"


@functools.cache
def test_zip_that_holds_too_much_or_says_so_wrongly_is_refused(monkeypatch):
    """A small ZIP that fills the disk or the memory. The other files come in."""
    for name, limit in (("MAX_UNPACKED_BYTES", 2**21), ("MAX_TEXT_BYTES", 2**20), ("MAX_FILES", 9)):
        monkeypatch.setattr(uploads, name, limit)
    lying = bytearray(pack({"a.wav": bytes(2**22)}))
    declared = lying.index(uploads.CENTRAL_ENTRY) + 24  # APPNOTE.TXT 4.3.12
    lying[declared : declared + 4] = (1000).to_bytes(4, "little")
    for content, refused in (
        (pack({"a.wav": bytes(2**22)}), "set.zip"),
        (bytes(lying), "a.wav"),
        (pack({f"{number}.wav": "" for number in range(10)}), "set.zip"),
        (pack({"t.csv": b"a" * (2**20 + 1)}), "t.csv"),
    ):
        files = {"set.zip": content, "good.wav": b"good"}
        assert [pair.name for pair in upload(files).pairs] == ["good.wav"]
        assert problems(files) == [refused]


def test_full_disk_is_a_problem_of_each_file_and_nothing_stays(monkeypatch):
    def full(source, target):
        target.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    for files in ({"a.wav": b"one"}, {"set.zip": pack({"a.wav": b"one"})}):
        assert upload(files).pairs == []
        assert problems(files) == ["a.wav"] and "No space left on device" in upload(files).problems[0].words

"""Uploads: text reaches its sound by name and only by name; a ZIP can neither climb out, nor fill the memory."""

import bz2
import functools
import io
import json
import random
import stat
import struct
import time
import tracemalloc
import unicodedata
import zipfile
import zlib
from functools import partial

import pytest

from recorder import uploads
from recorder.uploads import Pair, Upload, read_uploads

GB = 2**30


def pack(files: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def upload(files: dict[str, bytes | str]) -> Upload:
    return read_uploads(
        [(name, content if isinstance(content, bytes) else content.encode()) for name, content in files.items()]
    )


def texts(files: dict[str, bytes | str]) -> dict[str, str]:
    """Text by sound, of an upload without problems."""
    result = upload(files)
    assert result.problems == []
    assert len({pair.name for pair in result.pairs}) == len(result.pairs)
    return {pair.name: pair.text for pair in result.pairs}


def problems(files: dict[str, bytes | str]) -> dict[str, str]:
    """Words by file."""
    found = upload(files).problems
    assert len({problem.file for problem in found}) == len(found)
    assert all(problem.words.endswith(".") for problem in found)
    return {problem.file: problem.words for problem in found}


def test_sound_alone_has_an_empty_text_to_type():
    assert upload({"a.wav": b"one", "b.M4A": b"two"}) == Upload([Pair("a.wav", b"one"), Pair("b.M4A", b"two")], [])


def test_text_files_belong_to_the_sound_of_the_same_name():
    files = {"b.txt": "\ufefftwo \n", "a.wav": b"", "b.wav": b"", "a.txt": "one", "c.webm": b""}
    assert texts(files) == {"a.wav": "one", "b.wav": "two", "c.webm": ""}


def test_pairing_is_by_name_also_from_the_eleventh_file_on():
    numbers = range(1, 13)
    sounds = {f"rec_{number}.wav": f"sound {number}" for number in sorted(numbers, key=str)}
    rows = "".join(f"rec_{number}.wav,text {number}\n" for number in numbers)
    expected = {f"rec_{number}.wav": f"text {number}" for number in numbers}
    assert texts({**sounds, "t.csv": "file,text\n" + rows}) == expected
    assert texts({**{f"rec_{number}.txt": f"text {number}" for number in numbers}, **sounds}) == expected


@pytest.mark.parametrize("file_column", ["file", "audio_path", "path", "Audio_FilePath", " FILE "])
@pytest.mark.parametrize("text_column", ["text", "Sentence", "transcript"])
@pytest.mark.parametrize("kind", [",", ";", "\t", "jsonl"])
def test_table_of_any_kind_gives_text_language_and_speaker(file_column, text_column, kind):
    header = ["Speaker", text_column, "extra", file_column, "LANGUAGE"]
    row = ["Ann", 'Well, "you"; hello', "7", "a.wav", "DE"]
    if kind == "jsonl":
        name, table = "t.jsonl", json.dumps(dict(zip(header, row, strict=True)))
    else:
        quoted = ['"' + cell.replace('"', '""') + '"' for cell in row]
        name, table = "t.tsv" if kind == "\t" else "t.csv", f"{kind.join(header)}\r\n{kind.join(quoted)}\r\n"
    expected = Upload([Pair("a.wav", b"one", 'Well, "you"; hello', "de", "Ann")], [])
    assert upload({"a.wav": b"one", name: table}) == expected
    assert upload({"a.wav": b"one", name: "\ufeff" + table}) == expected
    assert upload({"a.wav": b"one", name: table.encode("utf-16")}) == expected


def test_row_may_leave_text_language_and_speaker_out():
    files = {
        "a.wav": b"",
        "b.wav": b"",
        "t.csv": "file,text,language\na.wav\nb.wav,,\n\n",
        "u.csv": "path;text\nb.wav;two;;\n",
    }
    assert upload(files) == Upload([Pair("a.wav", b""), Pair("b.wav", b"", "two")], [])


def test_several_tables_and_text_files_complete_each_other():
    files = {
        "a.wav": b"",
        "b.wav": b"",
        "one.csv": "file,text\na.wav,one\n",
        "two.jsonl": '{"file": "a.wav", "text": "one ", "speaker": "Ann"}\n{"file": "b.wav", "language": "fr"}',
        "b.txt": "two",
    }
    pairs = [Pair("a.wav", b"", "one", None, "Ann"), Pair("b.wav", b"", "two", "fr", None)]
    assert upload(files) == Upload(pairs, [])


def test_markup_and_invisible_characters_come_out_as_plain_text():
    files = {"<b>\u202ea\x1b.wav": b"", "t.csv": "file,text\n<b>a.wav,<script>alert(1)</script>\x00\u200b ok\n"}
    assert texts(files) == {"<b>a.wav": "<script>alert(1)</script> ok"}


def test_row_without_a_sound_and_text_file_without_a_sound_are_named():
    files = {"a.wav": b"", "t.csv": "file,text\na.wav,one\nb.wav,two\n", "c.txt": "three"}
    assert problems(files) == {
        "t.csv, line 3": "There is no sound file b.wav. Upload it as well, or correct the name.",
        "c.txt": "No sound file has the same name. Upload the recording as well, or rename one of them.",
    }


def test_two_different_texts_for_one_sound_are_named_and_neither_is_taken():
    files = {"a.wav": b"", "t.csv": "file,text,speaker\na.wav,one,Ann\n", "a.txt": "won"}
    assert upload(files).pairs == [Pair("a.wav", b"", "", None, "Ann")]
    assert list(problems(files)) == ["a.wav"]
    assert "t.csv, line 2 and a.txt give it a different text." in problems(files)["a.wav"]


@pytest.mark.parametrize("column", ["language", "speaker"])
def test_two_languages_or_speakers_for_one_sound_are_named_and_neither_is_taken(column):
    files = {"a.wav": b"", "t.csv": f"file,text,{column}\na.wav,one,de\na.wav,one,fr\n"}
    assert upload(files).pairs == [Pair("a.wav", b"", "one")]
    assert f"t.csv, line 2 and t.csv, line 3 give it a different {column}." in problems(files)["a.wav"]


@pytest.mark.parametrize(
    "name", ["a.wav", "A.WAV", "a", "./a.wav", "deep\\a.wav", "/home/ann/deep/a.wav", "x/../a.wav"]
)
def test_row_finds_its_sound_by_bare_name_by_path_and_without_ending(name):
    archive = pack({"deep/a.wav": "one", "deep/b.wav": "two"})
    files = {"set.zip": archive, "t.jsonl": json.dumps({"file": name, "text": "hello"})}
    assert texts(files) == {"deep/a.wav": "hello", "deep/b.wav": ""}


@pytest.mark.parametrize("name", ["other/a.wav", "a.mp3", "b", "", "..", "deep", "deep/", "wav", ".wav"])
def test_row_with_another_name_finds_nothing(name):
    result = upload({"set.zip": pack({"deep/a.wav": "one"}), "t.jsonl": json.dumps({"file": name, "text": "hello"})})
    assert result.pairs == [Pair("deep/a.wav", b"one")]
    assert [problem.file for problem in result.problems] == ["t.jsonl, line 1"]


def test_name_written_in_another_unicode_form_is_the_same_name():
    composed, decomposed = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))
    assert composed != decomposed
    files = {"set.zip": pack({f"{decomposed}.wav": ""}), "t.csv": f"file,text\n{composed}.wav,one\n"}
    assert texts(files) == {f"{composed}.wav": "one"}


def test_bare_name_that_two_sounds_have_is_a_problem_and_not_a_guess():
    archive = pack({"one/a.wav": "1", "two/a.wav": "2", "t.csv": "file,text\na.wav,hello\n"})
    result = upload({"set.zip": archive})
    assert [pair.text for pair in result.pairs] == ["", ""]
    words = "a.wav could be any of one/a.wav, two/a.wav. Write it with its folder."
    assert {problem.file: problem.words for problem in result.problems} == {"t.csv, line 2": words}


def test_path_tells_sounds_of_one_name_apart():
    archive = pack({"one/a.wav": "1", "two/a.wav": "2", "t.csv": "file,text\ntwo/a.wav,second\none/a.wav,first\n"})
    assert texts({"set.zip": archive}) == {"one/a.wav": "first", "two/a.wav": "second"}


def test_table_and_text_file_in_a_folder_mean_the_sounds_beside_them():
    files = {}
    for folder in ("one", "two"):
        files |= {f"{folder}/a.wav": "", f"{folder}/b.wav": "", f"{folder}/b.txt": f"b of {folder}"}
        files[f"{folder}/t.csv"] = f"file,text\na.wav,a of {folder}\n"
    expected = {f"{folder}/{name}.wav": f"{name} of {folder}" for folder in ("one", "two") for name in "ab"}
    assert texts({"set.zip": pack(files)}) == expected


def test_text_file_of_another_folder_is_not_taken():
    result = upload({"set.zip": pack({"one/a.wav": "", "two/a.txt": "hello"})})
    assert [pair.text for pair in result.pairs] == [""]
    assert [problem.file for problem in result.problems] == ["two/a.txt"]


def test_two_sounds_that_one_text_file_could_mean_are_a_problem():
    files = {"a.wav": b"", "a.mp3": b"", "a.txt": "hello"}
    assert [pair.text for pair in upload(files).pairs] == ["", ""]
    assert "a.wav, a.mp3" in problems(files)["a.txt"]


def test_whole_name_comes_before_the_name_without_ending():
    files = {"a.wav": b"", "a.wav.mp3": b"", "t.csv": "file,text\na.wav,one\na.wav.mp3,two\n"}
    assert texts(files) == {"a.wav": "one", "a.wav.mp3": "two"}


def test_each_zip_is_a_world_of_its_own_first():
    first = pack({"a.wav": "1", "t.csv": "file,text\na.wav,one\n"})
    second = pack({"deep/a.wav": "2", "a.txt": "two"})
    result = upload({"first.zip": first, "second.zip": second})
    assert result == Upload([Pair("a.wav", b"1", "one"), Pair("deep/a.wav", b"2", "two")], [])


def test_loose_row_for_sounds_of_one_name_in_two_zips_is_a_problem():
    files = {"1.zip": pack({"a.wav": "1"}), "2.zip": pack({"a.wav": "2"}), "t.csv": "file,text\na.wav,one\n"}
    assert [pair.text for pair in upload(files).pairs] == ["", ""]
    assert list(problems(files)) == ["t.csv, line 2"]


# The first bytes that these formats are known by (their specifications; file(1) knows the same).
@pytest.mark.parametrize(
    "content",
    [
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"fLaC\x00\x00\x00\x22",
        b"OggS\x00\x02",
        b"ID3\x04\x00",
        b"\xff\xfb\x90\x64",
        b"\xff\xf1\x50\x40",
        b"\x00\x00\x00\x1cftypM4A ",
        b"\x1aE\xdf\xa3\x9f",
        b"#!AMR\n",
        b"FORM\x00\x00\x10\x00AIFF",
    ],
)
def test_sound_is_known_by_its_content_where_its_name_does_not_say(content):
    assert upload({"memo": content, "memo.txt": "hello"}) == Upload([Pair("memo", content, "hello")], [])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("picture.png", b"\x89PNG\r\n\x1a\n"),
        ("photo.heic", b"\x00\x00\x00\x24ftypheic"),
        ("notes.md", b"# notes"),
        ("notes.md", "notes".encode("utf-16")),
        ("words.docx", b"PK\x03\x04 and so on"),
        ("nothing", b""),
    ],
)
def test_file_that_is_neither_sound_nor_text_nor_table_is_named(name, content):
    for files in ({name: content}, {"set.zip": pack({name: content})}):
        assert upload(files).pairs == []
        assert problems(files)[name].startswith("This is not sound, text")


def test_what_computers_put_beside_files_is_left_out_without_a_word():
    names = ["__MACOSX/._a.wav", "__MACOSX/deep/a.wav", "deep/.DS_Store", "._b.wav", "deep/Thumbs.db", "desktop.ini"]
    files = {"set.zip": pack({"a.wav": "one", **dict.fromkeys(names, "junk")}), ".DS_Store": b"", "._c.wav": b""}
    assert upload(files) == Upload([Pair("a.wav", b"one")], [])


@pytest.mark.parametrize(
    ("name", "table", "where", "words"),
    [
        ("t.csv", "a.wav,hello\n", "t.csv, line 1", "must name the columns"),
        ("t.csv", "file,speaker\na.wav,ann\n", "t.csv, line 1", "must name the columns"),
        ("t.csv", "", "t.csv, line 1", "must name the columns"),
        ("t.csv", "a|turn off the lights|3.2\nt|hello|ann\n", "t.csv, line 1", "must name the columns"),
        ("t.csv", "id|text|length\na|turn off the lights|3.2\n", "t.csv, line 1", "must name the columns"),
        ("t.csv", "file,text\na.wav,well, hello\n", "t.csv, line 2", "It has 3 columns, the first line names 2"),
        ("t.csv", "file,text\n,hello\n", "t.csv, line 2", "names no sound file"),
        ("t.csv", 'file,text\na.wav,"hello\nb.wav,two\n', "t.csv, line 3", "not closed"),
        ("t.csv", "file,text\na.wav,Müller\n".encode("latin-1"), "t.csv", "Save it as UTF-8"),
        ("t.txt", "Müller".encode("latin-1"), "t.txt", "Save it as UTF-8"),
        ("t.txt", b"\xff\xfe\x00", "t.txt", "Save it as UTF-8"),
        ("t.jsonl", '{"file": "a.wav"', "t.jsonl, line 1", "not JSON"),
        ("t.jsonl", "[" * 100_000, "t.jsonl, line 1", "not JSON"),
        ("t.jsonl", '\n["a.wav", "hello"]', "t.jsonl, line 2", "Write each line like"),
        ("t.jsonl", '{"file": "a.wav", "text": 5}', "t.jsonl, line 1", "must be text in quotes"),
        ("t.jsonl", '{"text": "hello"}', "t.jsonl, line 1", "names no sound file"),
    ],
)
def test_row_or_table_that_cannot_be_read_is_named_and_the_sound_stays(name, table, where, words):
    files = {"a.wav": b"one", "t.wav": b"two", name: table}
    assert [(pair.name, pair.text) for pair in upload(files).pairs] == [("a.wav", ""), ("t.wav", "")]
    (found,) = [problem for problem in upload(files).problems if problem.file == where]
    assert words in found.words


def test_bad_rows_leave_the_others_in_place():
    table = "file,text\na.wav,one\nb.wav,well, no\nc.wav,three\n"
    result = upload({"a.wav": b"", "b.wav": b"", "c.wav": b"", "t.csv": table})
    assert [pair.text for pair in result.pairs] == ["one", "", "three"]
    assert [problem.file for problem in result.problems] == ["t.csv, line 3"]


def test_table_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(uploads, "MAX_TEXT_BYTES", 2**20)
    assert problems({"t.csv": b"file,text\n" + b"a" * 2**20}) == {
        "t.csv": "It is larger than 1 MB. Upload it in parts."
    }


def test_zip_gives_the_same_as_its_files_by_themselves():
    files = {"a.wav": "one", "b.flac": "two", "a.txt": "first", "t.csv": "file,text,language\nb.flac,second,de\n"}
    assert upload({"set.zip": pack(files)}) == upload(files)
    assert texts(files) == {"a.wav": "first", "b.flac": "second"}


@pytest.mark.parametrize(
    "name",
    [
        "../a.wav",
        "deep/../../a.wav",
        "/a.wav",
        "..\\..\\a.wav",
        "C:\\a.wav",
        "c:a.wav",
        "//host/a.wav",
        ".\u200b./a.wav",
    ],
)
def test_name_that_climbs_out_of_its_folder_is_refused_and_nothing_is_written(workspace, name):
    before = sorted(workspace.parent.rglob("*"))
    for files in ({"set.zip": pack({name: "evil", "good.wav": "good"})}, {name: b"evil", "good.wav": b"good"}):
        result = upload(files)
        assert [pair.name for pair in result.pairs] == ["good.wav"]
        assert [problem.words[:40] for problem in result.problems] == ["Its name leads out of its folder, so it "]
    assert sorted(workspace.parent.rglob("*")) == before


@pytest.mark.parametrize(("mode", "words"), [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "not an ordinary file")])
def test_link_in_a_zip_is_refused_and_the_others_come_in(mode, words):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("link.wav")
        entry.external_attr = (mode | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
        archive.writestr("good.wav", "good")
    files = {"set.zip": buffer.getvalue()}
    assert upload(files).pairs == [Pair("good.wav", b"good")]
    assert list(problems(files)) == ["link.wav"]
    assert words in problems(files)["link.wav"]


def test_zip_in_a_zip_is_refused_and_the_others_come_in():
    files = {"set.zip": pack({"inner.ZIP": pack({"a.wav": "one"}), "good.wav": "good"})}
    assert upload(files).pairs == [Pair("good.wav", b"good")]
    assert problems(files) == {"inner.ZIP": "A ZIP inside a ZIP is not opened. Upload it by itself."}


def test_file_locked_with_a_password_is_refused_and_the_others_come_in():
    content = bytearray(pack({"a.wav": "one", "good.wav": "good"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags of its local and its central header
        content[content.index(signature) + offset] |= 1
    files = {"set.zip": bytes(content)}
    assert upload(files).pairs == [Pair("good.wav", b"good")]
    assert problems(files) == {"a.wav": "It is locked with a password. Make the ZIP again without one."}


@pytest.mark.parametrize("content", [b"", b"no zip", pack({"a.wav": "one"})[:-10], b"PK\x05\x06" + b"\xff" * 18])
def test_broken_zip_is_refused_in_words(content):
    assert upload({"set.zip": content}).pairs == []
    assert "damaged or not a ZIP" in problems({"set.zip": content})["set.zip"]


def test_empty_zip_is_named():
    assert problems({"set.zip": pack({})}) == {"set.zip": "There is nothing in this ZIP."}


def test_file_that_is_damaged_in_its_zip_is_refused_and_the_others_come_in():
    content = bytearray(pack({"a.wav": "one" * 50, "good.wav": "good"}, zipfile.ZIP_STORED))
    content[content.index(b"oneone")] ^= 1
    files = {"set.zip": bytes(content)}
    assert upload(files).pairs == [Pair("good.wav", b"good")]
    assert list(problems(files)) == ["a.wav"]


def test_zip_with_any_byte_wrong_never_raises():
    intact = pack({"deep/a.wav": "one" * 50, "größe.wav": "two", "t.csv": "file,text\na.wav,one\n", "b.zip": "x"})
    chance = random.Random(0)
    for _ in range(2000):
        content = bytearray(intact)
        for _ in range(chance.choice((1, 2, 8))):
            content[chance.randrange(len(content))] = chance.choice((0, 255, chance.randrange(256)))
        result = read_uploads([("set.zip", bytes(content[: chance.choice((None, chance.randrange(len(content))))]))])
        assert result.pairs or result.problems


# Zip programs write names in the computer's own encoding (here: UTF-8 unmarked as macOS does, Windows, Shift JIS).
@pytest.mark.parametrize(
    ("raw", "shown"),
    [("größe.wav".encode(), "größe.wav"), ("größe.wav".encode("cp1252"), None), ("声.wav".encode("shift-jis"), None)],
)
def test_name_in_another_encoding_comes_in(raw, shown):
    placeholder = b"x" * (len(raw) - 4) + b".wav"
    content = pack({placeholder.decode(): "one"}).replace(placeholder, raw)
    (pair,) = upload({"set.zip": content}).pairs
    assert pair.content == b"one"
    assert shown is None or pair.name == shown
    assert upload({"set.zip": content, "t.csv": f"file,text\n{pair.name},hello\n"}).pairs[0].text == "hello"


def entry(name: bytes, packed: bytes, declared_bytes: int, method: int = zipfile.ZIP_DEFLATED) -> tuple[bytes, bytes]:
    """A file's local header with its content, and its entry in the directory (APPNOTE.TXT 4.3.7, 4.3.12, 4.5.3)."""
    extra = struct.pack("<HHQ", 1, 8, declared_bytes) if declared_bytes >= 2**32 else b""
    sizes = len(packed), min(declared_bytes, 2**32 - 1), len(name), len(extra)
    fields = struct.pack("<HHHHHIIIHH", 45, 0, method, 0, 0x21, 0, *sizes)
    central = b"PK\x01\x02" + struct.pack("<H", 45) + fields + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name + extra
    return b"PK\x03\x04" + fields + name + extra + packed, central


def zip_of(content: bytes, entries: list[bytes]) -> bytes:
    directory = b"".join(entries)
    count = min(len(entries), 0xFFFF)
    return (
        content
        + directory
        + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(content), 0)
    )


@functools.cache
def zeros_16_mb() -> bytes:
    """Deflated zeros up to a byte's end, so that they can be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    assert len(zlib.decompressobj(-15).decompress(2 * block)) == 2 * 2**24
    return block


def bomb(declared_bytes: int) -> bytes:
    """100 GB in one file of 105 MB, whatever it declares."""
    local, central = entry(b"a.wav", zeros_16_mb() * 6400 + b"\x03\x00", declared_bytes)
    return zip_of(local, [central])


def bomb_of_one_place() -> bytes:
    """125 GB: a thousand entries that all mean the same 130 kB."""
    local, central = entry(b"a.wav", zeros_16_mb() * 8 + b"\x03\x00", 2**27)
    return zip_of(local, [central] * 1000)


def bomb_of_bzip2() -> bytes:
    """100 GB in 78 kB: bzip2 packs 46 MB of zeros into 40 bytes, and zipfile unpacks 4096 bytes at once."""
    packer = bz2.BZ2Compressor()
    packed = packer.compress(bytes(2**26)) + packer.flush()
    local, central = entry(b"a.wav", packed * 1600, 2**20, zipfile.ZIP_BZIP2)
    return zip_of(local, [central])


@pytest.mark.parametrize(
    ("make", "refused"),
    [
        pytest.param(partial(bomb, 100 * GB), "a.wav", id="declares its size"),
        pytest.param(partial(bomb, 1000), "a.wav", id="declares 1 kB"),
        pytest.param(partial(bomb, uploads.MAX_MEMBER_BYTES), "set.zip", id="declares what is allowed"),
        pytest.param(bomb_of_one_place, "set.zip", id="the same place a thousand times"),
        pytest.param(bomb_of_bzip2, "a.wav", id="bzip2"),
    ],
)
def test_bomb_of_100_gb_stops_in_under_a_second_with_flat_memory(make, refused):
    files = [("set.zip", make()), ("good.wav", b"good")]
    tracemalloc.start()
    begun = time.perf_counter()
    result = read_uploads(files)
    seconds = time.perf_counter() - begun
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [pair.name for pair in result.pairs] == ["good.wav"]
    assert [problem.file for problem in result.problems] == [refused]
    assert seconds < 1
    assert peak_bytes < 100e6


@pytest.mark.parametrize("copies", [1, 3])
def test_limit_on_unpacked_bytes_counts_all_zips_and_what_really_comes_out(monkeypatch, copies):
    monkeypatch.setattr(uploads, "_Allowance", partial(uploads._Allowance, unpacked_bytes=2 * 2**20))
    noise = random.Random(0).randbytes(2**20)
    archive = pack({"a.wav": noise})
    result = read_uploads([(f"{number}.zip", archive) for number in range(copies)])
    assert len(result.pairs) == min(copies, 2)
    assert [problem.file for problem in result.problems] == ["2.zip"][: max(copies - 2, 0)]


def test_zip_with_too_many_files_is_refused_before_its_directory_is_read():
    begun = time.perf_counter()
    _, central = entry(b"a.wav", b"", 0)
    for count in (uploads.MAX_MEMBERS + 1, 1_000_000):
        words = problems({"set.zip": zip_of(b"", [central] * count)})["set.zip"]
        assert words == "It holds too many files: at most 10,000 come in at once. Upload it in parts."
    assert time.perf_counter() - begun < 2


def test_ten_thousand_files_come_in():
    names = [f"deep/rec_{number}" for number in range(5000)]
    result = upload(
        {"set.zip": pack({f"{n}.wav": n for n in names} | {f"{n}.txt": n for n in names}, zipfile.ZIP_STORED)}
    )
    assert result.problems == []
    assert [(pair.name, pair.text) for pair in result.pairs] == [(f"{name}.wav", name) for name in names]


def test_file_in_a_zip_above_its_limit_is_refused_and_the_others_come_in(monkeypatch):
    monkeypatch.setattr(uploads, "MAX_MEMBER_BYTES", 2**20)
    files = {"set.zip": pack({"a.wav": bytes(2**20 + 1), "b.wav": bytes(2**20)})}
    assert [pair.name for pair in upload(files).pairs] == ["b.wav"]
    assert problems(files) == {"a.wav": "It is larger than 1 MB. Cut it into clips."}


def test_silent_recordings_that_pack_well_are_no_bomb():
    # A minute of digital silence at 48 kHz packs a thousand to one.
    silence = b"RIFF" + bytes(60 * 48_000 * 2)
    files = {"set.zip": pack({"silence.wav": silence, "a.wav": random.Random(0).randbytes(10_000)})}
    assert [len(pair.content) for pair in upload(files).pairs] == [len(silence), 10_000]
    assert upload(files).problems == []

"""Files and folders that are there whole or not at all."""

import json

import pytest

from stages.common.files import (
    read_json,
    read_jsonl,
    sha256_of_file,
    whole_folder,
    write_json,
    write_jsonl,
    write_whole,
)
from stages.common.stage import UserError


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_old_folder_is_untouched_after_an_error_and_no_partial_one_is_left(tmp_path, error):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    with pytest.raises(error), whole_folder(folder) as partial:
        (partial / "new.txt").write_text("new")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"old.txt": "old"}


def test_no_folder_appears_after_an_error(tmp_path):
    with pytest.raises(ValueError), whole_folder(tmp_path / "out") as partial:
        (partial / "new.txt").write_text("new")
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_new_folder_takes_the_place_of_the_old_one_only_at_the_end(tmp_path):
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    (folder / "old.txt").write_text("old")
    with whole_folder(folder) as partial:
        (partial / "new.txt").write_text("new")
        assert [path.name for path in folder.iterdir()] == ["old.txt"]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"new.txt": "new"}
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_folder_and_file_can_be_read_by_others(tmp_path):
    with whole_folder(tmp_path / "out") as partial:
        write_whole(partial / "file", b"x")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/file").stat().st_mode & 0o777 == 0o644


def test_old_file_stays_whole_when_writing_fails(tmp_path):
    path = tmp_path / "file.json"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# Characters that str.splitlines() takes for line ends and JSON leaves as they are (docs.python.org, str.splitlines).
@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\u00a0"])
def test_row_survives_characters_that_look_like_line_ends(tmp_path, separator):
    rows = [{"text": f"one{separator}two"}, {"text": "three\nfour"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert separator in (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    assert read_jsonl(tmp_path / "rows.jsonl") == rows


def test_no_rows_are_an_empty_file(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [])
    assert (tmp_path / "rows.jsonl").read_bytes() == b""
    assert read_jsonl(tmp_path / "rows.jsonl") == []


def test_json_is_written_as_people_read_it(tmp_path):
    write_json(tmp_path / "a.json", {"text": "हिन्दी"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "text": "हिन्दी"\n}\n'
    assert read_json(tmp_path / "a.json") == json.loads((tmp_path / "a.json").read_bytes())


@pytest.mark.parametrize("read", [read_json, read_jsonl])
def test_missing_input_of_a_stage_says_what_to_run(tmp_path, read):
    with pytest.raises(UserError, match=r"clips\.json is missing: run 'dvc repro'"):
        read(tmp_path / "clips.json")


# FIPS 180-2, appendix B.1.
def test_sha256_of_abc_is_the_standards(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_file(tmp_path / "abc") == expected

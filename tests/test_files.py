"""Files and folders that are there whole or not at all."""

import pytest

from stages.common.files import read_json, read_jsonl, whole_folder, write_json, write_jsonl, write_whole


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("is_there", [True, False])
def test_after_an_error_a_folder_is_as_before_and_no_partial_one_is_left(tmp_path, error, is_there):
    folder = tmp_path / "out"
    if is_there:
        folder.mkdir()
        (folder / "old.txt").write_text("old")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error), whole_folder(folder) as partial:
        (partial / "new.txt").write_text("new")
        raise error
    assert sorted(tmp_path.rglob("*")) == before


def test_new_folder_takes_the_place_of_the_old_one_only_at_the_end_and_others_may_read_it(tmp_path):
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    (folder / "old.txt").write_text("old")
    with whole_folder(folder) as partial:
        write_whole(partial / "new.txt", b"new")
        assert [path.name for path in folder.iterdir()] == ["old.txt"]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"new.txt": "new"}
    assert [path.name for path in folder.parent.iterdir()] == ["out"]
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "new.txt").stat().st_mode & 0o777 == 0o644


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
    write_json(tmp_path / "rows.json", rows)
    assert separator in (tmp_path / "rows.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "rows.json") == rows

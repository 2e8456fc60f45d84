"""The inbox: every confirmed change is kept and reaches data/raw once, whatever is killed or running meanwhile."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from recorder import inbox, mover
from stages.common.stage import UserError
from stages.speech.sources import read_sources
from tests.recordings import (
    broken_cache_objects,
    enter,
    make_take,
    repro_beside,
    save,
    text_of,
    track_recordings,
    wait_until,
)
from tests.workspaces import dvc, git, read_rows

RAW, INBOX = Path("data/raw"), Path("data/inbox")
RECORDED = RAW / "recorded"
# Children are forked from a process that has loaded these, and nothing else: they start at once.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.recordings", "recorder.inbox", "dvc.repo", "dvc.repo.add"])

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning:dvc")


@pytest.fixture(autouse=True)
def place(workspace, monkeypatch) -> Path:
    """The working folder, a DVC repository with an empty data/raw."""
    enter(workspace, monkeypatch)
    track_recordings(workspace)
    return workspace


def stored(clip_id: str) -> inbox.StoredClip:
    (clip,) = [clip for clip in inbox.stored_clips() if clip.id == clip_id]
    return clip


def rows_in_raw(source: str = "recorded") -> list[dict]:
    return read_rows(RAW / source / "clips.jsonl")


def files_in_raw() -> dict[str, bytes]:
    return {str(path.relative_to(RAW)): path.read_bytes() for path in sorted(RAW.rglob("*")) if path.is_file()}


def tracked_files() -> int:
    return YAML(typ="safe").load(Path("data/raw.dvc"))["outs"][0]["nfiles"]


# Saving


def test_saved_clip_is_stored_at_once_and_in_data_raw_after_moving():
    take = make_take(0)
    clip = save(0, text="  two   spaces ", prompt_id="en-12345678")
    other = save(1, source="uploaded", speaker=None)
    assert (clip.id, clip.file, clip.text) == (take.id, f"recorded/{take.id}.flac", "two spaces")
    assert clip.duration_s == take.figures["duration_s"] and clip.recorded_at.startswith(clip.session)
    assert inbox.content_of(clip) == take.content
    assert inbox.waiting() == 2 and files_in_raw() == {}
    assert inbox.bring_in() == 2
    assert inbox.waiting() == 0 and not [path for path in INBOX.iterdir() if path.is_dir()]
    assert inbox.stored_clips() == [clip, other]
    assert inbox.content_of(clip) == take.content == (RECORDED / f"{take.id}.flac").read_bytes()
    read, rejected = read_sources(RAW)  # as the stages do
    assert rejected == []
    names = ("text", "language", "speaker", "session", "prompt_id", "recorded_at")
    for stored_clip, raw_clip in zip((clip, other), read, strict=True):
        assert raw_clip.recorded_file == stored_clip.file
        assert [getattr(raw_clip, name) for name in names] == [getattr(stored_clip, name) for name in names]


def copy_of_newest_change() -> Path:
    """The newest change twice, as two tabs leave it that saved a take before either could see the other's."""
    newest = inbox.pending()[-1].folder
    copy = INBOX / f"{int(newest.name[:20]) + 1:020d}-00000000"
    shutil.copytree(newest, copy)
    return copy


def test_same_take_is_one_clip_however_often_it_is_saved_and_of_two_tabs_the_first_counts():
    clip = save(0, text="first")
    assert inbox.save_clip(make_take(0), text="other", language="de", speaker="bob") == (clip.id, False)
    second = copy_of_newest_change() / "change.json"
    second.write_text(second.read_text().replace("first", "second"))
    assert inbox.waiting() == 2
    assert stored(clip.id).text == "first"
    inbox.bring_in()
    assert [row["text"] for row in rows_in_raw()] == ["first"] and tracked_files() == 2
    assert inbox.save_clip(make_take(0), text="x", language="de", speaker=None, source="uploaded") == (clip.id, False)
    assert inbox.stored_clips() == [clip]


def save_many(place: Path, numbers: list[int]) -> None:
    os.chdir(place)
    for number in numbers:
        inbox.save_clip(make_take(number), text=text_of(number), language="en", speaker="ann")


def test_no_row_is_lost_when_four_tabs_save_while_the_inbox_is_moved(place):
    tabs = [FORKS.Process(target=save_many, args=(place, list(range(first, 40, 4)))) for first in range(4)]
    for tab in tabs:
        tab.start()
    while any(tab.is_alive() for tab in tabs) or inbox.waiting():
        command = [sys.executable, "-m", "recorder.inbox"]
        movers = [subprocess.Popen(command) for _ in range(2)]  # of two servers
        assert [mover.wait(60) for mover in movers] == [0, 0]
    assert [tab.exitcode for tab in tabs] == [0] * 4
    texts = {f"{make_take(number).id}.flac": text_of(number) for number in range(40)}
    assert len(inbox.stored_clips()) == len(rows_in_raw()) == 40 == tracked_files() - 1
    assert {row["audio_path"]: row["text"] for row in rows_in_raw()} == texts


def test_clip_without_text_is_refused():
    clip = save(1)
    with pytest.raises(UserError, match="There is no text"):
        inbox.save_clip(make_take(0), text="\u200b\n", language="en", speaker="ann")
    with pytest.raises(UserError, match="There is no text"):
        inbox.correct_text(clip, "")
    assert inbox.stored_clips() == [clip]


# Changing


@pytest.mark.parametrize("moved", [(), (0,), (1,), (0, 1, 2)])
def test_changes_count_in_their_order_before_and_after_moving(moved):
    def step(number: int) -> None:
        if number in moved:
            inbox.bring_in()

    clip, other = save(0), save(1)
    step(0)
    inbox.correct_text(clip, "first")
    inbox.correct_text(clip, "second")
    assert stored(clip.id).text == "second"
    step(1)
    inbox.delete(other)
    assert [stored_clip.id for stored_clip in inbox.stored_clips()] == [clip.id]
    inbox.correct_text(other, "too late")
    step(2)
    again = save(1, text="again")
    expected = {clip.id: "second", other.id: "again"}
    assert {clip.id: clip.text for clip in inbox.stored_clips()} == expected
    inbox.bring_in()
    assert {clip.id: clip.text for clip in inbox.stored_clips()} == expected
    assert inbox.content_of(again) == make_take(1).content
    assert set(files_in_raw()) == {clip.file, other.file, "recorded/clips.jsonl"}


@pytest.mark.parametrize("moves", [True, False])
def test_deleted_clip_is_gone_and_no_file_of_it_is_left(moves):
    clip, kept = save(0), save(1)
    if moves:
        inbox.bring_in()
    inbox.delete(clip)
    inbox.delete(clip)  # in a second tab
    assert inbox.stored_clips() == [kept]
    inbox.bring_in()
    assert inbox.stored_clips() == [kept]
    assert set(files_in_raw()) == {kept.file, "recorded/clips.jsonl"}
    assert tracked_files() == 2
    with pytest.raises(UserError, match="is not on this machine"):
        inbox.content_of(clip)


def test_correction_counts_though_the_clock_was_set_back():
    clip = save(0)
    (waiting,) = inbox.pending()
    tomorrow_ns = time.time_ns() + 24 * 3600 * 10**9
    waiting.folder.rename(INBOX / f"{tomorrow_ns:020d}-{waiting.folder.name[-8:]}")
    inbox.correct_text(clip, "corrected")
    assert stored(clip.id).text == "corrected"
    inbox.bring_in()
    assert stored(clip.id).text == "corrected"


def test_rows_that_others_wrote_are_read_and_their_fields_kept():
    RECORDED.mkdir()
    (RECORDED / "a.wav").write_bytes(b"sound")
    row = {"audio_path": "a.wav", "text": "old", "microphone": "X1", "recorded_at": "9999-01-01"}
    (RECORDED / "clips.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(row).encode() + b"\n")
    (clip,) = inbox.stored_clips()
    inbox.correct_text(clip, "new")
    new = save(0)
    assert [clip.id for clip in inbox.stored_clips()] == [new.id, "a"]  # oldest first
    inbox.bring_in()
    assert rows_in_raw()[0] == row | {"text": "new"}


def test_consent_is_kept_per_speaker_with_date_and_wording():
    inbox.record_consent("ann", "I agree.")
    inbox.record_consent("bob", "I agree.", publish=True)
    inbox.bring_in()
    inbox.record_consent("ann", "I agree to more.", publish=False)
    wordings = {name: row["wording"] for name, row in inbox.consents().items()}
    assert wordings == {"ann": "I agree to more.", "bob": "I agree."}
    assert inbox.agreed_to_publish() == {"bob"}
    inbox.bring_in()
    rows = read_rows(RECORDED / "consents.jsonl")
    assert [row["wording"] for row in rows] == ["I agree.", "I agree.", "I agree to more."]
    assert all(row["given_at"][:4] == str(time.localtime().tm_year) for row in rows)
    assert read_sources(RAW) == ([], [])


# Moving


def make_every_kind_of_change() -> None:
    """Two clips and a consent in data/raw; then nine changes that wait."""
    first, second = save(0), save(1)
    inbox.record_consent("ann", "I agree.")
    inbox.bring_in()
    save(2)
    inbox.correct_text(second, "corrected")
    inbox.delete(first)
    save(3, source="uploaded")
    inbox.record_consent("bob", "I agree.")
    inbox.delete(save(4))
    save(5)
    copy_of_newest_change()


def bring_in_and_die(place: Path, at_change: int) -> None:
    """Move the inbox, but end like kill -9 just before the given change to the files in data/."""
    os.chdir(place)
    data = str(place / "data")
    done = 0

    def on_event(event: str, arguments: tuple) -> None:
        nonlocal done
        is_change = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
        if event == "open":
            is_change = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if not is_change:
            return
        is_relative = event != "open" and arguments[-1] != -1  # to an open folder, as shutil.rmtree does
        if is_relative or os.path.abspath(str(arguments[0])).startswith(data):
            if done == at_change:
                os._exit(9)
            done += 1

    sys.addaudithook(on_event)
    inbox.bring_in()


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.kill)])
def test_moving_that_is_killed_at_any_point_ends_with_the_same_result(place, tmp_path, monkeypatch, every):
    make_every_kind_of_change()
    clips = inbox.stored_clips()
    contents = [inbox.content_of(clip) for clip in clips]
    assert {clip.text for clip in clips} == {"corrected", text_of(2), text_of(3), text_of(5)}
    assert inbox.waiting() == 9

    def moved(folder: Path) -> tuple[dict[str, bytes], str]:
        monkeypatch.chdir(folder)
        inbox.bring_in()
        assert inbox.pending() == []
        assert {path.name[:6] for path in INBOX.iterdir()} <= {".gone-"}  # swept by the next moving
        return files_in_raw(), Path("data/raw.dvc").read_text()

    shutil.copytree(place, tmp_path / "unharmed")
    expected = moved(tmp_path / "unharmed")
    died_at = 0
    while True:
        folder = tmp_path / f"killed-{died_at}"
        shutil.copytree(place, folder)
        mover = FORKS.Process(target=bring_in_and_die, args=(folder, died_at))
        mover.start()
        mover.join(60)
        if mover.exitcode == 0:
            break
        assert mover.exitcode == 9
        monkeypatch.chdir(folder)
        assert inbox.stored_clips() == clips  # the page sees no difference
        assert [inbox.content_of(clip) for clip in clips] == contents
        assert moved(folder) == expected, f"killed at change {died_at}"
        assert broken_cache_objects(folder) == []
        monkeypatch.chdir(place)
        shutil.rmtree(folder)
        died_at += every
    assert died_at > 30


def test_what_was_moved_is_in_dvcs_cache_and_nothing_is_committed(tmp_path, monkeypatch):
    # `dvc exp apply` deletes recordings in data/raw that are not in the cache.
    folder = tmp_path / "in-git"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git(folder, "init", "--quiet")
    Path(".gitignore").write_text("/data/raw\n/data/inbox\n")
    track_recordings(folder, no_scm=False)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "start")
    for number in range(3):
        save(number)
    inbox.bring_in()
    assert tracked_files() == 4
    assert broken_cache_objects(folder) == []
    cached = {path.read_bytes() for path in Path(".dvc/cache/files/md5").glob("??/*")}
    assert set(files_in_raw().values()) <= cached
    assert "up to date" in dvc(folder, "status").stdout
    assert git(folder, "status", "--porcelain").stdout == " M data/raw.dvc\n"


def test_clips_that_were_removed_on_another_machine_are_not_forgotten():
    clips = [save(number) for number in range(3)]
    inbox.bring_in()
    tracked = Path("data/raw.dvc").read_text()
    (RAW / clips[0].file).unlink()
    (RAW / clips[1].file).unlink()
    inbox.delete(clips[2])
    new = save(5)
    with pytest.raises(UserError, match=r"^data/raw holds 2 files, data/raw.dvc names 4: run 'make pull'"):
        inbox.bring_in()
    assert Path("data/raw.dvc").read_text() == tracked
    assert inbox.waiting() == 2 and stored(new.id) == new
    dvc(Path(), "checkout", "--force")
    inbox.bring_in()
    assert [clip.id for clip in inbox.stored_clips()] == [clips[0].id, clips[1].id, new.id]


def test_folder_without_dvc_says_so(tmp_path, monkeypatch):
    (tmp_path / "bare").mkdir()
    monkeypatch.chdir(tmp_path / "bare")
    save(0)
    with pytest.raises(UserError, match="run 'dvc init' here"):
        inbox.bring_in()
    assert len(inbox.stored_clips()) == 1


# While DVC is running


@pytest.fixture
def repro(place):
    """A `dvc repro` whose stage reads data/raw until the file go-on is there."""
    save(0)
    inbox.bring_in()
    command = "touch began; while [ ! -e go-on ]; do sleep 0.05; done; ls data/raw/recorded > heard.txt"
    YAML().dump({"stages": {"read": {"cmd": command, "deps": ["data/raw"], "outs": ["heard.txt"]}}}, Path("dvc.yaml"))
    with repro_beside() as process:
        wait_until(lambda: Path("began").exists())
        yield process


def test_nothing_is_moved_while_a_stage_reads_and_all_of_it_after(repro):
    before = files_in_raw()
    clip = save(1)
    with pytest.raises(inbox.Busy, match=rf"^process {repro.pid} \(dvc repro\)$"):
        inbox.bring_in()
    mover.start_moving()
    time.sleep(1)
    assert mover.problem() is None and inbox.waiting() == 1 and files_in_raw() == before
    Path("go-on").touch()
    assert repro.wait(60) == 0
    assert clip.audio_path not in Path("heard.txt").read_text()
    wait_until(lambda: inbox.waiting() == 0)  # though nobody saves or opens a page
    assert mover._mover.wait(60) == 0 and clip.file in files_in_raw()
    dvc(Path(), "repro")
    assert clip.audio_path in Path("heard.txt").read_text()


def test_stage_that_was_killed_does_not_block_the_inbox(repro):
    clip = save(1)
    os.killpg(repro.pid, signal.SIGKILL)
    repro.wait()
    assert inbox.bring_in() == 1
    assert clip.file in files_in_raw()


def test_clip_saved_while_a_mover_ends_is_moved_by_the_next_one(monkeypatch):
    """It has seen that nothing is waiting, and is still a process."""
    real = mover._start
    monkeypatch.setattr(mover, "_start", lambda: subprocess.Popen(["sleep", "1"]))
    mover.start_moving()
    monkeypatch.setattr(mover, "_start", real)
    clip = save(0)
    mover.start_moving()
    wait_until(lambda: inbox.waiting() == 0)
    assert clip.file in files_in_raw()


def test_folder_of_a_change_without_its_file_is_one_line_and_stops_the_mover():
    (INBOX / f"{1:020d}-{'0' * 8}").mkdir(parents=True)
    command = [sys.executable, "-m", "recorder.inbox"]
    mover = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert mover.returncode == 1 and "change.json" in mover.stderr.splitlines()[-1]


def test_problem_of_a_mover_is_told_until_the_next_one_succeeds():
    def move(exit_code: int) -> None:
        mover.start_moving()
        if exit_code == -signal.SIGKILL:
            mover._mover.kill()
        assert mover._mover.wait(60) == exit_code

    clip = save(0)
    move(0)
    assert mover.problem() is None and inbox.waiting() == 0
    (RAW / clip.file).rename("elsewhere")
    save(1)
    assert mover.problem() is None  # not tried yet
    move(1)
    assert mover.problem().startswith("data/raw holds 1 file, data/raw.dvc names 2: run 'make pull'")
    assert len(inbox.stored_clips()) == 2
    Path("elsewhere").rename(RAW / clip.file)
    move(-signal.SIGKILL)
    assert mover.problem() and inbox.waiting() == 1
    move(0)
    assert mover.problem() is None and inbox.waiting() == 0


def test_leftovers_of_killed_processes_are_removed_and_other_files_left_alone():
    for name in (".gone-1", ".partial-old", ".partial-new", "20240101"):
        (INBOX / name).mkdir(parents=True)
        (INBOX / name / "x").touch()
    (INBOX / "my song.wav").write_bytes(b"sound")
    long_ago_s = time.time() - inbox.ABANDONED_S - 60
    os.utime(INBOX / ".partial-old", (long_ago_s, long_ago_s))
    clip = save(0)
    assert inbox.waiting() == 1
    inbox.bring_in()
    assert inbox.stored_clips() == [clip]
    assert {path.name for path in INBOX.iterdir()} == {".partial-new", "20240101", "my song.wav"}


# Files that somebody changed by hand


@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_path_that_leaves_the_folder_is_neither_read_nor_deleted(place, kind):
    secret = RAW / "uploaded/x.wav"
    secret.parent.mkdir()
    secret.write_text("a secret")
    RECORDED.mkdir()
    outside = str(secret.resolve()) if kind == "absolute" else "../uploaded/x.wav"
    (RECORDED / "clips.jsonl").write_text(json.dumps({"audio_path": outside, "text": "x"}) + "\n")
    (clip,) = inbox.stored_clips()
    save(0)  # a folder in the inbox, from which .. leads elsewhere
    (INBOX / "uploaded").mkdir()
    (INBOX / "uploaded/x.wav").write_text("a secret")
    with pytest.raises(UserError, match="is not on this machine"):
        inbox.content_of(clip)
    inbox.delete(clip)
    inbox.bring_in()
    assert secret.read_text() == "a secret"
    assert len(rows_in_raw()) == 1


@pytest.mark.parametrize("row", [b'{"audio_path": "a.wav", "te', b'["a.wav"]', b'{"audio_path": 7, "text": "\xff"}'])
def test_damaged_list_of_clips_is_one_line_with_its_place(row):
    RECORDED.mkdir()
    damaged = b'{"audio_path": "b.wav", "text": "fine"}\n\n' + row + b"\n"
    (RECORDED / "clips.jsonl").write_bytes(damaged)
    with pytest.raises(UserError, match=r"^data/raw/recorded/clips\.jsonl:3 is damaged \([^\n]*$"):
        inbox.stored_clips()
    inbox.record_consent("ann", "I agree.")
    with pytest.raises(UserError):
        inbox.bring_in()
    assert (RECORDED / "clips.jsonl").read_bytes() == damaged

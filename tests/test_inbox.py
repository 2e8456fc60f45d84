"""The inbox: what the page has confirmed is kept and reaches data/raw once, whoever is killed or at work meanwhile."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from recorder import inbox
from stages.common.stage import UserError
from stages.speech.sources import read_sources
from tests.recordings import (
    broken_cache_objects,
    make_take,
    python,
    recorder_environment,
    text_of,
    track_recordings,
    wait_until,
)
from tests.workspaces import dvc, read_rows

RAW, INBOX = Path("data/raw"), Path("data/inbox")
RECORDED = RAW / "recorded"
# Children are forked from a process that has loaded these, and nothing else: they start at once.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.recordings", "recorder.inbox", "dvc.repo", "dvc.repo.add"])

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning:dvc")


@pytest.fixture(autouse=True)
def place(workspace, monkeypatch) -> Path:
    """The working folder, a DVC repository with an empty data/raw."""
    for name, value in recorder_environment(workspace).items():
        monkeypatch.setenv(name, value)
    track_recordings(workspace)
    return workspace


def save(number: int, **fields: object) -> inbox.StoredClip:
    values = {"text": text_of(number), "language": "en", "speaker": "ann"} | fields
    clip_id, is_new = inbox.save_clip(make_take(number), **values)
    assert is_new
    return stored(clip_id)


def stored(clip_id: str) -> inbox.StoredClip:
    (clip,) = [clip for clip in inbox.stored_clips() if clip.id == clip_id]
    return clip


def rows_in_raw(source: str = "recorded") -> list[dict]:
    return read_rows(RAW / source / "clips.jsonl")


def files_in_raw() -> dict[str, bytes]:
    return {str(path.relative_to(RAW)): path.read_bytes() for path in sorted(RAW.rglob("*")) if path.is_file()}


def tracked_files() -> int:
    return YAML(typ="safe").load(Path("data/raw.dvc"))["outs"][0]["nfiles"]


def run_mover() -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "recorder.inbox"], capture_output=True, text=True, timeout=60)


# Saving


def test_saved_clip_is_stored_at_once_and_in_data_raw_after_moving():
    take = make_take(0)
    clip = save(0, prompt_id="en-12345678")
    assert clip.id == take.id
    assert (clip.file, clip.text, clip.language, clip.speaker) == (f"recorded/{take.id}.flac", text_of(0), "en", "ann")
    assert (clip.prompt_id, clip.duration_s) == ("en-12345678", take.figures["duration_s"])
    assert clip.recorded_at.startswith(clip.session)
    assert inbox.content_of(clip) == take.content
    assert inbox.waiting() == 1
    assert inbox.bring_in() == 1
    assert inbox.waiting() == 0 and not [path for path in INBOX.iterdir() if path.is_dir()]
    assert stored(take.id) == clip
    assert inbox.content_of(clip) == take.content == (RECORDED / f"{take.id}.flac").read_bytes()


def test_stages_read_what_the_page_stored():
    clips = [save(0, text="  two   spaces "), save(1, source="uploaded", speaker=None)]
    inbox.bring_in()
    read, rejected = read_sources(RAW)
    assert rejected == []
    for clip, raw_clip in zip(clips, read, strict=True):
        for name in ("file", "text", "language", "speaker", "session", "prompt_id", "recorded_at"):
            assert getattr(raw_clip, name) == getattr(clip, name)
    assert clips[0].text == "two spaces"


def test_clip_survives_kill_9_right_after_it_was_confirmed(place):
    code = """
import os
from recorder import inbox
from tests.recordings import make_take
print(inbox.save_clip(make_take(3), text="kept", language="en", speaker="ann")[0], flush=True)
os.kill(os.getpid(), 9)
"""
    result = subprocess.run(python(code), capture_output=True, text=True, timeout=60)
    assert result.returncode == -signal.SIGKILL
    clip = stored(result.stdout.strip())
    assert clip.text == "kept"
    assert inbox.content_of(clip) == make_take(3).content
    assert inbox.bring_in() == 1
    assert inbox.content_of(stored(clip.id)) == make_take(3).content


def test_same_take_is_one_clip_however_often_it_is_saved():
    clip = save(0)
    assert inbox.save_clip(make_take(0), text="other", language="de", speaker="bob") == (clip.id, False)
    inbox.bring_in()
    assert inbox.save_clip(make_take(0), text="other", language="de", speaker="bob") == (clip.id, False)
    assert inbox.save_clip(make_take(0), text="x", language="de", speaker=None, source="uploaded") == (clip.id, False)
    assert inbox.stored_clips() == [clip]


def save_many(place: Path, numbers: list[int], barrier) -> None:
    os.chdir(place)
    barrier.wait()
    for number in numbers:
        inbox.save_clip(make_take(number), text=text_of(number), language="en", speaker="ann")


def run_together(place: Path, *work: list[int]) -> None:
    barrier = FORKS.Barrier(len(work))
    savers = [FORKS.Process(target=save_many, args=(place, numbers, barrier)) for numbers in work]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join(60)
        assert saver.exitcode == 0


def copy_of_newest_change() -> Path:
    """The same once more in the inbox, as two tabs leave it that saved a take before either could see the other's."""
    newest = inbox.pending()[-1].folder
    copy = INBOX / f"{int(newest.name[:20]) + 1:020d}-00000000"
    shutil.copytree(newest, copy)
    return copy


def test_same_take_saved_in_two_tabs_at_the_same_moment_is_one_clip(place):
    for number in range(5):
        run_together(place, [number], [number])
        assert [clip.id for clip in inbox.stored_clips()].count(make_take(number).id) == 1
    inbox.bring_in()
    assert [row["audio_path"] for row in rows_in_raw()] == [f"{make_take(number).id}.flac" for number in range(5)]
    assert tracked_files() == 6


def test_first_of_two_that_saved_the_same_take_counts():
    clip = save(0, text="first")
    second = copy_of_newest_change()
    change = json.loads((second / "change.json").read_text())
    change["row"]["text"] = "second"
    (second / "change.json").write_text(json.dumps(change))
    assert inbox.waiting() == 2
    assert stored(clip.id).text == "first"
    inbox.bring_in()
    assert stored(clip.id).text == "first"


def test_many_tabs_that_save_at_the_same_time_lose_no_row(place):
    started = FORKS.Process(target=move_until_all_are_in, args=(place, 40))
    started.start()
    run_together(place, *(list(range(first, 40, 4)) for first in range(4)))
    started.join(60)
    assert started.exitcode == 0
    ids = [make_take(number).id for number in range(40)]
    assert sorted(clip.id for clip in inbox.stored_clips()) == sorted(ids)
    assert sorted(row["audio_path"] for row in rows_in_raw()) == sorted(f"{clip_id}.flac" for clip_id in ids)
    assert {clip.text for clip in inbox.stored_clips()} == {text_of(number) for number in range(40)}


def move_until_all_are_in(place: Path, count: int) -> None:
    os.chdir(place)
    while inbox.waiting() or len(inbox.stored_clips()) < count:
        inbox.bring_in()


@pytest.mark.parametrize("text", ["", "  ", "\u200b\n"])
def test_clip_without_text_is_refused(text):
    with pytest.raises(UserError, match=r"^There is no text\."):
        inbox.save_clip(make_take(0), text=text, language="en", speaker="ann")
    clip = save(1)
    with pytest.raises(UserError, match=r"^There is no text\."):
        inbox.correct_text(clip, text)
    assert inbox.stored_clips() == [clip]


def test_clips_are_listed_oldest_first_whatever_their_source():
    clips = [save(0, source="uploaded")]
    time.sleep(1.0)  # recorded_at counts seconds
    clips.append(save(1))
    assert [clip.id for clip in inbox.stored_clips()] == [clip.id for clip in clips]
    inbox.bring_in()
    assert [clip.id for clip in inbox.stored_clips()] == [clip.id for clip in clips]


# Changing


@pytest.mark.parametrize("moved", [(), (0,), (1,), (0, 1), (0, 1, 2)])
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
    assert {clip.id: clip.text for clip in inbox.stored_clips()} == {clip.id: "second", other.id: "again"}
    inbox.bring_in()
    assert {clip.id: clip.text for clip in inbox.stored_clips()} == {clip.id: "second", other.id: "again"}
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


def test_fields_that_others_wrote_are_kept():
    RECORDED.mkdir()
    (RECORDED / "a.wav").write_bytes(b"sound")
    (RECORDED / "clips.jsonl").write_text('{"audio_path": "a.wav", "text": "old", "microphone": "X1"}\n')
    (clip,) = inbox.stored_clips()
    inbox.correct_text(clip, "new")
    save(0)
    inbox.bring_in()
    assert rows_in_raw()[0] == {"audio_path": "a.wav", "text": "new", "microphone": "X1"}


def test_consent_is_kept_per_speaker_with_date_and_wording():
    inbox.record_consent("ann", "I agree.")
    inbox.record_consent("bob", "I agree.")
    inbox.bring_in()
    inbox.record_consent("ann", "I agree to more.")
    assert {name: row["wording"] for name, row in inbox.consents().items()} == {
        "ann": "I agree to more.",
        "bob": "I agree.",
    }
    inbox.bring_in()
    rows = read_rows(RECORDED / "consents.jsonl")
    assert [(row["speaker"], row["wording"]) for row in rows] == [
        ("ann", "I agree."),
        ("bob", "I agree."),
        ("ann", "I agree to more."),
    ]
    assert all(row["given_at"][:4] == str(time.localtime().tm_year) for row in rows)
    assert inbox.stored_clips() == []
    assert read_sources(RAW) == ([], [])


# Moving


def make_every_kind_of_change(place: Path) -> None:
    """Clips A and B in data/raw; then new ones, a correction, deletions and a consent that wait."""
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


def make_only_deletions(place: Path) -> None:
    clips = [save(number) for number in range(3)]
    inbox.bring_in()
    inbox.delete(clips[0])
    inbox.delete(clips[2])


def bring_in_and_die(place: Path, at_change: int) -> None:
    """Move the inbox, but end like kill -9 just before the given change to the files in data/."""
    os.chdir(place)
    data = str(place / "data")
    done = 0

    def on_event(event: str, arguments: tuple) -> None:
        nonlocal done
        if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            path, directory = str(arguments[0]), arguments[-1]
            is_ours = directory != -1 or os.path.abspath(path).startswith(data)
        elif event == "open":
            path, _, flags = arguments
            is_ours = bool(flags & (os.O_WRONLY | os.O_RDWR)) and os.path.abspath(str(path)).startswith(data)
        else:
            return
        if is_ours:
            if done == at_change:
                os._exit(9)
            done += 1

    sys.addaudithook(on_event)
    inbox.bring_in()


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.kill)])
@pytest.mark.parametrize(
    ("make_changes", "waiting", "texts", "least_kills"),
    [
        (make_every_kind_of_change, 9, {"corrected", text_of(2), text_of(3), text_of(5)}, 30),
        (make_only_deletions, 2, {text_of(1)}, 10),
    ],
)
def test_moving_that_is_killed_at_any_point_ends_with_the_same_result(
    place, tmp_path, monkeypatch, make_changes, waiting, texts, least_kills, every
):
    make_changes(place)
    clips = inbox.stored_clips()
    contents = [inbox.content_of(clip) for clip in clips]
    assert {clip.text for clip in clips} == texts
    assert inbox.waiting() == waiting

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
    assert died_at > least_kills


def bring_in_and_die_while_copying(place: Path) -> None:
    os.chdir(place)

    def copy_half(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:1000])
        os._exit(9)

    shutil.copyfile = copy_half
    inbox.bring_in()


def test_recording_that_was_half_copied_is_never_taken_for_whole(place):
    clip = save(0)
    mover = FORKS.Process(target=bring_in_and_die_while_copying, args=(place,))
    mover.start()
    mover.join(60)
    assert mover.exitcode == 9
    assert files_in_raw() == {}
    assert inbox.content_of(clip) == make_take(0).content
    inbox.bring_in()
    assert (RAW / clip.file).read_bytes() == make_take(0).content


def test_moving_adds_to_dvc():
    for number in range(3):
        save(number)
    inbox.bring_in()
    assert tracked_files() == 4
    assert broken_cache_objects(Path()) == []
    cached = {path.read_bytes() for path in Path(".dvc/cache/files/md5").glob("??/*")}
    assert set(files_in_raw().values()) <= cached
    assert "up to date" in dvc(Path(), "status").stdout


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


# Catches: git's objects, counted as recordings, hide that recordings are missing.
@pytest.mark.parametrize("mark", [".git/objects/one", ".git", ".dvc/config"])
def test_repository_in_data_raw_is_named_and_the_recording_waits(mark):
    save(0)
    inbox.bring_in()
    tracked = Path("data/raw.dvc").read_text()
    path = RAW / "corpus" / mark
    path.parent.mkdir(parents=True)
    path.touch()
    new = save(1)
    with pytest.raises(UserError, match=r"^data/raw/corpus is a repository of its own \(it holds \.(git|dvc)\), "):
        inbox.bring_in()
    assert Path("data/raw.dvc").read_text() == tracked and len(rows_in_raw()) == 1
    assert inbox.waiting() == 1 and stored(new.id) == new
    shutil.rmtree(RAW / "corpus")
    inbox.bring_in()
    assert len(rows_in_raw()) == 2


def test_folder_without_dvc_says_so(tmp_path, monkeypatch):
    (tmp_path / "bare").mkdir()
    monkeypatch.chdir(tmp_path / "bare")
    save(0)
    with pytest.raises(UserError, match=r"this folder is no DVC repository: run 'dvc init' here"):
        inbox.bring_in()
    assert len(inbox.stored_clips()) == 1


def test_moving_in_a_git_repository_commits_and_stages_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "in-git"
    folder.mkdir()
    monkeypatch.chdir(folder)
    subprocess.run(["git", "init", "--quiet"], check=True)
    Path(".gitignore").write_text("/data/raw\n/data/inbox\n")
    track_recordings(folder, no_scm=False)
    subprocess.run(["git", "add", "--all"], check=True)
    subprocess.run(
        ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "start"],
        check=True,
    )
    save(0)
    inbox.bring_in()
    status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    assert status == " M data/raw.dvc\n"


# While DVC is at work

SLOW_PIPELINE = """
stages:
  read:
    cmd: >-
      touch began; while [ ! -e go-on ]; do sleep 0.05; done; ls data/raw/recorded > heard.txt
    deps: [data/raw]
    outs: [heard.txt]
"""


@pytest.fixture
def repro(place):
    """A `dvc repro` whose stage reads data/raw until the file go-on is there."""
    save(0)
    inbox.bring_in()
    Path("dvc.yaml").write_text(SLOW_PIPELINE)
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    wait_until(lambda: Path("began").exists())
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_nothing_is_moved_while_a_stage_reads_and_all_of_it_after(repro):
    before = files_in_raw()
    clip = save(1)
    with pytest.raises(inbox.Busy, match=rf"^process {repro.pid} \(dvc repro\)$"):
        inbox.bring_in()
    inbox.start_moving()
    time.sleep(3)
    assert inbox.waiting() == 1 and inbox.problem() is None
    assert files_in_raw() == before
    assert stored(clip.id) == clip
    Path("go-on").touch()
    assert repro.wait(60) == 0
    wait_until(lambda: inbox.waiting() == 0)
    assert clip.file in files_in_raw()
    assert clip.audio_path not in Path("heard.txt").read_text()
    wait_until(lambda: not inbox.is_locked(inbox.MOVER_LOCK))
    dvc(Path(), "repro")
    assert clip.audio_path in Path("heard.txt").read_text()


def test_stage_that_was_killed_does_not_block_the_inbox(repro):
    clip = save(1)
    os.killpg(repro.pid, signal.SIGKILL)
    repro.wait()
    assert inbox.bring_in() == 1
    assert clip.file in files_in_raw()


def test_damaged_list_of_stages_is_named_with_the_remedy(place):
    save(0)
    Path(".dvc/tmp/rwlock").write_text('{"read": {"/x": [{"pi')  # dvc writes it in place
    with pytest.raises(UserError, match=r"^\.dvc/tmp/rwlock is damaged: .* delete the file\.$"):
        inbox.bring_in()
    assert inbox.waiting() == 1
    Path(".dvc/tmp/rwlock").unlink()
    assert inbox.bring_in() == 1


@pytest.mark.parametrize("left", [0, 150])
def test_file_that_dvc_was_killed_in_the_middle_of_writing_is_made_anew(place, left):
    save(0)
    inbox.bring_in()
    Path("go-on").touch()
    Path("dvc.yaml").write_text(SLOW_PIPELINE)
    dvc(place, "repro")
    Path("began").unlink()
    whole, tracked = Path("dvc.lock").read_text(), Path("data/raw.dvc").read_text()
    assert len(whole) > 150
    Path("dvc.lock").write_text(whole[:left])
    if left == 0:
        Path("data/raw.dvc").write_text("")
    assert dvc(place, "repro", check=False).returncode != 0  # by itself, it would not get over it
    assert inbox.bring_in() == 0
    assert Path("data/raw.dvc").read_text() == tracked
    dvc(place, "repro")
    assert Path("dvc.lock").read_text() == whole
    assert not Path("began").exists()  # no stage ran again: its result was still known


def test_half_merged_files_are_left_to_the_person(place):
    save(0)
    inbox.bring_in()
    for path in (Path("data/raw.dvc"), Path("dvc.lock")):
        path.write_text("<<<<<<< HEAD\nouts: []\n=======\nouts: 1\n>>>>>>> other\n")
        before = path.read_text()
        with pytest.raises(UserError, match=rf"^{path} is half merged: finish the merge in git, then try again$"):
            inbox.bring_in()
        assert path.read_text() == before
        path.unlink()


def test_two_movers_at_once_do_the_work_once(place):
    for number in range(5):
        save(number)
    movers = [
        subprocess.Popen([sys.executable, "-m", "recorder.inbox"], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [mover.communicate(timeout=60) and mover.returncode for mover in movers] == [0, 0, 0]
    assert len(rows_in_raw()) == 5 and inbox.waiting() == 0
    result = run_mover()
    assert result.returncode == 0 and result.stdout.startswith("inbox: 0 changes moved")


def test_mover_that_was_killed_is_followed_by_another():
    save(0)
    for _ in range(3):
        inbox.start_moving()
        wait_until(lambda: inbox.is_locked(inbox.MOVER_LOCK))
        for process in psutil.Process().children():
            if "recorder.inbox" in process.cmdline():
                process.kill()
        wait_until(lambda: not inbox.is_locked(inbox.MOVER_LOCK))
        assert inbox.waiting() == 1
    inbox.start_moving()
    wait_until(lambda: not inbox.waiting())
    assert len(rows_in_raw()) == 1


def test_problem_of_the_mover_is_told_until_it_is_gone():
    clip = save(0)
    inbox.start_moving()
    wait_until(lambda: not inbox.waiting() and not inbox.is_locked(inbox.MOVER_LOCK))
    assert inbox.problem() is None
    content = (RAW / clip.file).read_bytes()
    (RAW / clip.file).unlink()
    save(1)
    assert inbox.problem() is None  # nobody has tried yet
    inbox.start_moving()
    wait_until(inbox.problem)
    assert inbox.problem().startswith("data/raw holds 1 file, data/raw.dvc names 2: run 'make pull'")
    assert len(inbox.stored_clips()) == 2
    (RAW / clip.file).write_bytes(content)
    long_ago_s = time.time() - inbox.RETRY_S - 1
    os.utime(inbox.MOVER_PROBLEM, (long_ago_s, long_ago_s))
    assert inbox.problem() is None  # so that the page tries again
    inbox.start_moving()
    wait_until(lambda: not inbox.waiting() and not inbox.is_locked(inbox.MOVER_LOCK))
    assert inbox.problem() is None


def test_what_others_put_into_the_inbox_is_left_alone():
    INBOX.mkdir()
    (INBOX / "my song.wav").write_bytes(b"sound")
    (INBOX / "20240101").mkdir()
    clip = save(0)
    assert inbox.waiting() == 1
    inbox.bring_in()
    assert inbox.stored_clips() == [clip]
    assert {path.name for path in INBOX.iterdir()} == {"my song.wav", "20240101"}


def test_leftovers_of_killed_processes_are_swept_but_not_what_is_being_written():
    INBOX.mkdir()
    for name in (".gone-1", ".partial-old", ".partial-new"):
        (INBOX / name).mkdir()
        (INBOX / name / "x").touch()
    long_ago_s = time.time() - inbox.LEFT_BY_A_KILL_S - 60
    os.utime(INBOX / ".partial-old", (long_ago_s, long_ago_s))
    save(0)
    inbox.bring_in()
    assert [path.name for path in INBOX.iterdir()] == [".partial-new"]


# Files that somebody changed by hand


@pytest.mark.parametrize("outside", ["../../../secret.txt", "/secret.txt", "../uploaded/x.wav"])
def test_path_that_leaves_the_folder_is_neither_read_nor_deleted(place, outside):
    secret = place / "secret.txt" if not outside.endswith("x.wav") else RAW / "uploaded/x.wav"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("a secret")
    outside = str(secret) if outside.startswith("/") else outside
    RECORDED.mkdir()
    (RECORDED / "clips.jsonl").write_text(json.dumps({"audio_path": outside, "text": "x"}) + "\n")
    (clip,) = inbox.stored_clips()
    save(0)  # a folder in the inbox, from which .. leads elsewhere
    (INBOX / "secret.txt").write_text("a secret")
    (INBOX.parent / "secret.txt").write_text("a secret")
    with pytest.raises(UserError, match="is not on this machine"):
        inbox.content_of(clip)
    inbox.delete(clip)
    inbox.bring_in()
    assert secret.read_text() == "a secret"
    assert len(rows_in_raw()) == 1


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b'{"audio_path": "a.wav", "te', "Unterminated string"),
        (b'["a.wav"]', "it needs audio_path and text"),
        (b'{"audio_path": "a.wav"}', "it needs audio_path and text"),
        (b'{"audio_path": 7, "text": "x"}', "it needs audio_path and text"),
        (b'{"audio_path": "a.wav", "text": "\xff"}', "codec can't decode"),
    ],
)
def test_damaged_list_of_clips_is_one_line_with_its_place(row, why):
    RECORDED.mkdir()
    damaged = b'{"audio_path": "b.wav", "text": "fine"}\n\n' + row + b"\n"
    (RECORDED / "clips.jsonl").write_bytes(damaged)
    with pytest.raises(UserError) as caught:
        inbox.stored_clips()
    assert str(caught.value).startswith("data/raw/recorded/clips.jsonl:3 is damaged (")
    assert why in str(caught.value) and "\n" not in str(caught.value)
    inbox.record_consent("ann", "I agree.")
    with pytest.raises(UserError):
        inbox.bring_in()
    assert (RECORDED / "clips.jsonl").read_bytes() == damaged


def test_list_with_a_byte_order_mark_is_read():
    RECORDED.mkdir()
    (RECORDED / "clips.jsonl").write_bytes(b'\xef\xbb\xbf{"audio_path": "a.wav", "text": "x"}\n')
    assert [clip.text for clip in inbox.stored_clips()] == ["x"]

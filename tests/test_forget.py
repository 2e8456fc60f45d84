"""Erasing: no byte of the speaker's recordings is left anywhere, nobody else loses one, and a kill changes neither."""

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import soundfile

from recorder import erasing, forget, inbox, reading, runs, searching, takes
from stages.common.cache import ContentCache
from stages.common.files import write_json
from stages.common.locks import lock
from stages.common.params import load_params
from stages.common.stage import UserError
from stages.hub.local.server import HubServer
from stages.speech.sources import read_sources
from tests.recordings import make_take, recorder_environment, spoken, track_recordings
from tests.workspaces import ROOT, dvc, git, read_json, read_rows, set_params

RAW = Path("data/raw")
ANN, BOB = "Annegret", "Bob"
PLANTED = "quokka"  # in all of Ann's texts, and nowhere else
PREPARED = Path("data/prepared/metadata.jsonl")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["recorder.forget", "dvc.repo", "dvc.repo.add", "dvc.repo.gc"])
PIPELINE = """
stages:
  prepare:
    cmd: exec python -m stages.prepare
    deps: [data/raw]
    params: [prepare]
    outs: [data/prepared]
  split:
    cmd: exec python -m stages.split
    deps: [data/prepared/metadata.jsonl]
    params: [split]
    outs: [data/split]
  train:
    cmd: mkdir data/checkpoints && cp data/split/train.jsonl data/checkpoints/learnt.txt
    deps: [data/split/train.jsonl, data/split/validation.jsonl]
    outs: [data/checkpoints]
  evaluate:
    cmd: mkdir data/evaluation && cp data/split/test.jsonl data/evaluation/predictions.jsonl
    deps: [data/checkpoints, data/split/test.jsonl]
    outs: [data/evaluation]
"""

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning:dvc")


def save(number: int, speaker: str, text: str, source: str = "recorded") -> str:
    return inbox.save_clip(make_take(number), text=text, language="en", speaker=speaker, source=source)[0]


def make_project(folder: Path) -> None:
    """Two people's recordings in two versions, results of each, an experiment, a remote and full caches."""
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    os.chdir(workspace)
    shutil.copy(ROOT / "params.yaml", workspace)
    shutil.copy(ROOT / ".gitignore", workspace)
    (workspace / "dvc.yaml").write_text(PIPELINE)
    set_params(workspace, split__test_fraction=0.3, split__validation_fraction=0.3, prepare__workers=1)
    git(workspace, "init", "--quiet")
    track_recordings(workspace, no_scm=False)
    dvc(workspace, "config", "core.analytics", "false")
    (folder / "remote").mkdir()
    dvc(workspace, "remote", "add", "--default", "store", "../remote")
    for number in range(16):
        speaker = ANN if number % 2 else BOB
        save(number, speaker, f"{PLANTED} {number}" if speaker == ANN else f"plain {number}")
    inbox.record_consent(ANN, "I agree.")
    inbox.record_consent(BOB, "I agree.")
    inbox.bring_in()
    make_version("first")
    # In older versions only: a recording that was deleted, and a text that was corrected.
    clips = {clip.text: clip for clip in inbox.stored_clips()}
    inbox.delete(clips[f"{PLANTED} 1"])
    inbox.correct_text(clips[f"{PLANTED} 3"], f"{PLANTED} three")
    save(16, BOB, "plain 16", source="uploaded")
    inbox.bring_in()
    make_version("second")
    dvc(workspace, "exp", "run", "--name", "other-split", "-S", "split.salt=other")
    git(workspace, "checkout", "--quiet", "--", ".")
    dvc(workspace, "checkout", "--force")
    save(17, ANN, f"{PLANTED} 17")  # waits in the inbox
    reading.save_own_phrases(ANN, "en", [f"my {PLANTED}"])
    reading.save_own_phrases(BOB, "en", ["my phrase"])
    known = {"key": "00", "next": 3, "speakers": {ANN: "speaker-1", BOB: "speaker-2"}}
    write_json(runs.FOLDER / "pseudonyms.json", {"me/clips": known})
    ann = next(clip for clip in inbox.stored_clips() if clip.speaker == ANN)
    (runs.RUNS / "2026-01-01").mkdir(parents=True)
    (runs.RUNS / "2026-01-01/log.txt").write_text(f"before\nrejected, e.g. {ann.file}\nafter\n")
    ContentCache("base-predictions").write({"sound": "a"}, f'{{"text": "{PLANTED} heard"}}'.encode())
    for name in (".cache/training/run/checkpoint-1/notes.txt", ".cache/merged/a/b.txt"):
        path = Path(name)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"before" + inbox.content_of(ann))


def make_version(message: str) -> None:
    """What `make repro`, `git commit` and `dvc push` would do."""
    dvc(Path(), "repro")
    git(Path(), "add", "--all")
    git(Path(), "commit", "--quiet", "--message", message)
    dvc(Path(), "push")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Of all processes here; nothing outside the tests' own folders is read or written."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        for name in ("OWNVOICE_CACHE", "DVC_ROOT", "DVC_EXP_NAME", "HF_TOKEN", "HF_ENDPOINT"):
            patch.delenv(name, raising=False)
        own = {"DVC_SITE_CACHE_DIR": str(home / "site"), "TMPDIR": str(home)}
        for name, value in recorder_environment(home, **own).items():
            patch.setenv(name, value)
        patch.setattr(tempfile, "tempdir", str(home))  # other tests' recordings are the same ones
        yield home


@pytest.fixture(scope="module")
def made_project(environment, tmp_path_factory):
    before = Path.cwd()
    make_project(folder := tmp_path_factory.mktemp("project"))
    yield folder
    os.chdir(before)


@pytest.fixture
def project(made_project, tmp_path, monkeypatch) -> Callable[..., Path]:
    """`project()` is a fresh copy of the folder with project and remote; its workspace is the working folder."""

    def copy(name: str = "copy") -> Path:
        shutil.copytree(made_project, tmp_path / name, symlinks=True)
        monkeypatch.chdir(tmp_path / name / "workspace")
        return tmp_path / name

    return copy


def run_forget(*arguments: str, answers: str = "", code: int = 0, environment: dict | None = None) -> CompletedProcess:
    """`make forget`, which must end with this code."""
    result = subprocess.run(
        [sys.executable, "-m", "recorder.forget", *arguments],
        input=answers, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == code and "Traceback" not in result.stderr, result.stdout[-3000:] + result.stderr
    return result


def begun() -> list[Path]:
    return list(runs.FOLDER.glob(erasing.ERASURE_FILES))


def windows(content: bytes) -> list[bytes]:
    """64 bytes from several places, none of them silence."""
    starts = range(len(content) // 8, len(content) - 64, max(len(content) // 40, 1))
    chosen = [window for start in starts if len(set(window := content[start : start + 64])) > 24]
    assert len(chosen) >= 5
    return chosen[:: len(chosen) // 5]


def everything(folder: Path) -> dict[Path, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path: path.read_bytes() for path in files if path.suffix != ".lock"}


def traces_of_ann(folder: Path) -> list[bytes]:
    """Of every recording that was ever hers, in any version, and of its converted sound."""
    takes = [make_take(number) for number in (*range(1, 16, 2), 17)]
    converted = converted_sounds(folder / "workspace")
    theirs = [converted[take.id] for take in takes if take.id in converted]
    assert len(theirs) == 7  # of take 1 in older versions only, 17 in the inbox
    sounds = [take.content for take in takes] + theirs
    return [PLANTED.encode(), ANN.encode(), *(window for sound in sounds for window in windows(sound))]


def converted_sounds(workspace: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (workspace / "data/prepared/audio").rglob("*.flac")}


def left(folder: Path, traces: list[bytes]) -> list[str]:
    """Files that hold any of it; those of git are compressed, and are asked for in another way."""
    files = everything(folder).items()
    return [str(path.relative_to(folder)) for path, content in files if any(trace in content for trace in traces)]


def of_bob() -> dict[str, bytes]:
    clips = [clip for clip in read_sources(RAW)[0] if clip.speaker == BOB]
    return {f"{clip.recorded_file}: {clip.text}": (RAW / clip.recorded_file).read_bytes() for clip in clips}


def test_nothing_of_a_speaker_is_left_in_workspace_caches_and_remote_and_all_of_the_other_is(project):
    folder = project()
    Path("data/review").mkdir()
    shutil.copy(PREPARED, "data/review/base_model.jsonl")  # as `make review` writes texts and ids
    (RAW / "copies").mkdir()
    (RAW / "copies/x.flac").write_bytes(make_take(5).content)  # the same bytes under another name, without a speaker
    traces, bob = traces_of_ann(folder), of_bob()
    assert len(left(folder, traces)) > 40 and len(bob) == 9
    rows = [line for line in (RAW / "recorded/clips.jsonl").read_bytes().split(b"\n") if ANN.encode() not in line]
    assert run_forget("--speaker", ANN, "--yes").stderr == ""
    assert left(folder, traces) == []
    assert of_bob() == bob
    assert (RAW / "recorded/clips.jsonl").read_bytes().split(b"\n") == rows
    assert [row["speaker"] for row in read_rows(RAW / "recorded/consents.jsonl")] == [BOB]
    assert read_json(reading.OWN_PHRASES) == {BOB: {"en": ["my phrase"]}}
    known = {"key": "00", "next": 3, "speakers": {BOB: "speaker-2"}}
    assert read_json(runs.FOLDER / "pseudonyms.json") == {"me/clips": known}
    assert not begun() and inbox.waiting() == 0 and not [*runs.RUNS.glob("*/log.txt")]

    dvc(Path(), "repro")
    assert {row["speaker"] for row in read_rows(PREPARED)} == {BOB} and len(read_rows(PREPARED)) == 9
    dvc(Path(), "push")
    assert "up to date" in dvc(Path(), "status").stdout
    shutil.rmtree(".dvc/cache")
    shutil.rmtree(RAW)
    dvc(Path(), "pull")
    assert of_bob() == bob
    assert dvc(Path(), "exp", "list", "--all-commits").stdout.strip() == ""


def test_one_clip_alone_is_erased_by_its_id_with_the_same_bytes_under_another_name(project):
    """Also in a folder without git, and without the transcript beside a copy."""
    folder = project()
    shutil.rmtree(".git")
    dvc(Path(), "config", "core.no_scm", "true")
    take = make_take(5)
    for name, number in (("deep/x", 5), ("bob", 2)):
        (RAW / "copies" / name).parent.mkdir(parents=True, exist_ok=True)
        (RAW / f"copies/{name}.flac").write_bytes(make_take(number).content)
        (RAW / f"copies/{name}.txt").write_text("what it says")
    dvc(Path(), "add", str(RAW))
    converted = windows(converted_sounds(Path())[take.id])
    for place in ("workspace/data/prepared", "workspace/.cache/prepared", "workspace/.dvc/cache", "remote"):
        assert any(name.startswith(place) for name in left(folder, converted))
    clips = {clip.text for clip in inbox.stored_clips()}
    run_forget("--clip", take.id, "--yes")
    assert left(folder, [*windows(take.content), *converted, b"quokka 5"]) == []
    assert {clip.text for clip in inbox.stored_clips()} == clips - {f"{PLANTED} 5"}
    assert sorted(path.name for path in (RAW / "copies").rglob("*")) == ["bob.flac", "bob.txt"]
    assert ANN in inbox.consents() and ANN in read_json(reading.OWN_PHRASES)


def sound(path: Path, number: int, seconds: int = 1) -> Path:
    """A recording like no other here, in a format that keeps its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples, rate_hz = spoken(number)
    soundfile.write(path, np.tile(samples, seconds) * (0.5 + number / 200), rate_hz)
    return path


def write_other_layouts() -> None:
    """NeMo, a table with a text of two lines, subtitles of one voice; a recording of each person in each."""
    for number, folder in enumerate(("nemo", "table", "talks"), 41):
        for name, add in (("ann", 0), ("bob", 10)):
            sound(RAW / folder / f"{name}.wav", number + add, seconds=2)
    row = '{{"audio_filepath": "{}", "text": "{} two", "speaker": "{}"}}\n'
    manifest = row.format("ann.wav", PLANTED, ANN) + row.format("bob.wav", "plain", BOB)
    (RAW / "nemo/manifest.json").write_text(manifest)
    table = f'id;path;sentence;speaker_id\n1;ann.wav;"{PLANTED}\none";{ANN}\n2;bob.wav;"plain\none";{BOB}\n'
    (RAW / "table/recordings.csv").write_text(table)
    for name, who, words in (("ann.en.srt", ANN, PLANTED), ("bob.srt", BOB, "plain")):
        (RAW / "talks" / name).write_text(f"1\n00:00:00,000 --> 00:00:00,900\n<v {who}>{words} cue\n")


def test_rows_of_other_layouts_are_listed_by_file_and_line_until_a_person_has_removed_them(project):
    folder = project()
    write_other_layouts()
    clips = read_sources(RAW)[0]
    assert {clip.source for clip in clips if clip.speaker == ANN} == {"recorded", "nemo", "table", "talks"}
    traces = [way for clip in clips if clip.speaker == ANN for way in windows((RAW / clip.recorded_file).read_bytes())]
    rows = {"table/recordings.csv": (2, 3), "nemo/manifest.json": (1,)}
    before, bob = {name: (RAW / name).read_text() for name in rows}, of_bob()
    result = run_forget("--speaker", ANN, "--yes", code=1)
    assert begun()
    assert left(folder, traces) == [] and of_bob() == bob
    assert {name: (RAW / name).read_text() for name in rows} == before
    assert sorted(path.name for path in (RAW / "talks").iterdir()) == ["bob.srt", "bob.wav"]  # these are whole files
    listed = sorted(re.findall(r"^still there: data/raw/(\S+):(\d+) \(", result.stdout, re.MULTILINE))
    assert listed == sorted((name, str(line)) for name, lines in rows.items() for line in lines)
    for name, numbers in rows.items():
        lines = before[name].split("\n")
        (RAW / name).write_text("\n".join(line for number, line in enumerate(lines, 1) if number not in numbers))
    new = save(18, ANN, f"{PLANTED} 18")  # since it was asked
    assert run_forget("--speaker", ANN, "--yes").stderr == ""
    assert left(folder, [*traces, PLANTED.encode(), ANN.encode()]) == [] and not list(RAW.rglob(f"{new}*"))
    assert of_bob() == bob


def test_converted_copy_and_a_row_that_names_a_recording_without_its_ending_are_found(workspace, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(workspace))  # not that of other tests
    clip = hashlib.sha256(sound(RAW / "brought/a.wav", 1).read_bytes()).hexdigest()[:16]
    sound(RAW / "brought/b.wav", 2)
    (RAW / "brought/t.csv").write_text(f"file,text\na,{PLANTED} said this\nb,plain words here\n")
    converted = sound(Path("data/prepared/audio", clip[:2], f"{clip}.flac"), 1)
    shutil.copy(converted, "copy.flac")
    erasure = erasing.find(None, clip)
    erasing._erase_from_raw(erasure)
    erasing._erase_by_name(erasure)
    converted.unlink()
    words, names = searching._words_and_names(erasure)
    found = searching.search_files(searching.files_below([Path()]), erasure, words | names)
    assert found == {"copy.flac": "sound", "data/raw/brought/t.csv:2": "a text"}
    assert not (RAW / "brought/a.wav").exists()


@pytest.mark.parametrize("case", ["a part is another's", "a part is nobody's", "the same bytes, uploaded by another"])
def test_a_recording_in_which_others_may_speak_is_named_before_anything_is_erased(workspace, case):
    content = sound(RAW / "brought/a.wav", 1).read_bytes()
    rows = [{"audio_path": "a.wav", "text": "one", "speaker": ANN, "begins_s": 0, "ends_s": 0.5}]
    rows.append(rows[0] | {"speaker": BOB if "another's" in case else None, "begins_s": 0.5, "ends_s": 1})
    if "uploaded" in case:
        rows = [{"audio_path": "a.wav", "text": "one", "speaker": ANN}]
        take = takes.from_file(content, ".wav", load_params().prepare)
        inbox.save_clip(take, text="words", language="en", speaker=BOB, source="uploaded")
        track_recordings(workspace)
        inbox.bring_in()
    (RAW / "brought/clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"^data/raw/(brought/a|uploaded/\w+)\.wav: others than Annegret may speak"):
        erasing.find(ANN, None)


def test_a_row_that_names_another_source_or_a_file_elsewhere_erases_neither(project):
    folder = project()
    bob = of_bob()
    stranger = folder / "workspace/stays.wav"
    stranger.write_bytes(b"not theirs")
    theirs = [f"../{next(iter(bob)).split(':')[0]}", "../../../stays.wav", str(stranger)]
    rows = [json.dumps({"audio_path": path, "text": "words", "speaker": ANN}) + "\n" for path in theirs]
    (RAW / "brought").mkdir()
    (RAW / "brought/clips.jsonl").write_text("".join(rows))
    run_forget("--speaker", ANN, "--yes")
    assert of_bob() == bob and stranger.read_bytes() == b"not theirs"


def test_a_name_within_anothers_or_in_sound_keeps_nobody_from_ending_and_short_rows_without_ending_are_named(project):
    """Rows of clips.jsonl below a source go as those in it do."""
    project()
    inbox.record_consent(f"{ANN} Lee", "I agree.")
    save(18, f"{ANN} Lee", "plain 18")
    for number, name in enumerate(("lj/wavs/1.wav", "lj/wavs/2.wav", "deep/er/a.wav", "deep/er/b\nb.wav"), 41):
        sound(RAW / name, number)
    with (RAW / "lj/wavs/2.wav").open("ab") as file:
        file.write(f"\0{ANN}\0a.wav\0".encode())
    sound(RAW / "lj/wavs/1.en.wav", 45)
    for name in ("1", "1.en"):
        (RAW / f"lj/wavs/{name}.txt").write_text("yes")
    (RAW / "lj/metadata.csv").write_text(f"file|text|speaker\n1|yes|{ANN}\n2|yes|{BOB}\n")
    rows = [{"audio_path": name, "text": "yes", "speaker": ANN} for name in ("a.wav", "b\nb.wav")]
    (RAW / "deep/er/clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run_forget("--speaker", ANN, "--yes", code=1)
    still_there = re.findall(r"^still there: (.*) \(", result.stdout, re.MULTILINE)
    assert still_there == ["data/raw/lj/1"], result.stdout + result.stderr
    assert sorted(path.name for path in RAW.glob("lj/wavs/1*")) == ["1.en.txt", "1.en.wav"]
    (RAW / "lj/metadata.csv").write_text(f"file|text|speaker\n2|yes|{BOB}\n")
    run_forget("--speaker", ANN, "--yes")
    assert not (RAW / "deep").exists() and {clip.speaker for clip in inbox.stored_clips()} == {BOB, f"{ANN} Lee"}


def test_a_recording_put_in_the_place_of_an_erased_one_stays(project):
    """The first time ends unfinished, since a row of another layout is still there."""
    project()
    sound(RAW / "brought/a.wav", 1)
    table = RAW / "brought/transcripts.csv"
    table.write_text(f"file,text,speaker\na.wav,one,{ANN}\n")
    run_forget("--speaker", ANN, "--yes", code=1)
    assert not (RAW / "brought/a.wav").exists()
    content = sound(RAW / "brought/a.wav", 2).read_bytes()
    table.write_text(f"file,text,speaker\na.wav,two,{BOB}\n")
    run_forget("--speaker", ANN, "--yes")
    assert (RAW / "brought/a.wav").read_bytes() == content


def test_a_recording_that_is_another_speakers_by_now_and_words_that_both_said_stay(project):
    project()
    rows = RAW / "recorded/clips.jsonl"
    text = rows.read_text()
    line = next(line for line in text.split("\n") if make_take(5).id in line)
    rows.write_text(text.replace(line, line.replace(ANN, BOB)))
    save(18, BOB, f"{PLANTED} 7")
    inbox.bring_in()
    run_forget("--speaker", ANN, "--yes")
    assert (RAW / f"recorded/{make_take(5).id}.flac").read_bytes() == make_take(5).content
    assert f"{PLANTED} 7" in {clip.text for clip in inbox.stored_clips()}


def test_without_a_known_name_the_answer_or_all_recordings_nothing_is_erased_and_what_was_found_is_said(project):
    folder = project()
    inbox.bring_in()
    before = everything(folder)
    for arguments, answer, words in (
        (["--speaker", "Ann", "--yes"], "", "no recording, consent or phrase is of Ann:"),
        (["--clip", "0123456789abcdef", "--yes"], "", "no recording, consent"),
        (["--clip", "recorded/x", "--yes"], "", "is not an id"),
        (["--speaker", ANN], "", "nothing was erased: the answer was none: add YES=1"),
        (["--speaker", ANN], "no\n", "nothing was erased: the answer was no"),
    ):
        result = run_forget(*arguments, answers=answer, code=1)
        assert words in result.stderr and result.stderr.count("\n") == 1
        changed = {path for path, content in everything(folder).items() if before.get(path) != content}
        assert [path for path in changed if ".dvc/tmp" not in str(path)] == []
    for words in ("8 recordings of Annegret", "The present model", "DVC's remote store", "dataset me/clips, http"):
        assert words in result.stdout
    next(RAW.glob("recorded/*.flac")).unlink()
    assert "run 'make pull'" in run_forget("--speaker", ANN, "--yes", code=1).stderr
    assert before[folder / "workspace/data/raw.dvc"] == Path("data/raw.dvc").read_bytes() and not begun()


@pytest.mark.parametrize("who", ["the pipeline", "an experiment", "a stage"])
def test_what_works_with_the_recordings_is_waited_for(project, who):
    """An experiment in a copy of the folder, and a stage that was started by hand, are not in DVC's list."""
    project()
    place = Path(".dvc/tmp/exps/tmpabc")
    place.mkdir(parents=True)
    command = [sys.executable, "-c", "input()", "stages.train"] if who == "a stage" else ["cat"]
    at_work = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=place if who == "an experiment" else None)
    held = runs.RUN_LOCK if who == "the pipeline" else Path("other.lock")
    try:
        with lock(held), pytest.raises(UserError, match=f"{who if who == 'the pipeline' else at_work.pid}.*Wait"):
            forget.forget(ANN, None, yes=True, hub=False)
    finally:
        at_work.communicate()
    assert len(inbox.stored_clips()) == 17


def test_what_is_left_elsewhere_is_named_until_it_is_gone_and_does_not_keep_from_another_erasing(project):
    """A copy, whole words in files of any kind, a name, an id, and a remote that cannot be reached."""
    folder = project()
    take = make_take(5)
    Path("my copies").mkdir()
    Path("my copies/a").write_bytes(take.content)
    Path("my copies/b").write_bytes(os.urandom(1000).replace(b"\n", b"") + f"\0{PLANTED} 5\0".encode())
    Path(f"my copies/x-{take.id}.tmp").touch()
    Path("notes.txt").write_text(f"nothing of {PLANTED} 51\nsays: {PLANTED} 5\n")
    set_params(Path(), push__dataset__confirmed=[take.id, "0" * 16])
    dvc(Path(), "remote", "add", "far", "ssh://nobody@127.0.0.1:9/x")
    result = run_forget("--clip", take.id, "--yes", code=1)
    still_there = [line.removeprefix("still there: ") for line in result.stdout.splitlines() if "still there" in line]
    assert still_there.pop(0).startswith("DVC's remote far could not be cleared (")
    named = f"my copies/x-{take.id}.tmp (named by an id)"
    assert re.fullmatch(r"params.yaml:\d+ \(an id\)", still_there.pop())
    assert sorted(still_there) == ["my copies/a (sound)", "my copies/b:1 (a text)", named, "notes.txt:2 (a text)"]
    dvc(Path(), "remote", "remove", "far")
    inbox.delete(next(clip for clip in inbox.stored_clips() if clip.id == make_take(7).id))
    run_forget("--clip", make_take(7).id, "--yes")
    assert left(folder, windows(make_take(7).content)) == [], "one that was deleted before is in an older version"
    shutil.rmtree("my copies")
    set_params(Path(), push__dataset__confirmed=[])
    Path("notes.txt").unlink()
    run_forget("--clip", take.id, "--yes")
    assert begun() == []
    assert left(folder, windows(take.content)) == []


def forget_and_die(workspace: Path, at_change: int, changes: object) -> None:
    """Forget Ann, but end like kill -9 just before the given change to a file below the project."""
    os.chdir(workspace)
    place = str(workspace.parent)

    def on_event(event: str, arguments: tuple) -> None:
        if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            path, directory = str(arguments[0]), arguments[-1]
            is_ours = directory != -1 or os.path.abspath(path).startswith(place)
        elif event == "open":
            path, _, flags = arguments
            is_ours = bool(flags & (os.O_WRONLY | os.O_RDWR)) and os.path.abspath(str(path)).startswith(place)
        else:
            return
        if is_ours:
            if changes.value == at_change:
                os._exit(9)
            changes.value += 1

    sys.addaudithook(on_event)
    forget.forget(ANN, None, yes=True, hub=False)


def forget_in_a_child(workspace: Path, at_change: int) -> tuple[int, int]:
    """(exit code, changes to files that it made)"""
    changes = FORKS.Value("l", 0)
    child = FORKS.Process(target=forget_and_die, args=(workspace, at_change, changes))
    child.start()
    child.join(120)
    return child.exitcode, changes.value


@pytest.mark.parametrize(
    "points", [[0.3, 0.7], pytest.param([number / 10 for number in range(10)], marks=pytest.mark.kill)], ids=len
)
def test_killed_at_any_point_the_next_one_ends_right(project, tmp_path, points):
    folder = project(name="whole")
    traces, bob = traces_of_ann(folder), of_bob()
    exitcode, changes = forget_in_a_child(folder / "workspace", -1)
    assert (exitcode, left(folder, traces)) == (0, [])
    assert changes > 200
    for number, point in enumerate(points):
        at_change = 1 + int(point * changes)
        folder = project(name=f"killed-{at_change}")
        assert forget_in_a_child(folder / "workspace", at_change)[0] == 9
        run_forget("--speaker", ANN, "--yes")
        assert left(folder, traces) == [], f"killed at {at_change}"
        assert of_bob() == bob
        if number % 4 == 0:
            dvc(Path(), "repro", "split")
        os.chdir(tmp_path)
        shutil.rmtree(folder)


@pytest.fixture
def hub(environment):
    """A Hub with what the project's receipts say, and one repository that they do not name."""
    names = [("model", "me/model"), ("dataset", "me/clips"), ("space", "me/space"), ("model", "me/else")]
    tokens = {"good": "write:me", "bad": "read"}
    with HubServer({name: {"README.md": b"x"} for name in names}, tokens=tokens) as server:
        yield server


def test_what_was_published_stays_and_is_named_or_is_deleted_if_told_and_allowed(project, hub, tmp_path):
    folder = project()
    write_json(Path("data/receipts/push.json"), {"published": True, "repo_id": "me/model", "url": "x"})
    write_json(Path("data/receipts/deploy.json"), {"published": True, "space_id": "me/space"})
    wrong, right = (hub.environment(tmp_path, token=token) for token in ("bad", "good"))
    result = run_forget("--clip", make_take(5).id, "--yes", environment=right)
    assert f"model me/model, {hub.url}/me/model: it stays, unless you add HUB=1" in result.stdout
    assert len(hub.repositories) == 4

    result = run_forget("--speaker", ANN, "--yes", "--hub", code=1, environment=wrong)
    assert len(hub.repositories) == 4
    assert f"model me/model ({hub.url}/me/model) is still there" in result.stderr and of_bob()
    assert "bad" not in result.stdout + result.stderr
    run_forget("--speaker", ANN, "--yes", "--hub", environment=right)
    assert set(hub.repositories) == {("model", "me/else")}
    assert left(folder, [PLANTED.encode(), ANN.encode()]) == []

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
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from recorder import erasing, forget, inbox, reading, runs, searching, takes
from recorder.traces import Traces, pieces_of
from stages.common.cache import ContentCache
from stages.common.files import write_json
from stages.common.locks import lock
from stages.common.params import load_params
from stages.common.stage import UserError
from stages.hub.local.server import HubServer
from stages.speech.clips import clip_id
from stages.speech.sources import read_sources
from tests.recordings import make_take, recorder_environment, spoken, track_recordings
from tests.workspaces import ROOT, dvc, read_json, read_rows, set_params

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


def git(*arguments: str) -> str:
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    return subprocess.run(["git", *author, *arguments], check=True, capture_output=True, text=True).stdout


def make_project(folder: Path, with_git: bool) -> None:
    """Two people's recordings in two versions, results of each, an experiment, a remote and full caches."""
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    os.chdir(workspace)
    shutil.copy(ROOT / "params.yaml", workspace)
    shutil.copy(ROOT / ".gitignore", workspace)
    (workspace / "dvc.yaml").write_text(PIPELINE)
    set_params(workspace, split__test_fraction=0.3, split__validation_fraction=0.3, prepare__workers=1)
    set_params(workspace, push__dataset__confirmed=[make_take(number).id for number in (2, 3)])
    if with_git:
        git("init", "--quiet")
    track_recordings(workspace, no_scm=not with_git)
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
    if with_git:
        dvc(workspace, "exp", "run", "--name", "other-split", "-S", "split.salt=other")
        git("checkout", "--quiet", "--", ".")
        dvc(workspace, "checkout", "--force")
    save(17, ANN, f"{PLANTED} 17")  # waits in the inbox
    reading.save_own_phrases(ANN, "en", [f"my {PLANTED}"])
    reading.save_own_phrases(BOB, "en", ["my phrase"])
    known = {"key": "00", "next": 3, "speakers": {ANN: "speaker-1", BOB: "speaker-2"}}
    write_json(runs.FOLDER / "pseudonyms.json", {"me/clips": known})
    ann = next(clip for clip in inbox.stored_clips() if clip.speaker == ANN)
    for name, named in (("2026-01-01", ann.file), ("2026-01-02", "nobody")):
        (runs.RUNS / name).mkdir(parents=True)
        (runs.RUNS / name / "log.txt").write_text(f"before\nrejected, e.g. {named}\nafter\n")
    ContentCache("base-predictions").write({"sound": "a"}, f'{{"text": "{PLANTED} heard"}}'.encode())
    for name in (".cache/training/run/checkpoint-1/notes.txt", ".cache/merged/a/b.txt"):
        path = Path(name)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"before" + inbox.content_of(ann))


def make_version(message: str) -> None:
    """What `make repro`, `git commit` and `dvc push` would do."""
    dvc(Path(), "repro")
    if Path(".git").exists():
        git("add", "--all")
        git("commit", "--quiet", "--message", message)
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
def projects(environment, tmp_path_factory) -> Callable[[bool], Path]:
    """The folder with a project and its remote, made once with git and once without."""
    made: dict[bool, Path] = {}
    before = Path.cwd()

    def make(with_git: bool) -> Path:
        if with_git not in made:
            made[with_git] = tmp_path_factory.mktemp("project")
            make_project(made[with_git], with_git)
        return made[with_git]

    yield make
    os.chdir(before)


@pytest.fixture
def project(projects, tmp_path, monkeypatch) -> Callable[..., Path]:
    """`project(with_git=True)` is a fresh copy of it, whose workspace is the working folder."""

    def copy(with_git: bool = False, name: str = "copy") -> Path:
        source = projects(with_git)
        shutil.copytree(source, tmp_path / name, symlinks=True)
        monkeypatch.chdir(tmp_path / name / "workspace")
        return tmp_path / name

    return copy


def run_forget(
    *arguments: str, answers: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "recorder.forget", *arguments],
        input=answers,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


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


@pytest.mark.parametrize("with_git", [pytest.param(False, marks=pytest.mark.slow), True])
def test_nothing_of_a_speaker_is_left_in_workspace_caches_and_remote_and_all_of_the_other_is(project, with_git):
    folder = project(with_git)
    Path("data/review").mkdir()
    shutil.copy(PREPARED, "data/review/base_model.jsonl")  # as `make review` writes texts and ids
    traces, bob = traces_of_ann(folder), of_bob()
    assert len(left(folder, traces)) > 40 and len(bob) == 9
    rows = [line for line in (RAW / "recorded/clips.jsonl").read_bytes().split(b"\n") if ANN.encode() not in line]
    result = run_forget("--speaker", ANN, "--yes")
    assert (result.returncode, result.stderr) == (0, ""), result.stdout[-3000:] + result.stderr
    assert left(folder, traces) == []
    assert of_bob() == bob
    assert (RAW / "recorded/clips.jsonl").read_bytes().split(b"\n") == rows
    assert [row["speaker"] for row in read_rows(RAW / "recorded/consents.jsonl")] == [BOB]
    assert read_json(reading.OWN_PHRASES) == {BOB: {"en": ["my phrase"]}}
    known = {"key": "00", "next": 3, "speakers": {BOB: "speaker-2"}}
    assert read_json(runs.FOLDER / "pseudonyms.json") == {"me/clips": known}
    assert load_params().push.dataset.confirmed == [make_take(2).id]
    assert [log.parent.name for log in runs.RUNS.glob("*/log.txt")] == ["2026-01-02"]
    assert not begun() and inbox.waiting() == 0

    dvc(Path(), "repro")
    assert {row["speaker"] for row in read_rows(PREPARED)} == {BOB} and len(read_rows(PREPARED)) == 9
    dvc(Path(), "push")
    assert "up to date" in dvc(Path(), "status").stdout
    shutil.rmtree(".dvc/cache")
    shutil.rmtree(RAW)
    dvc(Path(), "pull")
    assert of_bob() == bob
    if with_git:
        assert dvc(Path(), "exp", "list", "--all-commits").stdout.strip() == ""


def test_what_was_found_is_said_before_anything_happens(project):
    folder = project(with_git=True)
    before = everything(folder)
    result = run_forget("--speaker", ANN, answers="no\n")
    assert result.returncode == 1
    assert result.stderr == "forget: nothing was erased: the answer was another one\n"
    for words in (
        f"Recordings of {ANN}:",
        "  data/raw/recorded: 7\n",
        "  data/raw/recorded: 1, saved but not yet in data/raw",
        "  data/raw/recorded: 1, in older versions only",
        "The present model, its evaluation",
        "DVC's remote store",
        "dataset me/clips: ",
    ):
        assert words in result.stdout
    changed = {path for path, content in everything(folder).items() if before.get(path) != content}
    assert [path for path in changed if ".dvc/tmp" not in str(path)] == []


def test_one_clip_alone_is_erased_by_its_id(project):
    folder = project()
    inbox.bring_in()
    take = make_take(5)
    converted = windows(converted_sounds(Path())[take.id])
    for place in ("workspace/data/prepared", "workspace/.cache/prepared", "workspace/.dvc/cache", "remote"):
        assert any(name.startswith(place) for name in left(folder, converted))
    clips = {clip.text for clip in inbox.stored_clips()}
    result = run_forget("--clip", take.id, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert left(folder, [*windows(take.content), *converted, b"quokka 5"]) == []
    assert {clip.text for clip in inbox.stored_clips()} == clips - {f"{PLANTED} 5"}
    assert ANN in inbox.consents() and ANN in read_json(reading.OWN_PHRASES)
    dvc(Path(), "repro", "split")
    assert len(read_rows(PREPARED)) == len(clips) - 1


def sound(path: Path, number: int, seconds: int = 1) -> Path:
    """A recording like no other here, in a format that keeps its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples, rate_hz = spoken(number)
    soundfile.write(path, np.tile(samples, seconds) * (0.5 + number / 200), rate_hz)
    return path


def write_kaldi(folder: Path) -> None:
    for number, name in enumerate(("ann.wav", "bob.wav")):
        sound(folder / name, 60 + number)
    (folder / "wav.scp").write_text("ra ann.wav\nrb bob.wav\n")
    (folder / "text").write_text(f"ra {PLANTED} in Kaldi\nrb plain in Kaldi\n")
    (folder / "utt2spk").write_text(f"ra {ANN}\nrb {BOB}\n")
    (folder / "spk2utt").write_text(f"{ANN} ra\n{BOB} rb\n")
    (folder / "spk2gender").write_text(f"{ANN} f\n{BOB} m\n")


def write_common_voice(folder: Path) -> None:
    """Also what the other tables name: rows that were refused, and the lengths of all."""
    header, lengths = "client_id\tpath\tsentence\tlocale\n", "clip\tduration[ms]\n"
    for table, numbers in {"validated": (70, 71), "train": (70, 71), "invalidated": (72, 73)}.items():
        rows = ""
        for number in numbers:
            who, words = (ANN, PLANTED) if number % 2 else (BOB, "plain")
            sound(folder / f"clips/{number}.wav", number)
            rows += f'{who}\t{number}.wav\t"{words} number {number}\ten\n'
            lengths += f"{number}.wav\t1000\n"
        (folder / f"{table}.tsv").write_text(header + rows)
    (folder / "clip_durations.tsv").write_text(lengths)


def write_others(raw: Path) -> None:
    """A table of any name, NeMo, audiofolder below a folder, subtitles of one voice."""
    for number, folder in enumerate(("table", "nemo", "tree/train", "talks"), 40):
        for name, add in (("ann", 0), ("bob", 10)):
            sound(raw / folder / f"{name}.wav", number + add, seconds=2)
    table = f'id;path;sentence;speaker_id\n1;ann.wav;"{PLANTED}\none";{ANN}\n2;bob.wav;"plain\none";{BOB}\n'
    (raw / "table/recordings.csv").write_text(table)
    for path, column in (
        (raw / "nemo/manifest.json", "audio_filepath"),
        (raw / "tree/train/metadata.jsonl", "file_name"),
    ):
        rows = [(f"{name}.wav", who, words) for name, who, words in (("ann", ANN, PLANTED), ("bob", BOB, "plain"))]
        rows = [{column: name, "text": f"{words} two", "speaker": who} for name, who, words in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, who, words in (("ann.en.srt", ANN, PLANTED), ("bob.srt", BOB, "plain")):
        cues = (f"{cue}\n00:00:0{cue},000 --> 00:00:0{cue},900\n<v {who}>{words} cue {cue}\n" for cue in (0, 1))
        (raw / "talks" / name).write_text("\n".join(cues))


def test_rows_of_other_layouts_are_listed_by_file_and_line_until_a_person_has_removed_them(project):
    folder = project()
    write_kaldi(RAW / "kaldi")
    write_common_voice(RAW / "common")
    write_others(RAW)
    clips = read_sources(RAW)[0]
    new = {"kaldi": 2, "common": 2, "table": 2, "nemo": 2, "tree": 2, "talks": 4}
    assert {name: sum(clip.source == name for clip in clips) for name in new} == new
    before = {
        path: content for path, content in everything(RAW).items() if path.suffix not in (".wav", ".flac", ".srt")
    }
    sounds = [RAW / clip.recorded_file for clip in clips if clip.speaker == ANN] + [RAW / "common/clips/73.wav"]
    traces = [window for path in sounds for window in windows(path.read_bytes())]
    bob = of_bob()
    result = run_forget("--speaker", ANN, "--yes")
    assert (result.returncode, begun() == []) == (1, False)
    assert left(folder, traces) == []
    assert of_bob() == bob
    assert {path: path.read_bytes() for path in before if path.parent != RAW / "recorded"} == {
        path: content for path, content in before.items() if path.parent != RAW / "recorded"
    }
    assert sorted(path.name for path in (RAW / "talks").iterdir()) == ["bob.srt", "bob.wav"]  # these are whole files
    listed = sorted(re.findall(r"^still there: (data/raw/\S+):(\d+) \(", result.stdout, re.MULTILINE))
    rows = {"table/recordings.csv": (2, 3), "nemo/manifest.json": (1,), "tree/train/metadata.jsonl": (1,)}
    rows |= {"common/validated.tsv": (3,), "common/train.tsv": (3,), "common/invalidated.tsv": (3,)}
    rows |= {"common/clip_durations.tsv": (3, 5, 7)}
    rows |= {f"kaldi/{name}": (1,) for name in ("wav.scp", "text", "utt2spk", "spk2utt", "spk2gender")}
    assert listed == sorted((f"data/raw/{name}", str(line)) for name, lines in rows.items() for line in lines)
    for name, numbers in rows.items():
        lines = (RAW / name).read_text().split("\n")
        (RAW / name).write_text("\n".join(line for number, line in enumerate(lines, 1) if number not in numbers))
    result = run_forget("--speaker", ANN, "--yes")
    assert (result.returncode, result.stderr) == (0, ""), result.stdout[-3000:] + result.stderr
    assert left(folder, [*traces, PLANTED.encode(), ANN.encode()]) == []
    assert of_bob() == bob


@pytest.fixture
def without_dvc(workspace, tmp_path_factory, monkeypatch) -> SimpleNamespace:
    """What finding and searching ask of DVC's repository, in a folder without one."""
    shutil.copy(ROOT / "params.yaml", workspace)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
    return SimpleNamespace(config={"remote": {}}, cache=SimpleNamespace(local=SimpleNamespace(path=".dvc/cache")))


def test_a_converted_copy_of_any_name_is_found(without_dvc):
    clip = hashlib.sha256(sound(RAW / "brought/a.wav", 1).read_bytes()).hexdigest()[:16]
    (RAW / "brought/a.txt").write_text("words")
    converted = sound(Path("data/prepared/audio", clip[:2], f"{clip}.flac"), 1)
    shutil.copy(converted, "copy.flac")
    todo = erasing.find(None, clip, Path(".dvc/cache"))
    erasing._erase_from_raw(todo)
    converted.unlink()
    assert searching.search(todo, without_dvc) == ["copy.flac (sound)"]


def test_the_same_bytes_that_another_speaker_has_just_uploaded_erase_nothing(without_dvc):
    content = sound(RAW / "brought/a.wav", 1).read_bytes()
    (RAW / "brought/t.csv").write_text(f"file,text,speaker\na.wav,words,{ANN}\n")
    take = takes.from_file(content, ".wav", "words", "en", load_params().prepare)
    inbox.save_clip(take, text="words", language="en", speaker=BOB, source="uploaded")
    with pytest.raises(UserError, match="others than"):
        erasing.find(ANN, None, Path(".dvc/cache"))


def test_a_row_that_names_an_erased_recording_without_its_ending_is_listed(without_dvc):
    sound(RAW / "brought/a.wav", 1)
    sound(RAW / "brought/b.wav", 2)
    (RAW / "brought/t.csv").write_text(f"file,text\na,{PLANTED} said this\nb,plain words here\n")
    clip = hashlib.sha256((RAW / "brought/a.wav").read_bytes()).hexdigest()[:16]
    todo = erasing.find(None, clip, Path(".dvc/cache"))
    assert todo.files == ["brought/a.wav"]
    erasing._erase_from_raw(todo)
    assert searching.search(todo, without_dvc) == ["data/raw/brought/t.csv:2 (a text)"]


def test_ids_of_parts_are_erased_and_searched_for_also_behind_a_linked_folder(workspace, without_dvc):
    disk = workspace.parent / "disk"
    (workspace / "data").rename(disk) if (workspace / "data").exists() else disk.mkdir()
    (workspace / "data").symlink_to(disk)
    sound(RAW / "brought/a.wav", 1)
    rows = [{"audio_path": "a.wav", "text": f"part {end}", "begins_s": end - 0.5, "ends_s": end} for end in (0.5, 1)]
    (RAW / "brought/clips.jsonl").write_text("".join(json.dumps({**row, "speaker": ANN}) + "\n" for row in rows))
    digest = hashlib.sha256((RAW / "brought/a.wav").read_bytes()).hexdigest()
    parts = [clip_id(digest, row["begins_s"], row["ends_s"]) for row in rows]
    set_params(workspace, push__dataset__confirmed=[parts[0], "0" * 16])
    write_json(Path("data/notes.json"), parts[1])
    todo = erasing.find(ANN, None, Path(".dvc/cache"))
    erasing._erase_from_raw(todo)
    erasing._erase_by_name(todo)
    assert load_params().push.dataset.confirmed == ["0" * 16]
    assert [one.rpartition("/")[2] for one in searching.search(todo, without_dvc)] == ["notes.json:1 (an id)"]


@pytest.mark.parametrize("other", [BOB, None])
def test_a_recording_in_which_others_may_speak_is_named_before_anything_is_erased(project, other):
    folder = project()
    sound(RAW / "brought/a.wav", 1)
    rows = [{"audio_path": "a.wav", "text": "one", "speaker": who, "begins_s": 0, "ends_s": 1} for who in (ANN, other)]
    (RAW / "brought/clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = everything(folder / "workspace/data")
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert "data/raw/brought/a.wav: others than" in result.stderr
    assert everything(folder / "workspace/data") == before


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


def test_a_recording_put_in_the_place_of_an_erased_one_stays(project):
    """The first time ends unfinished, since a row of another layout is still there."""
    project()
    sound(RAW / "brought/a.wav", 1)
    table = RAW / "brought/transcripts.csv"
    table.write_text(f"file,text,speaker\na.wav,one,{ANN}\n")
    assert run_forget("--speaker", ANN, "--yes").returncode == 1
    assert not (RAW / "brought/a.wav").exists()
    content = sound(RAW / "brought/a.wav", 2).read_bytes()
    table.write_text(f"file,text,speaker\na.wav,two,{BOB}\n")
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert (RAW / "brought/a.wav").read_bytes() == content


@pytest.mark.parametrize("where", ["inbox", "data/raw"])
def test_a_clip_that_no_training_has_seen_costs_no_model(project, where):
    folder = project()
    if where == "data/raw":
        inbox.bring_in()  # since the last training
    stray = Path("data/prepared/audio", make_take(17).id[:2], f"{make_take(17).id}.flac")  # its prepare was killed
    for path in (stray, stray.with_name(f".{stray.name}-x")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_take(17).content)
    results, cache = everything(Path("data/checkpoints")), everything(Path(".dvc/cache"))
    take = make_take(17)
    result = run_forget("--clip", take.id, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert left(folder, windows(take.content)) == [] and inbox.waiting() == 0
    assert everything(Path("data/checkpoints")) == results
    assert "Stage 'train' didn't change" in dvc(Path(), "repro").stdout
    assert where == "data/raw" or cache.items() <= everything(Path(".dvc/cache")).items()


def test_a_speaker_of_older_versions_only_is_known_and_erased(project):
    folder = project()
    traces = traces_of_ann(folder)
    for clip in inbox.stored_clips():
        if clip.speaker == ANN:
            inbox.delete(clip)
    inbox.bring_in()
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "data/raw/recorded: 8, in older versions only" in result.stdout
    assert left(folder, traces) == []


def test_the_same_bytes_under_another_name_go_too(project):
    folder = project()
    (RAW / "copies/deep").mkdir(parents=True)
    take = make_take(5)
    (RAW / "copies/deep/x.flac").write_bytes(take.content)
    (RAW / "copies/deep/x.txt").write_text("what it says")
    (RAW / "copies/bob.flac").write_bytes(make_take(2).content)
    (RAW / "copies/bob.txt").write_text("stays")
    dvc(Path(), "add", str(RAW))
    result = run_forget("--clip", take.id, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert left(folder, windows(take.content)) == []
    assert sorted(path.name for path in (RAW / "copies").rglob("*")) == ["bob.flac", "bob.txt"]


def test_a_recording_that_is_another_speakers_by_now_and_words_that_both_said_stay(project):
    project()
    rows = RAW / "recorded/clips.jsonl"
    text = rows.read_text()
    line = next(line for line in text.split("\n") if make_take(5).id in line)
    rows.write_text(text.replace(line, line.replace(ANN, BOB)))
    save(18, BOB, f"{PLANTED} 7")
    inbox.bring_in()
    dvc(Path(), "repro")
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert (RAW / f"recorded/{make_take(5).id}.flac").read_bytes() == make_take(5).content
    assert f"{PLANTED} 7" in {clip.text for clip in inbox.stored_clips()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--speaker", "Ann", "--yes"], f"no recording, consent or phrase is of 'Ann'; known are: {ANN}, {BOB}"),
        (["--clip", "0123456789abcdef", "--yes"], "no recording has the id"),
        (["--clip", "recorded/x", "--yes"], "is not an id"),
        (["--speaker", " "], "the name is empty"),
        (["--speaker", ANN], "nobody answered"),
    ],
)
def test_without_a_known_name_and_an_answer_nothing_is_erased(project, arguments, words):
    folder = project()
    before = everything(folder)
    result = run_forget(*arguments)
    assert result.returncode == 1 and words in result.stderr and result.stderr.count("\n") == 1
    changed = {path for path, content in everything(folder).items() if before.get(path) != content}
    assert [path for path in changed if ".dvc/tmp" not in str(path)] == []


def test_while_a_run_is_at_work_it_waits_and_then_refuses(project, monkeypatch):
    project()
    monkeypatch.setattr(forget, "PATIENCE_S", 1.0)
    with lock(runs.RUN_LOCK), pytest.raises(UserError, match=r"^at work: the pipeline"):
        forget.forget(ANN, None, yes=True, hub=False)
    assert len(inbox.stored_clips()) == 17
    with lock(runs.RUN_LOCK):
        command = [sys.executable, "-m", "recorder.forget", "--speaker", ANN, "--yes"]
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert waiting.stdout.readline() == "waiting for the pipeline\n"
        assert waiting.poll() is None and len(inbox.stored_clips()) == 17
    waiting.communicate(timeout=120)
    assert waiting.returncode == 0


@pytest.mark.parametrize("who", ["an experiment", "a training"])
def test_what_works_beside_the_pipeline_is_waited_for(project, who):
    """An experiment in a copy of the folder, and a stage that was started by hand, which holds its cache's lock."""
    project()
    place = Path(".dvc/tmp/exps/tmpabc")
    place.mkdir(parents=True)
    at_work = subprocess.Popen(["sleep", "60"], cwd=place if who == "an experiment" else None)
    held = Path(".cache/training/run.lock") if who == "a training" else Path(".cache/hub/other.lock")
    try:
        with lock(held), pytest.raises(UserError, match=f"{at_work.pid}" if who == "an experiment" else str(held)):
            forget.forget(ANN, None, yes=True, hub=False)
    finally:
        at_work.kill()
        at_work.wait()
    assert len(inbox.stored_clips()) == 17


def test_every_kind_of_cache_is_erased_or_public():
    sources = "".join(path.read_text() for folder in ("stages", "recorder") for path in (ROOT / folder).rglob("*.py"))
    kinds = re.findall(r'(?:ContentCache\(|cache_root\(\) / )"([\w-]+)"', sources)
    assert {"prepared", "training"} <= set(kinds) <= {*erasing.CACHES, *erasing.PUBLIC_CACHES}


def test_recordings_that_were_not_pulled_are_not_forgotten(project):
    project()
    next(RAW.glob("recorded/*.flac")).unlink()
    tracked = Path("data/raw.dvc").read_text()
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 1 and "run 'make pull'" in result.stderr
    assert Path("data/raw.dvc").read_text() == tracked and not begun()


def test_a_copy_elsewhere_is_named_until_it_is_gone_and_does_not_keep_from_another_erasing(project):
    project(with_git=True)
    take = make_take(5)
    Path("my copies").mkdir()
    Path("my copies/all.bin").write_bytes(b"\0" * 1000 + take.content)
    Path("notes.txt").write_text(f"nothing\nsays: {PLANTED} 5\n")
    git("add", "--force", f"data/raw/recorded/{take.id}.flac")
    git("commit", "--quiet", "--message", "by mistake")
    git("rm", "--quiet", "--cached", f"data/raw/recorded/{take.id}.flac")
    git("commit", "--quiet", "--message", "out again")
    result = run_forget("--clip", take.id, "--yes")
    assert result.returncode == 1, result.stderr
    still_there = [line.split()[2:5] for line in result.stdout.splitlines() if line.startswith("still there:")]
    assert sorted(still_there) == [
        ["git", "has", "a"],
        ["my", "copies/all.bin", "(sound)"],
        ["notes.txt:2", "(a", "text)"],
    ]
    result = run_forget("--clip", make_take(7).id, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Not finished: make forget for {take.id}." in result.stdout
    shutil.rmtree("my copies")
    Path("notes.txt").unlink()
    shutil.rmtree(".git")
    git("init", "--quiet")
    result = run_forget("--clip", take.id, "--yes")
    assert result.returncode == 0 and begun() == [], result.stdout + result.stderr


def test_a_remote_that_cannot_be_reached_is_named_and_cleared_later(project):
    folder = project()
    traces = traces_of_ann(folder)
    dvc(Path(), "remote", "add", "far", "ssh://nobody@127.0.0.1:9/x")
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 1 and "still there: DVC's remote far could not be cleared" in result.stdout
    assert "Traceback" not in result.stderr
    dvc(Path(), "remote", "remove", "far")
    assert run_forget("--speaker", ANN, "--yes").returncode == 0
    assert left(folder, traces) == []


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
    folder = project(with_git=True, name="whole")
    traces, bob = traces_of_ann(folder), of_bob()
    exitcode, changes = forget_in_a_child(folder / "workspace", -1)
    assert (exitcode, left(folder, traces)) == (0, [])
    assert changes > 200
    for number, point in enumerate(points):
        at_change = 1 + int(point * changes)
        folder = project(with_git=True, name=f"killed-{at_change}")
        assert forget_in_a_child(folder / "workspace", at_change)[0] == 9
        result = run_forget("--speaker", ANN, "--yes")
        assert result.returncode == 0, f"killed at {at_change}: {result.stdout[-2000:]}{result.stderr}"
        assert left(folder, traces) == [], f"killed at {at_change}"
        assert of_bob() == bob
        if number % 4 == 0:
            dvc(Path(), "repro", "split")
        os.chdir(tmp_path)
        shutil.rmtree(folder)


@pytest.fixture
def hub(environment, tmp_path):
    held = {kind: {("README.md"): b"x"} for kind in ("model", "dataset", "space")}
    repositories = {(kind, f"me/{kind}"): files for kind, files in held.items()}
    with HubServer(
        {**repositories, ("model", "me/else"): {"a": b"b"}}, tokens={"good": "write:me", "bad": "read"}
    ) as server:
        yield server


def with_receipts() -> None:
    write_json(Path("data/receipts/push.json"), {"published": True, "repo_id": "me/model", "url": "x"})
    write_json(Path("data/receipts/dataset.json"), {"published": True, "repo_id": "me/dataset"})
    write_json(Path("data/receipts/deploy.json"), {"published": True, "space_id": "me/space"})
    set_params(Path(), push__enabled=True, push__repo_id="me/else")
    (runs.FOLDER / "pseudonyms.json").unlink()


def test_hub_repositories_are_named_and_stay_unless_told(project, hub, tmp_path):
    project()
    with_receipts()
    result = run_forget("--speaker", ANN, "--yes", environment=hub.environment(tmp_path, token="good"))
    assert result.returncode == 0, result.stdout + result.stderr
    for line in (f"model me/model: {hub.url}/me/model", f"dataset me/dataset: {hub.url}/datasets/me/dataset"):
        assert line in result.stdout
    assert "model me/else" in result.stdout and "perhaps" in result.stdout
    assert len(hub.repositories) == 4


def test_each_hub_repository_is_asked_for(project, hub, tmp_path):
    project()
    with_receipts()
    answers = f"{ANN}\nme/model\nno\n\nme/else\n"
    result = run_forget("--speaker", ANN, "--hub", answers=answers, environment=hub.environment(tmp_path, token="good"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(hub.repositories) == {("dataset", "me/dataset"), ("space", "me/space")}


def test_without_the_right_token_what_is_left_on_the_hub_is_named_and_can_be_done_later(project, hub, tmp_path):
    folder = project()
    traces = traces_of_ann(folder)
    with_receipts()
    result = run_forget("--speaker", ANN, "--yes", "--hub", environment=hub.environment(tmp_path, token="bad"))
    assert result.returncode == 1 and len(hub.repositories) == 4
    assert "still there: model me/model on the Hub" in result.stdout
    assert "bad" not in result.stdout + result.stderr
    assert left(folder, [trace for trace in traces if len(trace) == 64 and trace not in begun()[0].read_bytes()]) == []
    result = run_forget("--speaker", ANN, "--yes", environment=hub.environment(tmp_path, token="good"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(hub.repositories) == {("model", "me/else")}  # perhaps another's: never without a question
    assert left(folder, traces) == []


# Searching


def test_pieces_are_of_sound_and_never_of_silence():
    noise = os.urandom(4000)
    assert len(pieces_of(noise)) == 4 and all(piece in noise for piece in pieces_of(noise))
    assert pieces_of(bytes(100_000)) == []
    assert pieces_of(b"") == pieces_of(b"short") == []
    assert [piece in noise for piece in pieces_of(bytes(40_000) + noise)] == [True]


def test_search_finds_a_piece_across_the_parts_that_it_reads_and_names_the_line(tmp_path, monkeypatch):
    monkeypatch.setattr("recorder.traces.READ_BYTES", 1000)
    traces = Traces({b"needle in a haystack": "needle", b"\nabc": "letters"})
    path = tmp_path / "file"
    for place in (0, 985, 990, 999, 1000, 2380):
        path.write_bytes(b"-" * place + b"needle in a haystack" + b"-" * (2400 - 20 - place))
        assert set(traces.in_file(path)) == {(1, "needle")}, place
    for lines in (0, 1, 499, 500, 1499):
        path.write_bytes(b"-\n" * lines + b"abc\nd")
        assert set(traces.in_file(path)) == {(lines + 1, "letters")}, lines
    path.write_bytes(b"-" * 999 + b"abc" + b"-" * 999)
    assert list(traces.in_file(path)) == []

"""Erasing: no byte of the speaker's recordings is left anywhere, nobody else loses one, and a kill changes neither."""

import csv
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recorder import forget, inbox, reading, runs
from recorder.erasing.rows import tables_without
from recorder.erasing.todo import ERASING_FILES, Wanted
from recorder.erasing.traces import Traces, pieces_of
from stages.common.cache import ContentCache
from stages.common.files import sha256_of_file, write_json
from stages.common.locks import lock
from stages.common.stage import UserError
from stages.hub.local.server import HubServer
from stages.speech import prepared
from stages.speech.sources import read_sources
from tests.recordings import make_take, python, recorder_environment, spoken, track_recordings
from tests.workspaces import ROOT, dvc, read_json, read_rows, set_params

RAW = Path("data/raw")
ANN, BOB = "Annegret", "Bob"
PLANTED = "quokka"  # in all of Ann's texts, and nowhere else
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
    deps: [data/prepared/clips.jsonl]
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


def write_phone() -> None:
    """A folder that the page does not write: a table with line ends in cells, other columns, and two people."""
    folder = RAW / "phone"
    folder.mkdir(parents=True)
    with (folder / "transcripts.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "text", "speaker", "note"])
        for number in range(20, 30):
            samples, rate_hz = spoken(number)
            speaker = ANN if number % 3 == 0 else BOB
            name = f"take {number}.wav"
            soundfile.write(folder / name, samples, rate_hz)
            text = f'says "{PLANTED}"\nnumber {number}' if speaker == ANN else f'says "other",\nnumber {number}'
            writer.writerow([name, text, speaker, "kept, as it is"])


def make_project(folder: Path, with_git: bool) -> None:
    """Two people's recordings in three versions, results of each, an experiment, a remote and full caches."""
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    os.chdir(workspace)
    shutil.copy(ROOT / "params.yaml", workspace)
    shutil.copy(ROOT / ".gitignore", workspace)
    (workspace / "dvc.yaml").write_text(PIPELINE)
    set_params(workspace, split__test_fraction=0.3, split__validation_fraction=0.3, prepare__workers=1)
    if with_git:
        git("init", "--quiet")
    track_recordings(workspace, no_scm=not with_git)
    dvc(workspace, "config", "core.analytics", "false")
    (folder / "remote").mkdir()
    dvc(workspace, "remote", "add", "--default", "store", "../remote")
    write_phone()
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
    run = {"id": "2026-01-01T00-00-00.000000Z", "started_at": "2036-01-01T00:00:00+00:00", "started_by": "make"}
    run |= {"settings": {"train.mode": "lora"}, "clips": 9, "outcome": "done", "why": "", "stage_seconds": {}}
    write_json(runs.RUNS / run["id"] / "run.json", run)
    ann = next(clip for clip in inbox.stored_clips() if clip.speaker == ANN)
    (runs.RUNS / run["id"] / "log.txt").write_text(f"before\nrejected, e.g. {ann.file}\nafter\n")
    ContentCache("base-predictions").write({"sound": "a"}, f'{{"text": "{PLANTED} heard"}}'.encode())
    ContentCache("base-transcripts").write({"sound": "a"}, f"{PLANTED} heard".encode())
    for name in ("training/run/checkpoint-1/notes.txt", "merged/one/notes.txt", "dataset/one/data.parquet"):
        path = Path(".cache", name)
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
    return list(runs.FOLDER.glob(ERASING_FILES))


def windows(content: bytes) -> list[bytes]:
    """64 bytes from several places, none of them silence."""
    starts = range(len(content) // 8, len(content) - 64, max(len(content) // 40, 1))
    chosen = [window for start in starts if len(set(window := content[start : start + 64])) > 24]
    assert len(chosen) >= 5
    return chosen[:: len(chosen) // 5]


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def traces_of_ann(folder: Path) -> list[bytes]:
    """Of every recording that was ever hers, in any version, and of its converted sound."""
    ids = {make_take(number).id for number in (*range(1, 16, 2), 17)}
    sounds = [make_take(number).content for number in (*range(1, 16, 2), 17)]
    sounds += [(folder / f"workspace/data/raw/phone/take {number}.wav").read_bytes() for number in (21, 24, 27)]
    converted = [sound for path in (folder / "workspace/data/prepared/audio").iterdir() for sound in sounds_in(path)]
    theirs = [content for clip_id, content in converted if clip_id in ids]
    assert len(theirs) == 7  # of take 1 in older versions only, 17 in the inbox
    sounds += theirs
    return [PLANTED.encode(), ANN.encode(), *(window for sound in sounds for window in windows(sound))]


def sounds_in(shard: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(shard) as archive:
        return [(Path(name).stem, archive.read(name)) for name in archive.namelist()]


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
    traces, bob = traces_of_ann(folder), of_bob()
    assert len(left(folder, traces)) > 50
    assert len(bob) == 16
    result = run_forget("--speaker", ANN, "--yes")
    assert (result.returncode, result.stderr) == (0, ""), result.stdout[-3000:] + result.stderr
    assert left(folder, traces) == []
    assert of_bob() == bob
    assert read_sources(RAW)[1] == []
    assert [row["speaker"] for row in read_rows(RAW / "recorded/consents.jsonl")] == [BOB]
    assert read_json(reading.OWN_PHRASES) == {BOB: {"en": ["my phrase"]}}
    known = {"key": "00", "next": 3, "speakers": {BOB: "speaker-2"}}
    assert read_json(runs.FOLDER / "pseudonyms.json") == {"me/clips": known}
    (log,) = runs.RUNS.glob("*/log.txt")
    assert log.read_text() == "before\nafter\n"
    assert not begun() and inbox.waiting() == 0

    dvc(Path(), "repro")
    rows = read_rows(Path("data/prepared/clips.jsonl"))
    assert {row["speaker"] for row in rows} == {BOB} and len(rows) == 16
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
        "  data/raw/recorded: 7 (",
        "  data/raw/phone: 3 (",
        "  data/raw/recorded: 1 (2 seconds; en), saved but not yet in data/raw",
        "  data/raw/recorded: 1 (2 seconds; en), in older versions only",
        "the present model, its evaluation",
        "training of 2036-01-01T00:00:00+00:00, done (train.mode lora)",
        "experiment other-split",
        "2 versions in git",
        "DVC's remote store",
        "dataset me/clips: ",
    ):
        assert words in result.stdout
    changed = {path for path, content in everything(folder).items() if before.get(path) != content}
    assert [path for path in changed if ".dvc/tmp" not in str(path)] == []


def test_rows_of_others_stay_byte_for_byte(project):
    project()
    table, rows = RAW / "phone/transcripts.csv", RAW / "recorded/clips.jsonl"
    with table.open(newline="", encoding="utf-8-sig") as file:
        kept = [row for row in csv.reader(file) if row[2] != ANN]
    lines = [line for line in rows.read_bytes().split(b"\n") if ANN.encode() not in line]
    size = len(table.read_bytes())
    assert run_forget("--speaker", ANN, "--yes").returncode == 0
    with table.open(newline="", encoding="utf-8-sig") as file:
        assert list(csv.reader(file)) == kept
    content = table.read_bytes()
    assert content.startswith(b"\xef\xbb\xbffile,") and content.count(b'"says ""other"",\nnumber 20"') == 1
    assert len(content) < size
    assert rows.read_bytes().split(b"\n") == lines


def test_one_clip_alone_is_erased_by_its_id(project):
    folder = project()
    inbox.bring_in()
    take = make_take(5)
    traces = [*windows(take.content), b"quokka 5"]
    converted = windows(prepared.content(prepared.path_of(take.id)))
    for place in ("workspace/data/prepared", "workspace/.cache/prepared", "workspace/.dvc/cache", "remote"):
        assert any(name.startswith(place) for name in left(folder, converted))
    traces += converted
    clips = {clip.recorded_file: clip.text for clip in read_sources(RAW)[0]}
    assert len(left(folder, traces)) > 5
    result = run_forget("--clip", take.id, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert left(folder, traces) == []
    del clips[f"recorded/{take.id}.flac"]
    assert {clip.recorded_file: clip.text for clip in read_sources(RAW)[0]} == clips
    assert ANN in inbox.consents() and ANN in read_json(reading.OWN_PHRASES)
    dvc(Path(), "repro", "split")
    assert len(read_rows(Path("data/prepared/clips.jsonl"))) == len(clips)


def sound(path: Path, number: int, seconds: int = 1) -> Path:
    """A recording like no other here, in a format that keeps its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples, rate_hz = spoken(number)
    soundfile.write(path, np.tile(samples, seconds) * (0.5 + number / 200), rate_hz)
    return path


def write_kaldi(folder: Path, with_segments: bool) -> None:
    for number, name in enumerate(("ann.wav", "bob.wav")):
        sound(folder / name, 60 + number + 2 * with_segments)
    (folder / "wav.scp").write_text("ra ann.wav\nrb bob.wav\n")
    (folder / "reco2dur").write_text("ra 2.0\nrb 2.0\n")
    utterances = ("a-1", "a-2", "b-1") if with_segments else ("ra", "rb")
    people = dict(zip(utterances, (ANN, ANN, BOB) if with_segments else (ANN, BOB), strict=True))
    if with_segments:
        (folder / "segments").write_text("a-1 ra 0 0.8\na-2 ra 0.8 1.6\nb-1 rb 0 1.5\n")
    for name, line in {"text": "{0} {2} {0}", "utt2spk": "{0} {1}", "utt2dur": "{0} 1.0"}.items():
        words = {ANN: PLANTED, BOB: "plain"}
        lines = [line.format(utterance, who, words[who]) for utterance, who in people.items()]
        (folder / name).write_text("\n".join(lines) + "\n")
    of_ann, of_bob = ([key for key, who in people.items() if who == name] for name in (ANN, BOB))
    (folder / "spk2utt").write_text(f"{ANN} {' '.join(of_ann)}\n{BOB} {' '.join(of_bob)}\n")
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


def test_a_speaker_is_taken_out_of_every_layout_and_the_others_stay_byte_for_byte(project):
    folder = project()
    write_kaldi(RAW / "kaldi", with_segments=False)
    write_kaldi(RAW / "meeting", with_segments=True)
    write_common_voice(RAW / "common")
    write_others(RAW)
    clips, rejections = read_sources(RAW)
    new = {"kaldi": 2, "meeting": 3, "common": 2, "table": 2, "nemo": 2, "tree": 2, "talks": 4}
    assert {name: sum(clip.source == name for clip in clips) for name in new} == new
    assert {rejection.file for rejection in rejections} == {"common/clips/72.wav", "common/clips/73.wav"}
    assert {clip.speaker for clip in clips} == {ANN, BOB}
    before = {path: content.splitlines() for path, content in everything(RAW).items() if path.suffix != ".wav"}
    theirs = [RAW / clip.recorded_file for clip in clips if clip.speaker == ANN] + [RAW / "common/clips/73.wav"]
    traces = [PLANTED.encode(), ANN.encode(), *(window for path in theirs for window in windows(path.read_bytes()))]
    bob = of_bob()
    result = run_forget("--speaker", ANN, "--yes")
    assert (result.returncode, result.stderr) == (0, ""), result.stdout[-3000:] + result.stderr
    assert left(folder, traces) == []
    assert of_bob() == bob
    assert [rejection.file for rejection in read_sources(RAW)[1]] == ["common/clips/72.wav"]
    for name in ("kaldi", "meeting", "common"):
        for path in (RAW / name).iterdir():
            if path.is_file() and path.suffix != ".wav":
                assert set(path.read_bytes().splitlines()) < set(before[path]), path
    assert (RAW / "meeting/spk2utt").read_text() == f"{BOB} b-1\n"
    assert sorted(path.name for path in (RAW / "talks").iterdir()) == ["bob.srt", "bob.wav"]


def test_one_recording_goes_out_of_kaldis_tables_and_its_speaker_stays(project):
    project()
    write_kaldi(RAW / "kaldi", with_segments=False)
    write_kaldi(RAW / "meeting", with_segments=True)
    for name in ("kaldi", "meeting"):
        (RAW / name / "utt2spk").write_text((RAW / name / "utt2spk").read_text().replace(ANN, BOB))
    (RAW / "meeting/spk2utt").write_text(f"{BOB} a-1 a-2 b-1\n")
    recording = RAW / "meeting/ann.wav"
    result = run_forget("--clip", sha256_of_file(recording)[:16], "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert not recording.exists() and (RAW / "kaldi/ann.wav").exists()
    assert (RAW / "meeting/spk2utt").read_text() == f"{BOB} b-1\n"
    assert (RAW / "meeting/wav.scp").read_text() == "rb bob.wav\n"
    assert (RAW / "kaldi/text").read_text() == f"ra {PLANTED} ra\nrb plain rb\n"


@pytest.mark.parametrize("kind", ["parts of two people", "parts of nobody", "features"])
def test_what_cannot_be_taken_out_alone_is_named_before_anything_is_erased(project, kind):
    folder = project()
    source = RAW / "brought"
    sound(source / "a.wav", 1)
    if kind == "features":
        rows = [{"audio_path": "a.wav", "text": "one", "speaker": ANN}]
        (source / "feats.ark").write_bytes(os.urandom(100))
    else:
        others = BOB if kind == "parts of two people" else None
        rows = [
            {"audio_path": "a.wav", "text": "one", "speaker": who, "begins_s": 0, "ends_s": 1} for who in (ANN, others)
        ]
    (source / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = everything(folder / "workspace/data")
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 1
    named = (
        "feats.ark holds features" if kind == "features" else f"a.wav: not all of its parts are known to be of {ANN}"
    )
    assert f"data/raw/brought/{named}" in result.stderr and len(result.stderr.splitlines()) == 1
    assert everything(folder / "workspace/data") == before


def test_a_clip_that_no_version_has_costs_no_results(project):
    project()
    results, cache = everything(Path("data/checkpoints")), everything(Path(".dvc/cache"))
    result = run_forget("--clip", make_take(17).id, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert inbox.waiting() == 0
    assert everything(Path("data/checkpoints")) == results
    assert everything(Path(".dvc/cache")) == cache


def test_a_clip_that_no_training_has_seen_costs_no_model(project):
    folder = project()
    inbox.bring_in()  # take 17: in data/raw since the last training
    results = everything(Path("data/checkpoints"))
    take = make_take(17)
    result = run_forget("--clip", take.id, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "not the present model" in result.stdout
    assert left(folder, windows(take.content)) == []
    assert everything(Path("data/checkpoints")) == results
    assert "Stage 'train' didn't change" in dvc(Path(), "repro").stdout


def test_a_speaker_of_older_versions_only_is_known_and_erased(project):
    folder = project()
    traces = traces_of_ann(folder)
    for clip in inbox.stored_clips():
        if clip.speaker == ANN:
            inbox.delete(clip)
    inbox.bring_in()
    table = RAW / "phone/transcripts.csv"
    table.write_text("file,text,speaker\n" + "".join(f'take {number}.wav,"n",{BOB}\n' for number in (20, 22)))
    for number in (21, 24, 27):
        (RAW / f"phone/take {number}.wav").unlink()
    dvc(Path(), "add", str(RAW))
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "data/raw/phone: 3 (" in result.stdout and "in older versions only" in result.stdout
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


def test_a_recording_that_is_another_speakers_by_now_stays(project):
    project()
    rows = RAW / "recorded/clips.jsonl"
    text = rows.read_text()
    line = next(line for line in text.split("\n") if make_take(5).id in line)
    rows.write_text(text.replace(line, line.replace(ANN, BOB)))
    dvc(Path(), "repro")
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert (RAW / f"recorded/{make_take(5).id}.flac").read_bytes() == make_take(5).content


def test_words_that_another_speaker_said_too_are_no_trace(project):
    project()
    clip_id = save(18, BOB, f"{PLANTED} 5")
    inbox.bring_in()
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert [clip.text for clip in inbox.stored_clips() if clip.id == clip_id] == [f"{PLANTED} 5"]


def test_a_name_that_nobody_has_is_one_line_with_those_that_are_known(project):
    folder = project()
    before = everything(folder)
    result = run_forget("--speaker", "Ann", "--yes")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"forget: no recording, consent or phrase is of 'Ann': known here: {ANN}, {BOB}\n"
    for clip, words in (("0123456789abcdef", "no recording has the id"), ("recorded/x", "is no id")):
        result = run_forget("--clip", clip, "--yes")
        assert result.returncode == 1 and words in result.stderr and result.stderr.count("\n") == 1
    assert {path for path, content in everything(folder).items() if before.get(path) != content} == set()


def test_without_an_answer_nothing_is_erased(project):
    project()
    result = run_forget("--speaker", ANN)
    assert result.returncode == 1 and "nobody answered" in result.stderr
    assert len(inbox.stored_clips()) == 17


def test_while_a_run_is_at_work_it_waits_and_then_refuses(project, monkeypatch):
    project()
    monkeypatch.setattr(forget, "PATIENCE_S", 1.0)
    with lock(runs.RUN_LOCK), pytest.raises(UserError, match=r"^at work: the pipeline"):
        forget.forget(Wanted(speaker=ANN), yes=True, hub=False)
    code = f"""
import sys
from pathlib import Path
from stages.common.locks import lock
with lock(Path({str(runs.RUN_LOCK)!r})):
    print("held", flush=True)
    sys.stdin.readline()
"""
    runner = subprocess.Popen(python(code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert runner.stdout.readline() == "held\n"
    waiting = subprocess.Popen(
        [sys.executable, "-m", "recorder.forget", "--speaker", ANN, "--yes"], stdout=subprocess.PIPE, text=True
    )
    assert any("waiting for the pipeline" in line for line in waiting.stdout)  # and not the end of its output
    assert waiting.poll() is None and len(inbox.stored_clips()) == 17
    runner.communicate("go on\n", timeout=120)
    waiting.communicate(timeout=120)
    assert waiting.returncode == 0


def test_an_experiment_in_a_copy_of_the_folder_counts_as_at_work(project, monkeypatch):
    project()
    monkeypatch.setattr(forget, "PATIENCE_S", 0.5)
    place = Path(".dvc/tmp/exps/tmpabc")
    place.mkdir(parents=True)
    at_work = subprocess.Popen(["sleep", "60"], cwd=place)
    try:
        with pytest.raises(UserError, match=rf"^at work: an experiment \(process {at_work.pid}\)"):
            forget.forget(Wanted(speaker=ANN), yes=True, hub=False)
    finally:
        at_work.kill()
        at_work.wait()


def test_recordings_that_were_not_pulled_are_not_forgotten(project):
    project()
    (RAW / "phone/take 20.wav").unlink()
    tracked = Path("data/raw.dvc").read_text()
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 1 and "run 'make pull'" in result.stderr
    assert Path("data/raw.dvc").read_text() == tracked and not begun()


def test_a_copy_that_was_put_elsewhere_is_found_and_named(project):
    project()
    Path("my copies").mkdir()
    Path("my copies/all.bin").write_bytes(b"x" * 1000 + make_take(5).content)
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 1
    assert "still there: my copies/all.bin holds " in result.stdout
    assert result.stderr == "forget: not ended, 1 to be done by hand: see above, then run this again\n"
    shutil.rmtree("my copies")
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 0 and "nothing found" in result.stdout
    assert not begun()


def test_a_recording_that_was_committed_to_git_is_named(project):
    project(with_git=True)
    git("add", "--force", f"data/raw/recorded/{make_take(5).id}.flac")
    git("commit", "--quiet", "--message", "by mistake")
    git("rm", "--quiet", "--cached", f"data/raw/recorded/{make_take(5).id}.flac")
    git("commit", "--quiet", "--message", "out again")
    result = run_forget("--speaker", ANN, "--yes")
    assert result.returncode == 1 and "still there: git has a recording as " in result.stdout


def test_what_stands_in_the_way_of_one_erasing_does_not_keep_from_another(project):
    project()
    copy = Path("copy.bin")
    copy.write_bytes(make_take(5).content)
    assert run_forget("--clip", make_take(5).id, "--yes").returncode == 1
    result = run_forget("--clip", make_take(7).id, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Not yet ended: make forget for {make_take(5).id}." in result.stdout
    copy.unlink()
    assert run_forget("--clip", make_take(5).id, "--yes").returncode == 0
    assert begun() == []


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
    forget.forget(Wanted(speaker=ANN), yes=True, hub=False)


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


def test_hub_repositories_that_receipts_name_are_deleted_when_told(project, hub, tmp_path):
    project()
    with_receipts()
    result = run_forget("--speaker", ANN, "--yes", "--hub", environment=hub.environment(tmp_path, token="good"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(hub.repositories) == {("model", "me/else")}  # perhaps another's: never without a question
    assert "stays on the Hub: model me/else" in result.stdout


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
    assert set(hub.repositories) == {("model", "me/else")}
    assert left(folder, traces) == []


# Searching


def test_pieces_are_of_sound_and_never_of_silence():
    noise = os.urandom(4000)
    assert len(pieces_of(noise)) == 4 and all(piece in noise for piece in pieces_of(noise))
    assert pieces_of(bytes(100_000)) == []
    assert pieces_of(b"") == pieces_of(b"short") == []
    assert [piece in noise for piece in pieces_of(bytes(40_000) + noise)] == [True]


def test_search_finds_a_piece_across_the_parts_that_it_reads(tmp_path, monkeypatch):
    monkeypatch.setattr("recorder.erasing.traces.READ_BYTES", 1000)
    traces = Traces({b"needle in a haystack": "needle", b"abc": "letters"})
    path = tmp_path / "file"
    for place in (0, 985, 990, 999, 1000, 2380):
        path.write_bytes(b"-" * place + b"needle in a haystack" + b"-" * (2400 - 20 - place))
        assert traces.in_file(path) == "needle", place
    path.write_bytes(b"-" * 999 + b"ab" + b"-" * 999)
    assert traces.in_file(path) is None
    path.write_bytes(b"-" * 998 + b"abc")
    assert traces.in_file(path) == "letters"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_tables_without_a_header_lose_only_the_named_row(tmp_path, line_end):
    table = tmp_path / "metadata.csv"
    table.write_bytes(line_end.join(["a|one|ONE", "b|two|TWO", "bb|three|THREE", ""]).encode())
    kept = table.read_bytes().replace(f"b|two|TWO{line_end}".encode(), b"")
    assert list(tables_without(tmp_path, {"wavs/b.wav"})) == [(table, kept)]
    assert list(tables_without(tmp_path, {"wavs/a.wav", "wavs/b.wav", "wavs/bb.wav"})) == [(table, b"")]

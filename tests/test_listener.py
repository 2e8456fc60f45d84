"""The process behind "Try it", with the tiny model after a short training: what it answers, and when it ends."""

import contextlib
import io
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from recorder import base_and_tuned
from recorder.listener import Listener, log_path
from stages.common.params import ModelParams
from stages.common.stage import UserError
from stages.speech import audio
from tests.recordings import wait_until
from tests.workspaces import ROOT, copy_project, read_rows, set_params

TINY_MODEL = "data/demo/voxtral-tiny"
# A page's server by itself: it asks, and then waits to be killed.
SERVER = """
import sys, time
from recorder.listener import Listener
print(Listener().transcribe(open(sys.argv[1], "rb").read(), "en").base, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def trained(trained_project, tmp_path_factory):
    """A project in which a training of a few seconds has run, made the working folder."""
    workspace = copy_project(trained_project, tmp_path_factory.mktemp("listener") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        for name in ("OWNVOICE_CACHE", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield workspace


@pytest.fixture(scope="module")
def listener(trained):
    listener = Listener()
    yield listener
    listener.stop()
    assert processes() == []


@pytest.fixture(scope="module")
def heard(trained):
    """Of each test clip, in order: the recorded file, and what the evaluation's models heard in it."""
    rows = {
        (row["id"], row["model"]): row["hypothesis"] for row in read_rows(Path("data/evaluation/predictions.jsonl"))
    }
    return [
        (Path("data/raw", clip["recorded_file"]).read_bytes(), rows[clip["id"], "base"], rows[clip["id"], "tuned"])
        for clip in read_rows(Path("data/split/test.jsonl"))
    ]


def processes(server: psutil.Process | None = None) -> list[psutil.Process]:
    """Those with the models that a server, by default this test, has started."""
    found = []
    for child in (server or psutil.Process()).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # or not waited for yet
            found += [child] if any("spawn_main" in word for word in child.cmdline()) else []
    return found


@contextlib.contextmanager
def untrained(workspace, model_name):
    """For a while no checkpoint is there, and params.yaml names this model."""
    Path("data/checkpoints").rename("data/away")
    set_params(workspace, model__name=model_name)
    try:
        yield
    finally:
        set_params(workspace, model__name=TINY_MODEL)
        shutil.rmtree("data/checkpoints", ignore_errors=True)
        Path("data/away").rename("data/checkpoints")


def in_thread(work):
    """Run `work` in a thread; returns the thread and the list that takes its result or its UserError."""
    results = []

    def run():
        try:
            results.append(work())
        except UserError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_what_the_page_imports_loads_neither_torch_nor_anything_as_heavy():
    check = "import sys; from recorder import collection, listener, pictures, results; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    heavy = {"torch", "transformers", "peft", "librosa", "datasets", "mistral_common", "streamlit", "pandas"}
    assert heavy & set(modules.split()) == set()


def test_answers_are_those_of_the_evaluation_from_models_that_are_loaded_once(listener, heard):
    differing = [entry for entry in heard if entry[1] != entry[2]]
    assert differing, "the training changed nothing, so this test shows nothing"
    used = set()
    for content, base, tuned in [*differing[:2], heard[0]]:
        answer = listener.transcribe(content, "en")
        assert (answer.base, answer.tuned) == (base, tuned)
        assert answer.model == TINY_MODEL and answer.seconds > 0 and listener.is_running
        used |= {process.pid for process in processes()}
    assert len(used) == 1


def a_file(samples, rate_hz=16_000, **options) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, **options)
    return file.getvalue()


def test_what_cannot_be_transcribed_gets_a_plain_sentence_and_the_process_lives_on(listener, heard):
    good = heard[0][0]
    listener.transcribe(good, "en")
    before = processes()
    for content, words in (
        (b"no sound at all", "This recording cannot be read"),
        (a_file([], format="WAV"), "This recording cannot be read"),
        (a_file([0.0] * 60 * 16_000, format="WAV"), "60 seconds are too long for the model"),
    ):
        with pytest.raises(UserError, match=f"^{words}") as caught:
            listener.transcribe(content, "en")
        assert "\n" not in str(caught.value)
    assert listener.transcribe(good, "en").base == heard[0][1]
    assert processes() == before


def test_sound_of_several_windows_at_another_rate_and_of_any_language_is_heard(listener, heard):
    samples, sample_rate_hz = audio.decode(heard[0][0])
    longer = np.tile(samples[::2], (4, 2))
    assert len(longer) / (sample_rate_hz / 2) > 2 * 4.0  # seconds in one of the tiny model's windows
    answer = listener.transcribe(a_file(longer, sample_rate_hz // 2, format="FLAC"), None)
    assert answer.base and answer.tuned


def test_new_checkpoint_is_answered_by_a_new_process_which_ends_when_idle(trained, listener, heard):
    content, base, _ = heard[0]
    listener.transcribe(content, "en")
    [before] = processes()
    # Whatever params.yaml names for the next training: this one names its base itself.
    with untrained(trained, "data/not-there"):
        # A full model without any change, so that both must hear the same.
        shutil.copytree(TINY_MODEL, "data/checkpoints/best")
        shutil.copy("data/away/training.json", "data/checkpoints")
        listener.idle_s = 0.3
        answer = listener.transcribe(content, "en")
    assert (answer.base, answer.tuned, answer.model) == (base, base, TINY_MODEL)
    assert not before.is_running()
    wait_until(lambda: processes() == [])
    assert not listener.is_running
    listener.idle_s = 600


def test_tuned_model_is_refused_on_another_base_than_its_own(trained):
    generation = Path("data/demo/voxtral-tiny/generation_config.json")
    before = generation.read_text()
    generation.write_text(before + " ")
    try:
        with pytest.raises(UserError, match=r"was trained from another base.* --force "):
            base_and_tuned.models()
    finally:
        generation.write_text(before)


def test_base_in_a_folder_elsewhere_is_found_where_params_say(tmp_path):
    training = {"base_model": "mine", "settings": {"model": {"revision": None}}}
    (tmp_path / "mine").mkdir()
    elsewhere = ModelParams(name=str(tmp_path / "mine"), revision=None, dtype="auto")
    assert base_and_tuned.base_of(training, elsewhere) == elsewhere
    hub = ModelParams(name="someone/other", revision="abc", dtype="auto")
    assert base_and_tuned.base_of(training, hub) == ModelParams(name="mine", revision=None, dtype="auto")


def ask_long_question(listener, **options):
    """As `in_thread`, once the process is at work on 25 seconds of sound."""
    content = a_file(np.tile(0.1, 400_000), format="WAV")
    thread, results = in_thread(lambda: listener.transcribe(content, "en", **options))
    while not (listener._asked and listener._asked[-1].running()):
        assert thread.is_alive(), results
        time.sleep(0.001)
    return thread, results


def test_questions_wait_for_one_another_and_one_that_takes_too_long_ends_alone(listener, heard):
    """Two tabs at once: each gets its own answer, and a hanging model blocks nobody for ever."""
    listener.transcribe(heard[0][0], "en")
    [process] = processes()
    too_long, results = ask_long_question(listener, timeout_s=2)
    time.sleep(0.1)  # it has told that it begins, and holds no lock of the pool any more
    process.suspend()
    asked = [in_thread(lambda content=content: listener.transcribe(content, "en")) for content, _, _ in heard[:3]]
    too_long.join()
    assert str(results[0]).startswith("This took too long and was stopped")
    assert not process.is_running()
    for (thread, results), (_, base, tuned) in zip(asked, heard, strict=False):
        thread.join()
        assert (results[0].base, results[0].tuned) == (base, tuned)


def test_killed_at_work_or_when_idle_the_next_question_starts_it_anew(trained, listener, heard):
    content, base, tuned = heard[0]
    assert listener.transcribe(content, "en").tuned == tuned
    thread, results = ask_long_question(listener)
    processes()[0].kill()
    thread.join()
    assert str(results[0]).startswith("The model was ended from outside, most likely because the memory ran out.")
    with untrained(trained, TINY_MODEL):
        answer = listener.transcribe(content, "en")
    assert (answer.base, answer.tuned) == (base, None)
    processes()[0].kill()
    wait_until(lambda: not listener.is_running)
    assert listener.transcribe(content, "en").base == base


def test_process_that_ends_before_it_has_a_log_is_a_plain_sentence_too(trained, monkeypatch, tmp_path):
    monkeypatch.setenv("OWNVOICE_CACHE", str(tmp_path / "new"))
    before = set(processes())
    thread, results = in_thread(lambda: Listener().transcribe(b"", "en"))
    wait_until(lambda: set(processes()) - before)
    (set(processes()) - before).pop().terminate()
    thread.join()
    assert str(results[0]).startswith("The model ended unexpectedly.")


def test_missing_model_or_a_fault_of_ours_is_a_plain_sentence_and_tried_again(trained, listener, heard):
    content, base, _ = heard[0]
    with untrained(trained, "data/not-there"), pytest.raises(UserError, match=r"^model.name data/not-there: "):
        listener.transcribe(content, "en")
    training = Path("data/checkpoints/training.json")
    before = training.read_text()
    training.write_text('{"a": 1}')
    with pytest.raises(UserError, match=r"^The model ended unexpectedly. Try again; the reason is in \.cache/"):
        listener.transcribe(content, "en")
    training.write_text(before)
    assert "KeyError" in log_path().read_text()
    assert listener.transcribe(content, "en").base == base


def test_stopped_while_it_loads_whoever_waits_is_told(trained):
    listener, others = Listener(), processes()
    thread, results = in_thread(lambda: listener.transcribe(b"", "en"))
    wait_until(lambda: len(processes()) > len(others))
    listener.stop()
    thread.join()
    assert str(results[0]).startswith("The model was stopped before it answered")
    assert processes() == others and not listener.is_running


def test_process_ends_with_the_page_server_however_that_ends(trained, heard, tmp_path):
    (tmp_path / "sound").write_bytes(heard[0][0])
    command = [sys.executable, "-c", SERVER, str(tmp_path / "sound")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline().strip() == heard[0][1]
        [process] = processes(psutil.Process(server.pid))
        server.kill()
    wait_until(lambda: not process.is_running())

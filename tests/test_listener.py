"""The process behind "Try it", with the tiny model after a short training: what it answers, and when it ends."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from recorder import listening
from recorder.listener import FOLDER_PREFIX, Listener, ListenerError, log_path
from stages.common.params import ModelParams
from stages.common.stage import UserError
from stages.speech import audio
from tests.workspaces import (
    ROOT,
    copy_project,
    read_rows,
    set_params,
)

TINY_MODEL = "data/demo/voxtral-tiny"
# A page's server by itself, which says which process it started.
SERVER = """
import time
from recorder.listener import Listener
listener = Listener()
listener.start()
while listener.state == "loading":
    time.sleep(0.05)
print(listener.pid, flush=True)
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
def sounds(trained, tmp_path_factory):
    """The folder for temporary files; an own one, so that what is left there can be seen."""
    folder = tmp_path_factory.mktemp("sounds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture(scope="module")
def listener(sounds):
    listener = Listener()
    yield listener
    listener.stop()
    assert folders_in(sounds) == []


@pytest.fixture(scope="module")
def heard(trained):
    """Of each test clip, in order: the recorded file's bytes, and what the evaluation's models heard in it."""
    rows = {
        (row["id"], row["model"]): row["hypothesis"] for row in read_rows(Path("data/evaluation/predictions.jsonl"))
    }
    return [
        (Path("data/raw", clip["recorded_file"]).read_bytes(), rows[clip["id"], "base"], rows[clip["id"], "tuned"])
        for clip in read_rows(Path("data/split/test.jsonl"))
    ]


@pytest.fixture(autouse=True)
def no_sound_is_left(sounds):
    yield
    assert [path for path in sounds.rglob("*") if path.is_file()] == []


def folders_in(sounds):
    """The processes' own; torch makes one for itself."""
    return list(sounds.glob(f"{FOLDER_PREFIX}*"))


def wait_until(holds, timeout_s=30):
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


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
    """Run `work` in a thread; returns the thread and the list that takes its result or its ListenerError."""
    results = []

    def run():
        try:
            results.append(work())
        except ListenerError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_the_page_half_imports_neither_torch_nor_anything_as_heavy():
    check = "import sys, recorder.listener; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    heavy = {"torch", "transformers", "peft", "librosa", "datasets", "mistral_common", "streamlit"}
    assert "recorder.listener" in modules.split()
    assert heavy & set(modules.split()) == set()


def test_base_and_tuned_answers_are_those_of_the_evaluation(listener, heard):
    differing = [entry for entry in heard if entry[1] != entry[2]]
    assert differing, "the training changed nothing, so this test shows nothing"
    for content, base, tuned in [*differing[:2], heard[0]]:
        answer = listener.transcribe(content, "en")
        assert (answer.base, answer.tuned) == (base, tuned)
        assert answer.model == TINY_MODEL and answer.seconds > 0


def test_models_are_loaded_once_for_many_requests(listener, heard):
    listener.transcribe(heard[0][0], "en")
    first = listener.pid
    listener.start()
    assert listener.state == "ready" and listener.loaded.tuned == "LoRA adapter"
    listener.transcribe(heard[1][0], None)
    assert listener.pid == first


def test_two_tabs_at_once_each_get_their_own_answer(listener, heard):
    asked = [in_thread(lambda content=content: listener.transcribe(content, "en")) for content, _, _ in heard[:4]]
    for (thread, results), (_, base, tuned) in zip(asked, heard, strict=False):
        thread.join()
        assert (results[0].base, results[0].tuned) == (base, tuned)


def test_what_cannot_be_transcribed_gets_a_plain_sentence_and_the_process_lives_on(listener, heard):
    too_long = io.BytesIO()
    soundfile.write(too_long, [0.0] * 60 * 16_000, 16_000, format="WAV")
    nothing = io.BytesIO()
    soundfile.write(nothing, [], 16_000, format="WAV")
    no_numbers = io.BytesIO()
    soundfile.write(no_numbers, [float("nan")] * 16_000, 16_000, format="WAV", subtype="FLOAT")
    listener.transcribe(heard[0][0], "en")
    process = listener.pid
    for content, language, words in (
        (b"no sound at all", "en", "This recording cannot be heard"),
        (b"", "en", "This recording cannot be heard"),
        (nothing.getvalue(), "en", "This recording cannot be heard"),
        (no_numbers.getvalue(), "en", "There is no sound in this recording"),
        (too_long.getvalue(), "en", "60 seconds are too long for the model"),
        (heard[0][0], "klingon", "'klingon' is no language code"),
    ):
        with pytest.raises(ListenerError, match=f"^{words}") as caught:
            listener.transcribe(content, language)
        assert "\n" not in str(caught.value)
    assert listener.transcribe(heard[0][0], "en").base == heard[0][1]
    assert listener.pid == process


def test_sound_of_several_windows_at_another_rate_is_heard(listener, heard):
    samples, sample_rate_hz = audio.decode(heard[0][0])
    longer = np.tile(samples[::2], (4, 2))
    assert len(longer) / (sample_rate_hz / 2) > 2 * 4.0  # seconds in one of the tiny model's windows
    file = io.BytesIO()
    soundfile.write(file, longer, sample_rate_hz // 2, format="FLAC")
    answer = listener.transcribe(file.getvalue(), "en")
    assert answer.base and answer.tuned


def test_request_that_takes_too_long_ends_the_process(listener, heard, sounds):
    listener.transcribe(heard[0][0], "en")
    process = psutil.Process(listener.pid)
    process.suspend()
    with pytest.raises(ListenerError, match=r"^This took too long and was stopped"):
        listener.transcribe(heard[0][0], "en", timeout_s=0.2)
    assert not process.is_running()
    assert (listener.state, listener.failure, folders_in(sounds)) == ("off", None, [])


def test_killed_at_work_it_is_reported_and_the_next_request_starts_it_anew(trained, listener, heard, sounds):
    content, base, tuned = heard[0]
    assert listener.transcribe(content, "en").tuned == tuned
    killed = psutil.Process(listener.pid)
    killed.suspend()
    thread, results = in_thread(lambda: listener.transcribe(content, "en"))
    wait_until(lambda: list(sounds.rglob("recording")))
    killed.kill()
    thread.join(timeout=10)
    assert isinstance(results[0], ListenerError)
    assert str(results[0]).startswith("The model was ended from outside, most likely because the memory ran out.")
    assert (listener.state, listener.failure, folders_in(sounds)) == ("off", str(results[0]), [])
    with untrained(trained, TINY_MODEL):
        answer = listener.transcribe(content, "en")
    assert (answer.base, answer.tuned) == (base, None)
    assert listener.loaded.tuned is None and listener.failure is None and listener.pid != killed.pid


def test_new_checkpoint_is_answered_by_a_new_process_which_ends_when_idle(trained, listener, heard, sounds):
    content, base, _ = heard[0]
    before = psutil.Process(listener.pid)
    # Whatever params.yaml names for the next training: this one names its base itself.
    with untrained(trained, "data/not-there"):
        # A full model without any change, so that both must hear the same.
        shutil.copytree(TINY_MODEL, "data/checkpoints/best")
        shutil.copy("data/away/training.json", "data/checkpoints")
        listener.idle_s = 0.3
        answer = listener.transcribe(content, "en")
    assert (answer.base, answer.tuned, answer.model) == (base, base, TINY_MODEL)
    assert not before.is_running()
    wait_until(lambda: listener.state == "off")
    assert listener.failure is None and folders_in(sounds) == []
    log = log_path().read_text()
    assert "tuned='full fine-tuning'" in log and "no request for 0.3 s" in log


def test_missing_model_is_a_plain_sentence_and_not_loaded_again_until_asked_for(trained, sounds):
    words = "model.name data/not-there: not on this machine, and the Hub cannot be reached"
    listener = Listener()
    with untrained(trained, "data/not-there"):
        with pytest.raises(ListenerError, match=f"^{re.escape(words)}"):
            listener.transcribe(b"", "en")
        assert listener.state == "off" and listener.failure.startswith(words)
        listener.start()  # as the page does each time it is drawn
        assert listener.state == "off"
    listener.start()
    assert listener.state == "loading"
    listener.stop()
    assert folders_in(sounds) == []


def test_tuned_model_is_refused_on_another_base_than_its_own(trained):
    generation = Path("data/demo/voxtral-tiny/generation_config.json")
    before = generation.read_text()
    generation.write_text(before + " ")
    try:
        with pytest.raises(UserError, match="was trained from another base"):
            listening.load_models(trained)
    finally:
        generation.write_text(before)


def test_base_in_a_folder_elsewhere_is_found_where_params_say(tmp_path):
    training = {"base_model": "mine", "settings": {"model": {"revision": None}}}
    (tmp_path / "mine").mkdir()
    elsewhere = ModelParams(name=str(tmp_path / "mine"), revision=None, dtype="auto")
    assert listening.base_of(training, elsewhere) == elsewhere
    hub = ModelParams(name="someone/other", revision="abc", dtype="auto")
    assert listening.base_of(training, hub) == ModelParams(name="mine", revision=None, dtype="auto")


def test_request_that_waits_for_loading_ends_with_its_time_or_when_stopped(sounds):
    listener = Listener()
    with pytest.raises(ListenerError, match=r"^The model is still being loaded"):
        listener.transcribe(b"", "en", timeout_s=0.1)
    assert listener.state == "loading", "what has been begun goes on"
    thread, results = in_thread(lambda: listener.transcribe(b"", "en"))
    with pytest.raises(ListenerError, match=r"^The model is still busy"):
        listener.transcribe(b"", "en", timeout_s=0.1)
    listener.stop()
    thread.join(timeout=10)
    assert str(results[0]) == "The model was stopped before it answered. Try again."
    assert (listener.state, listener.failure, folders_in(sounds)) == ("off", None, [])


def test_process_ends_with_the_page_server_however_that_ends(trained, sounds):
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], env={**os.environ, "TMPDIR": str(sounds)}, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            process = psutil.Process(int(server.stdout.readline()))
            [folder] = folders_in(sounds)
            (folder / "recording").write_bytes(b"a voice")
        finally:
            server.kill()
    wait_until(lambda: not process.is_running())
    assert not folder.exists()


def test_sound_that_two_killed_halves_left_is_removed_by_the_next(sounds):
    left = sounds / f"{FOLDER_PREFIX}left"
    left.mkdir()
    (left / "recording").write_bytes(b"a voice")
    other, listener = Listener(), Listener()
    other.start()
    [used] = folders_in(sounds)
    assert used != left
    listener.start()
    assert used in folders_in(sounds), "that of a process at work stays"
    other.stop()
    listener.stop()
    assert folders_in(sounds) == [] and listener.failure is None

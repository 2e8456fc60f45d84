"""Granary's sentences, streamed by the real client from a Hub on this machine."""

import contextlib
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from recorder.granary import GRANARY, granary_phrases, granary_problem, sentences, start_granary
from recorder.phrases import LANGUAGES, from_file
from stages.common.files import read_jsonl
from stages.hub.local.server import HubServer, clean_environment
from tests.workspaces import ROOT

# What a page does, until its thread is over: a process, because the client reads the Hub's address when it is imported.
PAGE = """
import sys, threading
from recorder import granary
language, granary.PHRASES, tries = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for _ in range(tries):
    granary.start_granary(language)
    for thread in threading.enumerate():
        if thread.daemon and thread.name.endswith("(_fetch)"):
            thread.join(90)
print(granary.granary_problem(language))
"""


@pytest.mark.parametrize(
    ("passage", "whole"),
    [
        ("Guten Morgen. Wie geht es Ihnen?", ["Guten Morgen.", "Wie geht es Ihnen?"]),
        ("Thank you, Mr. President, for that.", ["Thank you, Mr. President, for that."]),
        ("and so we end. Now we begin", []),
        ("and so we end. Now we begin. But then", ["Now we begin."]),
        ("¿Qué hora es? ¡Vaya!", ["¿Qué hora es?", "¡Vaya!"]),
        ("  ", []),
    ],
)
def test_only_whole_sentences_of_a_passage_are_taken(passage, whole):
    assert sentences(passage) == whole


def row_of(text, language="de"):
    row = {"utt_id": "1", "audio_filepath": "1.wav", "duration": 2.5, "text": text, "lang": language}
    return json.dumps(row, ensure_ascii=False) + "\n"


def granary_repository(corpora):
    """As the real one is laid out: {"de_ytc": [text, ...]} becomes de/ytc/de_asr.jsonl, named in the README's YAML."""
    files, configs = {}, []
    for name, texts in corpora.items():
        language, corpus = name.split("_")
        path = f"{language}/{corpus}/{language}_asr.jsonl"
        files[path] = "".join(row_of(text, language) for text in texts).encode()
        configs.append({"config_name": name, "data_files": [{"path": path, "split": "asr"}]})
    files["README.md"] = f"---\n{json.dumps({'configs': configs})}\n---\n# Granary\n".encode()
    return {("dataset", GRANARY): files}


def stream(workspace: Path, url: str, language: str, count: int = 1000, tries: int = 1, **variables: str) -> str:
    """What a page says after it fetched phrases from the Hub at this address."""
    environment = clean_environment(workspace, HF_ENDPOINT=url, PYTHONPATH=str(ROOT), **variables)
    command = [sys.executable, "-c", PAGE, language, str(count), str(tries)]
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_granary_is_streamed_by_the_real_client_and_filtered(workspace):
    written = from_file("de")
    rubbish = ["Um 10 Uhr ist Schluss.", "Siehe www.example.com dazu.", "Ja.", written[0].upper(), "это не немецкий."]
    passages = [f"{written[2]} {written[3]}", "und das ist der Rest. Dann ging", *rubbish, *written]
    with HubServer(granary_repository({"de_ytc": ["Das ist nicht gut."], "de_voxpopuli": passages})) as hub:
        assert granary_phrases("de") is None and granary_problem("de") is None
        assert stream(workspace, hub.url, "de") == "None"
        assert sorted(granary_phrases("de")) == sorted([*written[1:], written[0].upper()])
        source = read_jsonl(workspace / ".cache/phrases/granary-de.jsonl")[0]
        assert source == {
            "dataset": GRANARY,
            "revision": hub.commit("dataset", GRANARY),
            "config": "de_voxpopuli",
            "license": "CC BY 4.0",
        }
        assert not any("ytc" in path and "resolve" in path for path in hub.requests)
        asked = len(hub.requests)
        stream(workspace, hub.url, "de")
        assert len(hub.requests) == asked, "they are here already"


def test_granary_takes_what_corpus_there_is_and_spreads_over_it(workspace):
    texts = from_file("it")
    with HubServer(granary_repository({"it_yodas": ["Questo non va bene."], "it_ytc": texts})) as hub:
        assert stream(workspace, hub.url, "it", count=10) == "None"
    assert granary_phrases("it") == texts[:: len(texts) // 10][:10]


def test_granary_without_the_language_or_a_usable_phrase_says_so(workspace):
    with HubServer(granary_repository({"de_ytc": ["Ja.", "Nein."]})) as hub:
        assert stream(workspace, hub.url, "mt") == "nvidia/Granary has no phrases in Maltese."
        assert stream(workspace, hub.url, "de") == "nvidia/Granary holds no phrase in German that can be used."
    assert granary_phrases("de") is None


def test_granary_is_not_asked_for_languages_that_it_has_not(workspace):
    for code in ("ar", "hi", "ja"):
        start_granary(code)
        assert LANGUAGES[code].name in granary_problem(code)
    assert not (workspace / ".cache").exists()


@pytest.mark.parametrize("network", ["dead", "silent", "switched off"])
def test_a_network_that_does_not_serve_is_one_plain_sentence(workspace, network):
    with contextlib.ExitStack() as stack:
        server = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        if network == "silent":
            stack.enter_context(server)  # takes connections and never answers
        else:
            server.close()
        variables = {"HF_HUB_OFFLINE": "1"} if network == "switched off" else {}
        assert "check the network" in stream(workspace, url, "fr", **variables)
    assert granary_phrases("fr") is None


def test_failed_try_is_not_repeated_at_once(workspace):
    with HubServer() as empty_hub:
        assert "check the network" in stream(workspace, empty_hub.url, "fr")
        asked = len(empty_hub.requests)
        stream(workspace, empty_hub.url, "fr", tries=3)
        assert len(empty_hub.requests) == 2 * asked > 0


def test_page_imports_nothing_heavy_with_it(repository):
    heavy = "streamlit torch transformers librosa datasets mistral_common huggingface_hub badwords"
    code = f"import sys, recorder.granary; print([name for name in {heavy.split()} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

"""Phrases to read aloud: the written ones, a person's own, and Granary's, streamed from a Hub on this machine."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import unicodedata
from importlib import resources

import pytest

from recorder import phrases
from recorder.phrases import (
    GRANARY,
    LANGUAGES,
    ORDINARY_WORDS,
    from_file,
    granary_phrases,
    granary_problem,
    own_phrases,
    prompt_id,
    sentences,
    start_granary,
    usable,
)
from stages.common.files import read_jsonl
from stages.common.stage import UserError
from stages.hub.local.server import HubServer, clean_environment
from stages.speech.text import CONTROL_STRINGS, clean, is_accepted, normalise
from tests.recordings import wait_until

WITH_100_PHRASES = ["en", "es", "fr", "pt", "hi", "de", "nl", "it"]
QUESTION_MARKS = {"ar": "؟", "el": ";", "ja": "？"}


def length_of(text, language):
    return len(text) if language == "ja" else len(text.split())


# Languages


def test_languages_are_those_of_granary_and_three_more():
    european = set("bg cs da de el en es et fi fr hr hu it lt lv mt nl pl pt ro ru sk sl sv uk".split())  # noqa: SIM905
    assert {code for code, language in LANGUAGES.items() if language.in_granary} == european
    assert set(LANGUAGES) - european == {"ar", "hi", "ja"}
    assert [code for code, language in LANGUAGES.items() if language.direction == "rtl"] == ["ar"]


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=lambda language: language.code)
def test_a_language_is_known_to_voxtrals_prompt_and_its_name_is_in_its_script(language):
    assert is_accepted(language.code)
    assert all(unicodedata.name(char).startswith((*language.scripts, "SPACE")) for char in language.own_name)


# The phrases written for this project


@pytest.mark.parametrize("code", LANGUAGES)
def test_written_phrases_are_enough_clean_and_varied_and_obey_our_own_filter(code):
    content = (phrases.FOLDER / f"{code}.txt").read_text(encoding="utf-8")
    assert unicodedata.is_normalized("NFC", content)
    assert [line for line in content.splitlines() if line != clean(line)] == []
    texts = from_file(code)
    assert len(texts) >= (100 if code in WITH_100_PHRASES else 50)
    assert len({normalise(text) for text in texts}) == len(texts)
    kept = usable(texts, code)
    assert [text for text in texts if text not in kept] == []
    lengths = [length_of(text, code) for text in texts]
    shortest, longest = phrases.CHARACTERS if code == "ja" else phrases.WORDS
    assert shortest <= min(lengths) <= shortest + 3
    assert (9 if code != "ja" else 22) <= max(lengths) <= longest
    assert len(set(lengths)) >= 7
    questions = sum(QUESTION_MARKS.get(code, "?") in text for text in texts)
    assert 0.1 <= questions / len(texts) <= 0.5


def test_unknown_language_is_refused_with_those_there_are():
    for code in ("xx", "../en"):
        with pytest.raises(UserError, match=re.escape(f"{code!r}: choose one of ar, bg, cs")):
            from_file(code)


# A person's own


def test_own_phrases_are_the_lines_cleaned_each_once():
    text = "\ufeffHello there\r\n\r\n  Turn\u00a0on   the light! \nhello THERE.\n...\nझूठ बोलना\n42\n"
    assert own_phrases(text) == ["Hello there", "Turn on the light!", "झूठ बोलना", "42"]
    assert own_phrases(" \n\t\n") == []


def test_prompt_id_depends_on_what_is_said_alone():
    # sha256("guten morgen") begins with 05767df2.
    assert prompt_id("de", "Guten Morgen!") == prompt_id("de", " guten   morgen") == "de-05767df2"
    assert prompt_id("en", "Guten Morgen!") == "en-05767df2"
    assert prompt_id("de", "Guten Abend!") != prompt_id("de", "Guten Morgen!")


# The filter


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "It's half past ten, isn't it?"),
        ("en", "Well-known people came – didn’t they?"),
        ("en", "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"),
        ("es", "¿Dónde está la estación?"),
        ("fr", "« Bonjour », dit-il à Noëlle !"),
        ("de", "„Schöne Grüße“, sagte Frau Groß."),
        ("el", "Πού είναι ο σταθμός;"),
        ("uk", "П'ять м’ячів тут."),
        ("hi", "क्या आप मेरी मदद करेंगे?"),
        ("hi", "मैं सो रहा हूँ।"),
        ("ar", "هل تسمعني الآن؟"),
        ("ja", "人々はコーヒーを飲みます。"),
        ("ja", "「三時ですよ」"),
    ],
)
def test_ordinary_phrase_is_usable(language, text):
    assert usable([text], language) == [text]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Too short."),
        ("en", "Too - short - ."),
        ("en", "One " * 16),
        ("en", "Come at 10 please."),
        ("en", "Come at ٣ please."),
        ("en", "Chapter Ⅳ is long."),
        ("en", "Look at www.example.com today."),
        ("en", "Look at http://localhost today."),
        ("en", "Write to me@example please."),
        ("en", "Ask e.g. your doctor."),
        ("en", "- Starts with a dash."),
        ("en", "[Applause] thank you all."),
        ("en", "He said 'привет' to me."),
        ("en", "Тhis begins with Cyrillic."),
        ("en", "Smile at me 🙂 please."),
        ("en", "Five € for that."),
        ("en", "Fish & chips please."),
        ("en", "... and so on."),
        ("ru", "Он сказал hello мне."),
        ("el", "Το OK είναι εδώ."),
        ("hi", "यह phone मेरा है।"),
        ("ar", "هذا phone جديد هنا"),
        ("ja", "はい。"),
        ("ja", "あ" * 41),
        ("ja", "これはOKですね。"),
    ],
)
def test_phrase_that_is_hard_to_read_or_out_of_place_is_not_usable(language, text):
    assert usable([text], language) == []


@pytest.mark.parametrize("control", CONTROL_STRINGS)
def test_control_string_is_not_usable(control):
    assert usable([f"Turn {control} the light on."], "en") == []


def test_usable_cleans_keeps_the_order_and_drops_doubles():
    texts = ["Turn  on the\u200b light!", "What time is it?", "turn on the light", "nope", "Cafe\u0301 is over there."]
    assert usable(texts, "en") == ["Turn on the light!", "What time is it?", "Caf\u00e9 is over there."]


@pytest.mark.parametrize("code", ORDINARY_WORDS)
def test_profanities_are_dropped(code):
    """Every word of the package's own list, in a sentence that is usable without it."""
    words = (resources.files("badwords") / f"resource/words/{code}.txt").read_text(encoding="utf-8").split("\n")
    neighbour = from_file(code)[0].strip(".,;:!?¿¡").split()[0]
    assert usable([f"{neighbour} {neighbour} {neighbour}."], code)
    shown = usable([f"{neighbour} {word}, {neighbour}." for word in words if word], code)
    assert [text for text in shown if not any(word in text for word in ORDINARY_WORDS[code])] == []


def test_languages_with_profanities_are_all_that_the_package_has():
    from badwords import ProfanityFilter

    profanities = ProfanityFilter()
    profanities.init([])
    assert set(profanities.available_languages()) & set(LANGUAGES) - {"ja"} == set(ORDINARY_WORDS)


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


# Granary


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


@pytest.fixture
def point_to(workspace, monkeypatch):
    """`point_to(url)`: processes started from now on take it for the Hub."""

    def point(url):
        environment = clean_environment(workspace, HF_ENDPOINT=url)
        for name in set(os.environ) - set(environment):
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return point


def stream(language, **how):
    """Start it and wait for its end."""
    if process := start_granary(language, **how):
        process.wait(90)


def test_granary_is_streamed_by_the_real_client_and_filtered(point_to, workspace):
    written = from_file("de")
    rubbish = ["Um 10 Uhr ist Schluss.", "Siehe www.example.com dazu.", "Ja.", written[0].upper(), "это не немецкий."]
    passages = [f"{written[2]} {written[3]}", "und das ist der Rest. Dann ging", *rubbish, *written]
    with HubServer(granary_repository({"de_ytc": ["Das ist nicht gut."], "de_voxpopuli": passages})) as hub:
        point_to(hub.url)
        assert granary_phrases("de") is None and granary_problem("de") is None
        stream("de", count=1000)
        assert granary_problem("de") is None, (workspace / ".cache/phrases/granary-de.log").read_text()
        assert sorted(granary_phrases("de")) == sorted([*written[1:], written[0].upper()])
        source = read_jsonl(workspace / ".cache/phrases/granary-de.jsonl")[0]
        assert source == {
            "dataset": GRANARY,
            "revision": hub.commit("dataset", GRANARY),
            "config": "de_voxpopuli",
            "license": "CC BY 4.0",
        }
        assert start_granary("de", retry_after_s=0) is None  # it is there already
        assert not any("ytc" in path and "resolve" in path for path in hub.requests)


def test_granary_takes_what_corpus_there_is_spreads_over_it_and_outlives_the_page(point_to, repository):
    texts = from_file("it")
    with HubServer(granary_repository({"it_yodas": ["Questo non va bene."], "it_ytc": texts})) as hub:
        point_to(hub.url)
        code = "from recorder.phrases import start_granary; start_granary('it', count=10)"
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(repository)}, check=True)
        assert granary_phrases("it") is None
        wait_until(lambda: granary_phrases("it") or granary_problem("it"), 90)
    assert granary_phrases("it") == texts[:: len(texts) // 10][:10]


def test_granary_without_the_language_or_a_usable_phrase_says_so(point_to):
    with HubServer(granary_repository({"de_ytc": ["Ja.", "Nein."]})) as hub:
        point_to(hub.url)
        stream("mt")
        stream("de")
    assert granary_problem("mt") == "nvidia/Granary has no phrases in Maltese."
    assert granary_problem("de") == "nvidia/Granary holds no phrase in German that can be used."
    assert granary_phrases("de") is None


def test_granary_is_not_asked_for_languages_that_it_has_not(workspace):
    for code in ("ar", "hi", "ja"):
        assert start_granary(code) is None
        assert LANGUAGES[code].name in granary_problem(code)
    assert not (workspace / ".cache").exists()


@pytest.mark.parametrize("network", ["dead", "silent", "switched off"])
def test_a_network_that_does_not_serve_is_one_plain_sentence(point_to, monkeypatch, network):
    with contextlib.ExitStack() as stack:
        server = socket.create_server(("127.0.0.1", 0))
        point_to(f"http://127.0.0.1:{server.getsockname()[1]}")
        if network == "silent":
            stack.enter_context(server)  # takes connections and never answers
        else:
            server.close()
        if network == "switched off":
            monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        stream("fr", limit_s=2 if network == "silent" else 30)
    sentences = {"dead": "check the network", "silent": "within 2 seconds", "switched off": "HF_HUB_OFFLINE"}
    assert sentences[network] in granary_problem("fr") and granary_phrases("fr") is None


def test_failed_try_is_repeated_only_after_a_while(point_to):
    with HubServer() as empty_hub:
        point_to(empty_hub.url)
        stream("fr")
        assert "status 404" in granary_problem("fr")
        asked = len(empty_hub.requests)
        assert start_granary("fr") is None
        stream("fr", retry_after_s=0)
        assert len(empty_hub.requests) == 2 * asked > 0


def test_what_nobody_expected_names_the_log(point_to, workspace):
    repository = granary_repository({"de_ytc": from_file("de")})
    files = repository["dataset", GRANARY]
    files["README.md"] = files["README.md"].replace(b'"split": "asr"', b'"split": "other"')
    with HubServer(repository) as hub:
        point_to(hub.url)
        stream("de")
    assert ".cache/phrases/granary-de.log" in granary_problem("de")
    assert "asr" in (workspace / ".cache/phrases/granary-de.log").read_text()


def test_page_imports_nothing_heavy_with_it(repository):
    heavy = "streamlit torch transformers librosa datasets mistral_common huggingface_hub badwords"
    code = f"import sys, recorder.phrases; print([name for name in {heavy.split()} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

"""The local Hub is no more lenient than the real one; asked by the real huggingface_hub, in processes of its own."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from stages.hub.local.spaces import readme_errors
from tests.hub import HubServer

TOKENS = {
    "token-of-anna": "write:anna,team",
    "reading-token-of-anna": "read:anna",
    "token-of-ben": "write:ben",
    "token-of-all": "write:carl,*",
}
BEFORE = """
import json, os, sys
from pathlib import Path
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.utils import disable_progress_bars
disable_progress_bars()
api = HfApi()

def error_of(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except Exception as error:
        return [type(error).__name__, error.response.status_code if hasattr(error, "response") else None]

def add(repository, files, message="add", **options):
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repository, operations, commit_message=message, **options).oid

result = None
"""
AFTER = "\nprint(json.dumps(result))\n"


def ask(hub, tmp_path, code, *arguments, token="token-of-anna", **variables):
    """What `code` leaves in `result`, run by the real client."""
    command = [sys.executable, "-c", BEFORE + code + AFTER, *map(str, arguments)]
    environment = hub.environment(tmp_path, token) | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def hub():
    with HubServer(tokens=TOKENS) as server:
        yield server


def test_stale_parent_is_refused_and_changes_nothing(hub, tmp_path):
    code = """
api.create_repo("anna/voice")
parent = api.repo_info("anna/voice").sha
oid = add("anna/voice", {"a.txt": b"1"}, parent_commit=parent)
result = [oid, error_of(add, "anna/voice", {"b.txt": b"2"}, parent_commit=parent)]
"""
    result = ask(hub, tmp_path, code)
    assert result == [hub.commit("model", "anna/voice"), ["HfHubHTTPError", 412]]
    assert "b.txt" not in hub.repository("model", "anna/voice").files


def test_files_are_added_removed_and_sent_once(hub, tmp_path):
    result = ask(
        hub,
        tmp_path,
        """
api.create_repo("anna/voice")
weights = bytes(range(256)) * 1000
first = add("anna/voice", {"a.bin": weights, "b/c.txt": b"text"})
same = add("anna/voice", {"a.bin": weights, "b/c.txt": b"text"})
second = add("anna/voice", {"d.bin": weights, "b/c.txt": b"other"}, parent_commit=first)
gone = api.create_commit("anna/voice", [CommitOperationDelete("a.bin")], commit_message="delete").oid
absent = error_of(api.create_commit, "anna/voice", [CommitOperationDelete("a.bin")], commit_message="again")
tree = [entry.path for entry in api.list_repo_tree("anna/voice", recursive=True)]
result = [first, same, second, gone, absent, tree]
""",
        HF_HUB_DISABLE_XET="1",
    )
    first, same, second, gone, absent, tree = result
    repository = hub.repository("model", "anna/voice")
    assert first == same and absent == ["RemoteEntryNotFoundError", 404]
    assert [commit.oid for commit in repository.commits[1:]] == [first, second, gone]
    assert len([request for request in hub.requests if request.startswith("PUT ")]) == 1
    assert sorted(tree) == [".gitattributes", "b", "b/c.txt", "d.bin"]
    assert repository.files["b/c.txt"] == b"other" and repository.head.files["d.bin"].lfs


def ask_as(hub, tmp_path, tokens, code):
    """{token: what `code` leaves in `result`} for one client after the other, all in one process."""
    lines = "".join(f"    {line}\n" for line in code.strip().splitlines())
    code = f"""
results = {{}}
for token in json.loads(os.environ["SEVERAL"]):
    api = HfApi(token=token or False)
    cache = Path(sys.argv[1]) / str(len(results))
{lines}
    results[token] = result
result = results
"""
    return ask(hub, tmp_path, code, tmp_path / "caches", token=None, SEVERAL=json.dumps(tokens))


def test_private_repository_is_not_there_for_strangers(hub, tmp_path):
    made = """
api.create_repo("anna/voice", private=True)
add("anna/voice", {"weights.bin": bytes(1000)})
result = api.repo_info("anna/voice").private
"""
    look = """
result = [api.repo_exists("anna/voice"), error_of(api.repo_info, "anna/voice"),
    error_of(api.snapshot_download, "anna/voice", cache_dir=cache / "all"),
    error_of(api.hf_hub_download, "anna/voice", "weights.bin", cache_dir=cache / "one"),
    error_of(add, "anna/voice", {"b": b""}), error_of(api.delete_repo, "anna/voice")]
"""
    assert ask(hub, tmp_path, made) is True
    missing, forbidden, unknown = ["RepositoryNotFoundError", 404], ["HfHubHTTPError", 403], ["HfHubHTTPError", 401]
    seen = [True, None, None, None]
    unseen = [False, missing, missing, missing]
    assert ask_as(hub, tmp_path, ["token-of-ben", "", "reading-token-of-anna"], look) == {
        "token-of-ben": [*unseen, missing, missing],
        "": [*unseen, missing, unknown],
        "reading-token-of-anna": [*seen, forbidden, forbidden],
    }
    assert "weights.bin" in hub.repository("model", "anna/voice").files

    hub.repository("model", "anna/voice").private = False
    assert ask_as(hub, tmp_path / "public", ["token-of-ben", ""], look) == {
        "token-of-ben": [*seen, forbidden, forbidden],
        "": [*seen, unknown, unknown],
    }


def test_wrong_read_only_and_foreign_tokens_are_told_apart(hub, tmp_path):
    ask(hub, tmp_path, 'api.create_repo("anna/public"); api.create_repo("team/voice")')
    code = """
result = [error_of(api.whoami), error_of(api.create_repo, "anna/new"),
    error_of(api.create_repo, "anna/public", exist_ok=True), error_of(api.repo_info, "anna/public"),
    error_of(api.create_tag, "anna/public", tag="v1", exist_ok=True)]
"""
    unknown, forbidden = ["HfHubHTTPError", 401], ["HfHubHTTPError", 403]
    expected = {
        "": [["ValueError", None], unknown, None, None, unknown],
        "token-of-nobody": [unknown] * 5,
        "reading-token-of-anna": [None, forbidden, None, None, forbidden],
        "token-of-ben": [None, forbidden, None, None, forbidden],
        "token-of-anna": [None] * 5,
        "token-of-all": [None, ["HfHubHTTPError", 409], None, None, None],
    }
    assert ask_as(hub, tmp_path, list(expected), code) == expected


def test_tag_stays_where_it_is_and_is_found_as_a_revision(hub, tmp_path):
    result = ask(
        hub,
        tmp_path,
        """
api.create_repo("anna/voice")
first = add("anna/voice", {"a.txt": b"first"}, "one")
api.create_tag("anna/voice", tag="v1")
add("anna/voice", {"a.txt": b"second"}, "two")
api.create_tag("anna/voice", tag="v1", exist_ok=True)
def read(revision, name="a.txt"):
    return Path(hf_hub_download("anna/voice", name, revision=revision, cache_dir=sys.argv[1])).read_text()
result = [error_of(api.create_tag, "anna/voice", tag="v1"), read("v1"), read(first), read("main"),
    error_of(read, "v2"), error_of(read, "main", "b.txt")]
""",
        tmp_path / "cache",
    )
    missing = [["RevisionNotFoundError", 404], ["RemoteEntryNotFoundError", 404]]
    assert result == [["HfHubHTTPError", 409], "first", "first", "second", *missing]


def test_readme_that_the_hub_does_not_take_is_refused_before_anything_is_sent(hub, tmp_path):
    code = """
api.create_repo("anna/voice")
result = error_of(add, "anna/voice", {"README.md": b"---\\nlicense: [mit\\n---\\n", "a.txt": b"1"})
"""
    result = ask(hub, tmp_path, code)
    assert result == ["ValueError", None] and len(hub.repository("model", "anna/voice").commits) == 1
    space = "---\nsdk: gradio\ncolorFrom: violet\npython_version: 3.10\n---\n"
    assert [message.split()[0] for message in readme_errors(space, "space")] == ['"colorFrom"', '"python_version"']
    assert readme_errors(space, "model") == []


def test_mistake_of_the_hub_reaches_the_test():
    with pytest.raises(AssertionError, match="ZeroDivisionError"), HubServer({("model", "me/a"): {}}) as server:
        server.routes.insert(0, ("GET", "/broken", "any", lambda hub, request: 1 / 0))
        with pytest.raises(urllib.error.HTTPError, match="500"):
            urllib.request.urlopen(f"{server.url}/broken")


def test_environment_holds_nothing_of_the_users_hub(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "the-users-own")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    environment = hub.environment(tmp_path)
    assert "the-users-own" not in environment.values() and "HTTPS_PROXY" not in environment
    assert environment["HF_HOME"].startswith(str(tmp_path)) and os.environ["HF_TOKEN"] == "the-users-own"
    assert hub.environment(tmp_path, "token-of-anna")["HF_TOKEN"] == "token-of-anna"

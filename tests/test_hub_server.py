"""The local Hub is no more lenient than the real one; asked by the real huggingface_hub, in processes of its own."""

import json

from tests.hub import READER, TOKEN

BEFORE = """
import json, sys
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
api = HfApi()

def error_of(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except Exception as error:
        return [type(error).__name__, error.response.status_code if hasattr(error, "response") else None]

def add(repository, files, **options):
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repository, operations, commit_message="add", **options).oid

"""
AFTER = "\nprint(json.dumps(result))\n"


def ask(hub, tmp_path, code, token=TOKEN, **variables):
    """What `code` leaves in `result`, run by the real client."""
    done = hub.run(tmp_path, "-c", BEFORE + code + AFTER, str(tmp_path / f"cache-{token}"), token=token, **variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_files_are_added_removed_and_sent_once_by_lfs_and_a_stale_parent_is_refused(hub, tmp_path):
    result = ask(
        hub,
        tmp_path,
        """
api.create_repo("me/voice")
parent = api.repo_info("me/voice").sha
weights = bytes(range(256)) * 1000
first = add("me/voice", {"a.bin": weights, "b/c.txt": b"text"}, parent_commit=parent)
same = add("me/voice", {"a.bin": weights, "b/c.txt": b"text"})
stale = error_of(add, "me/voice", {"stale.txt": b"2"}, parent_commit=parent)
second = add("me/voice", {"d.bin": weights, "b/c.txt": b"other"}, parent_commit=first)
gone = api.create_commit("me/voice", [CommitOperationDelete("a.bin")], commit_message="delete").oid
absent = error_of(api.create_commit, "me/voice", [CommitOperationDelete("a.bin")], commit_message="again")
bad_card = error_of(add, "me/voice", {"README.md": b"---\\nlicense: [mit\\n---\\n"})
tree = [entry.path for entry in api.list_repo_tree("me/voice", recursive=True)]
result = [first, same, second, gone, stale, absent, bad_card, tree]
""",
        HF_HUB_DISABLE_XET="1",
    )
    first, same, second, gone, *refused, tree = result
    repository = hub.repository("model", "me/voice")
    assert first == same and [commit.oid for commit in repository.commits[1:]] == [first, second, gone]
    assert refused == [["HfHubHTTPError", 412], ["RemoteEntryNotFoundError", 404], ["ValueError", None]]
    assert len([request for request in hub.requests if request.startswith("PUT ")]) == 1
    assert sorted(tree) == [".gitattributes", "b", "b/c.txt", "d.bin"]
    assert repository.files["b/c.txt"] == b"other" and repository.head.files["d.bin"].lfs


def test_private_repository_is_not_there_without_a_token_and_a_reading_token_changes_nothing(hub, tmp_path):
    made = 'api.create_repo("me/voice", private=True); add("me/voice", {"a.bin": bytes(9)}); result = 0'
    look = """
result = [error_of(api.whoami), error_of(api.repo_info, "me/voice"),
    error_of(api.hf_hub_download, "me/voice", "a.bin", cache_dir=sys.argv[1]), error_of(add, "me/voice", {"b": b""}),
    error_of(api.delete_repo, "me/voice"), error_of(api.create_repo, "me/new")]
"""
    ask(hub, tmp_path, made)
    missing, forbidden, unknown = ["RepositoryNotFoundError", 404], ["HfHubHTTPError", 403], ["HfHubHTTPError", 401]
    assert ask(hub, tmp_path, look, READER) == [None, None, None, forbidden, forbidden, forbidden]
    without = ["LocalTokenNotFoundError", None]
    assert ask(hub, tmp_path, look, None) == [without, missing, missing, missing, unknown, unknown]
    assert ask(hub, tmp_path, look, "token-of-nobody") == [unknown] * 6
    assert set(hub.repositories) == {("model", "me/voice")}


def test_environment_holds_nothing_of_the_users_hub(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "the-users-own")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    environment = hub.environment(tmp_path)
    assert "the-users-own" not in environment.values() and "HTTPS_PROXY" not in environment
    assert environment["HF_HOME"].startswith(str(tmp_path))

"""The Hub for tests, asked by the real huggingface_hub and datasets, each time in a process of its own."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stages.hub.local.server import (
    Fault,
    HubServer,
    SpaceFailure,
    blob_id,
    clean_environment,
    files_in_shard,
    is_ignored,
    readme_problems,
)

ROOT = Path(__file__).parents[1]
TOKENS = {
    "token-of-anna": "write:anna,team",
    "reading-token-of-anna": "read:anna",
    "token-of-ben": "write:ben",
    "token-of-all": "write:carl,*",
}
BEFORE = """
import json, os, sys
from pathlib import Path
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
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


def start(hub, tmp_path, code, *arguments, token="token-of-anna", xet=True, **variables):
    environment = hub.environment(tmp_path, token) | {"HF_HUB_DISABLE_XET": "0" if xet else "1", **variables}
    command = [sys.executable, "-c", BEFORE + code + AFTER, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ask(hub, tmp_path, code, *arguments, **options):
    """What `code` leaves in `result`, run by the real client."""
    process = start(hub, tmp_path, code, *arguments, **options)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


@pytest.fixture
def hub():
    with HubServer(tokens=TOKENS) as server:
        yield server
    assert server.unserved == []


def asked(hub, part):
    return [request for request in hub.requests if part in request]


# Files


def some_files():
    numbers = random.Random(1)
    weights = numbers.randbytes(1_500_000)
    return {
        "README.md": b"---\nlicense: mit\n---\n# A voice\n",
        "model.safetensors": weights,
        "copies/the same weights.bin": weights,
        "text/gr\u00fc\u00dfe # 1 + 1?.json": '{"a": "\u00e9"}'.encode(),
        "empty.bin": b"",
        "zeros.bin": bytes(500_000),
        "no-pattern-fits": b"\0" + numbers.randbytes(10_000),
    }


@pytest.mark.parametrize("xet_up", [True, False], ids=["up-xet", "up-lfs"])
@pytest.mark.parametrize("xet_down", [True, False], ids=["down-xet", "down-lfs"])
def test_upload_comes_back_byte_for_byte(hub, tmp_path, xet_up, xet_down):
    files = some_files()
    for path, content in files.items():
        (tmp_path / "sent" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sent" / path).write_bytes(content)
    oid = ask(
        hub,
        tmp_path,
        """
api.create_repo("anna/voice")
files = {str(path.relative_to(sys.argv[1])): path for path in Path(sys.argv[1]).rglob("*") if path.is_file()}
result = add("anna/voice", files, parent_commit=api.repo_info("anna/voice").sha)
""",
        tmp_path / "sent",
        xet=xet_up,
    )
    repository = hub.repository("model", "anna/voice")
    assert {**repository.files, ".gitattributes": b""} == {**files, ".gitattributes": b""}
    assert [commit.message for commit in repository.commits] == ["initial commit", "add"] and repository.head.oid == oid
    assert {path for path, file in repository.head.files.items() if file.lfs} == {
        path for path in files if path.endswith((".bin", ".safetensors")) or path == "no-pattern-fits"
    } - {"empty.bin"}
    assert bool(asked(hub, "PUT /lfs-storage")) == (not xet_up) and bool(asked(hub, "xet-write-token")) == xet_up

    result = ask(
        hub,
        tmp_path,
        """
folder = snapshot_download("anna/voice", cache_dir=sys.argv[1])  # finds xet's files by the tree
path = hf_hub_download("anna/voice", "zeros.bin", cache_dir=sys.argv[2])  # and this one by its own headers
assert Path(path).read_bytes() == (Path(folder) / "zeros.bin").read_bytes()
checked = api.verify_repo_checksums("anna/voice", local_dir=folder)
result = [folder, checked.checked_count, len(checked.mismatches) + len(checked.missing_paths)]
""",
        tmp_path / "fetched",
        tmp_path / "fetched-again",
        xet=xet_down,
    )
    folder = Path(result[0])
    fetched = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert fetched == repository.files and result[1:] == [len(fetched), 0]
    by_xet = xet_up and xet_down
    assert bool(asked(hub, "xet-read-token")) == by_xet
    assert len([request for request in asked(hub, "GET /anna") if "zeros.bin" in request]) == (0 if by_xet else 2)
    assert len([request for request in asked(hub, "HEAD /anna") if "zeros.bin" in request]) == (1 if by_xet else 2)


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_what_is_there_is_not_committed_or_sent_again(hub, tmp_path, xet):
    result = ask(
        hub,
        tmp_path,
        """
api.create_repo("anna/voice")
weights = bytes(range(256)) * 1000
first = add("anna/voice", {"a.bin": weights, "b.txt": b"text"})
same = add("anna/voice", {"a.bin": weights, "b.txt": b"text"})
second = add("anna/voice", {"c.bin": weights, "b.txt": b"other"}, parent_commit=first)
moved = api.create_commit("anna/voice", [CommitOperationCopy("c.bin", "d/e.bin"), CommitOperationDelete("a.bin")],
    commit_message="move").oid
gone = api.create_commit("anna/voice", [CommitOperationDelete("d/")], commit_message="delete").oid
absent = error_of(api.create_commit, "anna/voice", [CommitOperationDelete("a.bin")], commit_message="again")
assert Path(hf_hub_download("anna/voice", "c.bin", cache_dir=sys.argv[1])).read_bytes() == weights
result = [first, same, second, moved, gone, absent]
""",
        tmp_path / "cache",
        xet=xet,
    )
    repository = hub.repository("model", "anna/voice")
    assert result[0] == result[1] and result[-1] == ["RemoteEntryNotFoundError", 404]
    assert [commit.oid for commit in repository.commits[1:]] == [result[0], *result[2:5]]
    assert len(asked(hub, "PUT ")) == (0 if xet else 1)
    paths = [sorted(set(commit.files) - {".gitattributes"}) for commit in repository.commits]
    assert paths == [
        [],
        ["a.bin", "b.txt"],
        ["a.bin", "b.txt", "c.bin"],
        ["b.txt", "c.bin", "d/e.bin"],
        ["b.txt", "c.bin"],
    ]
    assert repository.commits[1].files["b.txt"].git_id == blob_id(b"text") != repository.head.files["b.txt"].git_id


def test_stale_parent_is_refused_and_changes_nothing(hub, tmp_path):
    result = ask(
        hub,
        tmp_path,
        """
api.create_repo("anna/voice")
parent = api.repo_info("anna/voice").sha
oid = add("anna/voice", {"a.txt": b"1"}, parent_commit=parent)
result = [oid, error_of(add, "anna/voice", {"b.txt": b"2"}, parent_commit=parent)]
""",
    )
    assert result == [hub.commit("model", "anna/voice"), ["HfHubHTTPError", 412]]
    assert "b.txt" not in hub.repository("model", "anna/voice").files


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_three_hundred_files_are_one_commit_listed_page_by_page(hub, tmp_path, xet):
    hub.page_size = 100
    result = ask(
        hub,
        tmp_path,
        """
api.create_repo("anna/clips", repo_type="dataset")
files = {f"clips/{number}.flac": number.to_bytes(2, "big") * 500 for number in range(300)}
add("anna/clips", files, repo_type="dataset")
listed = [entry for entry in api.list_repo_tree("anna/clips", repo_type="dataset", recursive=True, expand=True)]
below = [entry.path for entry in api.list_repo_tree("anna/clips", "clips", repo_type="dataset")]
info = api.get_paths_info("anna/clips", ["clips/7.flac", "clips", "absent"], repo_type="dataset")
sizes = {sibling.size for sibling in api.dataset_info("anna/clips", files_metadata=True).siblings if sibling.lfs}
titles = sorted({entry.last_commit.title for entry in listed})
result = [len(listed), len(below), [entry.path for entry in info], info[0].lfs.size, titles, list(sizes),
    api.file_exists("anna/clips", "clips/7.flac", repo_type="dataset")]
""",
        xet=xet,
    )
    assert result == [302, 300, ["clips/7.flac", "clips"], 1000, ["add", "initial commit"], [1000], True]
    repository = hub.repository("dataset", "anna/clips")
    assert len(repository.commits) == 2
    assert repository.files["clips/299.flac"] == (299).to_bytes(2, "big") * 500
    assert len(asked(hub, "GET /api/datasets/anna/clips/tree/main")) == 4 + 3
    assert len(asked(hub, "PUT ")) == (0 if xet else 300)


def test_two_writers_at_once_both_end_up_in_one_line_of_commits(hub, tmp_path):
    ask(hub, tmp_path, 'api.create_repo("anna/voice")')
    code = """
for number in range(5):
    add("anna/voice", {f"{sys.argv[1]}/{number}.bin": sys.argv[1].encode() * 10_000 + bytes([number])}, sys.argv[1])
"""
    writers = [start(hub, tmp_path, code, name) for name in ("one", "two")]
    assert [(writer.communicate(timeout=60)[1], writer.returncode) for writer in writers] == [("", 0)] * 2
    repository = hub.repository("model", "anna/voice")
    assert len(repository.commits) == 11 and len(repository.files) == 11
    assert repository.files["two/4.bin"] == b"two" * 10_000 + b"\x04"
    sizes = [len(commit.files) for commit in repository.commits]
    assert sizes == list(range(1, 12))


def test_gitignore_keeps_files_out(hub, tmp_path):
    ask(
        hub,
        tmp_path,
        """
api.create_repo("anna/voice")
add("anna/voice", {".gitignore": b"# temporary\\n*.tmp\\n/cache/\\n", "a.tmp": b"1", "cache/b": b"2", "c/d.txt": b"3"})
add("anna/voice", {"e.tmp": b"4", "f": b"5"})
""",
    )
    assert set(hub.repository("model", "anna/voice").files) == {".gitattributes", ".gitignore", "c/d.txt", "f"}
    assert is_ignored("a/b/c", "a/b") and not is_ignored("x/a/b", "a/b") and not is_ignored("a", "!a")


# Who may do what


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
    [one.id for one in api.list_models(author="anna")],
    error_of(add, "anna/voice", {"b": b""}), error_of(api.delete_repo, "anna/voice")]
"""
    assert ask(hub, tmp_path, made) is True
    missing, forbidden, unknown = ["RepositoryNotFoundError", 404], ["HfHubHTTPError", 403], ["HfHubHTTPError", 401]
    seen = [True, None, None, None, ["anna/voice"]]
    unseen = [False, missing, missing, missing, []]
    assert ask_as(hub, tmp_path, ["token-of-ben", "", "reading-token-of-anna"], look) == {
        "token-of-ben": [*unseen, missing, missing],
        "": [*unseen, missing, unknown],
        "reading-token-of-anna": [*seen, forbidden, forbidden],
    }
    assert "weights.bin" in hub.repository("model", "anna/voice").files

    ask(hub, tmp_path, 'api.update_repo_settings("anna/voice", private=False)')
    assert ask_as(hub, tmp_path / "public", ["token-of-ben", ""], look) == {
        "token-of-ben": [*seen, forbidden, forbidden],
        "": [*seen, unknown, unknown],
    }


def test_wrong_read_only_and_foreign_tokens_are_told_apart(hub, tmp_path):
    ask(hub, tmp_path, 'api.create_repo("anna/public"); api.create_repo("team/voice")')
    code = """
result = [error_of(api.whoami), error_of(api.create_repo, "anna/new"),
    error_of(api.create_repo, "anna/public", exist_ok=True), error_of(api.repo_info, "anna/public"),
    error_of(api.auth_check, "anna/public", write=True)]
"""
    unknown, forbidden = ["HfHubHTTPError", 401], ["HfHubHTTPError", 403]
    expected = {
        "token-of-nobody": [unknown] * 5,
        "reading-token-of-anna": [None, forbidden, None, None, forbidden],
        "token-of-ben": [None, forbidden, None, None, forbidden],
        "token-of-anna": [None] * 5,
        "token-of-all": [None, ["HfHubHTTPError", 409], None, None, None],
    }
    assert ask_as(hub, tmp_path, list(expected), code) == expected
    me = 'me = api.whoami(); result = [me["name"], [organisation["name"] for organisation in me["orgs"]]]'
    assert ask(hub, tmp_path, me) == ["anna", ["team"]]
    sent = {request.headers.get("authorization") for request in hub.asked}
    assert "Bearer token-of-ben" in sent and not any(token in repr(hub.asked) for token in TOKENS)


def test_without_a_token_nothing_is_written(hub, tmp_path):
    ask(hub, tmp_path, 'api.create_repo("anna/public")')
    result = ask(
        hub,
        tmp_path,
        """
result = [error_of(api.create_repo, "anna/new"), error_of(add, "anna/public", {"a": b"1"}),
    error_of(api.create_tag, "anna/public", tag="v1"), error_of(api.update_repo_settings, "anna/public", private=True)]
""",
        token=None,
    )
    assert result == [["HfHubHTTPError", 401]] * 4
    assert hub.repository("model", "anna/public").tags == {}
    signed = urllib.request.Request(f"{hub.url}/lfs-storage/{'0' * 64}/{'0' * 64}", b"x", method="PUT")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(signed)


# Repositories


def test_repository_is_made_once_and_deleted_with_its_bytes(hub, tmp_path):
    result = ask(
        hub,
        tmp_path,
        """
url = api.create_repo("anna/voice", repo_type="dataset", private=True)
again = error_of(api.create_repo, "anna/voice", repo_type="dataset")
same = api.create_repo("anna/voice", repo_type="dataset", exist_ok=True, private=False)
api.create_repo("anna/voice")
add("anna/voice", {"a.bin": b"\\0shared", "b.bin": b"\\0kept"})
of_dataset = {"a.bin": b"\\0shared", "c.bin": b"\\0of the data set alone", "d": b"secret text"}
add("anna/voice", of_dataset, repo_type="dataset")
result = [url == same, url.repo_id, again, api.dataset_info("anna/voice").private, api.model_info("anna/voice").private]
""",
    )
    assert result == [True, "anna/voice", ["HfHubHTTPError", 409], True, False]
    stored = b"".join(path.read_bytes() for path in hub.folder.rglob("*") if path.is_file())
    assert b"of the data set alone" in stored and b"secret text" in stored
    deleted = 'api.delete_repo("anna/voice", repo_type="dataset"); '
    deleted += 'result = [error_of(api.delete_repo, "anna/voice", repo_type="dataset"), '
    deleted += 'api.delete_repo("anna/voice", repo_type="dataset", missing_ok=True)]'
    assert ask(hub, tmp_path, deleted) == [["RepositoryNotFoundError", 404], None]
    stored = b"".join(path.read_bytes() for path in hub.folder.rglob("*") if path.is_file())
    assert b"of the data set alone" not in stored and b"secret text" not in stored
    assert hub.repository("model", "anna/voice").files["a.bin"] == b"\0shared"


def test_tag_stays_where_it_is_and_is_found_as_a_revision(hub, tmp_path):
    result = ask(
        hub,
        tmp_path,
        """
api.create_repo("anna/voice")
first = add("anna/voice", {"a.txt": b"first"}, "one")
api.create_tag("anna/voice", tag="v1/a", tag_message="the first")
add("anna/voice", {"a.txt": b"second"}, "two")
again = error_of(api.create_tag, "anna/voice", tag="v1/a")
api.create_tag("anna/voice", tag="v1/a", exist_ok=True)
api.create_tag("anna/voice", tag="v0", revision=first)
def read(revision):
    return Path(hf_hub_download("anna/voice", "a.txt", revision=revision, cache_dir=sys.argv[1])).read_text()
refs = api.list_repo_refs("anna/voice")
result = {
    "read": [read("v1/a"), read(first), read("main")],
    "again": again,
    "tags": {tag.name: tag.target_commit == first for tag in refs.tags},
    "commits": [commit.title for commit in api.list_repo_commits("anna/voice")],
    "until": [commit.title for commit in api.list_repo_commits("anna/voice", revision="v0")],
    "unknown": [error_of(read, "v2"), error_of(hf_hub_download, "anna/voice", "b.txt", cache_dir=sys.argv[1]),
        error_of(api.list_repo_tree("anna/voice", "absent").__next__)],
}
api.delete_tag("anna/voice", tag="v1/a")
left = [tag.name for tag in api.list_repo_refs("anna/voice").tags]
result["gone"] = [error_of(api.delete_tag, "anna/voice", tag="v1/a"), left]
""",
        tmp_path / "cache",
    )
    assert result == {
        "read": ["first", "first", "second"],
        "again": ["HfHubHTTPError", 409],
        "tags": {"v0": True, "v1/a": True},
        "commits": ["two", "one", "initial commit"],
        "until": ["one", "initial commit"],
        "unknown": [["RevisionNotFoundError", 404], *[["RemoteEntryNotFoundError", 404]] * 2],
        "gone": [["RevisionNotFoundError", 404], ["v0"]],
    }


def test_readme_with_broken_metadata_is_refused_before_anything_is_sent(hub, tmp_path):
    result = ask(
        hub,
        tmp_path,
        """
api.create_repo("anna/voice")
result = error_of(add, "anna/voice", {"README.md": b"---\\nlicense: [mit\\n---\\n", "a.txt": b"1"})
""",
    )
    assert result == ["ValueError", None] and len(hub.repository("model", "anna/voice").commits) == 1
    assert not asked(hub, "preupload")
    space = "---\nsdk: gradio\ncolorFrom: violet\npython_version: 3.10\n---\n"
    assert [message.split()[0] for message in readme_problems(space, "space")[0]] == ['"colorFrom"', '"python_version"']
    assert readme_problems(space, "model") == ([], []) and readme_problems("# Title", "model")[1]


# Faults


def test_client_gets_over_what_it_retries_itself(hub, tmp_path):
    hub.faults += [
        Fault("POST .*/preupload/", status=429, headers={"Retry-After": "0"}),
        Fault("POST .*/objects/batch", "drop"),
        Fault("PUT /lfs-storage", status=500, skip=1),
        Fault("POST .*/objects/verify", "lost"),
    ]
    began_s = time.monotonic()
    code = """
api.create_repo("anna/voice")
result = add("anna/voice", {"a.bin": b"\\0one", "b.bin": b"\\0two"})
"""
    assert ask(hub, tmp_path, code, xet=False) == hub.commit("model", "anna/voice")
    assert time.monotonic() - began_s > 3  # a second for each of them, one after the other
    assert [fault.happened for fault in hub.faults] == [1, 1, 1, 1]
    assert [len(asked(hub, part)) for part in ("/preupload/", "/batch", "PUT ", "/commit/")] == [2, 2, 3, 1]
    assert hub.repository("model", "anna/voice").files["b.bin"] == b"\0two"


def test_commit_fails_by_status_drop_or_lost_reply(hub, tmp_path):
    hub.faults += [
        Fault("/commit/", status=503),
        Fault("/commit/", "drop"),
        Fault("/commit/", "lost"),
        Fault("POST /api/repos/create", status=402, times=None),
    ]
    code = """
head = api.repo_info("anna/voice").sha
result = [error_of(add, "anna/voice", {"a.txt": b"1"}, parent_commit=head) for _ in range(4)]
result += [error_of(api.create_repo, "anna/a"), error_of(api.create_repo, "anna/b")]
"""
    hub.faults[-1].skip = 1
    ask(hub, tmp_path, 'api.create_repo("anna/voice")')
    result = ask(hub, tmp_path, code)
    assert result[0] == ["HfHubHTTPError", 503]
    assert [name for name, _ in result[1:3]] == ["RemoteProtocolError"] * 2
    # The third was done, though its reply was lost: to the fourth nothing is new.
    assert result[3:] == [None, ["HfHubHTTPError", 402], ["HfHubHTTPError", 402]]
    assert [commit.message for commit in hub.repository("model", "anna/voice").commits] == ["initial commit", "add"]


def test_slow_body_arrives_late_and_whole():
    content = bytes(range(256)) * 400
    with HubServer({("model", "me/voice"): {"a.bin": content}}) as slow:
        slow.faults.append(Fault("GET .*/resolve/", "slow", seconds=0.6))
        began_s = time.monotonic()
        with urllib.request.urlopen(f"{slow.url}/me/voice/resolve/main/a.bin") as reply:
            assert reply.read() == content
        assert time.monotonic() - began_s > 0.5


def test_failure_rate_is_the_same_at_each_run():
    def outcomes():
        with HubServer({("model", "me/voice"): {"a.txt": b"1"}}) as server:
            server.failure_rate = 0.1
            return [outcome(f"{server.url}/api/models/me/voice") for _ in range(200)]

    def outcome(url):
        try:
            with urllib.request.urlopen(url) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            return error.code
        except (http.client.HTTPException, OSError):
            return "dropped"

    first = outcomes()
    assert first == outcomes()
    assert first.count(200) + first.count(503) + first.count("dropped") == 200
    assert first.count(503) >= 3 and first.count("dropped") >= 6 and 170 <= first.count(200) <= 190


def test_half_a_commit_is_none():
    lines = [{"key": "header", "value": {"summary": "half", "description": ""}}]
    lines += [{"key": "file", "value": {"path": name, "content": "MQ==", "encoding": "base64"}} for name in "ab"]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    with HubServer({("model", "anna/voice"): {}}, tokens=TOKENS) as server:
        for sent in (body[: body.index(b"b")], body):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                head = "POST /api/models/anna/voice/commit/main HTTP/1.1\r\nAuthorization: Bearer token-of-anna"
                connection.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + sent)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(1000)
            assert answer.startswith(b"HTTP/1.1 200") if sent == body else answer == b""
        assert set(server.repository("model", "anna/voice").files) == {"a", "b"}
        assert len(server.repository("model", "anna/voice").commits) == 2


@pytest.mark.parametrize("stop", ["xet-write-token", "PUT /lfs-storage"])
def test_killed_client_leaves_main_as_it_was_and_the_next_one_ends_right(hub, tmp_path, stop):
    xet = stop.startswith("xet")
    ask(hub, tmp_path, 'api.create_repo("anna/voice")')
    before = hub.commit("model", "anna/voice")
    hub.faults.append(Fault(stop, "slow", seconds=60, times=1, skip=0 if xet else 3))
    code = """
add("anna/voice", {f"{number}.bin": bytes([0, number]) * 50_000 for number in range(20)})
"""
    process = start(hub, tmp_path, code, xet=xet)
    deadline_s = time.monotonic() + 20
    while not hub.faults[0].happened:
        assert time.monotonic() < deadline_s and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert hub.commit("model", "anna/voice") == before
    ask(hub, tmp_path, code, xet=xet)
    files = hub.repository("model", "anna/voice").files
    assert {path: files[path] for path in files if path != ".gitattributes"} == {
        f"{number}.bin": bytes([0, number]) * 50_000 for number in range(20)
    }


def test_stopped_server_answers_no_more():
    with HubServer({("model", "me/voice"): {"a.txt": b"1"}}) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", "/me/voice/resolve/main/a.txt")
        assert connection.getresponse().read() == b"1"
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.request("GET", "/me/voice/resolve/main/a.txt")
        connection.getresponse()


def test_mistake_of_the_hub_reaches_the_test():
    with pytest.raises(AssertionError, match="ZeroDivisionError"), HubServer({("model", "me/a"): {}}) as server:
        server.routes.insert(0, ("GET", "/broken", "any", lambda request: 1 / 0))
        with pytest.raises(urllib.error.HTTPError, match="500"):
            urllib.request.urlopen(f"{server.url}/broken")


# Downloads


def test_ranges_and_heads_are_answered_as_the_hub_does():
    content = bytes(range(200))
    with HubServer({("dataset", "me/clips"): {"a b.bin": content}}) as server:

        def reply(method, **headers):
            connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
            connection.request(method, "/datasets/me/clips/resolve/main/a%20b.bin", headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers

        status, body, headers = reply("HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", "200")
        assert headers["ETag"] == f'"{blob_id(content)}"' and headers["X-Repo-Commit"] == server.commit(
            "dataset", "me/clips"
        )
        assert reply("GET", Range="bytes=10-19")[:2] == (206, content[10:20])
        assert reply("GET", Range="bytes=190-")[:2] == (206, content[190:])
        assert reply("GET", Range="bytes=190-500")[2]["Content-Range"] == "bytes 190-199/200"
        assert reply("GET", Range="bytes=200-")[0] == 416


def test_pushed_data_set_is_streamed_and_loaded(hub, tmp_path):
    code = """
import numpy
from datasets import Dataset, load_dataset
rows = [{"text": f"sentence {number}", "samples": numpy.random.default_rng(number).integers(0, 9999, 2000).tolist()}
    for number in range(60)]
Dataset.from_list(rows).push_to_hub("anna/clips", private=True, split="train", max_shard_size="100KB")
Dataset.from_list(rows[:7]).push_to_hub("anna/clips", split="test")
streamed = list(load_dataset("anna/clips", split="train", streaming=True))
loaded = load_dataset("anna/clips")
result = [streamed == rows, list(loaded["train"]) == rows, list(loaded["test"]) == rows[:7]]
"""
    assert ask(hub, tmp_path, code, HF_DATASETS_CACHE=str(tmp_path / "datasets")) == [True, True, True]
    repository = hub.repository("dataset", "anna/clips")
    assert repository.private and sum(path.endswith(".parquet") for path in repository.files) >= 3
    assert asked(hub, "xet-write-token") and asked(hub, "xet-read-token")


# Spaces


SPACE = """
from huggingface_hub import SpaceHardware
files = {"README.md": b"---\\ntitle: Demo\\nsdk: gradio\\napp_file: app.py\\n---\\n", "app.py": b"print()"}
def stages():
    seen = []
    while not seen or seen[-1].endswith(("BUILDING", "STARTING")):
        seen.append(api.get_space_runtime("anna/demo").stage)
    return seen
"""


def test_space_is_built_runs_and_is_steered(hub, tmp_path):
    code = """
api.create_repo("anna/demo", repo_type="space", space_sdk="gradio", space_hardware="zero-a10g",
    space_variables=[{"key": "MODEL", "value": "anna/voice"}],
    space_secrets=[{"key": "HF_TOKEN", "value": "planted-secret"}])
result = {"empty": stages()}
add("anna/demo", files, repo_type="space")
result["built"] = stages()
runtime = api.get_space_runtime("anna/demo")
result["runtime"] = [runtime.stage, runtime.hardware, runtime.requested_hardware]
variables = api.add_space_variable("anna/demo", "NAME", "Anna", description="whose")
api.add_space_secret("anna/demo", "OTHER", "planted-secret")
result["variables"] = {key: [one.value, one.description] for key, one in variables.items()}
result["secrets"] = sorted(api.get_space_secrets("anna/demo"))
result["rebuilt"] = stages()
result["hardware"] = api.request_space_hardware("anna/demo", SpaceHardware.T4_SMALL, sleep_time=600).requested_hardware
runtime = api.wait_for_space("anna/demo", poll_interval=0.02)
result["moved"] = [runtime.stage, api.get_space_runtime("anna/demo").hardware, runtime.sleep_time]
result["paused"] = api.pause_space("anna/demo").stage
result["restarted"] = [api.restart_space("anna/demo", factory_reboot=True).stage, stages()[-1]]
api.delete_space_variable("anna/demo", "NAME")
api.delete_space_secret("anna/demo", "OTHER")
result["left"] = [sorted(api.get_space_variables("anna/demo")), sorted(api.get_space_secrets("anna/demo"))]
result["info"] = [api.space_info("anna/demo").sdk, api.space_info("anna/demo").runtime.stage]
result["run log"] = list(api.fetch_space_logs("anna/demo"))
"""
    assert ask(hub, tmp_path, SPACE + code) == {
        "empty": ["NO_APP_FILE"],
        "built": ["BUILDING", "APP_STARTING", "RUNNING"],
        "runtime": ["RUNNING", "zero-a10g", "zero-a10g"],
        "variables": {"MODEL": ["anna/voice", None], "NAME": ["Anna", "whose"]},
        "secrets": ["HF_TOKEN", "OTHER"],
        "rebuilt": ["RUNNING_BUILDING", "RUNNING_APP_STARTING", "RUNNING"],
        "hardware": "t4-small",
        "moved": ["RUNNING", "t4-small", 600],
        "paused": "PAUSED",
        "restarted": ["RUNNING_BUILDING", "RUNNING"],
        "left": [["MODEL"], ["HF_TOKEN"]],
        "info": ["gradio", "RUNNING_BUILDING"],
        "run log": ["===== Application"],
    }
    space = hub.repository("space", "anna/demo").space
    assert space.secrets["HF_TOKEN"]["value"] == "planted-secret" and space.restarts == 1
    assert not any(b"planted-secret" in path.read_bytes() for path in hub.folder.rglob("*") if path.is_file())
    assert "planted-secret" not in repr(space)


def test_space_that_cannot_be_built_says_so_in_its_log(hub, tmp_path):
    hub.space_failures["anna/demo"] = SpaceFailure(log=["Collecting nonsense", "ERROR: no nonsense found"])
    code = """
api.create_repo("anna/demo", repo_type="space", space_sdk="gradio")
add("anna/demo", files, repo_type="space")
runtime = api.wait_for_space("anna/demo", poll_interval=0.02)
result = [runtime.stage, runtime.raw["errorMessage"], list(api.fetch_space_logs("anna/demo", build=True))[-2:]]
"""
    result = ask(hub, tmp_path, SPACE + code)
    assert result == ["BUILD_ERROR", "ERROR: no nonsense found", ["Collecting nonsense", "ERROR: no nonsense found"]]
    hub.space_failures["anna/demo"] = SpaceFailure("RUNTIME_ERROR", ["Traceback"])
    code = 'result = [api.wait_for_space("anna/demo").stage, list(api.fetch_space_logs("anna/demo"))[-1]]'
    assert ask(hub, tmp_path, code) == ["RUNTIME_ERROR", "Traceback"]
    del hub.space_failures["anna/demo"]
    remove = 'api.delete_file("README.md", "anna/demo", repo_type="space"); result = stages()'
    assert ask(hub, tmp_path, SPACE + remove) == ["CONFIG_ERROR"]


# A folder that outlives its server


def test_restarted_server_knows_what_was_pushed(tmp_path):
    folder, began = tmp_path / "hub", []

    class Served:
        """A server in a process of its own, as `make demo` starts it."""

        def __enter__(self):
            command = [sys.executable, "-m", "stages.hub.local.server", str(folder)]
            self.process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)
            self.url = self.process.stdout.readline().strip()
            began.append(self.url)
            return self

        def __exit__(self, *_):
            self.process.kill()
            self.process.communicate()

        def environment(self, home, token):
            return clean_environment(home, HF_ENDPOINT=self.url, HF_TOKEN=token)

    with Served() as served:
        code = """
api.create_repo("local/voice", private=True)
first = add("local/voice", {"a.bin": b"\\0one" * 1000, "b.txt": b"text"}, "one")
api.create_tag("local/voice", tag="v1")
secrets = [{"key": "A", "value": "planted-secret"}]
api.create_repo("local/demo", repo_type="space", space_sdk="gradio", space_secrets=secrets)
result = first
"""
        first = ask(served, tmp_path, code, token="local-token")
    with Served() as served:
        code = """
second = add("local/voice", {"c.bin": b"\\0two" * 1000, "d/e.bin": b"\\0one" * 1000}, "two", parent_commit=sys.argv[1])
folder = Path(snapshot_download("local/voice", cache_dir=sys.argv[2]))
result = [api.repo_info("local/voice").private, api.list_repo_refs("local/voice").tags[0].target_commit,
    [commit.title for commit in api.list_repo_commits("local/voice")],
    sum((folder / path).read_bytes() == b"\\0one" * 1000 for path in ("a.bin", "d/e.bin")),
    list(api.get_space_secrets("local/demo"))]
"""
        result = ask(served, tmp_path, code, first, tmp_path / "cache", token="local-token")
        assert result == [True, first, ["two", "one", "initial commit"], 2, ["A"]]
        page = urllib.request.Request(f"{served.url}/local/voice", headers={"Authorization": "Bearer local-token"})
        with urllib.request.urlopen(page) as reply:
            assert b'/resolve/main/d/e.bin">d/e.bin</a> 4000 bytes' in reply.read()
    assert not any(b"planted-secret" in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert began[0].startswith("http://127.0.0.1:")


def test_shards_of_xet_are_read_as_hf_xet_writes_them(tmp_path):
    import hashlib

    import hf_xet

    contents = [b"a" * 200_000, random.Random(2).randbytes(300_000), b"z"]
    upload = hf_xet.XetSession().new_upload_commit(
        endpoint=f"local://{tmp_path}", token="unused", token_expiry_unix_secs=2**32
    )
    with upload:
        started = [upload.start_upload_bytes(content, sha256=hf_xet.COMPUTE_SHA256) for content in contents]
    expected = {
        hashlib.sha256(content).hexdigest(): (handle.result().xet_info.hash, len(content))
        for content, handle in zip(contents, started, strict=True)
    }
    shards = list(tmp_path.glob("xet/xorbs/shards/*.mdb"))
    assert {sha256: stored for shard in shards for sha256, stored in files_in_shard(shard.read_bytes())} == expected


def test_environment_holds_nothing_of_the_users_hub(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "the-users-own")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    environment = hub.environment(tmp_path)
    assert "the-users-own" not in environment.values() and "HTTPS_PROXY" not in environment
    assert environment["HF_HOME"].startswith(str(tmp_path)) and os.environ["HF_TOKEN"] == "the-users-own"
    assert hub.environment(tmp_path, "token-of-anna")["HF_TOKEN"] == "token-of-anna"

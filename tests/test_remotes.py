"""Remotes: what docs/remotes.md tells people to type, with a folder and with servers of the tests' own."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.workspaces import DEMO_CLIPS, ROOT, dvc, environment

PAGE = (ROOT / "docs/remotes.md").read_text()
COMMANDS = [block.strip().splitlines() for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)]
FOLDER, BUCKET, CREDENTIALS, SSH, HERE, THERE = COMMANDS
RECORDINGS = 4


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A repository with a few recordings that git and DVC know; nobody writes into it."""
    folder = tmp_path_factory.mktemp("begun") / "here"
    (folder / "data/raw/demo").mkdir(parents=True)
    for name in ("stages", ".dvc"):
        ignored = shutil.ignore_patterns("__pycache__", "cache", "tmp", "*.local")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in (".gitignore", ".dvcignore", "Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, folder / name)
    for path in sorted(DEMO_CLIPS.glob("*.opus"))[:RECORDINGS]:
        shutil.copy(path, folder / "data/raw/demo")
    type_in(folder, "git init --quiet")
    dvc(folder, "add", "--quiet", "data/raw")
    type_in(folder, "git add --all")
    type_in(folder, "git commit --quiet -m begun")
    return folder


@pytest.fixture
def recordings(begun, tmp_path) -> Path:
    return shutil.copytree(begun, tmp_path / "here", symlinks=True)


def type_in(folder: Path, command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess:
    """Run a command as a person would type it."""
    git = {f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    result = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env=environment(folder, **git, **variables),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not check or result.returncode == 0, f"{command}: {result.stdout[-1000:]}{result.stderr[-2000:]}"
    return result


def clone(recordings: Path) -> Path:
    there = recordings.parent / "there"
    type_in(recordings.parent, f"git clone --quiet {recordings} {there}")
    (there / ".venv").mkdir()  # make must not install everything again
    (there / ".venv/.installed").touch()
    return there


def raw_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in (folder / "data/raw").rglob("*.*")}


def push_and_pull(recordings: Path, commands: list[str], **variables: str) -> Path:
    """Follow the page from one machine to the other; the folder there."""
    for command in [*commands, *HERE[:2]]:
        type_in(recordings, command, **variables)
    there = clone(recordings)
    for command in [*(command for command in commands if not command.startswith("mkdir")), THERE[0]]:
        type_in(there, command, **variables)
    assert raw_of(there) == raw_of(recordings)
    assert len(raw_of(there)) == RECORDINGS
    for folder in (recordings, there):
        tracked = type_in(folder, "git status --porcelain --untracked-files=all").stdout
        assert "config" not in tracked, "addresses and credentials are none of git's business"
        assert (folder / ".dvc/config").read_text() == (ROOT / ".dvc/config").read_text()
    return there


def test_recordings_go_to_a_folder_and_into_a_fresh_clone(recordings, tmp_path):
    commands = [command.replace("/mnt/backup", str(tmp_path / "backup")) for command in FOLDER]
    push_and_pull(recordings, commands)
    assert (tmp_path / "backup/ownvoice").stat().st_mode & 0o777 == 0o700


@pytest.fixture
def s3_server():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.mark.slow
def test_recordings_go_to_a_bucket_and_into_a_fresh_clone(recordings, s3_server):
    client = boto3.client(
        "s3", endpoint_url=s3_server, region_name="us-east-1", aws_access_key_id="KEY", aws_secret_access_key="SECRET"
    )
    client.create_bucket(Bucket="voices")
    commands = [command.replace("BUCKET", "voices").replace("https://SERVER", s3_server) for command in BUCKET]
    variables = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    push_and_pull(recordings, [*commands, *CREDENTIALS], **variables)
    objects = client.list_objects_v2(Bucket="voices")["Contents"]
    assert len(objects) == RECORDINGS + 1  # and the list of them
    assert all(item["Key"].startswith("ownvoice/") for item in objects)
    for item in objects:
        assert client.head_object(Bucket="voices", Key=item["Key"])["ServerSideEncryption"] == "AES256"


SSH_SERVER = """
import asyncio, asyncssh, sys
from pathlib import Path

async def serve():
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(2)]
    keys[1].write_private_key(".ssh/id_ed25519")
    keys[1].write_public_key(".ssh/id_ed25519.pub")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=keys[:1], authorized_client_keys=".ssh/id_ed25519.pub", sftp_factory=True
    )
    known = keys[0].export_public_key().decode()
    Path(".ssh/known_hosts").write_text(f"[127.0.0.1]:{server.get_port()} {known}")
    print(server.get_port(), flush=True)
    await server.wait_closed()

asyncio.run(serve())
"""


@pytest.fixture
def ssh_server(tmp_path):
    """(host and port of an SSH server, a home folder whose key it accepts)"""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", SSH_SERVER], cwd=home, stdout=subprocess.PIPE, text=True) as server:
        yield f"127.0.0.1:{server.stdout.readline().strip()}", home
        server.kill()


@pytest.mark.slow
def test_recordings_go_to_another_machine_over_ssh_and_into_a_fresh_clone(recordings, ssh_server, tmp_path):
    host, home = ssh_server
    (tmp_path / "box/ownvoice").mkdir(parents=True)
    commands = [command.replace("USER@HOST/home/USER", f"me@{host}{tmp_path}/box") for command in SSH]
    push_and_pull(recordings, commands, HOME=str(home))
    assert len([path for path in (tmp_path / "box/ownvoice").rglob("*") if path.is_file()]) == RECORDINGS + 1


def test_pull_removes_and_changes_no_recording_that_is_here_and_says_which_would_be_lost(recordings, tmp_path):
    """A recording that is lost because another machine does not have it, or because the remote has none."""
    remote = "dvc remote add --local --default box ../remote"
    type_in(recordings, remote)
    type_in(recordings, HERE[0])
    cloned = clone(recordings)
    type_in(cloned, remote)
    (tmp_path / "remote").rename(tmp_path / "away")
    refused = type_in(cloned, "make pull", check=False)
    assert refused.returncode != 0 and "Traceback" not in refused.stderr and "\npull: " in f"\n{refused.stderr}"
    assert raw_of(cloned) == {}
    (tmp_path / "away").rename(tmp_path / "remote")
    new, changed = cloned / "data/raw/demo/new.opus", cloned / "data/raw/demo/001.opus"
    new.parent.mkdir(parents=True, exist_ok=True)
    new.write_bytes(b"said today")
    refused = type_in(cloned, "make pull", check=False)
    assert refused.returncode != 0 and "Traceback" not in refused.stderr
    assert "pull: 1 file in data/raw would be lost" in refused.stderr and "data/raw/demo/new.opus" in refused.stderr
    assert raw_of(cloned) == {"data/raw/demo/new.opus": b"said today"}
    new.unlink()
    type_in(cloned, "make pull")
    changed.write_bytes(b"said again")
    (cloned / "data/raw/demo/002.opus").unlink()
    refused = type_in(cloned, "make pull", check=False)
    assert refused.returncode != 0 and "data/raw/demo/001.opus" in refused.stderr
    assert changed.read_bytes() == b"said again"
    changed.unlink()
    type_in(cloned, "make pull")
    assert len(raw_of(cloned)) == RECORDINGS


def test_pull_without_a_remote_says_where_to_read_about_them(recordings):
    result = type_in(clone(recordings), "make pull", check=False)
    assert "pull: there is no remote to fetch recordings from: set one up as in docs/remotes.md" in result.stderr

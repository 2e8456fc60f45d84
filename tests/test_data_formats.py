"""docs/data-formats.md against real files: each field of each file is there, with its type, and its examples run."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recorder.inbox import StoredClip, agreed_to_publish, record_consent
from stages.speech.columns import COLUMNS, OPTIONAL_FIELDS
from stages.speech.names import AUDIO_SUFFIXES
from stages.speech.pairing import KNOWN_TABLES
from stages.speech.subtitles import SUFFIXES
from stages.speech.tables import TABLE_SUFFIXES
from tests.test_docs import BLOCK, SPAN
from tests.workspaces import ROOT, add_demo_clips, environment, make_workspace, read_json, read_rows, run_stages

PAGE = ROOT / "docs/data-formats.md"
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "list": list,
    "object": dict,
    "null": type(None),
}
# Files whose heading stands for others of the same form.
SAME = {
    "data/prepared/other_speakers.jsonl": "data/prepared/metadata.jsonl",
    "data/split/train.jsonl": "data/prepared/metadata.jsonl",
    "data/split/validation.jsonl": "data/prepared/metadata.jsonl",
    "data/split/test.jsonl": "data/prepared/metadata.jsonl",
    "data/evaluation/other_speakers.jsonl": "data/evaluation/predictions.jsonl",
}
# Made for people, or by others, or described in a sentence.
NOT_BY_FIELDS = ("report.html", "README.md", "audio/*/*.flac", "best/*")
# Only where something was really published.
IF_PUBLISHED = {"url", "commit", "tag", "space_id", "hardware", "variables", "secrets"}
AT_TIMES = {
    "data/receipts/push.json": IF_PUBLISHED | {"private"},
    "data/receipts/dataset.json": IF_PUBLISHED,
    "data/receipts/deploy.json": IF_PUBLISHED | {"private", "files"},  # it is not enabled
}


def section(heading: str) -> str:
    """What stands below a heading, down to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert found, f"{PAGE.name} has no heading {heading}"
    return found[1]


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the tables below a heading."""
    return [re.split(r" *\| *", line.strip("| ")) for line in section(heading).splitlines() if line.startswith("| `")]


def documented(file: str) -> dict[str, set[str]]:
    """{field: types} of a file."""
    rows = [row for row in rows_of(f"`{SAME.get(file, file)}`") if set(row[1].split(" or ")) <= set(TYPES)]
    return {field: set(row[1].split(" or ")) for row in rows for field in SPAN.findall(row[0])}


def fields(value: object, known: dict[str, set[str]], name: str = "") -> Iterator[tuple[str, object]]:
    """(documented name, value) of everything in a value; names in capitals stand for any."""
    if name in known:
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            inner_name = f"{name}.{key}" if name else key
            any_name = next((one for one in known if matches(one, inner_name)), None)
            yield from fields(inner, known, any_name or inner_name)
    elif isinstance(value, list):
        for inner in value:
            yield from fields(inner, known, f"{name}[]")
    else:
        yield name, value


def matches(pattern: str, name: str) -> bool:
    """Whether a name is the pattern, or leads to it."""
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(
        one == other or other.isupper() for one, other in zip(parts, wanted, strict=True)
    )


def content_of(path: Path, known: dict[str, set[str]]) -> list[object]:
    """Rows, or the one object, of a file; cells of a table that are no words as numbers."""
    if path.suffix == ".jsonl":
        return read_rows(path)
    if path.suffix == ".json":
        return [read_json(path)]
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {name: cell if known.get(name) == {"string"} else json.loads(cell) for name, cell in row.items()}
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """The whole pipeline on a few clips, with a rejected one, a doubtful one, other people, keywords, dry receipts."""
    folder = make_workspace(
        tmp_path_factory.mktemp("formats"),
        train__epochs=1,
        train__max_clips=8,
        evaluate__other_speakers="others",
        evaluate__keywords=["lights"],
        push__enabled=True,
        push__dry_run=True,
        push__dataset__enabled=True,
    )
    add_demo_clips(folder, 60)
    raw = folder / "data/raw/demo"
    consent = {"speaker": "demo", "wording": "yes", "given_at": "2026-01-01T00:00:00+00:00", "publish": True}
    (raw / "consents.jsonl").write_text(json.dumps(consent) + "\n")
    shutil.move(raw / "060.opus", raw / "unnamed.opus")  # no row names it, and its row names nothing
    rows = read_rows(raw / "clips.jsonl")
    rows[0]["text"] = "I"  # far too little for two seconds
    (raw / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "others").mkdir()
    noise = np.random.default_rng(0).normal(scale=0.1, size=16_000)
    soundfile.write(folder / "others/1.wav", noise, 16_000)
    (folder / "others/1.txt").write_text("good morning")
    run_stages(
        folder, "prepare", "split", "train", "evaluate", "card", "push", "deploy", "hub.dataset", "commands.review"
    )
    return folder


def written(workspace: Path) -> set[str]:
    """What stages wrote, but for what is not described by fields."""
    files = [path for path in (workspace / "data").rglob("*") if path.is_file()]
    names = {path.relative_to(workspace).as_posix() for path in files}
    return {
        name
        for name in names
        if not name.startswith(("data/raw/", "data/demo/", "data/recorder/"))
        and not any(Path(name).match(pattern) for pattern in NOT_BY_FIELDS)
    }


def test_every_file_and_every_field_of_it_is_described_with_its_type(workspace):
    files = written(workspace)
    headings = re.findall(r"^#+ `(data/[^`]+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(headings) > 12
    assert {name for name in headings if not name.startswith("data/raw/")} <= files
    for file in sorted(files):
        known = documented(file)
        contents = content_of(workspace / file, known)
        assert contents or file.endswith("misheard.csv"), f"{file} is empty: nothing was compared"
        seen = set()
        for name, value in (found for content in contents for found in fields(content, known)):
            assert name in known, f"docs/data-formats.md does not describe {name} of {file}"
            right = any(isinstance(value, TYPES[kind]) for kind in known[name])
            assert right and (not isinstance(value, bool) or "boolean" in known[name]), f"{file}: {name} is {value!r}"
            seen.add(name)
        missing = set(known) - seen - AT_TIMES.get(file, set()) if contents else set()
        assert not missing, f"docs/data-formats.md describes {missing} of {file}, which is not there"


def test_rows_of_the_recording_page_are_described(tmp_path, monkeypatch):
    assert set(documented("data/raw/recorded/clips.jsonl")) == set(StoredClip.__dataclass_fields__) - {"source"}
    monkeypatch.chdir(tmp_path)
    record_consent("ann", "to be recorded", publish=True)
    assert agreed_to_publish() == {"ann"}
    (change,) = Path("data/inbox").glob("*/change.json")
    assert set(read_json(change)["row"]) == set(documented("data/raw/recorded/consents.jsonl"))


def test_every_way_to_put_recordings_in_is_named():
    assert {*KNOWN_TABLES, *TABLE_SUFFIXES, *SUFFIXES} <= set(SPAN.findall(section("Sources")))
    assert {word for word in SPAN.findall(section("Sound")) if word.startswith(".")} == AUDIO_SUFFIXES
    columns = {row[0]: set(SPAN.findall(row[1])) for row in rows_of("Columns")}
    assert {f"`{name}`" for name in OPTIONAL_FIELDS} <= set(columns)
    assert {f"`{name}`": set(names) - {name} for name, names in COLUMNS.items()}.items() <= columns.items()


EXAMPLES = [
    pytest.param(language, body, id=f"{page.name} {number}")
    for page in sorted((ROOT / "docs").glob("*.md"))
    for number, (_, language, body) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
    if language in ("python", "bash")
]


@pytest.mark.parametrize(("language", "body"), EXAMPLES)
def test_examples_run(workspace, language, body):
    command = [sys.executable, "-c", body] if language == "python" else ["bash", "-euc", body]
    done = subprocess.run(
        command, cwd=workspace, env=environment(workspace), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout

"""The pages against the code: what they name exists, and what exists for users is named."""

import ast
import functools
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from stages.common.code import direct_imports, file_of
from stages.common.params import Params
from tests import stage_graph
from tests.stage_graph import ROOT

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
# Of a path's first folder: what is in git, and what is made here.
IN_GIT = ("stages", "recorder", "tests", "templates", "docs", "demo_voxtral", "data/demo", ".streamlit", ".ci")
MADE = ("data", ".cache", ".demo")
SUFFIXES = ("py", "json", "jsonl", "csv", "md", "html", "yaml", "txt", "toml", "dvc", "lock", "svg", "local", "js")
SUFFIXES += ("safetensors",)
OF_READERS = ("wav", "mp3", "flac", "srt", "vtt", "tsv", "scp")  # examples: files that a reader may have
# Dotted names that are neither settings, files nor modules of ours.
OTHERS = ("e.g", "torch.compile", "rec.example.org")
VARIABLE = re.compile(r"\b(?:OWNVOICE|HF)_[A-Z0-9_]+\b")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
MANY = re.compile(r"ab")  # stands for the folders of prepared sound, whose names are made of ids
# A row about fields of a file: tests/test_data_formats.py compares these with real files.
FIELD = re.compile(r"^\| `[^|]+` \| (?:string|integer|number|boolean|list|object)\b.*$", re.MULTILINE)
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Known:
    """What pages may name."""

    targets: frozenset[str]  # of make
    keys: frozenset[str]  # of params.yaml, dotted, sections among them
    stages: frozenset[str]
    variables: frozenset[str]  # of the environment
    words: frozenset[str]  # names of files and folders, and whatever else stands in a string of the code


# What there is


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys_of(field.annotation, f"{prefix}{name}.")


@functools.cache
def sources() -> dict[str, ast.Module]:
    """Syntax trees of the pipeline, of the recording page and of the demo page, by file."""
    files = [path for folder in ("stages", "recorder", "demo_voxtral") for path in (ROOT / folder).rglob("*.py")]
    return {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(files)}


def strings(tree: ast.AST) -> Iterator[str]:
    """Strings of the code, but for docstrings."""
    nodes = list(ast.walk(tree))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@functools.cache
def known() -> Known:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pipeline = YAML(typ="safe").load(ROOT / "dvc.yaml")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = [text for tree in sources().values() for text in strings(tree)]
    texts += [makefile, tracked, (ROOT / ".gitignore").read_text(), str(pipeline)]
    templates = [path.read_text(encoding="utf-8") for path in (ROOT / "demo_voxtral").glob("*.py")]
    constants = Path(importlib.util.find_spec("huggingface_hub").origin).with_name("constants.py").read_text()
    return Known(
        targets=frozenset(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)),
        keys=frozenset(keys_of(Params)),
        stages=frozenset(pipeline["stages"]),
        variables=frozenset(VARIABLE.findall("\n".join([*texts, *templates, constants]))),
        words=frozenset(word for text in texts for word in re.findall(r"[\w.-]+", text)),
    )


# What pages say


def code_in(text: str) -> list[str]:
    """Code of a page: spans, the lines of blocks, and the words of diagrams."""
    found = SPAN.findall(BLOCK.sub("", text))
    for _, language, body in BLOCK.findall(text):
        if language == "mermaid":
            body = re.sub(r"<br>|-->|\(\[|[\[\](){}|\"]", " ", body)
        found += body.splitlines()
    return found


def wrong_names(page: Path, known: Known) -> list[str]:
    """What a page names and is not there, with the page."""
    text = FIELD.sub("", page.read_text(encoding="utf-8"))
    wrong: list[str] = []
    for code in code_in(text):
        wrong += [
            f"make {name}" for name in re.findall(r"(?:^|'|&& )make ([a-z][a-z-]+)", code) if name not in known.targets
        ]
        wrong += [f"dvc repro {name}" for name in re.findall(r"dvc repro ([a-z]+)", code) if name not in known.stages]
        wrong += [f"python -m {name}" for name in re.findall(r"python -m ([\w.]+)", code) if not is_module(name)]
        wrong += [name for name in dotted_names(code) if not is_dotted_name(name, known)]
        wrong += [path for path in paths_in(code) if not is_path(path, known)]
    wrong += [name for name in VARIABLE.findall(text) if name not in known.variables]
    return [f"{name_of(page)}: {one}" for one in dict.fromkeys(wrong)]


def is_module(name: str) -> bool:
    if name.rpartition(".")[2].isupper():  # stands for any of a package
        name = name.rpartition(".")[0]
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def dotted_names(code: str) -> list[str]:
    return re.findall(r"(?<![\w./@:-])[a-z_]+(?:\.[a-z_][a-z_0-9]*)+(?![\w(/.-]*[\w(/-])", code)


def is_dotted_name(name: str, known: Known) -> bool:
    """A settings key, a file, a module, or a name of somebody else's."""
    if name.rpartition(".")[2] in SUFFIXES:
        return name in known.words
    if name.rpartition(".")[2] in OF_READERS:
        return True
    return name in known.keys or name in OTHERS or is_module(name)


def paths_in(code: str) -> list[str]:
    return re.findall(r"(?<![\w./~:@-])(?:\.?\w[\w-]*/)+[\w.*-]*", code)


def is_path(path: str, known: Known) -> bool:
    """Whether a path is in git, or is made by code that names its parts. Parts in capitals stand for others."""
    path = path.rstrip("/.")
    if path.startswith(IN_GIT):
        return bool(list(ROOT.glob(path))) or any(Path(part).stem.isupper() for part in path.split("/"))
    first, *parts = path.split("/")
    if first not in MADE:  # USER/NAME, a Hub id, a folder of the reader's
        return True
    return all(part.isupper() or part in known.words or MANY.fullmatch(part) for part in parts)


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    lines = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_name_on_a_page_exists(page):
    wrong = wrong_names(page, known())
    assert not wrong


@pytest.mark.parametrize(
    ("kind", "name", "page"),
    [
        ("targets", "sweep", "docs/experiments.md: make sweep"),
        ("keys", "push.max_forgetting", "docs/experiments.md: push.max_forgetting"),
        ("words", "rejected.jsonl", "README.md: data/prepared/rejected.jsonl"),
    ],
)
def test_a_name_that_is_gone_is_reported_with_its_page(kind, name, page):
    without = replace(known(), **{kind: getattr(known(), kind) - {name}})
    assert page in [wrong for one in PAGES for wrong in wrong_names(one, without)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), f"{name_of(page)} links to {target}"
        assert not anchor or anchor in headings(linked), f"{name_of(page)} links to {target}: no such heading"


def test_every_page_is_linked_from_the_readme():
    linked = re.findall(r"\]\(((?:docs/)?[\w-]+\.md)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert {name_of(page) for page in PAGES} - {"README.md"} <= set(linked)


def test_buttons_named_for_voice_owners_are_on_the_screen():
    shown = [text for tree in sources().values() for text in strings(tree)]
    shown += [path.read_text(encoding="utf-8") for path in ROOT.glob("recorder/microphone/*.*")]
    shown += [path.read_text(encoding="utf-8") for path in ROOT.glob("templates/*.j2")]
    page = (ROOT / "docs/record-your-voice.md").read_text(encoding="utf-8")
    on_screen = " ".join(" ".join(shown).split()).casefold()
    named = re.findall(r'"([^"\n]+)"', SPAN.sub("", BLOCK.sub("", page)))
    assert len(named) > 10
    assert not [words for words in named if words.strip(".,").casefold() not in on_screen]


def commands(program: str) -> set[tuple[str, ...]]:
    """(page, words ...) of a program's commands on all pages, up to the first option or argument."""
    found = set()
    for page in PAGES:
        for code in code_in(page.read_text(encoding="utf-8")):
            for words in re.findall(rf"(?:^|['/]){program}((?: [a-z][a-z-]*)+)", code):
                found.add((name_of(page), *words.split()))
    return found


def test_dvc_commands_exist():
    from dvc.cli.parser import get_main_parser

    found = commands("dvc")
    assert found
    for page, *words in found:
        parser = get_main_parser()
        for word in words:
            choices = next((action.choices for action in parser._actions if hasattr(action, "_parser_class")), None)
            if choices is None:  # the rest are its arguments
                break
            assert word in choices, f"{page}: dvc {' '.join(words)}"
            parser = choices[word]


def test_hub_commands_exist():
    found = {tuple(words) for _, *words in commands("hf")}
    assert found
    for words in found:
        code = ["import sys; from huggingface_hub.cli.hf import main; main()", *words, "--help"]
        done = subprocess.run([sys.executable, "-c", *code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"hf {' '.join(words)}: {done.stderr}"


# What must be named


def test_each_make_target_is_named_on_some_page():
    code = "\n".join(code for page in PAGES for code in code_in(page.read_text(encoding="utf-8")))
    assert not [target for target in known().targets if not re.search(rf"\bmake {target}\b(?!-)", code)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_in_blocks_can_be_written_into_params_yaml(page):
    settings = YAML(typ="safe").load(ROOT / "params.yaml")
    for _, _, body in BLOCK.findall(page.read_text(encoding="utf-8")):
        if re.match(rf"({'|'.join(Params.model_fields)}):\n", body):
            merge(settings, YAML(typ="safe").load(body))
    Params.model_validate(settings)


def merge(settings: dict, changes: dict) -> None:
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(settings.get(name), dict):
            merge(settings[name], value)
        else:
            settings[name] = value


def test_each_cache_is_named_on_the_page_about_training():
    code = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in sources())
    kinds = re.findall(r'(?:ContentCache\(|cache_root\(\) / |^CACHE = )"([\w-]+)"', code, re.MULTILINE)
    assert {"encoded", "training", "hub"} <= set(kinds)
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    assert not [kind for kind in kinds if f"| `.cache/{kind}`" not in page]


# Diagrams


def part_of(path: Path) -> str:
    """The box that a module belongs to in the diagram of who imports whom."""
    parts = path.parts
    if parts[0] != "stages":
        return parts[0]
    return "stage" if len(parts) == 2 else parts[1]


def test_the_diagram_of_imports_shows_the_imports():
    imports = {
        (part_of(Path(file)), part_of(file_of(imported).relative_to(ROOT)))
        for file in sources()
        for imported in direct_imports(file.removesuffix(".py").replace("/", "."))
    }
    block = next(body for _, _, body in BLOCK.findall(stage_graph.PAGE.read_text()) if "who imports whom" in body)
    arrows = set(re.findall(r"^ +(\w+) -->(?:\|[^|]*\|)? (\w+)$", block, re.MULTILINE))
    assert arrows == {(importer, imported) for importer, imported in imports if importer != imported}


def test_the_page_shows_the_stages_as_they_are():
    assert stage_graph.block() in stage_graph.PAGE.read_text(encoding="utf-8"), "run python -m tests.stage_graph"

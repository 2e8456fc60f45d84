"""The pages against the code: what they name exists, and what exists for users is named."""

import ast
import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from recorder import erasing
from stages.common.params import Params
from tests.workspaces import ROOT

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
IN_GIT = ("stages", "recorder", "tests", "templates", "docs", "demo_voxtral", "data/demo")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


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


def make_targets() -> list[str]:
    return re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


# What pages say


def code_in(text: str) -> list[str]:
    """Code of a page: spans, the lines of blocks, and the words of diagrams."""
    found = SPAN.findall(BLOCK.sub("", text))
    for _, language, body in BLOCK.findall(text):
        if language == "mermaid":
            body = re.sub(r"<br>|-->|\(\[|[\[\](){}|\"]", " ", body)
        found += body.splitlines()
    return found


def wrong_names(page: Path) -> list[str]:
    """Targets of make, stages, modules, settings and files in git that a page names and are not there."""
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    keys = set(keys_of(Params))
    wrong: list[str] = []
    for code in code_in(page.read_text(encoding="utf-8")):
        wrong += [name for name in re.findall(r"(?:^|'|&& )make ([a-z][a-z-]+)", code) if name not in make_targets()]
        wrong += [name for name in re.findall(r"dvc repro ([a-z]+)", code) if name not in stages]
        wrong += [name for name in re.findall(r"python -m ([\w.]+)", code) if not is_module(name)]
        dotted = re.findall(rf"(?<![\w./@-])(?:{'|'.join(Params.model_fields)})(?:\.[a-z_]+)+(?![\w(/])", code)
        wrong += [name for name in dotted if name not in keys and not is_module(name) and not is_file(name)]
        paths = re.findall(rf"(?<![\w./~:@-])(?:{'|'.join(IN_GIT)})/[\w./*-]*", code)
        wrong += [path for path in paths if not list(ROOT.glob(path.rstrip("/."))) and not re.search("[A-Z]{3}", path)]
    return wrong


def is_module(name: str) -> bool:
    if name.rpartition(".")[2].isupper():  # stands for any of a package
        name = name.rpartition(".")[0]
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def is_file(name: str) -> bool:
    return name.endswith((".py", ".json", ".jsonl", ".md", ".html", ".yaml", ".csv", ".log"))


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    lines = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_every_name_on_a_page_exists():
    wrong = {name_of(page): names for page in PAGES if (names := wrong_names(page))}
    assert not wrong


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


# What must be named


def test_each_make_target_is_named_on_some_page():
    code = "\n".join(code for page in PAGES for code in code_in(page.read_text(encoding="utf-8")))
    assert not [target for target in make_targets() if not re.search(rf"\bmake {target}\b(?!-)", code)]


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


def test_each_cache_is_named_on_the_page_about_training_and_known_to_make_forget():
    code = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in sources())
    kinds = re.findall(r'(?:ContentCache\(|cache_root\(\) / |^CACHE = )"([\w-]+)"', code, re.MULTILINE)
    assert {"encoded", "training", "hub"} <= set(kinds)
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    assert not [kind for kind in kinds if f"| `.cache/{kind}`" not in page]
    assert set(kinds) <= {*erasing.CACHES, *erasing.PUBLIC_CACHES}


def test_the_diagram_of_stages_shows_what_each_reads_and_makes():
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    made = {name: [out if isinstance(out, str) else next(iter(out)) for out in stages[name]["outs"]] for name in stages}
    makers = {out: name for name, outs in made.items() for out in outs} | {"data/raw": "data_raw"}
    reads = [(dep, name) for name, stage in stages.items() for dep in stage["deps"] if dep.startswith("data/")]
    expected = {(makers[out], name) for dep, name in reads for out in makers if f"{dep}/".startswith(f"{out}/")}
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    diagram = next(body for _, _, body in BLOCK.findall(page) if "accTitle: Stage graph" in body)
    assert set(re.findall(r"^ +(\w+) -->(?:\|[^|]*\|)? (\w+)$", diagram, re.MULTILINE)) == expected
    assert not [name for name, outs in made.items() if f'{name}["{"<br>".join([name, *outs])}"]' not in diagram]

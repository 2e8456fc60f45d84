"""Who imports whom: from the commands down to stages/common, never up and never in a circle."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("stages", "recorder")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
# A module imports only from its own layer and those before it.
LAYERS = [
    ("stages.common",),
    ("stages.speech",),
    ("stages.voxtral", "stages.hub"),
    ("stages.commands",),
    ("stages", "recorder"),  # the stage files and the page
]
LONGEST = 400  # lines


def layer_of(module: str) -> int:
    """By the longest of the layers' names that it begins with."""
    fitting = [
        (len(package), number)
        for number, packages in enumerate(LAYERS)
        for package in packages
        if f"{module}.".startswith(f"{package}.")
    ]
    return max(fitting)[1]


@cache
def imports_of(module: str) -> set[str]:
    """Modules and packages that a module names in imports, at its top or in a function, but not for types alone."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(MODULES[module].read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return names


def ours(module: str) -> set[str]:
    """Our modules among them; a package only if it has code of its own."""
    return {name for name in imports_of(module) & MODULES.keys() if MODULES[name].name != "__init__.py"} - {module}


def test_module_imports_nothing_from_a_higher_layer_or_from_tests():
    assert {layer_of(module) for module in MODULES} == set(range(len(LAYERS)))
    assert "stages.common.stage" in ours("stages.common.files"), "no imports were found"
    higher = [(module, name) for module in MODULES for name in ours(module) if layer_of(name) > layer_of(module)]
    of_tests = [(module, name) for module in MODULES for name in imports_of(module) if name.split(".")[0] == "tests"]
    assert higher + of_tests == []


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter({module: ours(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_module_is_too_long():
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert {module: count for module, count in lines.items() if count > LONGEST} == {}

"""Which code decides a result, for the keys of caches and for the deps in dvc.yaml: found from the imports.

A result depends on the module that makes it and on all that this imports, directly or not, except PLUMBING.
Keys hold a hash of these modules' syntax trees, without comments, layout and docstrings.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Modules that decide no result, with the reason. Neither a dep in dvc.yaml nor in a key (tests/test_pipeline.py).
PLUMBING = {
    "stages.common.cache": "stores results; each key names what its result follows from",
    "stages.common.code": "names the code in a key",
    "stages.common.dvc": "runs DVC, and compares its notes",
    "stages.common.files": "writes and reads files whole; what is in them comes from its callers",
    "stages.common.locks": "keeps others waiting",
    "stages.common.params": "checks settings; their values are in dvc.yaml and in the keys",
    "stages.common.paths": "says where files are",
    "stages.common.plurals": "words messages",
    "stages.common.pool": "shares work among processes",
    "stages.common.stage": "starts a stage and prints its errors",
    "stages.voxtral.tracking": "watches a training",
}


def code_hash(*modules: str) -> str:
    """Hex sha256 of the code that decides what `modules` make ("stages.voxtral.training"): a key's part."""
    digest = hashlib.sha256()
    for module in deciding(*modules):
        digest.update(f"{module} {_read(module)[1]}\n".encode())
    return digest.hexdigest()


def deciding(*modules: str) -> list[str]:
    """`modules` and all that they import, directly or not, without PLUMBING; sorted names."""
    return sorted(set().union(*map(all_imports, modules)) - PLUMBING.keys())


def all_imports(module: str) -> set[str]:
    """`module` and the modules below stages/ that it imports, directly or not."""
    found, waiting = set(), [module]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += direct_imports(current)
    return found


def direct_imports(module: str) -> frozenset[str]:
    """The modules below stages/ that a module imports, at its top or in a function; without packages, whose
    __init__ decides nothing."""
    return _read(module)[0]


def file_of(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree itself, changed."""
    for node in ast.walk(tree):
        has_body = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if has_body and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return tree


@functools.cache
def _read(module: str) -> tuple[frozenset[str], str]:
    """A module's direct imports and the hash of its code."""
    tree = ast.parse(file_of(module).read_text(encoding="utf-8"))
    names: list[str] = []
    blocks = (node for node in ast.walk(tree) if isinstance(node, ast.If))
    never_run = {id(node) for block in blocks if ast.unparse(block.test) == "TYPE_CHECKING" for node in block.body}
    for node in ast.walk(tree):
        if id(node) in never_run:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
        elif isinstance(node, ast.Import):
            names += [name.name for name in node.names]
    imports = frozenset(name for name in names if name.startswith("stages.") and file_of(name).is_file())
    return imports, hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest()

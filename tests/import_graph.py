"""Which of our modules a stage imports, directly and indirectly, from the source text."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent


def module_file(module: str) -> Path | None:
    """The file of a module below stages/, relative to the root; None for a package or something else."""
    path = Path(*module.split(".")).with_suffix(".py")
    return path if module.startswith("stages.") and (ROOT / path).is_file() else None


def direct_imports(path: Path) -> set[Path]:
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {module_file(node.module), *(module_file(f"{node.module}.{name.name}") for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {module_file(name.name) for name in node.names}
    return found - {None}


def all_imports(path: Path) -> set[Path]:
    """Files that `path` depends on, itself included."""
    seen, waiting = set(), [path]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += direct_imports(current)
    return seen

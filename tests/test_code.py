"""Which code decides a result: comments, layout and docstrings never, statements in any imported module always."""

import re

import pytest

from stages.common import code

MODULE = """"A module."

from stages.other import FACTOR


def twice(x):
    "Two times x."
    return FACTOR * x
"""
UNCHANGED = [
    MODULE.replace("A module", "Another text"),
    MODULE.replace("Two times x", "x, twice"),
    MODULE.replace('    "Two times x."\n', ""),
    MODULE.replace("return FACTOR * x", "# why\n    return (\n        FACTOR * x\n    )"),
]
CHANGED = [
    MODULE.replace("FACTOR * x", "FACTOR + x"),
    MODULE.replace("def twice(x)", "def twice(x=1)"),
    MODULE.replace("return", 'x = "text"\n    return'),
]


@pytest.fixture
def hash_of(tmp_path, monkeypatch):
    """The hash of a module with this text, and of stages.other with another one."""
    monkeypatch.setattr(code, "ROOT", tmp_path)
    (tmp_path / "stages").mkdir()

    def of(module: str, other: str = "FACTOR = 2\n") -> str:
        code._read.cache_clear()
        (tmp_path / "stages/module.py").write_text(module)
        (tmp_path / "stages/other.py").write_text(other)
        return code.code_hash("stages.module")

    yield of
    code._read.cache_clear()


def test_keys_name_modules_that_make_what_they_key():
    """A key with the code of modules that its maker does not use would keep a stale result."""
    calls = []
    for path in sorted((code.ROOT / "stages").rglob("*.py")):
        maker = ".".join(path.relative_to(code.ROOT).with_suffix("").parts)
        for named in re.findall(r"code_hash\(([^*)]+)\)", path.read_text()):
            calls += [(maker, module) for module in re.findall(r'"([\w.]+)"', named)]
    assert {"stages.train", "stages.voxtral.encoder_cache"} <= {module for _, module in calls}
    for maker, module in calls:
        assert module in code.all_imports(maker) and module in code.deciding(module), (maker, module)


@pytest.mark.parametrize("text", UNCHANGED + CHANGED)
def test_statements_change_the_hash_and_comments_layout_and_docstrings_do_not(hash_of, text):
    assert text != MODULE and (hash_of(text) == hash_of(MODULE)) is (text in UNCHANGED)


def test_statements_of_an_imported_module_change_the_hash_unless_it_is_plumbing(hash_of, monkeypatch):
    assert hash_of(MODULE, "FACTOR = 3\n") != hash_of(MODULE)
    inside = "def f(x):\n    import stages.other\n"
    assert hash_of(inside, "FACTOR = 3\n") != hash_of(inside)
    monkeypatch.setitem(code.PLUMBING, "stages.other", "a reason")
    assert hash_of(MODULE, "FACTOR = 3\n") == hash_of(MODULE)

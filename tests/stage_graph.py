"""The stages of dvc.yaml as a Mermaid diagram, written into docs/architecture.md:

python -m tests.stage_graph

tests/test_docs.py fails where the page shows another graph than dvc.yaml makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- stage graph, written by python -m tests.stage_graph -->\n", "<!-- end of the stage graph -->\n"


def stage_graph(stages: Mapping[str, Mapping]) -> str:
    """A Mermaid flowchart: a box for each stage, an arrow for what one makes and another reads, named by the folders.

    stages: as in dvc.yaml. A file or folder that no stage makes is drawn as a store.
    """
    makers = {_path(out): name for name, stage in stages.items() for out in stage["outs"]}
    arrows: dict[tuple[str, str], dict[str, None]] = {}
    stores: dict[str, None] = {}
    for name, stage in stages.items():
        for dep in filter(lambda dep: dep.startswith("data/"), stage["deps"]):
            made = next((out for out in makers if dep == out or dep.startswith(f"{out}/")), None)
            if made is None:
                stores[dep] = None
            arrows.setdefault((makers[made] if made else dep, name), {})[made or dep] = None
    lines = ["flowchart LR"]
    lines += [f"    {_id(store)}[({store})]" for store in stores]
    lines += [f"    {name}" for name in stages]
    for (maker, reader), folders in arrows.items():
        label = "" if maker in stores else f"|{', '.join(folders)}|"
        lines.append(f"    {_id(maker)} -->{label} {reader}")
    return "\n".join(lines) + "\n"


def block() -> str:
    """What stands in the page, from the first mark to the last."""
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    return f"{BEGIN}\n```mermaid\n{stage_graph(stages)}```\n\n{END}"


def _path(out: str | Mapping) -> str:
    return out if isinstance(out, str) else next(iter(out))


def _id(name: str) -> str:
    return name.replace("/", "_")


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{block()}{after}", encoding="utf-8")
    print(f"stage graph -> {PAGE.relative_to(ROOT)}")

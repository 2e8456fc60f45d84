"""The stages of dvc.yaml as a Mermaid diagram, written into docs/architecture.md:

python -m tests.stage_graph

tests/test_docs.py fails where the page shows another graph than dvc.yaml makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- stage graph, written by python -m tests.stage_graph -->\n", "<!-- end of the stage graph -->\n"


def stage_graph(stages: Mapping[str, Mapping]) -> str:
    """A Mermaid flowchart: a box for each stage with what it makes, an arrow to each stage that reads of it.

    stages: as in dvc.yaml. A file or folder of data/ that no stage makes is drawn as a store.
    """
    outs = {name: [_path(out) for out in stage["outs"]] for name, stage in stages.items()}
    makers = {out: name for name, made in outs.items() for out in made}
    arrows: dict[tuple[str, str], None] = {}
    stores: dict[str, None] = {}
    for name, stage in stages.items():
        for dep in filter(lambda dep: dep.startswith("data/"), stage["deps"]):
            maker = next((makers[out] for out in makers if dep == out or dep.startswith(f"{out}/")), None)
            if maker is None:
                maker = dep.replace("/", "_")
                stores[dep] = None
            arrows[maker, name] = None
    lines = ["flowchart TD", "    accTitle: Stage graph"]
    lines.append("    accDescr: " + " ".join(f"{name} reads {_listed(arrows, name)}." for name in outs))
    lines += [f"    {store.replace('/', '_')}[({store})]" for store in stores]
    lines += [f'    {name}["{name}<br>{"<br>".join(made)}"]' for name, made in outs.items()]
    lines += [f"    {maker} --> {reader}" for maker, reader in arrows]
    return "\n".join(lines) + "\n"


def block() -> str:
    """What stands in the page, from the first mark to the last."""
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    return f"{BEGIN}\n```mermaid\n{stage_graph(stages)}```\n\n{END}"


def _listed(arrows: Iterable[tuple[str, str]], name: str) -> str:
    """What a stage reads, in words."""
    *others, last = [maker.replace("_", "/") for maker, reader in arrows if reader == name] or ["nothing of data/"]
    return f"{', '.join(others)} and {last}" if others else last


def _path(out: str | Mapping) -> str:
    return out if isinstance(out, str) else next(iter(out))


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{block()}{after}", encoding="utf-8")
    print(f"stage graph -> {PAGE.relative_to(ROOT)}")

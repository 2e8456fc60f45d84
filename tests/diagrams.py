"""The Mermaid diagrams of the Markdown pages as pictures on one page, docs/diagrams.html:

make docs

The pages are the source; this one is made of them, with Mermaid's own JavaScript (an npm package, kept in .cache) in
the Chromium that the tests use. tests/test_diagrams.py fails where it shows other diagrams than the pages have.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2

from stages.common import paths
from stages.common.files import write_whole
from stages.common.stage import UserError, run
from tests.browser import CHROMIUM, chromium
from tests.stage_graph import ROOT

MERMAID, VERSION = "mermaid", "12.3.0"
SHA512 = "4113TdXeLAsMruJ79OpFL5O8+LTFXhQqZ260rF3tgUmiNAtRm4Uume04I+65PRN6yZ69J4f8rVYWW8zRk65UYw=="
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
HTML = ROOT / "docs/diagrams.html"
TEMPLATE = ROOT / "tests/diagrams.html.j2"
BLOCK = re.compile(r"^```mermaid\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Of each theme Mermaid's name and the paper behind it. A diagram is drawn once for each: its colours are computed, and
# know no CSS variables.
THEMES = {"light": ("neutral", "#ffffff"), "dark": ("dark", "#16191d")}
# Fonts as wide as each other, so that words fit their boxes on machines that have another one of them.
FONTS = "Arial, Helvetica, 'Liberation Sans', sans-serif"
DRAW = """async ([name, source, theme, paper, fonts]) => {
  mermaid.initialize({
    startOnLoad: false, securityLevel: "strict", look: "classic", theme, fontFamily: fonts, deterministicIds: true,
    themeVariables: {edgeLabelBackground: paper, labelBackgroundColor: paper},
    flowchart: {useMaxWidth: false, wrappingWidth: 260}, state: {useMaxWidth: false},
  });
  return (await mermaid.render(name, source)).svg;
}"""


@dataclass(frozen=True)
class Diagram:
    """A Mermaid block: the page it stands on, relative to the root, the heading above it, and its text."""

    page: str
    heading: str
    source: str

    @property
    def title(self) -> str:
        return self._said("accTitle")

    @property
    def description(self) -> str:
        """The picture in words."""
        return self._said("accDescr")

    @property
    def name(self) -> str:
        """Anchor of the picture, and beginning of ids within it."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")

    def _said(self, what: str) -> str:
        found = re.search(rf"^ *{what}: (.+)$", self.source, re.MULTILINE)
        if found is None:
            raise UserError(f"{self.page}: the diagram below {self.heading!r} has no line '{what}: ...'")
        return found[1]


def anchor(heading: str) -> str:
    """Of a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def diagrams() -> list[Diagram]:
    """All Mermaid blocks of the pages, in their order.

    Raises: UserError for one without a title or a description for who cannot see it.
    """
    return [diagram for page in PAGES for diagram in diagrams_of(page)]


def diagrams_of(page: Path) -> Iterator[Diagram]:
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        heading = re.findall(r"^#+ (.+)$", text[: block.start()], re.MULTILINE)[-1]
        yield Diagram(page.relative_to(ROOT).as_posix(), heading, block[1])


def mermaid() -> Path:
    """Mermaid's JavaScript in .cache, fetched with npm where it is not there.

    Raises: UserError where npm is missing or cannot fetch it, or gives another file than the pinned one.
    """
    script = paths.cache_root() / f"{MERMAID}-{VERSION}.js"
    if not script.exists():
        if shutil.which("npm") is None:
            raise UserError("npm is not installed: it fetches Mermaid (Debian's package npm)")
        with tempfile.TemporaryDirectory() as folder:
            command = ["npm", "pack", "--silent", f"{MERMAID}@{VERSION}", "--pack-destination", folder]
            if subprocess.run(command, check=False).returncode:
                raise UserError(f"npm could not fetch {MERMAID} {VERSION}: see above")
            package = Path(folder, f"{MERMAID}-{VERSION}.tgz")
            if base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode() != SHA512:
                raise UserError(f"{package.name} is not the file that tests/diagrams.py names: do not use it")
            with tarfile.open(package) as archive:
                script.parent.mkdir(parents=True, exist_ok=True)
                write_whole(script, archive.extractfile("package/dist/mermaid.min.js").read())
    return script


def draw(wanted: list[Diagram]) -> dict[str, str]:
    """SVG by `name-theme`. Raises: UserError where Chromium is missing."""
    if CHROMIUM is None:
        raise UserError("Chromium is not installed: it draws the diagrams (Debian's package chromium)")
    with chromium() as page:
        page.add_script_tag(path=mermaid())
        return {
            f"{diagram.name}-{theme}": page.evaluate(DRAW, [f"{diagram.name}-{theme}", diagram.source, *look, FONTS])
            for diagram in wanted
            for theme, look in THEMES.items()
        }


def drawn(html: str) -> dict[str, str]:
    """The pictures of a page as `draw` gave them."""
    return {svg[1]: svg[0] for svg in re.finditer(r'<svg id="([\w-]+)".*?</svg>', html, re.DOTALL)}


def width_and_height(svg: str) -> tuple[float, float]:
    """In CSS pixels, at the size at which its letters are as large as the page's."""
    _, _, width, height = map(float, re.search(r'viewBox="([^"]+)"', svg)[1].split())
    return width, height


def render(wanted: list[Diagram], pictures: dict[str, str]) -> str:
    """The page of these diagrams."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        diagrams=wanted, pictures=pictures, themes=THEMES, size_of=width_and_height, anchor=anchor, fonts=FONTS
    )


def main() -> str:
    wanted = diagrams()
    write_whole(HTML, render(wanted, draw(wanted)).encode())
    return f"{len(wanted)} diagrams -> {HTML.relative_to(ROOT)}"


if __name__ == "__main__":
    run("docs", main)

"""docs/diagrams.html: the pages' diagrams, all of them and no others, on one page that needs nothing else."""

import re
from dataclasses import replace

import pytest

from tests import diagrams
from tests.browser import new_page
from tests.test_docs import BLOCK, PAGES

WANTED = diagrams.diagrams()
HTML = diagrams.HTML.read_text(encoding="utf-8") if diagrams.HTML.exists() else ""


def test_each_diagram_has_a_title_of_its_own_and_a_description():
    blocks = [body for page in PAGES for _, language, body in BLOCK.findall(page.read_text()) if language == "mermaid"]
    assert [diagram.source for diagram in WANTED] == blocks
    assert len({diagram.name for diagram in WANTED}) == len(WANTED)
    assert all(len(diagram.description) > 60 for diagram in WANTED)


def test_the_diagrams_that_readers_need_are_there():
    titles = "\n".join(diagram.title for diagram in WANTED)
    kinds = ("Overview", "Architecture", "Stage graph", "recorder's states", "Training", "Deployment", "Data flow")
    assert not [kind for kind in kinds if kind not in titles]


def test_the_page_is_made_of_the_diagrams_as_they_are():
    """Of their present text and of the template; only the pictures are taken as they are."""
    pictures = diagrams.drawn(HTML)
    missing = [diagram.title for diagram in WANTED if f"{diagram.name}-light" not in pictures]
    assert not missing, f"{missing}: run 'make docs'"
    assert diagrams.render(WANTED, pictures) == HTML, "docs/diagrams.html is out of date: run 'make docs'"


def test_pictures_are_of_the_text_beside_them():
    """The words of each box and arrow stand in its picture."""
    pictures = diagrams.drawn(HTML)
    for diagram in WANTED:
        for theme in diagrams.THEMES:
            picture = pictures[f"{diagram.name}-{theme}"]
            shown = re.sub(r"\W", "", re.sub(r"<[^>]*>", "", picture.replace("&gt;", ">")))
            for label in labels(diagram.source):
                assert re.sub(r"\W", "", label) in shown, f"{diagram.title} lacks {label!r}: run 'make docs'"


def labels(source: str) -> list[str]:
    """The lines of all quoted words, and of those on arrows."""
    found = re.findall(r'[\[({]"([^"]+)"|\|([^|]+)\|', source)
    return [line for groups in found for label in groups for line in label.split("<br>") if line]


def test_a_block_that_was_changed_makes_the_page_stale(tmp_path, monkeypatch):
    changed = [replace(WANTED[0], source=WANTED[0].source + "    more --> boxes\n"), *WANTED[1:]]
    assert diagrams.render(changed, diagrams.drawn(HTML)) != HTML


def test_a_diagram_without_a_description_is_refused(tmp_path):
    with pytest.raises(
        diagrams.UserError, match=r"docs/x\.md: the diagram below 'Parts' has no line 'accDescr: \.\.\.'"
    ):
        _ = diagrams.Diagram("docs/x.md", "Parts", "flowchart TD\n    accTitle: Parts\n").description


def test_the_page_stands_alone_and_is_small():
    assert len(HTML.encode()) < 1_000_000
    loaded = re.findall(r'(?:src|xlink:href)="([^"]*)"|url\(([^)]*)\)|@import|<link[^>]*href="([^"]*)"', HTML)
    outside = [name for names in loaded for name in names if name and not name.startswith(("#", "data:", '"#', "'#"))]
    assert not outside
    assert not re.findall(r'<script[^>]+>|href="http', HTML)


@pytest.fixture(scope="module")
def page(browser):
    with new_page(browser) as opened:
        opened.context.set_offline(True)
        opened.said, opened.asked = [], []
        opened.on("console", lambda message: opened.said.append(message.text))
        opened.on("pageerror", lambda error: opened.said.append(str(error)))
        opened.on("request", lambda request: opened.asked.append(request.url))
        opened.goto(diagrams.HTML.as_uri())
        yield opened


@pytest.mark.slow
@pytest.mark.browser
def test_opened_without_a_network_it_asks_for_nothing_and_has_no_error(page):
    assert page.said == []
    assert [url for url in page.asked if not url.startswith("data:")] == [diagrams.HTML.as_uri()]
    assert page.locator("section").count() == len(WANTED)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("theme", diagrams.THEMES)
def test_each_picture_is_shown_in_its_theme_and_in_no_other(page, theme):
    page.emulate_media(media="screen", color_scheme=theme)
    shown = page.locator("svg:visible")
    assert {svg.get_attribute("id") for svg in shown.all()} == {f"{diagram.name}-{theme}" for diagram in WANTED}
    for svg in shown.all():
        box = svg.bounding_box()
        assert box["width"] > 150 and box["height"] > 100
    # Paper and ink, and letters in the boxes, are far apart.
    paper, ink = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    assert (brightness(paper) > brightness(ink)) == (theme == "light")
    assert abs(brightness(paper) - brightness(ink)) > 150
    letters = page.locator(f"#overview-{theme} .nodeLabel p").first.evaluate(
        "letters => getComputedStyle(letters).color"
    )
    assert abs(brightness(paper) - brightness(letters)) > 120


def brightness(colour: str) -> float:
    red, green, blue = map(float, re.findall(r"[\d.]+", colour)[:3])
    return 0.299 * red + 0.587 * green + 0.114 * blue


@pytest.mark.slow
@pytest.mark.browser
def test_on_a_telephone_only_pictures_scroll_sideways(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(media="screen", color_scheme="light")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.set_viewport_size({"width": 1200, "height": 900})


@pytest.mark.slow
@pytest.mark.browser
def test_it_prints_one_diagram_a_page_after_the_list(page, tmp_path):
    page.emulate_media(media="print")
    page.pdf(path=tmp_path / "print.pdf", prefer_css_page_size=True)
    content = (tmp_path / "print.pdf").read_bytes()
    assert len(re.findall(rb"/Type */Page\b(?!s)", content)) == 1 + len(WANTED)


@pytest.mark.slow
@pytest.mark.browser
def test_a_source_is_shown_and_copied(page):
    page.emulate_media(media="screen", color_scheme="light")
    first = page.locator("section").first
    assert not first.locator("pre").is_visible()
    first.locator("summary").click()
    assert first.locator("code").text_content() == WANTED[0].source
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    first.locator("button").click()
    page.get_by_role("status").get_by_text("Copied").wait_for(state="attached")
    assert page.evaluate("navigator.clipboard.readText()") == WANTED[0].source


@pytest.mark.slow
@pytest.mark.browser
def test_a_screen_reader_finds_headings_pictures_and_their_text(page):
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("heading", level=2).all_text_contents() == [diagram.title for diagram in WANTED]
    assert page.get_by_role("navigation").get_by_role("link").count() == len(WANTED)
    for diagram in WANTED:
        svg = page.locator(f"#{diagram.name}-light")
        described = svg.get_attribute("aria-describedby")
        assert page.locator(f"[id='{described}']").text_content() == diagram.description
        assert svg.get_attribute("role")


@pytest.mark.slow
@pytest.mark.browser
def test_links_of_the_list_lead_to_diagrams(page):
    for link in page.get_by_role("navigation").get_by_role("link").all():
        assert page.locator(link.get_attribute("href")).count() == 1

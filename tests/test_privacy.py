"""What a text may not hold when it is published."""

import pytest

from stages.hub.privacy import private_things
from tests.workspaces import ROOT


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to ann@example.org please", "e-mail address"),
        ("write to ann at example dot org", "e-mail address"),
        ("schreib an ann ät beispiel punkt de", "e-mail address"),
        ("0176-12 34 56 78", "telephone or other long number"),
        ("call (555) 123-4567 now", "telephone or other long number"),
        ("+49 (0)30 / 1234567", "telephone or other long number"),
        ("0 1 7 6 1 2 3 4 5 6 7 8", "telephone or other long number"),
        ("oh one seven six two two nine four", "telephone or other long number"),
        ("०९८७६५४३२१", "telephone or other long number"),
        ("0３０-１２３４５６７", "telephone or other long number"),
        ("एक दो तीन, चार सात आठ नौ", "telephone or other long number"),
        ("4111 1111 1111 1111", "telephone or other long number"),
        # ISO 13616's examples of bank accounts.
        ("DE89 3704 0044 0532 0130 00", "telephone or other long number"),
        ("GR16-0110-1250-0000-0001-2300-695", "telephone or other long number"),
        ("I am Ann.", "a speaker's name"),
        ("Mrs ZWETSCHKENBAUM called", "a speaker's name"),
        ("アキラさんです", "a speaker's name"),
    ],
)
def test_private_thing_in_a_text_is_found(text, kind):
    assert private_things(text, [None, "Ann", "Gundula Zwetschkenbaum", "アキラ"]) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "on 12 May 2024 at 14:30",
        "from 2019 on",
        "one or two, three or four, five or six and seven",
        "look at this. Now we go",
        "Annual banner",
        "call 112, or 911",
    ],
)
def test_harmless_text_is_let_through(text):
    assert private_things(text, ["Ann"]) == []


def test_none_of_our_own_phrases_is_taken_for_private():
    files = sorted((ROOT / "recorder/phrases").glob("*.txt"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 2500
    assert [line for line in lines if private_things(line, ["Gundula"])] == []

"""Numbers in sentences."""

import pytest

from stages.common.plurals import counted, lasting


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 epochs"),
        (1, "1 epoch"),
        (1.0, "1 epoch"),
        (2, "2 epochs"),
        (2.5, "2.5 epochs"),
        (12_000_000, "12000000 epochs"),
    ],
)
def test_noun_is_in_the_number_of_its_number(number, words):
    assert counted(number, "epoch") == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (1.4, "1 second"),
        (89, "89 seconds"),
        (91, "2 minutes"),
        (5399, "90 minutes"),
        (5400, "1.5 hours"),
    ],
)
def test_time_is_in_the_unit_that_people_would_use(seconds, words):
    assert lasting(seconds) == words

"""Numbers in sentences."""

from stages.common.plurals import counted, lasting


def test_nouns_are_in_the_number_of_their_number_and_times_in_the_unit_that_people_would_use():
    numbers = {0: "0 epochs", 1: "1 epoch", 2: "2 epochs", 2.5: "2.5 epochs", 12_000_000: "12000000 epochs"}
    assert {number: counted(number, "epoch") for number in numbers} == numbers
    times = {0.2: "1 second", 1.4: "1 second", 89: "89 seconds", 91: "2 minutes", 5399: "90 minutes", 5400: "1.5 hours"}
    assert {seconds: lasting(seconds) for seconds in times} == times

"""Pictures are well-formed SVG, show the right figures, and take texts as text."""

import re
import time
from xml.etree import ElementTree

import numpy as np
import pytest

from recorder import pictures

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert(1)</script> & "quoted"'


def marks(svg: str, tag: str) -> list[dict]:
    return [element.attrib for element in ElementTree.fromstring(svg).iter(SVG + tag)]


def words(svg: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter(SVG + "text")]


def shaded(svg: str) -> list[dict]:
    return [rectangle for rectangle in marks(svg, "rect") if rectangle.get("fill") == pictures.MARK]


def corners(svg: str) -> np.ndarray:
    """Of the envelope [columns, 4]: x, top, x, bottom."""
    (polygon,) = marks(svg, "polygon")
    points = np.array([[float(number) for number in pair.split(",")] for pair in polygon["points"].split()])
    there, back = np.split(points, 2)
    return np.hstack([there, back[::-1]])


def test_envelope_holds_the_lowest_and_highest_sample_of_each_column():
    samples = np.zeros(4000, np.float32)
    samples[1000], samples[2500] = 0.5, -1.0
    found = corners(pictures.waveform(samples, width=400, height=102))
    assert len(found) == 400
    # Height 102: 0 lies at 51, full scale 50 above and below, half a unit more so that silence is seen.
    assert found[100].tolist() == [100.5, 25.5, 100.5, 51.5]
    assert found[250].tolist() == [250.5, 50.5, 250.5, 101.5]
    assert (np.delete(found, [100, 250], axis=0)[:, [1, 3]] == [50.5, 51.5]).all()


@pytest.mark.parametrize("count", [0, 1, 7, 799, 800, 801])
def test_any_number_of_samples_is_drawn_over_the_whole_width(count):
    svg = pictures.waveform(np.full(count, 0.5, np.float32))
    assert marks(svg, "svg")[0]["viewBox"] == "0 0 800 120"
    if count:
        columns = corners(svg)
        assert len(columns) == min(count, 800)
        assert columns[0, 0] == pytest.approx(800 / len(columns) / 2, abs=0.06)
        assert columns[-1, 0] == pytest.approx(800 - 800 / len(columns) / 2, abs=0.06)
    else:
        assert pictures.alternative(svg) == "Sound wave. empty"


def test_samples_that_are_no_numbers_or_out_of_range_are_drawn_at_the_edge():
    samples = np.array([np.nan, np.inf, -np.inf, 4.0, np.nan, 0.25], np.float32)
    found = corners(pictures.waveform(samples))
    assert np.isfinite(found).all()
    assert found[:, [1, 3]].min() >= 0 and found[:, [1, 3]].max() <= 120


def test_thirty_seconds_are_drawn_in_under_20_ms():
    samples = np.random.default_rng(0).normal(scale=0.2, size=30 * 48_000).astype(np.float32)
    pictures.waveform(samples)
    took_s = []
    for _ in range(5):
        began_s = time.perf_counter()
        pictures.waveform(samples)
        took_s.append(time.perf_counter() - began_s)
    assert min(took_s) < 0.02


def test_bars_are_as_long_as_their_values():
    svg = pictures.bars([("Ann", 8.0), ("Bo", 2.0), ("Cy", 0.0)], "min", "Minutes")
    assert [float(bar["width"]) for bar in shaded(svg)] == [480, 120, 0]
    assert words(svg) == ["Ann", "8 min", "Bo", "2 min", "Cy", "0 min"]
    assert pictures.alternative(svg) == "Minutes. Ann: 8 min; Bo: 2 min; Cy: 0 min"


def test_bars_of_nothing_have_no_length():
    svg = pictures.bars([("Ann", 0.0), ("Bo", float("nan"))], "min")
    assert [float(bar["width"]) for bar in shaded(svg)] == [0, 0]


def test_long_labels_are_cut_to_their_columns_and_kept_whole_in_the_description():
    long, wide = "word " * 20, "電" * 40
    svg = pictures.bars([(long, 1.0), (wide, 1.0)], "")
    assert words(svg)[0] == ("word " * 7)[:34].rstrip() + "…"
    assert words(svg)[2] == "電" * 17 + "…"
    assert wide in pictures.alternative(svg)


def test_histogram_counts_every_number_once():
    svg = pictures.histogram([1.0, 1.5, 2.0, 9.0, None, float("nan")], [0, 2, 4, 6], "s", "Length")
    heights = [float(bar["height"]) for bar in shaded(svg)]
    assert [height / heights[0] for height in heights] == pytest.approx([1, 0.5, 0.5], abs=0.01)
    # 9 s lies beyond the last edge and counts in the last bin.
    assert pictures.alternative(svg) == "Length. 0 to 2 s: 2; 2 to 4 s: 1; 4 to 6 s: 1"


def test_histogram_finds_round_edges():
    svg = pictures.histogram([0.7, 3.9, 2.2, 2.4], 12, "s", "Length")
    assert pictures.alternative(svg) == "Length. 0.5 to 1 s: 1; 2 to 2.5 s: 2; 3.5 to 4 s: 1"


def test_histogram_of_equal_values_has_one_bar():
    assert len(shaded(pictures.histogram([2.0, 2.0], 12, "s", "Length"))) == 1


def test_curve_puts_points_where_the_axes_say():
    svg = pictures.curve([(1, 60.0), (2, 30.0), (4, 0.0), (5, float("nan"))], "epoch", "Wrong words, %")
    places = [(float(point["cx"]), float(point["cy"])) for point in marks(svg, "circle")]
    (x1, y1), (x2, y2), (x4, y4) = places
    assert (x4 - x1) == pytest.approx(3 * (x2 - x1), abs=0.2)
    assert (y4 - y1) == pytest.approx(2 * (y2 - y1), abs=0.2)
    ticks = {element.text: float(element.attrib["y"]) for element in ElementTree.fromstring(svg).iter(SVG + "text")}
    assert ticks["60"] - 6 == pytest.approx(y1, abs=0.1)
    assert ticks["0"] - 6 == pytest.approx(y4, abs=0.1)
    assert {"1", "2", "3", "4", "epoch", "Wrong words, %"} <= set(ticks)
    assert pictures.alternative(svg) == "Wrong words, % by epoch. 1: 60; 2: 30; 4: 0"


@pytest.mark.parametrize("points", [[(1, 0.0)], [(3, 7.0)], [(2, 5.0), (2, 6.0)]])
def test_curve_of_one_place_stays_inside(points):
    svg = pictures.curve(points, "epoch", "loss")
    numbers = [float(number) for point in marks(svg, "circle") for number in (point["cx"], point["cy"])]
    assert len(numbers) == 2 * len(points)
    assert all(0 < number < 480 for number in numbers)


@pytest.mark.parametrize(
    "svg",
    [
        pictures.bars([], "min"),
        pictures.histogram([], 12, "s", "Length"),
        pictures.histogram([None], 12, "s", "Length"),
        pictures.curve([], "epoch", "loss"),
    ],
)
def test_nothing_is_said_in_words(svg):
    assert words(svg) == ["Nothing to show yet."]
    assert pictures.alternative(svg).endswith("Nothing to show yet.")


def test_texts_from_people_stay_texts():
    for svg in (
        pictures.bars([(HOSTILE, 1.0)], HOSTILE, HOSTILE),
        pictures.histogram([1.0], 12, HOSTILE, HOSTILE),
        pictures.curve([(1, 1.0)], HOSTILE, HOSTILE),
    ):
        assert not list(ElementTree.fromstring(svg).iter(SVG + "script"))
        assert HOSTILE in pictures.alternative(svg)
    html = pictures.table([HOSTILE], [[HOSTILE]])
    assert "<script" not in html and html.count("&lt;script&gt;") == 2


def test_letters_and_marks_are_readable_on_light_and_dark():
    light, dark = (1.0, 1.0, 1.0), (0x10 / 255, 0x14 / 255, 0x18 / 255)
    text_on_light, text_on_dark = re.findall(r"text{fill:(#\w+)}", pictures.STYLE)
    # WCAG 2.2: 4.5 for text (success criterion 1.4.3), 3 for graphics (1.4.11).
    assert contrast(text_on_light, light) > 4.5 and contrast(text_on_dark, dark) > 4.5
    assert contrast(pictures.MARK, light) > 3 and contrast(pictures.MARK, dark) > 3


def contrast(colour: str, ground: tuple[float, float, float]) -> float:
    """WCAG's contrast ratio."""
    channels = tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    low, high = sorted(luminance(one) for one in (channels, ground))
    return (high + 0.05) / (low + 0.05)


def luminance(channels: tuple[float, ...]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

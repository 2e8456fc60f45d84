"""What the page draws: right figures, also for screen readers, and texts of people as texts."""

import numpy as np
import pytest
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.testing.v1 import AppTest

from recorder import pictures

HOSTILE = '<script>alert(1)</script> & "quoted" *bold* $x$'


def drawn(name: str, *arguments: object) -> tuple[list[dict], str]:
    """A chart's values, and what a screen reader reads."""

    def page(name, arguments):
        from recorder.views import charts

        getattr(charts, name)(*arguments)

    app = AppTest.from_function(page, args=(name, arguments)).run()
    assert not app.exception
    [chart] = app.get("vega_lite_chart")
    values = convert_arrow_bytes_to_pandas_df(chart.proto.data.data)
    return values.to_dict("records"), chart.proto.alt


def test_bars_keep_order_labels_and_values():
    values, words = drawn("bars", [("Bo", 2.0), (HOSTILE, 8.26), ("Cy", 0.0)], "min", "Minutes")
    assert [(row["label"], row["value"], row["shown"]) for row in values] == [
        ("Bo", 2.0, "2 min"), (HOSTILE, 8.26, "8.26 min"), ("Cy", 0.0, "0 min")
    ]  # fmt: skip
    assert words == f"Minutes. Bo: 2 min; {HOSTILE}: 8.26 min; Cy: 0 min"


def test_line_holds_its_points():
    values, words = drawn("line", [(1, 60.0), (2.5, 30.04)], "epoch", "Wrong words, %")
    assert values == [{"x": 1, "y": 60.0}, {"x": 2.5, "y": 30.04}]
    assert words == "Wrong words, % by epoch. 1: 60; 2.5: 30"


def corners(svg: str) -> np.ndarray:
    """Of the envelope [columns, 4]: x, top, x, bottom."""
    points = svg.split('points="')[1].split('"')[0].split()
    there, back = np.split(np.array([[float(number) for number in pair.split(",")] for pair in points]), 2)
    return np.hstack([there, back[::-1]])


def test_envelope_holds_the_lowest_and_highest_sample_of_each_column():
    samples = np.zeros(4000, np.float32)
    samples[1000], samples[2500] = 0.5, -1.0
    svg, words = pictures.waveform(samples, width=400, height=102)
    found = corners(svg)
    assert len(found) == 400 and "100%" in words
    # Height 102: 0 is at 51, full scale 50 above and below; half a unit more makes silence visible.
    assert found[100].tolist() == [100.5, 25.5, 100.5, 51.5]
    assert found[250].tolist() == [250.5, 50.5, 250.5, 101.5]
    assert (np.delete(found, [100, 250], axis=0)[:, [1, 3]] == [50.5, 51.5]).all()


@pytest.mark.parametrize("count", [0, 1, 799, 801])
def test_any_samples_are_drawn_over_the_whole_width_and_not_beyond_the_edges(count):
    svg = pictures.waveform(np.resize(np.array([np.inf, -np.inf, 4.0, 0.25], np.float32), count))[0]
    assert ("polygon" in svg) == (count > 0)
    if count:
        columns = corners(svg)
        assert len(columns) == min(count, 800)
        assert columns[[0, -1], 0] == pytest.approx([400 / len(columns), 800 - 400 / len(columns)], abs=0.06)
        assert columns[:, [1, 3]].min() >= 0 and columns[:, [1, 3]].max() <= 120

"""Charts, drawn by Streamlit and Vega-Lite, each with its figures as a text for screen readers."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

BAR_HEIGHT = 40  # pixels, of a bar and the space around it
HEIGHT = 280  # pixels, of a line's chart
LETTERS = 16  # pixels
AXIS = {"labelFontSize": LETTERS, "titleFontSize": LETTERS, "titleFontWeight": "normal", "labelLimit": 160}
AXIS |= {"labelColor": "currentColor", "titleColor": "currentColor"}  # the theme's own grey is too faint
NUMBERS = {"type": "quantitative"}
WHOLE = {"tickMinStep": 1, "format": "~r"}


def bars(rows: Sequence[tuple[str, float]], unit: str, title: str) -> None:
    """Horizontal bars (label, value), in the order given, each with its value."""
    values = [{"label": label, "value": value, "shown": f"{value:.3g} {unit}"} for label, value in rows]
    figures = {"type": "text", "align": "left", "dx": 6, "fontSize": LETTERS, "color": "currentColor"}
    longest = max((value for _, value in rows), default=0) or 1
    spec = {
        "layer": [{"mark": "bar"}, {"mark": figures, "encoding": {"text": {"field": "shown"}}}],
        "encoding": {
            "y": {"field": "label", "type": "nominal", "sort": None, "title": None},
            "x": {"field": "value", **NUMBERS, "axis": None, "scale": {"domain": [0, 1.5 * longest]}},
        },
    }
    _draw(spec, values, title, [f"{row['label']}: {row['shown']}" for row in values], BAR_HEIGHT * len(rows) + 20)


def line(points: Sequence[tuple[float, float]], x_title: str, y_title: str) -> None:
    """A line through points (x, y); the y axis begins at 0."""
    spec = {
        "mark": {"type": "line", "point": {"size": 100}, "strokeWidth": 3},
        "encoding": {
            "x": {"field": "x", **NUMBERS, "title": x_title, "scale": {"zero": False}, "axis": WHOLE},
            "y": {"field": "y", **NUMBERS, "title": y_title, "scale": {"zero": True}},
        },
    }
    values = [{"x": x, "y": y} for x, y in points]
    _draw(spec, values, f"{y_title} by {x_title}", [f"{x:.3g}: {y:.3g}" for x, y in points], HEIGHT)


def _draw(spec: dict, values: list[dict], title: str, words: list[str], height: int) -> None:
    if not words:
        st.text("Nothing to show yet.")
        return
    st.vega_lite_chart(values, {**spec, "config": {"axis": AXIS}}, height=height, alt=f"{title}. {'; '.join(words)}")

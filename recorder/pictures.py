"""Pictures as SVG text, by hand: drawn in milliseconds, sharp at every size, for light and dark pages. And tables.

Show one with `st.image(svg, alt=pictures.alternative(svg))`: an image's own title is not read aloud. A picture does not
inherit the page's colours, but browsers tell it whether the page around it is light or dark.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from html import escape, unescape

import numpy as np

MARK = "#3b82c4"  # on white and on near-black alike
STYLE = (
    "<style>text{fill:#3f4750}.quiet{fill:#8a929c;stroke:#8a929c}"
    "@media (prefers-color-scheme:dark){text{fill:#ccd3da}}</style>"
)
WIDTH = 480  # narrow, so that text is still read on a phone
LETTER = 17
LINE = 24
LABEL_COLUMNS = 34


def waveform(samples: np.ndarray, width: int = 800, height: int = 120) -> str:
    """The envelope (lowest and highest sample of each column) of mono samples [frames] in -1 to 1, at full scale."""
    columns = min(width, samples.size)
    middle = height / 2
    body = f'<line x1="0" x2="{width}" y1="{middle:g}" y2="{middle:g}" class="quiet"/>'
    words = "empty"
    if columns:
        starts = np.arange(columns) * samples.size // columns
        # fmin and fmax pass over samples that are no numbers.
        ends = [np.fmax.reduceat(samples, starts), np.fmin.reduceat(samples, starts)]
        high, low = (np.clip(np.nan_to_num(end.astype(np.float64)), -1, 1) for end in ends)
        x = (np.arange(columns) + 0.5) * width / columns
        top, bottom = middle - high * (middle - 1) - 0.5, middle - low * (middle - 1) + 0.5
        corners = [
            f"{across:.1f},{down:.1f}"
            for xs, ys in ((x, top), (x[::-1], bottom[::-1]))
            for across, down in zip(xs.tolist(), ys.tolist(), strict=True)
        ]
        body += f'<polygon points="{" ".join(corners)}" fill="{MARK}"/>'
        words = f"loudest at {max(high.max(), -low.min()):.0%} of full scale"
    return _svg(body, width, height, "Sound wave", words, stretched=True)


def bars(rows: Sequence[tuple[str, float]], unit: str, title: str = "Bars") -> str:
    """Horizontal bars with their labels above them and their values at the right; values below 0 count as 0."""
    if not rows:
        return _nothing(title)
    values = [max(_finite(value), 0.0) for _, value in rows]
    longest = max(values) or 1.0
    body, row_height = "", LINE + 26
    for number, ((label, _), value) in enumerate(zip(rows, values, strict=True)):
        top = number * row_height
        body += _text(0, top + LETTER + 2, _shortened(label))
        body += _text(WIDTH, top + LETTER + 2, _with_unit(value, unit), "end")
        body += f'<rect x="0" y="{top + LINE}" width="{WIDTH}" height="14" rx="3" class="quiet" opacity="0.25"/>'
        length = max(WIDTH * value / longest, 2 if value else 0)
        body += f'<rect x="0" y="{top + LINE}" width="{length:.1f}" height="14" rx="3" fill="{MARK}"/>'
    words = "; ".join(f"{label}: {_with_unit(value, unit)}" for (label, _), value in zip(rows, values, strict=True))
    return _svg(body, WIDTH, len(rows) * row_height, title, words)


def histogram(values: Sequence[float | None], bins: int | Sequence[float], unit: str, label: str) -> str:
    """How many values fall into each bin; `bins` is about how many, or their edges. What is no number is left out."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return _nothing(label)
    edges = _round_edges(min(known), max(known), bins) if isinstance(bins, int) else list(bins)
    counts, _ = np.histogram(np.clip(known, edges[0], edges[-1]), edges)
    frame = _Frame((edges[0], edges[-1]), (0.0, float(counts.max())), whole_y=True)
    body = frame.axes(f"{label}, {unit}", "recordings")
    for count, start, end in zip(counts.tolist(), edges, edges[1:], strict=False):
        left, right, top = frame.x(start) + 1, frame.x(end) - 1, frame.y(count)
        if count:
            size = f'width="{right - left:.1f}" height="{frame.bottom - top:.1f}"'
            body += f'<rect x="{left:.1f}" y="{top:.1f}" {size} fill="{MARK}"/>'
    words = "; ".join(
        f"{_number(start)} to {_with_unit(end, unit)}: {count}"
        for count, start, end in zip(counts.tolist(), edges, edges[1:], strict=False)
        if count
    )
    return _svg(body, WIDTH, frame.height, label, words)


def curve(points: Sequence[tuple[float, float]], x_label: str, y_label: str) -> str:
    """A line through points (x, y), the y axis from 0; what is no number is left out."""
    title = f"{y_label} by {x_label}"
    known = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not known:
        return _nothing(title)
    xs, ys = zip(*known, strict=True)
    frame = _Frame((min(xs), max(xs)), (min(0.0, *ys), max(ys)), whole_x=all(float(x).is_integer() for x in xs))
    places = [(frame.x(x), frame.y(y)) for x, y in known]
    line = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
    body = frame.axes(x_label, y_label)
    body += f'<polyline points="{line}" fill="none" stroke="{MARK}" stroke-width="3" stroke-linejoin="round"/>'
    if len(places) <= 60:
        body += "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{MARK}"/>' for x, y in places)
    words = "; ".join(f"{_number(x)}: {_number(y)}" for x, y in known)
    return _svg(body, WIDTH, frame.height, title, words)


def alternative(svg: str) -> str:
    """What a picture says, in words: its title and description."""
    return ". ".join(unescape(re.search(f"<{tag}>(.*?)</{tag}>", svg, re.DOTALL)[1]) for tag in ("title", "desc"))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as HTML for `st.html`, scrolled sideways where it is too wide; all texts are shown as they are."""
    cell = "text-align: start; vertical-align: top; padding: 0.35em 1em 0.35em 0; border-bottom: 1px solid #8886; "
    cell += "max-width: 18em; overflow-wrap: anywhere"
    head = "".join(f'<th scope="col" style="{cell}">{escape(words)}</th>' for words in header)
    body = ""
    for row in rows:
        cells = "".join(f'<td dir="auto" style="{cell}">{escape(words)}</td>' for words in row)
        body += f"<tr>{cells}</tr>"
    return (
        '<div style="overflow-x: auto" tabindex="0"><table style="border-collapse: collapse; width: max-content">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


class _Frame:
    """Axes with round ticks around a plotting area; `x` and `y` give a value's place."""

    left, right, top, bottom, height = 58, WIDTH - 14, 34, 226, 280

    def __init__(
        self, x_range: tuple[float, float], y_range: tuple[float, float], whole_x: bool = False, whole_y: bool = False
    ) -> None:
        self.x_range = x_range if x_range[1] > x_range[0] else (x_range[0] - 1, x_range[0] + 1)
        self.x_ticks = [tick for tick in _ticks(*self.x_range, 6, whole_x) if tick <= self.x_range[1] * (1 + 1e-9)]
        self.x_ticks = [tick for tick in self.x_ticks if tick >= self.x_range[0]]
        self.y_ticks = _ticks(*(y_range if y_range[1] > y_range[0] else (y_range[0], y_range[0] + 1)), 4, whole_y)
        self.y_range = (self.y_ticks[0], self.y_ticks[-1])

    def x(self, value: float) -> float:
        start, end = self.x_range
        return self.left + (value - start) / (end - start) * (self.right - self.left)

    def y(self, value: float) -> float:
        start, end = self.y_range
        return self.bottom - (value - start) / (end - start) * (self.bottom - self.top)

    def axes(self, x_label: str, y_label: str) -> str:
        parts = [_text(0, LETTER, y_label)]
        for tick in self.y_ticks:
            y = self.y(tick)
            opacity = 1 if tick == self.y_ticks[0] else 0.35
            parts.append(
                f'<line x1="{self.left}" x2="{self.right}" y1="{y:.1f}" y2="{y:.1f}" '
                f'class="quiet" opacity="{opacity}"/>'
            )
            parts.append(_text(self.left - 8, y + 6, _number(tick), "end"))
        parts += [_text(self.x(tick), self.bottom + LINE, _number(tick), "middle") for tick in self.x_ticks]
        parts.append(_text(self.right, self.height - 8, x_label, "end"))
        return "".join(parts)


def _svg(body: str, width: float, height: float, title: str, words: str, stretched: bool = False) -> str:
    shape = ' preserveAspectRatio="none"' if stretched else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img"{shape} font-family="system-ui, sans-serif" font-size="{LETTER}">'
        f"<title>{escape(title)}</title><desc>{escape(words)}</desc>{STYLE}{body}</svg>"
    )


def _nothing(title: str) -> str:
    return _svg(_text(0, LETTER + 2, "Nothing to show yet."), WIDTH, LINE, title, "Nothing to show yet.")


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _shortened(label: str) -> str:
    """A label of at most so many columns; East Asian letters take two."""
    columns = 0
    for place, letter in enumerate(label):
        columns += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if columns > LABEL_COLUMNS:
            return label[:place].rstrip() + "…"
    return label


def _ticks(start: float, end: float, about: int, whole: bool = False) -> list[float]:
    """Round numbers from at most `start` to at least `end`."""
    rough = (end - start) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    step = max(1.0, round(step)) if whole else step
    first, last = math.floor(start / step + 1e-9), math.ceil(end / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _round_edges(start: float, end: float, bins: int) -> list[float]:
    return _ticks(start, end, bins) if end > start else [start - 0.5, start + 0.5]


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _number(value: float) -> str:
    """At most three significant digits, whole numbers whole."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _with_unit(value: float, unit: str) -> str:
    return f"{_number(value)} {unit}".strip()

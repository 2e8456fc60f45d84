"""The picture of a sound, as SVG text: drawn in milliseconds after each take, sharp at every size."""

from __future__ import annotations

import numpy as np

MARK = "#3b82c4"  # on white and on near-black alike
MIDDLE = "#8a929c"


def waveform(samples: np.ndarray, width: int = 800, height: int = 120) -> tuple[str, str]:
    """The envelope (lowest and highest sample of each column) of mono samples [frames] in -1 to 1, at full scale.

    Returns the SVG, and what it shows in words.
    """
    columns = min(width, samples.size)
    middle = height / 2
    body = f'<line x1="0" x2="{width}" y1="{middle:g}" y2="{middle:g}" stroke="{MIDDLE}"/>'
    words = "Sound wave, empty"
    if columns:
        starts = np.arange(columns) * samples.size // columns
        ends = [np.maximum.reduceat(samples, starts), np.minimum.reduceat(samples, starts)]
        high, low = (np.clip(end.astype(np.float64), -1, 1) for end in ends)
        x = (np.arange(columns) + 0.5) * width / columns
        top, bottom = middle - high * (middle - 1) - 0.5, middle - low * (middle - 1) + 0.5
        xs, ys = np.concatenate([x, x[::-1]]), np.concatenate([top, bottom[::-1]])
        corners = [f"{across:.1f},{down:.1f}" for across, down in zip(xs.tolist(), ys.tolist(), strict=True)]
        body += f'<polygon points="{" ".join(corners)}" fill="{MARK}"/>'
        words = f"Sound wave, loudest at {max(high.max(), -low.min()):.0%} of full scale"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'preserveAspectRatio="none">{body}</svg>'
    )
    return svg, words

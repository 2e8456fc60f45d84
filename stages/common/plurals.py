"""Numbers in messages: singular or plural, seconds or minutes."""

from __future__ import annotations


def counted(number: float, noun: str) -> str:
    """`1 recording`, `2 recordings`, `2.5 epochs`."""
    shown = f"{number:g}" if isinstance(number, float) else number
    return f"{shown} {noun}" if number == 1 else f"{shown} {noun}s"


def lasting(seconds: float) -> str:
    """A duration in seconds, from 90 seconds in minutes, from 90 minutes in hours."""
    if seconds < 90:
        return counted(max(round(seconds), 1), "second")
    return counted(round(seconds / 60), "minute") if seconds < 5400 else f"{seconds / 3600:.1f} hours"

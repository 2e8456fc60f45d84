"""Which clips are copies of others, and which are kept but worth a listen.

Speech that is not typical is slow, has pauses, stutters, and a recogniser misreads it: what is doubtful is listed, for
a person to decide.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.speech.clips import Clip, Rejection, overlapping
from stages.speech.text import normalise

if TYPE_CHECKING:
    import regex

# Worth a listen. Fast speech has some 20 characters a second; one spoken digit of a quick speaker has 27.
SLOW_CHARACTERS_PER_S, FAST_CHARACTERS_PER_S = 1.0, 30.0
NOISY_SNR_DB = 6.0
TELEPHONE_HZ = 4200.0
CLIPPED_FRACTION = 0.005
SCRIPT_FRACTION = 0.5
SCRIPTS = {"Jpan": ("Hira", "Kana", "Hani"), "Kore": ("Hang", "Hani"), "Hans": ("Hani",), "Hant": ("Hani",)}


@dataclass(frozen=True)
class ReviewItem:
    """Why a kept clip is worth a listen, and what to listen for."""

    clip: Clip
    reason: str
    listen_for: str

    def row(self) -> dict[str, str]:
        return {
            "id": self.clip.id,
            "file": self.clip.where,
            "text": self.clip.text,
            "reason": self.reason,
            "listen_for": self.listen_for,
        }


def apply_filters(clips: list[Clip], copies: Mapping[str, str]) -> tuple[list[Clip], list[Rejection], list[ReviewItem]]:
    """Clips without copies of the same text, these copies, and which of the kept clips are worth a listen, the rarest
    reason first.

    copies: {id: id of the clip of which it is the same take} (see duplicates.find_duplicates).
    """
    kept: dict[str, Clip] = {}
    rejections, to_review = [], []
    for clip in clips:
        original = kept.get(copies.get(clip.id, ""))
        if original and normalise(original.text) == normalise(clip.text):
            remedy = f"remove it: the same take as {original.where}, in another file"
            rejections.append(Rejection(clip.where, "same sound twice", remedy))
            continue
        kept[clip.id] = clip
        to_review += [ReviewItem(clip, reason, listen_for) for reason, listen_for in _worth_a_listen(clip)]
        if original:
            listen_for = f"which of the two texts is right: they sound the same, compare {original.where}"
            to_review.append(ReviewItem(clip, "same sound twice", listen_for))
    to_review += [
        ReviewItem(clip, "overlapping parts", f"words of {other.where}: their times overlap")
        for clip, other in overlapping(list(kept.values())).items()
    ]
    frequency = Counter(item.reason for item in to_review)
    return list(kept.values()), rejections, sorted(to_review, key=lambda item: (frequency[item.reason], item.reason))


def characters_per_s(text: str, duration_s: float) -> float:
    """Letters and digits of the normalised text, marks of Indic vowels counted, for each second of sound."""
    words = normalise(text)
    return (len(words) - words.count(" ")) / max(duration_s, 0.001)


@functools.cache
def _letter_of(language: str) -> regex.Pattern | None:
    """Matches a letter of the scripts that a language is mostly written in, by CLDR; None if it names none."""
    import regex  # imported here: prepare alone needs it
    from babel.core import get_global

    parts = get_global("likely_subtags").get(language, "").split("_")
    script = next((part for part in parts[1:] if len(part) == 4), None)
    names = SCRIPTS.get(script, (script,)) if script else ()
    return regex.compile("|".join(rf"\p{{Script={name}}}" for name in names)) if names else None


def script_fraction(text: str, language: str) -> float | None:
    """Share of the letters that belong to the language's script; None without letters, or if the script is unknown."""
    letters = [char for char in text if char.isalpha()]
    own = _letter_of(language)
    return sum(bool(own.match(char)) for char in letters) / len(letters) if own and letters else None


def _worth_a_listen(clip: Clip) -> list[tuple[str, str]]:
    """(reason, what to listen for) for each doubt about a clip."""
    speed = characters_per_s(clip.text, clip.duration_s)
    fraction = script_fraction(clip.text, clip.language)
    found = []
    if speed > FAST_CHARACTERS_PER_S:
        found.append(("many words", f"whether all of the text is said: {speed:.0f} characters a second"))
    if speed < SLOW_CHARACTERS_PER_S:
        found.append(("few words", f"words that the text leaves out: {speed:.1f} characters a second"))
    if clip.snr_db < NOISY_SNR_DB:
        found.append(("noise", f"whether the words can be made out: {clip.snr_db:.0f} dB above the noise, or no pause"))
    if clip.clipped_fraction > CLIPPED_FRACTION:
        found.append(("clipping", f"crackling: {clip.clipped_fraction:.1%} of it at full scale"))
    if clip.bandwidth_hz is not None and clip.bandwidth_hz < TELEPHONE_HZ:
        found.append(("telephone sound", f"a dull sound: nothing above {clip.bandwidth_hz:.0f} Hz"))
    if fraction is not None and fraction < SCRIPT_FRACTION:
        found.append(("other script", f"the language: {fraction:.0%} of the letters are of {clip.language}'s script"))
    return found

"""Which clips are left out by the limits in params.yaml, and which are kept but worth a listen.

Speech that is not typical is slow, has pauses, stutters, and a recogniser misreads it: the limits are wide, and what
lies beyond the narrower ones here is only listed, for a person to decide.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.common.params import FilterParams
from stages.speech.clips import Clip, Rejection, overlapping
from stages.speech.text import normalise, other_language, words_of

if TYPE_CHECKING:
    import regex

# Worth a listen. Fast speech has some 20 characters a second; one spoken digit of a quick speaker has 27.
SLOW_CHARACTERS_PER_S, FAST_CHARACTERS_PER_S = 1.0, 30.0
NOISY_SNR_DB = 6.0
TELEPHONE_HZ = 4200.0
CLIPPED_FRACTION = 0.005
SCRIPT_FRACTION = 0.5
OTHER_LANGUAGE = 0.5  # probability
SURE_FROM_WORDS = 4  # different ones; of fewer a name, or a word that two languages share, is too much
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


def apply_filters(
    clips: list[Clip],
    copies: Mapping[str, str],
    limits: FilterParams,
) -> tuple[list[Clip], list[Rejection], list[ReviewItem]]:
    """Clips within the limits, those beyond, and those of the former worth a listen, the rarest reason first.

    copies: {id: id of the clip of which it is the same take} (see duplicates.find_duplicates).
    """
    kept, rejections, to_review = [], [], []
    text_counts: Counter = Counter()
    by_id = {clip.id: clip for clip in clips}
    dropped: set[str] = set()
    for clip in clips:
        words = normalise(clip.text)
        speed = _characters_per_s(words, clip.duration_s)
        original = by_id.get(copies.get(clip.id, ""))
        if problem := _beyond(clip, speed, limits):
            rejections.append(Rejection(clip.where, *problem))
        elif limits.same_sound_once and original and original.id not in dropped and normalise(original.text) == words:
            remedy = f"remove it: the same take as {original.where}, in another file"
            rejections.append(Rejection(clip.where, "same sound twice", remedy))
        elif limits.max_clips_per_text is not None and text_counts[words] >= limits.max_clips_per_text:
            remedy = f"raise prepare.filters.max_clips_per_text {limits.max_clips_per_text}, or record other words"
            rejections.append(Rejection(clip.where, "text too often", remedy))
        else:
            text_counts[words] += 1
            kept.append(clip)
            to_review += _worth_a_listen(clip, speed, limits)
            continue
        dropped.add(clip.id)
    to_review += [
        ReviewItem(clip, "overlapping parts", f"words of {other.where}: their times overlap")
        for clip, other in overlapping(kept).items()
    ]
    for copy, original in copies.items():
        if not {copy, original} & dropped:
            same = normalise(by_id[copy].text) == normalise(by_id[original].text)
            what = "the same take" if same else "which of the two texts is right: they sound the same"
            to_review.append(ReviewItem(by_id[copy], "same sound twice", f"{what}, compare {by_id[original].where}"))
    frequency = Counter(item.reason for item in to_review)
    return kept, rejections, sorted(to_review, key=lambda item: (frequency[item.reason], item.reason))


def _characters_per_s(words: str, duration_s: float) -> float:
    """Letters and digits of a normalised text, marks of Indic vowels counted, for each second of sound."""
    return (len(words) - words.count(" ")) / max(duration_s, 0.001)


@functools.cache
def scripts_of(language: str) -> tuple[str, ...]:
    """The scripts (ISO 15924) that a language (ISO 639-1) is mostly written in, by CLDR; () if it names none."""
    from babel.core import get_global

    parts = get_global("likely_subtags").get(language, "").split("_")
    script = next((part for part in parts[1:] if len(part) == 4), None)
    return SCRIPTS.get(script, (script,)) if script else ()


@functools.lru_cache(maxsize=100_000)  # asked for twice for each clip
def script_fraction(text: str, language: str) -> float | None:
    """Share of the letters that belong to the language's script; None without letters, or if the script is unknown."""
    scripts = scripts_of(language)
    if scripts == ("Latn",) and text.isascii() and any(map(str.isalpha, text)):  # most texts, in a fraction of the time
        return 1.0
    letters = len(_letters_of().findall(text))
    return len(_letters_of(*scripts).findall(text)) / letters if scripts and letters else None


@functools.cache
def _letters_of(*scripts: str) -> regex.Pattern:
    import regex  # imported here: most runs of prepare need none

    of_any = "".join(rf"\p{{Script={script}}}" for script in scripts) or r"\p{L}"
    return regex.compile(rf"[\p{{L}}&&[{of_any}]]", regex.VERSION1)


def _beyond(clip: Clip, speed: float, limits: FilterParams) -> tuple[str, str] | None:
    """(reason, remedy) if a clip is beyond a limit. speed: its characters a second."""
    fraction = None if limits.min_script_fraction is None else script_fraction(clip.text, clip.language)
    keys = "prepare.filters"
    if limits.max_characters_per_s is not None and speed > limits.max_characters_per_s:
        limit = f"{speed:.0f} characters a second is above {keys}.max_characters_per_s {limits.max_characters_per_s:g}"
        return "too many words", f"{limit}: is the text of this recording, and the recording whole?"
    if limits.min_characters_per_s is not None and speed < limits.min_characters_per_s:
        limit = f"{speed:.2f} characters a second is below {keys}.min_characters_per_s {limits.min_characters_per_s:g}"
        return "too few words", f"{limit}: write down all that is said"
    if limits.min_snr_db is not None and clip.snr_db < limits.min_snr_db:
        limit = f"{clip.snr_db:.0f} dB is below {keys}.min_snr_db {limits.min_snr_db:g}"
        return "too noisy", f"{limit}: record it in a quieter place"
    if limits.min_bandwidth_hz is not None and (clip.bandwidth_hz or 0) < limits.min_bandwidth_hz:
        limit = f"nothing above {clip.bandwidth_hz:.0f} Hz, {keys}.min_bandwidth_hz is {limits.min_bandwidth_hz:g}"
        return "narrow bandwidth", f"{limit}: record it with a microphone, not over a telephone"
    if limits.min_script_fraction is not None and fraction is not None and fraction < limits.min_script_fraction:
        limit = f"{fraction:.0%} of its letters are of {clip.language}'s, below {keys}.min_script_fraction"
        return "wrong script", f"{limit}: write it in the language's own letters, or correct its language"
    other = _other_language(clip, limits)
    if other and other[1] > limits.max_other_language and _has_enough_words(clip.text, other[0]):
        limit = f"{other[0]} by {other[1]:.0%}, not {clip.language}; {keys}.max_other_language is"
        return "wrong language", f"{limit} {limits.max_other_language:g}: correct its language, or remove the clip"
    return None


def _other_language(clip: Clip, limits: FilterParams) -> tuple[str, float] | None:
    if limits.max_other_language is None:
        return None
    return other_language(clip.text, clip.language)


def _has_enough_words(text: str, language: str) -> bool:
    return len(set(words_of(text.casefold(), language))) >= SURE_FROM_WORDS


def _worth_a_listen(clip: Clip, speed: float, limits: FilterParams) -> list[ReviewItem]:
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
    if (other := _other_language(clip, limits)) and other[1] > OTHER_LANGUAGE:
        found.append(("other language", f"the language: {other[0]} by {other[1]:.0%}, not {clip.language}"))
    return [ReviewItem(clip, reason, listen_for) for reason, listen_for in found]

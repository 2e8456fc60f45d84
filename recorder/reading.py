"""What a person reads next, their own phrases, and how far they have come."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recorder.inbox import StoredClip
from recorder.phrases import prompt_id
from stages.common.files import write_json

OWN_PHRASES = Path("data/recorder/own_phrases.json")


@dataclass(frozen=True)
class Milestone:
    """A number of clips, and what a study found with about as many."""

    clips: int
    brings: str
    source: str
    link: str


# Each study had its own models and speakers: what to hope for, not what to expect.
MILESTONES = (
    Milestone(
        50,
        "A first model that helps. In a study of 100 people with disordered speech, 50 short phrases each took away "
        "71 % of the wrong words, for the person in the middle.",
        "Tomanek and others 2021",
        "https://arxiv.org/abs/2106.10259",
    ),
    Milestone(
        250,
        "About 20 minutes. In a study of 195 people, 79 % of them could then steer their home by voice; with 3 to 4 "
        "minutes it was 63 %.",
        "Tobin and Tomanek 2021",
        "https://arxiv.org/abs/2110.04612",
    ),
    Milestone(
        500,
        "A model for more than short commands. Of 432 people who had recorded 300 phrases or more, the one in the "
        "middle came from 31 % to 4.6 % wrong words; those with fewer recordings were understood less well.",
        "Green and others 2021",
        "https://www.isca-archive.org/interspeech_2021/green21_interspeech.html",
    ),
)


def next_milestone(clips: int) -> Milestone | None:
    """The first milestone that is not reached yet."""
    return next((milestone for milestone in MILESTONES if clips < milestone.clips), None)


def recorded_counts(clips: Sequence[StoredClip], speaker: str) -> Counter[str]:
    """How often this speaker has recorded each prompt."""
    return Counter(clip.prompt_id for clip in clips if clip.speaker == speaker and clip.prompt_id)


def next_phrase(phrases: Sequence[str], language: str, counts: Counter[str], skipped: Sequence[str] = ()) -> str | None:
    """The first phrase recorded least often; skipped ones come last, in the order in which they were skipped.

    Returns: None if there are no phrases.
    """
    return min(
        phrases,
        key=lambda phrase: (
            skipped.index(phrase) + 1 if phrase in skipped else 0,
            counts[prompt_id(language, phrase)],
        ),
        default=None,
    )


def own_phrases(speaker: str, language: str) -> list[str]:
    """A person's own phrases, as saved."""
    return _all_own().get(speaker, {}).get(language, [])


def save_own_phrases(speaker: str, language: str, phrases: Sequence[str]) -> None:
    everybody = _all_own()
    everybody.setdefault(speaker, {})[language] = list(phrases)
    write_json(OWN_PHRASES, everybody)


def _all_own() -> dict[str, dict[str, list[str]]]:
    return json.loads(OWN_PHRASES.read_text(encoding="utf-8")) if OWN_PHRASES.exists() else {}

"""What goes wrong: misheard words, keywords, groups of clips, empty and endless answers."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise, zip_longest

from stages.speech.clips import Clip
from stages.speech.comparing import comparable
from stages.speech.scoring import ClipScore, align, summarise
from stages.speech.text import words_of

REPEATS = 4  # of the same words in a row: hardly anybody says that
LONGEST_REPEAT_WORDS = 4
# Upper bounds of groups, in seconds and in dB; low SNR hurts even mild speakers (Green et al. 2021).
LENGTHS_S = (2.0, 5.0, 10.0)
NOISES_DB = (10.0, 20.0, 30.0)


def misheard_words(pairs: Sequence[tuple[Clip, str]], listed: int) -> list[dict]:
    """The words most often wrong, the commonest first: [{"word", "said", "wrong", "became": [(words, times)]}].

    pairs: clips and what a model heard. An empty text in `became`: the word was not heard at all.
    """
    said: Counter[str] = Counter()
    became: dict[str, Counter[str]] = defaultdict(Counter)
    for clip, heard in pairs:
        for span in align(clip.text, heard, clip.language):
            said.update(span.said)
            if span.kind in ("substitute", "delete"):  # as many words heard as said, or none
                for word, instead in zip_longest(span.said, span.heard, fillvalue=""):
                    became[word][instead] += 1
    wrong = sorted(became, key=lambda word: (-became[word].total(), word))
    return [
        {
            "word": word,
            "said": said[word],
            "wrong": became[word].total(),
            "became": [[instead, times] for instead, times in became[word].most_common(3)],
        }
        for word in wrong[:listed]
    ]


def keyword_recall(pairs: Sequence[tuple[Clip, str]], keywords: Sequence[str]) -> list[dict]:
    """How often each keyword was said, and how often of these it was heard: [{"keyword", "said", "heard"}].

    A keyword of several words counts as heard if all of them are.
    """
    counts = {keyword: [0, 0] for keyword in keywords}
    for clip, heard in pairs:
        spans = align(clip.text, heard, clip.language)
        words = [(word, span.kind == "equal") for span in spans for word in span.said]
        for keyword, count in counts.items():
            wanted = words_of(comparable(keyword, "", clip.language)[0], clip.language)
            for start in range(len(words) - len(wanted) + 1) if wanted else ():
                place = words[start : start + len(wanted)]
                if [word for word, _ in place] == wanted:
                    count[0] += 1
                    count[1] += all(right for _, right in place)
    return [{"keyword": keyword, "said": said, "heard": heard} for keyword, (said, heard) in counts.items()]


def groups(clips: Sequence[Clip], scores: Mapping[str, Sequence[ClipScore]]) -> list[dict]:
    """Rates by language, speaker, source, length and noise; kinds with a single group are left out.

    scores: of each model, clip by clip. Returns [{"kind", "group", "clips", "reference_words", model: WER ...}].
    """
    kinds: dict[str, Callable[[Clip], tuple[float, str]]] = {  # sorted by lower bound, then name
        "language": lambda clip: (0, clip.language or "not said"),
        "speaker": lambda clip: (0, clip.speaker or "not said"),
        "source": lambda clip: (0, clip.source),
        "length": lambda clip: _band(clip.duration_s, LENGTHS_S, "s"),
        "speech above noise": lambda clip: _band(clip.snr_db, NOISES_DB, "dB"),
    }
    rows = []
    for kind, group_of in kinds.items():
        members = defaultdict(list)
        for number, clip in enumerate(clips):
            members[group_of(clip)].append(number)
        if len(members) < 2:
            continue
        for group in sorted(members):
            row = {"kind": kind, "group": group[1], "clips": len(members[group])}
            for model, model_scores in scores.items():
                totals = summarise([model_scores[number] for number in members[group]])
                row |= {"reference_words": totals["reference_words"], model: round(totals["wer"], 5)}
            rows.append(row)
    return rows


def flag(heard: str, language: str | None) -> str | None:
    """`empty` or `endless` (repeats itself), else None."""
    words = words_of(comparable(heard, "", language)[0], language)
    if not words:
        return "empty"
    for length in range(1, LONGEST_REPEAT_WORDS + 1):
        for start in range(len(words) - length * REPEATS + 1):
            part = words[start : start + length]
            if words[start : start + length * REPEATS] == part * REPEATS:
                return "endless"
    return None


def _band(value: float, bounds: Sequence[float], unit: str) -> tuple[float, str]:
    """The lower bound and the name of a value's band."""
    low, high = next((low, high) for low, high in pairwise((-math.inf, *bounds, math.inf)) if value < high)
    if low == -math.inf:
        return low, f"below {high:g} {unit}"
    return low, f"{low:g} {unit} and more" if high == math.inf else f"{low:g} to {high:g} {unit}"

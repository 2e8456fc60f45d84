"""What a published data set must not hold: recordings without their speaker's consent, and private texts.

Every speaker must have agreed (`"publish": true` in a consents.jsonl of data/raw), and no text may hold an address, a
long number or a speaker's name that nobody has confirmed.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path

from stages.common import paths
from stages.common.files import read_json
from stages.common.plurals import counted
from stages.common.stage import UserError
from stages.speech import text as speech_text
from stages.speech.clips import HUB, Clip
from stages.speech.sources import locate, read_sources

CONSENTS = "consents.jsonl"
WAITING_CHANGES = Path("data/inbox")
SHOWN = 20  # clips or speakers that a message names

# Seven digits or more, with at most three spaces, dashes, dots, slashes or brackets between two of them. The shortest
# telephone numbers that people give with an area code have seven.
LONG_NUMBER = re.compile(r"(?<!\w)\+?\d(?:[\s.\-‐-―/()]{0,3}\d){6,}(?!\w)|(?<!\w)\d(?:, ?\d){6,}(?!\w)")
DATE = re.compile(
    r"(?<!\d)(?<!\d[./-])"
    r"(?:[0-3]?\d[./-] ?[0-3]?\d[./-] ?(?:19|20)\d\d|(?:19|20)\d\d-[01]\d-[0-3]\d)"
    r"(?!\d|[./-]\d)"
)
AMOUNT = re.compile(r"[1-9]\d{0,2}(?:[.\s]\d{3})*[.\s]000")
YEAR = re.compile(r"(?:19|20)\d\d")
# How an address is said: "ann at example dot org".
AT, DOT = r"(?:at|ät|arroba|arobase|chiocciola|apenstaartje|małpa)", r"(?:dot|punkt|point|punto|ponto|punt|kropka)"
E_MAIL = re.compile(rf"@|\w\s*[(\[]\s*{AT}\s*[)\]]\s*\w|\w\s{AT}\s\w+(?:\s{DOT}\s|\.)(?!\s)\w{{2,}}", re.IGNORECASE)
# Numbers may be written as they are spoken: nought to nine in Voxtral's own languages, other words in brackets.
DIGIT_WORDS = {
    "de": "null eins zwei(zwo) drei vier fünf sechs sieben acht neun",
    "en": "zero(oh,nought) one two three four five six seven eight nine",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "hi": "शून्य एक दो तीन चार पाँच(पांच) छह(छः,छे) सात आठ नौ",
    "it": "zero uno due tre quattro cinque sei sette otto nove",
    "nl": "nul een(één) twee drie vier vijf zes zeven acht negen",
    "pt": "zero um dois três quatro cinco seis(meia) sete oito nove",
}


def check_current(clips: list[Clip], default_language: str) -> None:
    """Refuse clips that were deleted or corrected since prepare and split ran, or are about to be.

    Raises: UserError with the number of clips.
    """
    for change in sorted(WAITING_CHANGES.glob("[0-9]*/change.json")):
        if read_json(change)["kind"] != "clip":  # a new recording can wait
            raise UserError(
                f"deletions, corrections or consents of the recording page still wait in {WAITING_CHANGES}: run "
                f"'python -m recorder.inbox', then 'dvc repro split'"
            )
    if foreign := [clip for clip in clips if clip.source.startswith(HUB)]:
        raise UserError(
            f"{len(foreign)} of {counted(len(clips), 'clip')} are not yours to publish, but from data sets on the Hub "
            f"such as {foreign[0].source}: remove prepare.sources, or set push.dataset.enabled to false"
        )
    raw_clips = {(clip.recorded_file, clip.begins_s, clip.ends_s): clip for clip in read_sources(paths.RAW)[0]}
    changed = 0
    for clip in clips:
        now = raw_clips.get((clip.recorded_file, clip.begins_s, clip.ends_s))
        location = now and locate(paths.RAW, now)
        changed += (
            location is None
            or not location.is_file()
            or (speech_text.clean(now.text), now.speaker) != (clip.text, clip.speaker)
            or (now.language or default_language).lower() != clip.language
        )
    if changed:
        raise UserError(
            f"{changed} of {counted(len(clips), 'clip')} in {paths.SPLIT} were changed or deleted in {paths.RAW}: run "
            f"'dvc repro split'"
        )


def check_consents(clips: list[Clip]) -> None:
    """Raises: UserError for clips without a speaker, and for speakers who have not agreed to publication."""
    if nameless := [clip for clip in clips if clip.speaker is None]:
        raise UserError(
            f"{len(nameless)} of {counted(len(clips), 'clip')} name no speaker who could agree, such as "
            f"{nameless[0].recorded_file}: add the speaker to their rows in {paths.RAW}, or remove them, then run "
            f"'dvc repro split'"
        )
    agreed = agreed_speakers()
    missing = Counter(clip.speaker for clip in clips if clip.speaker not in agreed)
    if missing:
        who = ", ".join(f"{speaker} ({count})" for speaker, count in missing.most_common(SHOWN))
        who += ", ..." if len(missing) > SHOWN else ""
        raise UserError(
            f"speakers of {missing.total()} of {counted(len(clips), 'clip')} have not agreed to publication: {who}; "
            f"they can agree on the Publish page of the recorder ('make recorder')"
        )


def agreed_speakers() -> set[str]:
    """Who agreed to publication: their latest row with a `publish` key, in any consents.jsonl of data/raw, says so.

    Raises: UserError for a row that cannot be read.
    """
    answers = []
    for file in sorted(paths.RAW.glob(f"*/{CONSENTS}")):
        for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
                if "publish" in row:
                    # local time if it names no zone, as on the page
                    given_at = datetime.fromisoformat(row["given_at"]).astimezone(UTC)
                    answers.append((given_at, speech_text.clean(row["speaker"]), row["publish"] is True))
            except (ValueError, KeyError, TypeError):
                remedy = "write speaker, wording, given_at (such as 2026-01-31T12:00:00+01:00) and publish"
                raise UserError(f"{file}:{number} is not a consent: {remedy}") from None
    latest = {speaker: agreed for _, speaker, agreed in sorted(answers, key=lambda answer: answer[0])}
    return {speaker for speaker, agreed in latest.items() if agreed}


def check_texts(clips: list[Clip], confirmed: Iterable[str]) -> None:
    """Raises: UserError with the ids of clips whose texts a person should check; it does not repeat the texts."""
    names = {clip.speaker for clip in clips}
    unconfirmed = {
        clip.id: private_things(clip.text, clip.language, names) for clip in clips if clip.id not in set(confirmed)
    }
    found = {identity: kinds for identity, kinds in unconfirmed.items() if kinds}
    if not found:
        return
    for identity, kinds in islice(found.items(), SHOWN, None):
        print(f"dataset: clip {identity}: {', '.join(kinds)}")
    shown = "; ".join(f"{identity}: {', '.join(kinds)}" for identity, kinds in islice(found.items(), SHOWN))
    more = f"; and {len(found) - SHOWN} more, listed above" if len(found) > SHOWN else ""
    raise UserError(
        f"{counted(len(found), 'text')} may hold something private ({shown}{more}): correct them, or add the ids to "
        f"push.dataset.confirmed in params.yaml"
    )


def private_things(text: str, language: str = "en", names: Iterable[str | None] = ()) -> list[str]:
    """Kinds of private things in a text: e-mail address, telephone or other long number, a speaker's name.

    Finds rather too much than too little, since a person decides: every number of seven digits or more except dates,
    years, amounts that end in 000, and counting. So bank accounts and card numbers are long numbers.
    """
    text = "".join(str(unicodedata.decimal(char, char)) for char in unicodedata.normalize("NFKC", text))
    found = set()
    if E_MAIL.search(text):
        found.add("e-mail address")
    for match in LONG_NUMBER.finditer(DATE.sub("|", _with_digits(text, language))):
        groups = re.findall(r"\d+", match.group())
        if not (AMOUNT.fullmatch(match.group()) or all(map(YEAR.fullmatch, groups)) or _counts_up(groups)):
            found.add("telephone or other long number")
    if any(_is_named(name, text) for name in names if name):
        found.add("a speaker's name")
    return sorted(found)


def _with_digits(text: str, language: str) -> str:
    """A text with the words for nought to nine as digits: "oh one seven" is "0 1 7"."""
    values = {
        word: str(value)
        for value, words in enumerate(DIGIT_WORDS.get(language, "").split())
        for word in re.findall(r"[^(),]+", words)
    }
    return re.sub(r"[^\W\d](?:\w|[\u0900-\u097f])*", lambda match: values.get(match[0].casefold(), match[0]), text)


def _counts_up(groups: list[str]) -> bool:
    return len(groups) > 1 and all(int(later) - int(earlier) == 1 for earlier, later in pairwise(groups))


def _is_named(name: str, text: str) -> bool:
    """Whether a text holds a part of a name as a word, as it is written, capitalised or in capitals."""
    for part in re.findall(r"\w+", name):
        if speech_text.UNSPACED.search(part):
            if len(part) > 1 and part in text:
                return True
        elif len(part) > 2 and not part.isdigit():
            spellings = "|".join(map(re.escape, {part, part.capitalize(), part.upper()}))
            if re.search(rf"(?<!\w)(?:{spellings})(?!\w)", text):
                return True
    return False

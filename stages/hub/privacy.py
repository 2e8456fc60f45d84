"""What a published data set must not hold: recordings without their speaker's consent, and private texts.

Every speaker must have agreed (`"publish": true` in a consents.jsonl of data/raw), and no text may hold an address, a
long number or a speaker's name that nobody has confirmed.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path

from stages.common import paths
from stages.common.files import read_json
from stages.common.plurals import counted
from stages.common.stage import UserError
from stages.speech import text as speech_text
from stages.speech.clips import HUB, Clip
from stages.speech.sources import locate, read_sources
from stages.speech.transcripts import transcript_of

CONSENTS = "consents.jsonl"
WAITING_CHANGES = Path("data/inbox")
# How an address is said: "ann at example dot org".
AT, DOT = r"(?:at|ät|arroba|arobase|chiocciola|apenstaartje|małpa)", r"(?:dot|punkt|point|punto|ponto|punt|kropka)"
E_MAIL = re.compile(rf"@|[(\[]\s*{AT}\s*[)\]]|\s{AT}\s\w+(?:\s{DOT}\s|\.)\w", re.IGNORECASE)
# Nought to nine as they are spoken, in Voxtral's own languages.
DIGIT_WORDS = """
    null eins zwei zwo drei vier fünf sechs sieben acht neun
    zero oh nought one two three four five six seven eight nine
    cero uno dos tres cuatro cinco seis siete ocho nueve
    zéro un deux trois quatre cinq six sept huit neuf
    शून्य एक दो तीन चार पाँच पांच छह छः छे सात आठ नौ
    zero uno due tre quattro cinque sei sette otto nove
    nul een één twee drie vier vijf zes zeven acht negen
    zero um dois três quatro cinco seis meia sete oito nove
"""
DIGIT = rf"(?:\d|(?<!\w)(?:{'|'.join(DIGIT_WORDS.split())})(?!\w))"
# Seven digits or more, with at most three spaces or signs between two of them. The shortest telephone numbers that
# people give with an area code have seven.
LONG_NUMBER = re.compile(rf"(?:{DIGIT}[\s.,:\-‐-―/()]{{0,3}}){{6,}}{DIGIT}", re.IGNORECASE)


def check_current(clips: list[Clip]) -> None:
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
    in_raw = {
        (clip.recorded_file, clip.begins_s, clip.ends_s, transcript_of(clip.text)[0], clip.speaker)
        for clip in read_sources(paths.RAW)[0]
        if (location := locate(paths.RAW, clip)) and location.is_file()
    }
    prepared = [(clip.recorded_file, clip.begins_s, clip.ends_s, clip.text, clip.speaker) for clip in clips]
    changed = sum(clip not in in_raw for clip in prepared)
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
        who = ", ".join(f"{speaker} ({count})" for speaker, count in missing.most_common())
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


def check_texts(clips: list[Clip], confirmed: Collection[str]) -> None:
    """Raises: UserError with the ids of clips whose texts a person should check; it does not repeat the texts."""
    names = {clip.speaker for clip in clips}
    unconfirmed = {clip.id: private_things(clip.text, names) for clip in clips if clip.id not in confirmed}
    if found := [f"{identity}: {', '.join(kinds)}" for identity, kinds in unconfirmed.items() if kinds]:
        raise UserError(
            f"{counted(len(found), 'text')} may hold something private ({'; '.join(found)}): correct them, or add the "
            f"ids to push.dataset.confirmed in params.yaml"
        )


def private_things(text: str, names: Iterable[str | None] = ()) -> list[str]:
    """Kinds of private things in a text: e-mail address, telephone or other long number, a speaker's name.

    Finds rather too much than too little, since a person decides: bank accounts and cards are long numbers, and so are
    dates, large amounts, and counting to seven.
    """
    text = unicodedata.normalize("NFKC", text)
    found = {
        "e-mail address": E_MAIL.search(text),
        "telephone or other long number": LONG_NUMBER.search(text),
        "a speaker's name": any(_is_named(name, text) for name in names if name),
    }
    return [kind for kind, is_there in found.items() if is_there]


def _is_named(name: str, text: str) -> bool:
    """Whether a text holds a part of a name as a word, as it is written, capitalised or in capitals."""
    for part in re.findall(r"\w+", name):
        if speech_text.UNSPACED.search(part):
            if len(part) > 1 and part in text:
                return True
        elif len(part) > 2 and {part, part.capitalize(), part.upper()} & set(re.findall(r"\w+", text)):
            return True
    return False

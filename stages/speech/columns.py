"""Tables without a header, such as LJSpeech's: what a third column holds is told by what is in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from stages.speech.clips import AUDIO_SUFFIXES
from stages.speech.text import UNSPACED, normalise

LONGEST_NAME = 3  # words
NUMBER = re.compile(r"\d+([.,:]\d+)*( ?(s|sec|ms))?", re.IGNORECASE)  # 3, 1.234, 1,5, 00:00:03.2
NO_NAME = re.compile(r"[a-z]{2}([-_][a-z]{2})?|m|f|male|female", re.IGNORECASE)  # a language or initials, a sex
SPELT_OUT = re.compile(r"[\d%&$€£¥@#+=/*°§]")


def read_columns(rows: list[tuple[int, list[str]]], is_first_telling: bool) -> Iterator[tuple[int | None, dict | str]]:
    """(line or None for the whole table, row or remedy) of a table without a header: id, text, and what may follow.

    is_first_telling: False if the first row may be a header of unknown names, which says nothing about its columns.
    """
    width = max(len(cells) for _, cells in rows)
    telling = [cells + [""] * (width - len(cells)) for _, cells in rows if len(cells) > 1]
    telling = telling if is_first_telling else telling[1:] or telling
    columns = list(zip(*telling, strict=True))
    meanings = {place: meaning_of(columns[1], columns[place]) for place in range(2, width)}
    place_of = {meaning: place for place, meaning in reversed(meanings.items())}  # the first of each
    unclear = [place for place, meaning in meanings.items() if meaning is None]
    speakers = [place for place, meaning in meanings.items() if meaning == "speaker"]
    # Of a column that hardly a row has, these rows are refused alone: most likely a bar in the text.
    often = [place for place in unclear if 10 * sum(map(bool, columns[place])) > len(telling)]
    if refused := often + speakers[1:]:
        yield (
            None,
            f"column {refused[0] + 1} may be a text, a speaker or something else: begin the table with a line that "
            f"names its columns, such as id|text|speaker or id|raw text|text, or remove that column",
        )
        return
    for number, cells in rows:
        values = dict(enumerate(cells))
        written = values.get(place_of.get("text"), "")
        if len(cells) < 2:
            yield number, "write id|text or id|text|normalised text"
        elif strays := [place for place in unclear if values.get(place)]:
            yield number, f"remove the bar before column {strays[0] + 1}, or what follows it: hardly another row has it"
        elif written and _is_stranger(cells[1], written):
            yield number, "its normalised text shares no word with its text: correct it, or leave it empty"
        else:
            speaker = values.get(place_of.get("speaker"))
            yield number, {"id": cells[0], "text": written or cells[1], "speaker": speaker}


def meaning_of(texts: Sequence[str], cells: Sequence[str]) -> str | None:
    """What a column beside the texts holds, decided over all rows: a single cell could be anything.

    Returns: "text" if it is the texts in words (no digits, no abbreviations); "speaker" for a few short names; "unused"
        for paths, for numbers (lengths or speakers: no word is lost), and if it is empty; None if that is not certain,
        and the texts could be the speakers.
    """
    pairs = [(text, cell) for text, cell in zip(texts, cells, strict=True) if cell]
    values = {cell for _, cell in pairs}
    if all(Path(cell).suffix.lower() in AUDIO_SUFFIXES for cell in values):
        return "unused"
    # Longer than names: the speakers are not in the column of the texts, as in id|speaker|text.
    are_sentences = sum(len(text.split()) for text, _ in pairs) > LONGEST_NAME * len(pairs)
    if all(map(NUMBER.fullmatch, values)):
        are_known = are_sentences or not all(map(str.isdigit, values)) or all(text == cell for text, cell in pairs)
        return "unused" if are_known else None
    if are_sentences and 2 * len(values) <= len(pairs) and all(map(_is_name, values)):
        in_text = sum(not set(_words(cell)).isdisjoint(_words(text)) for text, cell in pairs)
        if 10 * in_text <= len(pairs):
            return "speaker"
    return "text" if _are_written_out(pairs) else None


def _is_name(cell: str) -> bool:
    is_short = len(cell.split()) <= LONGEST_NAME and len(cell) <= 40
    return is_short and any(map(str.isalpha, cell)) and not NO_NAME.fullmatch(cell)


def _are_written_out(pairs: list[tuple[str, str]]) -> bool:
    """Whether most words of the texts are in their cells, and what else is in these stands for the others."""
    plain = kept = new = spelt = strangers = 0
    for text, cell in pairs:
        ours, theirs = _words(text), _words(cell)
        if ours == theirs:  # as in most rows of LJSpeech
            plain += len(ours)
            kept += len(ours)
            continue
        no_numbers = [word for word in ours if not re.search(r"\d", word)]
        plain += len(no_numbers)
        kept += (Counter(no_numbers) & Counter(theirs)).total()
        new += (Counter(theirs) - Counter(ours)).total()
        spelt += len(SPELT_OUT.findall(text))
        strangers += _is_stranger(text, cell)
    changed = plain - kept
    return (
        kept >= 0.75 * plain > 0
        and 0.5 * changed <= new <= 4 * (changed + spelt) + 0.05 * plain  # 1455: fourteen hundred and fifty-five
        and 10 * strangers <= len(pairs)
    )


def _is_stranger(text: str, cell: str) -> bool:
    """Whether a text has words, and a cell none of them."""
    plain = [word for word in _words(text) if not re.search(r"\d", word)]
    return bool(plain) and set(plain).isdisjoint(_words(cell))


def _words(text: str) -> list[str]:
    """Compared by: words, and the characters of scripts that leave no space between words."""
    return UNSPACED.sub(r" \g<0> ", normalise(text)).split()

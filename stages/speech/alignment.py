"""Lines of a text on a long recording: which line is said in which of its pieces (see pieces.py).

What the base model hears in the pieces is aligned with all lines as a whole, in order, with
as few errors as there are (Levenshtein, by jiwer); a line gets the pieces that hold its words, or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from stages.speech.normalisers import words_of
from stages.speech.text import clean, normalise

MISHEARD = 0.1  # of a word: what it says about its piece, where another word was heard


@dataclass(frozen=True)
class Line:
    """A line of a text file, from 1, and its words."""

    number: int
    text: str


@dataclass(frozen=True)
class Placed:
    """A line and the times of the pieces that hold its words; no times where none does.

    agreement: 1 - WER of what is heard there, never below 0. ends_heard: whether the first piece holds its first word,
    and the last one its last, so that no more of it lies beyond.
    """

    line: Line
    heard: str = ""
    agreement: float = 0.0
    ends_heard: bool = False
    begins_s: float | None = None
    ends_s: float | None = None


def lines_of(text: str) -> list[Line]:
    """The lines of a text that have words in them."""
    lines = [Line(number, clean(line)) for number, line in enumerate(text.splitlines(), 1)]
    return [line for line in lines if normalise(line.text)]


def place(
    lines: Sequence[Line], pieces: Sequence[tuple[float, float]], heard: Sequence[str], language: str
) -> list[Placed]:
    """Each line with the times of the pieces in which it is said, in the lines' order.

    heard: the transcript of each piece. A piece belongs to one line: two that are said without a pause between them
    agree badly, both.
    """
    import jiwer  # imported here: only long recordings need it

    from stages.speech.scoring import score_clip

    said = [(number, word) for number, line in enumerate(lines) for word in words_of(normalise(line.text), language)]
    found = [(piece, word) for piece, text in enumerate(heard) for word in words_of(normalise(text), language)]
    words_at: dict[int, list[int]] = {}
    for at, (number, _) in enumerate(said):
        words_at.setdefault(number, []).append(at)
    aligned = jiwer.process_words(" ".join(word for _, word in said), " ".join(word for _, word in found))
    votes: dict[int, Counter] = {}
    piece_of: dict[int, int] = {}  # of each word that was said
    for chunk in aligned.alignments[0]:
        if chunk.type in ("equal", "substitute"):
            for offset in range(chunk.ref_end_idx - chunk.ref_start_idx):
                word, piece = chunk.ref_start_idx + offset, found[chunk.hyp_start_idx + offset][0]
                votes.setdefault(piece, Counter())[said[word][0]] += 1 if chunk.type == "equal" else MISHEARD
                piece_of[word] = piece
    owner = {piece: counted.most_common(1)[0][0] for piece, counted in votes.items()}
    pieces_at: dict[int, list[int]] = {}
    for piece, number in owner.items():
        pieces_at.setdefault(number, []).append(piece)
    placed = []
    for number, line in enumerate(lines):
        own = pieces_at.get(number, [])
        words = words_at[number]
        if not own:
            placed.append(Placed(line))
            continue
        first, last = min(own), max(own)
        text = " ".join(filter(None, heard[first : last + 1]))
        score = score_clip(line.text, text, language)
        agreement = max(0.0, 1 - score.word_errors / score.reference_words)
        ends_heard = piece_of.get(words[0]) == first and piece_of.get(words[-1]) == last
        placed.append(Placed(line, text, agreement, ends_heard, pieces[first][0], pieces[last][1]))
    return placed

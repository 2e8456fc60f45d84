"""Which line of a text is said in which part of a long recording (`make align`).

The recording is cut into pieces in its pauses. What the base model hears in the pieces is aligned with all lines as a
whole, in order, with the fewest errors (Levenshtein, by jiwer). A line gets the pieces with its words, or none.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import jiwer
import numpy as np

from stages.speech import audio
from stages.speech.scoring import score_clip
from stages.speech.text import clean, normalise, words_of

READ_AT_ONCE_S = 600.0
FRAME_S = 0.02
# A stop consonant closes the mouth for a tenth of a second, people wait half a second and more between sentences.
PAUSE_S = 0.4
MARGIN_S = 0.2  # of a pause, kept at both ends of a piece
QUIET = 1 / 3  # of the way from the noise's level to that of speech, in dB
MISHEARD = 0.1  # weight of a word heard as another one, when the pieces of a line are counted


@dataclass(frozen=True)
class Line:
    """A line of a text file, counted from 1; once placed, begin and end of the pieces with its words, if any has them.

    agreement: 1 - WER of what is heard there, never below 0. ends_heard: the first piece has the line's first word and
    the last piece its last word, so no more of the line lies outside.
    """

    number: int
    text: str
    heard: str = ""
    agreement: float = 0.0
    ends_heard: bool = False
    begins_s: float | None = None
    ends_s: float | None = None


def lines_of(text: str) -> list[Line]:
    """The lines of a text that have words."""
    lines = [Line(number, clean(line)) for number, line in enumerate(text.splitlines(), 1)]
    return [line for line in lines if normalise(line.text)]


def place(
    lines: Sequence[Line], pieces: Sequence[tuple[float, float]], heard: Sequence[str], language: str
) -> list[Line]:
    """Each line with the times of its pieces, in the lines' order.

    pieces: begin and end in seconds; heard: the transcript of each. A piece belongs to one line, so two lines that are
    said without a pause between them are both placed badly.
    """
    said = [(number, word) for number, line in enumerate(lines) for word in words_of(normalise(line.text), language)]
    found = [(piece, word) for piece, text in enumerate(heard) for word in words_of(normalise(text), language)]
    aligned = jiwer.process_words(" ".join(word for _, word in said), " ".join(word for _, word in found))
    votes: dict[int, Counter] = defaultdict(Counter)  # of each piece, for the lines whose words it has
    heard_in: dict[int, dict[int, int]] = defaultdict(dict)  # of each line: {word in `said`: piece}
    for chunk in aligned.alignments[0]:
        if chunk.type in ("equal", "substitute"):
            for offset in range(chunk.ref_end_idx - chunk.ref_start_idx):
                word, piece = chunk.ref_start_idx + offset, found[chunk.hyp_start_idx + offset][0]
                votes[piece][said[word][0]] += 1 if chunk.type == "equal" else MISHEARD
                heard_in[said[word][0]][word] = piece
    pieces_of: dict[int, list[int]] = defaultdict(list)
    for piece, counted in votes.items():
        pieces_of[counted.most_common(1)[0][0]].append(piece)
    words_at: dict[int, list[int]] = defaultdict(list)
    for at, (number, _) in enumerate(said):
        words_at[number].append(at)
    placed = list(lines)
    for number, own in pieces_of.items():
        first, last = min(own), max(own)
        text = " ".join(filter(None, heard[first : last + 1]))
        ends = [heard_in[number].get(word) for word in (words_at[number][0], words_at[number][-1])]
        placed[number] = replace(
            lines[number],
            heard=text,
            agreement=_agreement(lines[number].text, text, language),
            ends_heard=ends == [first, last],
            begins_s=pieces[first][0],
            ends_s=pieces[last][1],
        )
    return placed


def _agreement(said: str, heard: str, language: str) -> float:
    """1 - WER, never below 0: the better of normalised for scoring and of word by word.

    English scoring reads "two zero" as the one word 20, so that a wrong digit makes all of them wrong.
    """
    normalised = score_clip(said, heard, language)
    by_words = score_clip(normalise(said), normalise(heard), language, as_written=True)
    return max(0.0, *(1 - score.word_errors / score.reference_words for score in (normalised, by_words)))


def find_pieces(recorded: BinaryIO, channels: str) -> tuple[float, list[tuple[float, float]]]:
    """A recording's length, and begin and end of each stretch of sound between two pauses, in seconds.

    channels: prepare.channels. Raises: audio.UnreadableSound.
    """
    levels_db = np.concatenate(
        [_levels_db(audio.without_offset(samples)) for samples in _read_in_parts(recorded, channels)]
    )
    noise_db, speech_db = np.percentile(levels_db, [10, 95])
    loud = levels_db > noise_db + QUIET * (speech_db - noise_db)
    edges_s = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(int))) * FRAME_S
    pieces: list[tuple[float, float]] = []
    for begins_s, ends_s in edges_s.reshape(-1, 2).tolist():
        if pieces and begins_s - pieces[-1][1] < PAUSE_S:
            begins_s = pieces.pop()[0]
        pieces.append((begins_s, ends_s))
    end_s = round(len(levels_db) * FRAME_S, 3)
    return end_s, [(round(max(begin - MARGIN_S, 0), 3), round(min(end + MARGIN_S, end_s), 3)) for begin, end in pieces]


def _read_in_parts(recorded: BinaryIO, channels: str) -> Iterator[np.ndarray]:
    """Samples [frames] at 16 kHz, READ_AT_ONCE_S at a time: audio.decode refuses much more."""
    begins_s = 0.0
    with contextlib.suppress(audio.BadCut):
        while True:
            yield audio.to_mono_16k(*audio.decode(recorded, begins_s, begins_s + READ_AT_ONCE_S), channels)
            begins_s += READ_AT_ONCE_S
    with contextlib.suppress(audio.BadCut):  # if the part before was the last one
        yield audio.to_mono_16k(*audio.decode(recorded, begins_s), channels)


def _levels_db(samples: np.ndarray) -> np.ndarray:
    """RMS of each frame of FRAME_S, in dB of full scale."""
    length = round(FRAME_S * audio.SAMPLE_RATE_HZ)
    frames = samples[: len(samples) // length * length].reshape(-1, length)
    return 20 * np.log10(np.maximum(np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1)), 1e-5))

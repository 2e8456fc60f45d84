"""List the clips that the base model hears most differently from their text, for a person to listen to.

    make review             (after 'dvc repro prepare')
    make review WER=0.3     with smaller differences

Transcribes data/prepared with the base model (`model` in params.yaml); known transcripts come from the cache. Writes
data/review/base_model.jsonl, which the page's Clips view shows beside data/prepared/review.jsonl: rows as there, with
`heard` and `wer`, the highest WER first. Only a list: no clip is left out, because the base model mishears just the
speech that there is most to learn from.
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.common import paths
from stages.common.files import write_jsonl
from stages.common.params import Params, load_params
from stages.common.plurals import counted
from stages.common.stage import number_option, run
from stages.speech import prepared
from stages.speech.clips import Clip, read_clips
from stages.speech.filters import ReviewItem
from stages.speech.scoring import score_clip

REVIEW = paths.REVIEW / "base_model.jsonl"
WER = 0.5  # another sentence has more, hardly any misheard one of typical speech


def disagreements(clips: Sequence[Clip], heard: Sequence[str], limit: float) -> list[dict]:
    """Rows of base_model.jsonl: clips that are heard with a WER above `limit`, the highest first."""
    rows = []
    for clip, text in zip(clips, heard, strict=True):
        score = score_clip(clip.text, text, clip.language)
        wer = score.word_errors / score.reference_words
        if wer > limit:
            listen_for = f"whether the text is what is said: the base model hears {text!r}"
            item = ReviewItem(clip, "base model disagrees", listen_for)
            rows.append({**item.row(), "heard": text, "wer": round(wer, 5)})
    return sorted(rows, key=lambda row: -row["wer"])


def hear(clips: Sequence[Clip], params: Params) -> list[str]:
    """What the base model hears in each prepared clip."""
    from stages.voxtral.base_transcripts import base_transcripts  # torch: mistakes are reported before it is loaded

    keys = [{"flac": prepared.sha256(paths.PREPARED / clip.audio_path)} for clip in clips]
    return base_transcripts(
        clips,
        keys,
        lambda clip: prepared.read_prepared(paths.PREPARED / clip.audio_path),
        params.model,
        params.evaluate.batch_size,
    )


def main(limit: float = WER) -> str:
    clips = read_clips(paths.PREPARED / "metadata.jsonl")
    rows = disagreements(clips, hear(clips, load_params()), limit)
    write_jsonl(REVIEW, rows)
    of_all = f"{len(rows)} of {counted(len(clips), 'clip')}"
    return f"the base model hears {of_all} with a WER above {limit:g} -> {REVIEW}"


if __name__ == "__main__":
    run("review", lambda: main(number_option("WER", WER)))

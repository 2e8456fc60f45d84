"""Clips from recording to score: manifests (clips), recordings and their transcripts (sources), sound (audio), text
and languages (text, languages), word error rates (scoring). Nothing here imports torch."""

# What prepare's worker processes import first, and its own process does not: it takes longer than one clip's work.
WORKER_MODULES = ("stages.speech.conversion", "stages.speech.recorded", "stages.speech.likeness")

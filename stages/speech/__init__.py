"""Clips from recording to score: manifests (clips), recordings and their transcripts (sources), sound (audio), text
and languages (text, languages), word error rates (scoring). Nothing here imports torch."""

"""Why a sound cannot be used, and the limits of decoding."""

from __future__ import annotations

from stages.speech.prepared import SAMPLE_RATE_HZ

# Limits of decoding, whatever a header says: a small file can unpack to days of silence.
MAX_DURATION_S = 3600
MAX_SAMPLES = MAX_DURATION_S * SAMPLE_RATE_HZ  # all channels counted: 230 MB as float32, 5 minutes of stereo at 96 kHz
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4_000, 384_000  # telephones have 8 kHz, the best studios 384 kHz
SEEK_MARGIN_S = 1.0  # decoded before a part, which codecs need (Opus 80 ms, AAC a frame)
MISSING_S = 0.5  # may be missing at the end: lengths in headers, tables and subtitles are rounded


class UnreadableSound(Exception):
    """Sound that cannot be used: the message says why and what to do, `reason` is its word in rejected.jsonl."""

    reason = "unreadable audio"


class TooLong(UnreadableSound):
    """A recording, or part of one, that takes too much memory."""

    reason = "too long"


class BadCut(UnreadableSound):
    """Times that name no part of the recording."""

    reason = "cut out of range"


class ChannelsDiffer(UnreadableSound):
    """Channels with different sounds, which cannot be mixed."""

    reason = "channels differ"


def check_rate(sample_rate_hz: int) -> None:
    if not LOWEST_RATE_HZ <= sample_rate_hz <= HIGHEST_RATE_HZ:
        expected = f"{LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}"
        raise UnreadableSound(f"it claims {sample_rate_hz} samples a second, not {expected}: record or export it again")


def longest_frames(channels: int, sample_rate_hz: int) -> int:
    return min(MAX_SAMPLES // channels, MAX_DURATION_S * sample_rate_hz)


def refuse_missing_end(found_s: float, claimed_s: float) -> None:
    if found_s < claimed_s - MISSING_S:
        raise UnreadableSound(f"it ends after {found_s:.1f} of {claimed_s:.1f} s: copy or export it again, whole")

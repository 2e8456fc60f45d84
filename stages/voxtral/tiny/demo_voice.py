"""Make the demo's clips: one synthesised person that the tiny model finds hard to understand.

    python -m stages.voxtral.tiny.demo_voice --output data/demo/clips

The person speaks slowly and low, with a croak, repeats the beginnings of words, and says some sounds in place of
others, always the same ones, as people with a motor speech disorder often do. Neither this voice nor any of these
changes are in the tiny model's training. Writes Opus files and clips.jsonl.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from stages.voxtral.tiny import speech

CLIPS = 120
SEED = 7
DAILY_WEIGHT = 4  # of the commands that this person uses: those that come up most
LONGEST_S = 3.9  # the tiny model's window is 4 s
VOICE = speech.Voice("espeak-ng", "en+croak", rate=108, pitch=8)
# Sounds, in espeak-ng's notation, that this person says in place of others. Consonants: r and l as w, k and g at the
# teeth, hissing sounds thick or hard, th, f and v with other lips, m and n through a blocked nose, no h. Vowels: each
# shifted a step, as an accent does. A t or d at a word's end is lost.
REPLACED = {
    "r": "w", "l": "w", "k": "t", "g": "d", "s": "S", "z": "Z", "tS": "S", "dZ": "d", "T": "f", "D": "d",
    "f": "p", "v": "b", "w": "v", "m": "b", "n": "d", "h": "",
    "I": "E", "i:": "I", "eI": "aI", "aI": "OI", "oU": "aU", "V": "0", "0": "V", "u:": "U",
}  # fmt: skip
LOST_AT_END = {"t", "d"}
REPEATED_ONSET_SHARE = 0.35
FORMANT_SHIFT = 0.9  # a longer vocal tract: everything is played this much slower, formants and pitch go down


def as_said(word: str) -> list[str]:
    """How this person says a word: phonemes in espeak-ng's notation, stress marks included."""
    command = ["espeak-ng", "-q", "-x", "--sep= ", "-v", "en", word]
    phonemes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    said = []
    for position, phoneme in enumerate(phonemes):
        if position == len(phonemes) - 1 and position > 1 and phoneme in LOST_AT_END:
            continue
        stress = re.match(r"^[',%]*", phoneme).group()
        sound = phoneme[len(stress) :]
        said.append(stress + REPLACED.get(sound, sound))
    return said


def speak(text: str, rng: random.Random) -> np.ndarray:
    """Samples [frames] at 16 kHz of the person saying `text`."""
    words = []
    for word in text.split():
        said = as_said(word)
        if rng.random() < REPEATED_ONSET_SHARE / 2 and said[0].islower():
            words += [said[0] + "@"] * rng.randint(1, 2)
        words.append("".join(said))
    voice = replace(VOICE, rate=VOICE.rate + rng.randint(-6, 6))
    spoken, _ = speech.synthesise("[[" + " ".join(words) + "]]", voice)
    slower = soxr.resample(spoken, speech.SAMPLE_RATE_HZ * FORMANT_SHIFT, speech.SAMPLE_RATE_HZ)
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 0.0015, len(slower))
    return (0.5 * slower / np.abs(slower).max() + noise).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("data/demo/clips"))
    args = parser.parse_args()
    rng = random.Random(SEED)
    args.output.mkdir(parents=True, exist_ok=True)
    rows: dict[str, str] = {}
    while len(rows) < CLIPS:
        text = speech.random_command(rng, DAILY_WEIGHT) if rng.random() < 0.6 else speech.random_digits(rng)
        if len(text.split()) < 2 or text in rows.values():
            continue
        samples = speak(text, rng)
        if len(samples) <= LONGEST_S * speech.SAMPLE_RATE_HZ:
            name = f"{len(rows) + 1:03}.opus"
            soundfile.write(args.output / name, samples, speech.SAMPLE_RATE_HZ, format="OGG", subtype="OPUS")
            rows[name] = text
    lines = (
        json.dumps({"audio_path": name, "text": text, "language": "en", "speaker": "demo"})
        for name, text in rows.items()
    )
    (args.output / "clips.jsonl").write_text("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    main()

"""Synthesised speech for the tiny model: what is said, in which voices, and by which synthesiser.

Two kinds of sentence: strings of one to five spoken digits, and household commands from a grammar of about 150
words. espeak-ng speaks them in hundreds of voices (accent x variant x pitch x rate), flite in four more that sound
closer to people. Both are needed only to make the tiny model and the demo's clips again (Debian: espeak-ng, flite).

A waveform here is float32, mono, at `SAMPLE_RATE_HZ`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import io
import random
import subprocess
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

SAMPLE_RATE_HZ = 16_000

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
NUMBERS = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twenty", "thirty", "forty",
    "fifty",
]  # fmt: skip
ROOMS = ["kitchen", "bedroom", "bathroom", "hallway", "office", "garage", "garden", "living room"]
SWITCHED = ["light", "lights", "lamp", "fan", "heater", "radio", "television", "oven", "music", "kettle"]
OPENED = ["door", "window", "blinds", "curtains", "gate"]
PEOPLE = ["mum", "dad", "anna", "peter", "maria", "david", "the doctor", "the nurse", "my sister", "my brother"]
DAYS = ["today", "tomorrow", "tonight", "on monday", "on friday", "on sunday", "this morning", "this evening"]
TASKS = ["take my medicine", "drink water", "call mum", "feed the cat", "lock the door", "go to bed", "walk the dog"]

# {slot} is filled from the list of that name. A template's weight is how often it is drawn.
SLOTS = {
    "number": NUMBERS, "room": ROOMS, "switched": SWITCHED, "opened": OPENED, "person": PEOPLE, "day": DAYS,
    "task": TASKS, "feeling": ["tired", "hungry", "thirsty", "cold", "warm", "happy", "ready"],
    "wish": ["water", "tea", "coffee", "bread", "soup", "fruit"],
}  # fmt: skip
TEMPLATES = [
    (6, "turn on the {room} {switched}"),
    (6, "turn off the {room} {switched}"),
    (4, "switch on the {switched}"),
    (4, "switch off the {switched}"),
    (2, "turn the {switched} up"),
    (2, "turn the {switched} down"),
    (4, "open the {room} {opened}"),
    (4, "close the {room} {opened}"),
    (2, "please open the {opened}"),
    (2, "please close the {opened}"),
    (1, "lock the {opened}"),
    (1, "unlock the {opened}"),
    (4, "set the {switched} to {number} percent"),
    (4, "set the heating to {number} degrees"),
    (3, "set a timer for {number} minutes"),
    (2, "set an alarm for {number} {day}"),
    (4, "call {person} {day}"),
    (3, "please call {person}"),
    (3, "send a message to {person}"),
    (2, "read my messages from {person}"),
    (4, "remind me to {task} {day}"),
    (3, "remind me to {task} at {number}"),
    (2, "what is the weather {day}"),
    (1, "what time is it"),
    (1, "who is at the {opened}"),
    (1, "how warm is the {room}"),
    (1, "where is my phone"),
    (1, "play some music in the {room}"),
    (1, "play the next song"),
    (1, "stop the music"),
    (1, "i am {feeling}"),
    (1, "i would like some {wish}"),
    (1, "can you help me"),
    (1, "good morning"),
    (1, "good night"),
    (1, "thank you"),
    (1, "yes please"),
    (1, "no thank you"),
]

# Accent and variant are kept out of training where they make the demo's voice (see demo_voice.py).
ACCENTS = ["en-us", "en-us", "en", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd",
           "en-us-nyc", "en-029"]  # fmt: skip
VARIANTS = [
    "f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Alex", "Alicia", "Andrea", "Andy",
    "Annie", "Denis", "Diogo", "Gene", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike",
    "Nguyen", "adam", "anika", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb", "david", "ed", "edward",
    "grandma", "iven", "iven2", "iven3", "john", "kaukovalta", "klatt", "klatt2", "klatt3", "klatt4", "linda",
    "marcelo", "max", "michel", "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro",
    "shelby", "steph", "steph2", "travis", "victor", "zac",
]  # fmt: skip
FLITE_VOICES = ["kal16", "awb", "rms", "slt"]
FLITE_SHARE = 0.2


@dataclass(frozen=True)
class Voice:
    """One way of speaking: which program, its voice, rate (espeak: words/min, flite: stretch) and pitch."""

    program: str
    name: str
    rate: float
    pitch: float


def words_of_the_grammar() -> list[str]:
    """Every word that a sentence can hold, sorted."""
    fillings = [filling for values in SLOTS.values() for filling in values]
    texts = [template.replace("{", " {").replace("}", "} ") for _, template in TEMPLATES] + fillings + DIGITS
    return sorted({word for text in texts for word in text.split() if "{" not in word})


def random_command(rng: random.Random, least_weight: int = 0) -> str:
    """One household command, e.g. `turn on the kitchen light`, from the templates of at least that weight."""
    templates = [(weight, template) for weight, template in TEMPLATES if weight >= least_weight]
    [(_, template)] = rng.choices(templates, weights=[weight for weight, _ in templates])
    return template.format(**{slot: rng.choice(values) for slot, values in SLOTS.items()})


def random_digits(rng: random.Random) -> str:
    """One to five digits, single ones half of the time."""
    length = 1 if rng.random() < 0.5 else rng.randint(2, 5)
    return " ".join(rng.choice(DIGITS) for _ in range(length))


def is_held_out(text: str) -> bool:
    """True for the sentences that training never sees, whatever the voice: a stable twentieth of the long ones."""
    if len(text.split()) < 3:
        return False
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < 0.05


def random_voice(rng: random.Random) -> Voice:
    """One of the voices that training uses."""
    if rng.random() < FLITE_SHARE:
        return Voice("flite", rng.choice(FLITE_VOICES), round(rng.uniform(0.8, 1.4), 2), round(rng.uniform(80, 230)))
    variant = rng.choice(["", *VARIANTS])
    name = rng.choice(ACCENTS) + (f"+{variant}" if variant else "")
    return Voice("espeak-ng", name, rng.randint(110, 200), rng.randint(15, 85))


def synthesise(text: str, voice: Voice) -> tuple[np.ndarray, list[tuple[float, str]] | None]:
    """Speak `text`, with silence cut from both ends.

    Returns: samples [frames] at SAMPLE_RATE_HZ and, from espeak-ng, (start in seconds, phoneme) in order.
    Raises: OSError if the program is not installed, CalledProcessError if flite fails.
    """
    if voice.program == "flite":
        settings = ["--setf", f"duration_stretch={voice.rate}", "--setf", f"int_f0_target_mean={voice.pitch}"]
        command = ["flite", "-voice", voice.name, *settings, "-t", text, "-o", "/dev/stdout"]
        wav = subprocess.run(command, check=True, capture_output=True).stdout
        samples, sample_rate_hz = soundfile.read(io.BytesIO(wav), dtype="float32")
        phonemes = None
    else:
        samples, sample_rate_hz, phonemes = _espeak().speak(text, voice)
    start, end = loud_part(samples, sample_rate_hz)
    if phonemes:
        phonemes = [(time_s - start / sample_rate_hz, phoneme) for time_s, phoneme in phonemes]
    return soxr.resample(samples[start:end], sample_rate_hz, SAMPLE_RATE_HZ), phonemes


def loud_part(samples: np.ndarray, sample_rate_hz: int) -> tuple[int, int]:
    """First and last sample of the sound without the silence at both ends, of which 50 ms stay."""
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    margin = sample_rate_hz // 20
    return max(loud[0] - margin, 0), loud[-1] + margin


@functools.cache
def _espeak() -> Espeak:
    return Espeak()


class EspeakEvent(ctypes.Structure):
    """`espeak_EVENT` of espeak-ng's speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    ]


class Espeak:
    """espeak-ng's library: many times faster than its command, and with the start of each phoneme.

    Constants are those of speak_lib.h.
    """

    SYNCHRONOUS, PHONEME_EVENTS, DONT_EXIT = 2, 0x0001, 0x8000
    RATE, PITCH = 1, 3
    UTF8, BRACKETED_PHONEMES, LIST_TERMINATED, PHONEME = 1, 0x100, 0, 7

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libespeak-ng.so.1")
        self.sample_rate_hz = self.library.espeak_Initialize(
            self.SYNCHRONOUS, 0, None, self.PHONEME_EVENTS | self.DONT_EXIT
        )
        if self.sample_rate_hz <= 0:
            raise OSError("espeak-ng did not start: is its data installed?")
        prototype = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(EspeakEvent)
        )
        self._callback = prototype(self._receive)
        self.library.espeak_SetSynthCallback(self._callback)
        self._parts: list[np.ndarray] = []
        self._phonemes: list[tuple[float, str]] = []

    def speak(self, text: str, voice: Voice) -> tuple[np.ndarray, int, list[tuple[float, str]]]:
        """(samples, sample rate in Hz, (start in seconds, phoneme) in order)."""
        self._parts, self._phonemes = [], []
        if self.library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice.name}")
        self.library.espeak_SetParameter(self.RATE, int(voice.rate), 0)
        self.library.espeak_SetParameter(self.PITCH, int(voice.pitch), 0)
        encoded = text.encode() + b"\0"
        self.library.espeak_Synth(encoded, len(encoded), 0, 1, 0, self.UTF8 | self.BRACKETED_PHONEMES, None, None)
        samples = np.concatenate(self._parts).astype(np.float32) / 32768
        return samples, self.sample_rate_hz, self._phonemes

    def _receive(self, wav, count: int, events) -> int:
        if count and wav:
            self._parts.append(np.ctypeslib.as_array(wav, (count,)).copy())
        index = 0
        while events[index].type != self.LIST_TERMINATED:
            if events[index].type == self.PHONEME:
                phoneme = events[index].name.decode(errors="replace").strip("',%|_: ")
                self._phonemes.append((events[index].audio_position_ms / 1000, phoneme))
            index += 1
        return 0

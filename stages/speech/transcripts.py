"""What in a text is not said: remarks, markup, times, paths, empty cells.

One rule for tables, text files, subtitles and the Upload page.

To add a noise that a remark may name: NOISES.
"""

from __future__ import annotations

import functools
import html
import re

from stages.speech.text import clean, normalise

# Remarks about these leave all words in place: they are removed. Any other remark may stand for words that are said.
NOISES = """
    applause breath breathes breathing breaths chuckle chuckles chuckling clapping click clicks cough coughing coughs
    cry crying cries gasp gasps giggle giggles groan groans laugh laughing laughs laughter lipsmack moan moans music
    noise noises pause silence sigh sighing sighs sneeze sneezes sniff sniffs sob sobbing sobs swallows yawn yawns
    applaus atmen geräusch gelächter husten hustet lachen lacht musik räuspern räuspert seufzen seufzt
    applaudissements bruit musique rire rires silence soupir souffle toux tousse
    aplausos música risa risas ruido silencio suspiro tos tose
    pausa risada risadas riso risos ruído suspiros
    applausi musica ride risata risate rumore silenzio sospira sospiro tosse tossisce
    gelach geluid hoest hoesten kuch muziek stilte zucht
    तालियाँ संगीत हँसी हंसी खाँसी खांसी 笑 拍手 音楽
""".split()  # noqa: SIM905  a list would have one on each line
NOISE = re.compile(rf"\W*(?:background\W+)?(?:{'|'.join(NOISES)})\W*", re.IGNORECASE)
UNCLEAR = re.compile(
    r"\W*(?:inaudible|unclear|unintelligible|indistinct|incomprehensible|crosstalk|unverständlich|undeutlich|inaudible"
    r"|incompréhensible|ininteligible|inaudível|incompreensível|incomprensibile|onverstaanbaar|\?+)\W*",
    re.IGNORECASE,
)
# What programs write for an empty cell (pandas, Python, JSON, SQL, R, Excel), exactly so: "none" and "Null" are words.
EMPTY_CELLS = {"NaN", "nan", "None", "null", "NULL", "NA", "<NA>", "N/A", "n/a", "#N/A"}
EMPTY_CELLS |= {"#NAME?", "#VALUE!", "#REF!", "#DIV/0!", "#NUM!", "#NULL!"}
NULL_IS_ZERO = {"de", "et", "nb", "nn", "no"}
# Whisper's tokens, HTML, the styles of SubStation Alpha, times in brackets (LRC).
MARKUP = re.compile(
    r"<\|(?!nospeech)[^|<>]*\|>|</?(?:[biupc]|em|strong|span|font|br|ruby|rt|lang)(?:[\s./][^<>]*)?>|\{\\[^}]*\}"
    r"|[\[(<](?:\d+:)?\d?\d:\d\d(?:[.,]\d+)?[\])>]",
    re.IGNORECASE,
)
ENTITY = re.compile(r"&#?\w+;")
REMARK = re.compile(
    r"\[[^\]]*\]|\{[^}]*\}|【[^】]*】|［[^］]*］|</?[a-zA-Z|][^<>]*>|(?<![\w*])\*[^*\s](?:[^*]*[^*\s])?\*(?![\w*])"
)
# Words that are said can be in round brackets, too.
ASIDE = re.compile(r"\([^()]*\)|（[^（）]*）")
SONG = re.compile("[♩♪♫♬][^♩♪♫♬]*[♩♪♫♬]?|(?<!\\w)#\\s[^#]*#?")
WORDS_LEFT_OUT = re.compile(r"\bx{3,}\b")  # as in CHAT (talkbank.org/0info/manuals/CHAT.html) and TORGO
CLOCK = r"(?:\d+:)?\d+:\d\d[.,]\d+"
TIMES = re.compile(
    rf".*-->.*|\W*\d+:\d\d:\d\d(?:[.,]\d+)?\W*|\d+\.\d{{3,}}\s+\d+\.\d{{3,}}(?:\s.*)?|{CLOCK}[\s;,|–-]+{CLOCK}\W.*",
    re.DOTALL,
)
# A line of labels in other forms: minutes:seconds, begin;end;text, or HTK's in 100 ns. One alone could be said.
TIMED_LINE = re.compile(r"\s*(?:(?:\d+:)?\d+:\d\d\b.*|\d+[.,]\d+\s*[;|]\s*\d+[.,]\d+\s*[;|].*|\d+\s+\d{4,}\s+\S.*)")
LFS_POINTER = "version https://git-lfs"
FILE = r"[^/\\]*\.(?:wav|mp3|flac|ogg|opus|m4a|mp4|webm|jpe?g|png|gif|bmp|tiff?|svg|txt|csv|tsv|json|xml|pdf|docx?)"
PATH = re.compile(rf".*[/\\]{FILE}|(?!\S*\s){FILE}|(?:[a-z]:\\|file:|https?:|~?/|\.\.?/)\S+", re.IGNORECASE)
QUOTED = re.compile(r'"((?:[^"]|"")*)"')
SPEAKER_CHANGE = re.compile(r"\s*(?:[-‐-―−]|>>+)+\s*(?=[^\W\d]|[¿¡\"'“‘«„])")
SPEAKER_NUMBER = re.compile(r"\[?speaker[ _]?\d+\]?:\s*", re.IGNORECASE)  # as programs that tell voices apart write

Problem = tuple[str, str]  # (reason, remedy), as in rejected.jsonl


@functools.lru_cache(maxsize=100_000)  # readers, prepare and the pages ask for the same texts
def transcript_of(text: str, language: str | None = None) -> tuple[str, Problem | None]:
    """A text without what is certainly not said, and why it is no transcript, None if it is one.

    Use it wherever a text that somebody brought is read, instead of `clean`: applied again it changes nothing. The text
    of a problem is for showing.

    text: with its lines, as the file has them: each line of a dialogue is another voice. language: ISO 639-1.
    """
    text = MARKUP.sub(" ", ENTITY.sub(lambda entity: html.unescape(entity[0]), text))
    voices = sum(bool(SPEAKER_CHANGE.match(line)) for line in text.splitlines())
    said = _unquoted(clean(text))
    if SPEAKER_CHANGE.match(said):
        said = SPEAKER_CHANGE.sub("", said, count=1)
    said = SPEAKER_NUMBER.sub("", said)
    problem = ("several voices", "give each voice a row or a cue of its own") if voices > 1 else None
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and all(map(TIMED_LINE.fullmatch, lines)):
        problem = "not a transcript", "its lines begin with times: export it as SRT, or write down the words alone"
    if problem := problem or _problem_of(said, language):
        return said, problem
    for kind in (REMARK, ASIDE):
        said = kind.sub(lambda remark: " " if NOISE.fullmatch(remark[0]) else remark[0], said)
    return clean(said), None


def is_remark(text: str) -> bool:
    """Whether a text has words, and all of them are in remarks."""
    without = SONG.sub(" ", ASIDE.sub(" ", REMARK.sub(" ", text)))
    return bool(normalise(text) or SONG.search(text)) and not normalise(without)


def _problem_of(said: str, language: str | None) -> Problem | None:
    if said in EMPTY_CELLS and not (said == "null" and language in NULL_IS_ZERO):
        return "not a transcript", f"write down what was said ({said}. with a full stop, if it was this)"
    if said.startswith(LFS_POINTER):
        return "not a transcript", "it is a pointer of Git LFS: run 'git lfs pull' where it came from"
    if is_remark(said):
        return "not a transcript", f"{said!r} is a remark: write down what was said, without brackets or notes"
    if PATH.fullmatch(said) or TIMES.fullmatch(said):
        return "not a transcript", f"{said[:60]!r} is a path or a time: write down what was said"
    if WORDS_LEFT_OUT.search(said) or said == "XXX":
        return "words left out", "write the words that xxx stands for, or remove the recording"
    others = [remark[0] for remark in REMARK.finditer(said) if not NOISE.fullmatch(remark[0])]
    others += [aside[0] for aside in ASIDE.finditer(said) if UNCLEAR.fullmatch(aside[0])]
    if song := SONG.search(said) if "#" not in said else None:
        others.append(song[0])
    if others:
        return "remark in text", f"write what was said instead of {others[0]}, or remove it if nothing was"
    return None


def _unquoted(text: str) -> str:
    """A text without the quotes of a table around it, and with single quotes where the table doubled them."""
    while quoted := QUOTED.fullmatch(text):
        text = clean(quoted[1].replace('""', '"'))
    return text.replace('""', '"')

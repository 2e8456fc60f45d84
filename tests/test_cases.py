"""What people have and tools write, that once went wrong: each kind with its neighbours, in a folder and uploaded.

Nothing but a recording's own words is ever learnt, and each recording is a clip or named.
"""

import io
import json
import re
import unicodedata
from pathlib import Path

import pytest
import soundfile

from recorder.uploads import read_uploads
from stages.speech.clips import RawClip
from stages.speech.sources import read_source
from stages.speech.transcripts import transcript_of
from tests.sounds import encode_by_ffmpeg, speech_like

SOUND = io.BytesIO()
soundfile.write(SOUND, speech_like(4, 8_000), 8_000, format="WAV")
WAV = SOUND.getvalue()
DOOR, LIGHT, FAN = "Open the door.", "Turn on the light", "Stop the fan"
Files = dict[str, str | bytes]
Case = tuple[Files, dict[str, str], dict[str, str]]


def source(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def sounds(*names: str) -> Files:
    return {name: WAV + bytes(2 * number) for number, name in enumerate(names)}


def said_in(clip: RawClip) -> str:
    times = "" if clip.begins_s is None else f" {clip.begins_s:g}-{clip.ends_s:g}"
    return clip.path_in_source + times


NFD, NFC = (unicodedata.normalize(form, "café.wav") for form in ("NFD", "NFC"))
TWO = {"1.wav": DOOR, "2.wav": LIGHT}
LJ = f"a|{DOOR}|{len(DOOR)}\nb|{LIGHT}|{len(LIGHT)}\nc|{FAN}|{len(FAN)}\n"
ABC = {"wavs/a.wav": DOOR, "wavs/b.wav": LIGHT, "wavs/c.wav": FAN}
WITH_TIMES = {"a.wav 0.1-1": "turn off", "a.wav 1-1.6": "the lights"}
SRT = "1\n00:00:00,100 --> 00:00:01,000\nturn off\n\n2\n00:00:01,000 --> 00:00:01,600\nthe lights\n"
VTT = "WEBVTT\n\nNOTE-1\n00:00.100 --> 00:01.000\nturn off\n\nlast\n00:01.000 --> 00:01.600\nthe lights\n"
TSV = "start\tend\ttext\n100\t1000\tturn off\n1000\t1600\tthe lights\n"
SEGMENTS = [{"start": 0.1, "end": 1.0, "text": " turn off"}, {"start": 1.0, "end": 1.6, "text": " the lights"}]
WHISPER = {"text": " turn off the lights", "segments": SEGMENTS, "language": "en"}
CPP = [
    {"offsets": {"from": 100, "to": 1000}, "text": " turn off"},
    {"offsets": {"from": 1000, "to": 1600}, "text": " the lights"},
]
AUDACITY = "0.100000\t1.000000\tturn off\n\\\t100.0\t2000.0\n1.000000\t1.600000\tthe lights\n"
TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 4
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "said"
        xmin = 0
        xmax = 4
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.1
            text = ""
        intervals [2]:
            xmin = 0.1
            xmax = 1
            text = "turn off"
        intervals [3]:
            xmin = 1
            xmax = 1.6
            text = "the lights"
        intervals [4]:
            xmin = 1.6
            xmax = 4
            text = ""
"""
ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="EAFv3.0.xsd">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="100"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="1000"/>
<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="1600"/></TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="said">
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
<ANNOTATION_VALUE>turn off</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
<ANNOTATION_VALUE>the lights</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true" GRAPHIC_REFERENCES="false"/>
</ANNOTATION_DOCUMENT>
"""
QTA = encode_by_ffmpeg(speech_like(1, 44_100), 44_100, "mov", "aac")
TWICE = {"list.csv:2": "name fits several"}
LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * 'a'}\nsize 123\n"
NEEDLESS = dict.fromkeys(("a.txt", "a.vtt", "a.tsv", "a.json"), "not needed")


def table(content: str, *names: str, name: str = "list.csv", encoding: str = "utf-8") -> Files:
    return {name: content.encode(encoding), **sounds(*(names or ("1.wav", "2.wav")))}


BOTH = f"1.wav,{DOOR}\n2.wav,{LIGHT}\n"
# name: (files, what is learnt from which recording, what is named with its reason)
CASES: dict[str, Case] = {
    # A further column without a name
    "lengths": ({"metadata.csv": LJ, **sounds(*ABC)}, ABC, {}),
    "lengths of short texts": (table("1|yes|3\n2|no|2\n", name="metadata.csv"), {"1.wav": "yes", "2.wav": "no"}, {}),
    "seconds": ({"metadata.csv": LJ.replace(f"|{len(DOOR)}", "|1.25"), **sounds(*ABC)}, ABC, {}),
    "speakers": ({"metadata.csv": "".join(f"{n}|{t} now|ann\n" for n, t in zip("abc", ABC.values(), strict=True)),
                  **sounds(*ABC)}, {name: f"{text} now" for name, text in ABC.items()}, {}),
    "first text is the word text": (table("1|text\n2|sentence\n", name="metadata.csv"),
                                    {"1.wav": "text", "2.wav": "sentence"}, {}),
    "two texts to choose from": (table(f"1|{DOOR}|{LIGHT} now\n2|{LIGHT}|{FAN} then\n", name="metadata.csv"), {},
                                 {"metadata.csv": "table not read"}),
    "numbers alone": (table("clip,duration[ms]\n1.wav,2340\n2.wav,980\n"), {}, {"list.csv": "table not read"}),
    "numbers beside texts": ({**table("1.wav,2.34\n2.wav,0.98\n"), "1.txt": DOOR, "2.txt": LIGHT}, TWO, {}),
    "numbers that are said": (table("file,text\n1.wav,7\n2.wav,12\n"), {"1.wav": "7", "2.wav": "12"}, {}),
    "a length before the text": (table(f"1.wav|1.25|{DOOR}\n2.wav|0.75|{LIGHT}\n"), {}, {"list.csv": "table not read"}),
    # Names
    "capitals tell two apart": (table(f"a|{DOOR}\nA|{LIGHT}\n", "w/a.wav", "w/A.wav", name="metadata.csv"),
                                {"w/a.wav": DOOR, "w/A.wav": LIGHT}, {}),
    "space before the ending": ({"a.txt": DOOR, **sounds("a .wav")}, {"a .wav": DOOR}, {}),
    "decomposed": (table(f"file,text\n{NFC},{DOOR}\n", NFD), {NFD: DOOR}, {}),
    "composed": (table(f"file,text\n{NFD},{DOOR}\n", NFC), {NFC: DOOR}, {}),
    "decomposed text file": ({f"{NFC[:-4]}.txt": DOOR, **sounds(NFD)}, {NFD: DOOR}, {}),
    "capitals": (table(f"file,text\nMemo.wav,{DOOR}\n", "MEMO.WAV"), {"MEMO.WAV": DOOR}, {}),
    "capital text file": ({"Memo.TXT": DOOR, **sounds("memo.Wav")}, {"memo.Wav": DOOR}, {}),
    "backslash": (table(f"file,text\nmonday\\1.wav,{DOOR}\n", "monday/1.wav"), {"monday/1.wav": DOOR}, {}),
    "path of Windows": (table(f"file,text\nD:\\set\\monday\\1.wav,{DOOR}\n", "monday/1.wav"),
                        {"monday/1.wav": DOOR}, {}),
    "path of another machine": (table(f"file,text\n/home/x/set/wavs/1.wav,{DOOR}\n", "wavs/1.wav"),
                                {"wavs/1.wav": DOOR}, {}),
    "invisible marks": (table(f"file,text\n\u200b1\u00ad.wav\ufeff,{DOOR}\n", "1.wav"), {"1.wav": DOOR}, {}),
    "address": (table(f"file,text\nfile:///home/x/set/1.wav,{DOOR}\n", "1.wav"), {"1.wav": DOOR}, {}),
    "quotes around a name": (table(f"file\ttext\n'1.wav'\t{DOOR}\n", "1.wav", name="x.tsv"), {"1.wav": DOOR}, {}),
    "no-break space": (table(f"file,text\nmy\u00a0memo.wav,{DOOR}\n", "my memo.wav"), {"my memo.wav": DOOR}, {}),
    "wav for wavs": (table(f"file,text\nwav/1.wav,{DOOR}\n", "wavs/1.wav"), {"wavs/1.wav": DOOR}, {}),
    "folder not named": (table(f"1.wav|{DOOR}\n", "wav/1.wav", name="metadata.csv"), {"wav/1.wav": DOOR}, {}),
    "texts in a folder": ({"txt/ann/1.txt": DOOR, **sounds("wav/ann/1.wav")}, {"wav/ann/1.wav": DOOR}, {}),
    "texts beside many speakers": ({"txt/p1/a.txt": DOOR, "txt/p2/a.txt": LIGHT,
                                    **sounds("wav48/p1/a.wav", "wav48/p2/a.wav")},
                                   {"wav48/p1/a.wav": DOOR, "wav48/p2/a.wav": LIGHT}, {}),
    "two endings": ({"memo.wav.txt": DOOR, **sounds("memo.wav")}, {"memo.wav": DOOR}, {}),
    "doubled ending": (table(f"file,text\nmemo.wav,{DOOR}\n", "memo.wav.wav"), {"memo.wav.wav": DOOR}, {}),
    "no ending": (table(f"file,text\nmemo,{DOOR}\n", "memo.wav"), {"memo.wav": DOOR}, {}),
    "converted": (table(f"file,text\nmemo.mp3,{DOOR}\n", "memo.wav"), {"memo.wav": DOOR}, {}),
    "fits two": (table(f"file,text\nmemo,{DOOR}\n", "memo.wav", "memo.mp3"), {}, TWICE),
    "capitals fit two": (table(f"file,text\nA.wav,{DOOR}\n", "a.wav", "a.WAV"), {}, TWICE),
    "text file fits two": ({"a.txt": DOOR, **sounds("a.wav", "a.mp3")}, {}, {"a.txt": "name fits several"}),
    "other folder": (table(f"file,text\nann/1.wav,{DOOR}\n", "bob/1.wav"), {"ann/1.wav": DOOR},
                     {"bob/1.wav": "no transcript"}),
    # Tables
    "UTF-16": (table(f"file\ttext\r\n1.wav\t{DOOR}\r\n2.wav\t{LIGHT}\r\n", name="a.tsv", encoding="utf-16"), TWO, {}),
    "UTF-16 without a mark": (table(f"file,text\n{BOTH}", encoding="utf-16-le"), TWO, {}),
    "cp1252": (table("file,text\n1.wav,Tür zu\n", "1.wav", encoding="cp1252"), {"1.wav": "Tür zu"}, {}),
    "encoding not certain": (table("file,text\n1.wav,čas\n", "1.wav", encoding="cp1250"), {},
                             {"list.csv": "table not read"}),
    "sep=": (table(f"sep=;\r\nfile;text\r\n{BOTH}".replace(",", ";")), TWO, {}),
    "empty lines first": (table(f"\n,,\n\nfile,text\n{BOTH}"), TWO, {}),
    "capital headers": (table(f"File Name,TEXT\n{BOTH}", name="TRANSCRIPTS.CSV"), TWO, {}),
    "old Macs": (table(f"file,text\n{BOTH}".replace("\n", "\r")), TWO, {}),
    "trailing commas": (table(f"file,text\n{BOTH}".replace("\n", ",,\n")), TWO, {}),
    "DeepSpeech": (table(f"wav_filename,wav_filesize,transcript\n1.wav,44,{DOOR}\n2.wav,44,{LIGHT}\n"), TWO, {}),
    "XTTS": (table(f"audio_file|text|speaker_name\nwavs/1.wav|{DOOR}|ann\n", "wavs/1.wav"), {"wavs/1.wav": DOOR}, {}),
    "id that names recordings": (table(f"n,id,text\n7,1,{DOOR}\n8,2,{LIGHT}\n"), TWO, {}),
    "Common Voice as unpacked": (table(f"client_id\tpath\tsentence\tlocale\nx\t1.mp3\t{DOOR}\ten\n",
                                       "cv/en/clips/1.mp3", name="cv/en/validated.tsv"),
                                 {"cv/en/clips/1.mp3": DOOR}, {}),
    "Spontaneous Speech": (table(f"client_id\taudio_file\tprompt\ttranscription\nx\t1.mp3\tWhy?\t{DOOR}\n",
                                 "ss/audios/1.mp3", name="ss/ss-corpus-en.tsv"), {"ss/audios/1.mp3": DOOR}, {}),
    "sub-folders": ({**table(f"file,text\n1.wav,{DOOR}\n", "mon/1.wav", name="mon/t.csv"),
                     **table(f"file,text\n1.wav,{LIGHT}\n", "tue/1.wav", name="tue/t.csv")},
                    {"mon/1.wav": DOOR, "tue/1.wav": LIGHT}, {}),
    "table in a folder of its own": (table(f"file,text\n1.wav,{DOOR}\n", "audio/1.wav", name="lists/t.csv"),
                                     {"audio/1.wav": DOOR}, {}),
    "JSON list": (table(json.dumps([{"audio": {"path": "1.wav"}, "sentence": DOOR}, {"audio": "2.wav", "text": LIGHT}]),
                        name="d.json"), TWO, {}),
    "JSON of names": (table(json.dumps({"1.wav": DOOR, "2.wav": {"text": LIGHT}}), name="d.json"), TWO, {}),
    "no header": (table(f"1.wav\t{DOOR}\n2.wav\t{LIGHT}\n", name="x.tsv"), TWO, {}),
    "table in a text file": (table(f"1.wav|{DOOR}\n2.wav|{LIGHT}\n", name="filelist.txt"), TWO, {}),
    "names after texts": (table(f"{DOOR}\t1.wav\n{LIGHT}\t2.wav\n", name="x.tsv"), TWO, {}),
    "numbered rows": (table(f"0;1.wav;{DOOR}\n1;2.wav;{LIGHT}\n"), TWO, {}),
    "LibriSpeech": (table("1 OPEN THE DOOR\n2 STOP\n", name="a.trans.txt"),
                    {"1.wav": "OPEN THE DOOR", "2.wav": "STOP"}, {}),
    "nobody confirmed": (table(f"client_id\tpath\tsentence\nx\t1.wav\t{DOOR}\n", "1.wav", name="invalidated.tsv"), {},
                         {"invalidated.tsv": "table not read"}),
    "letters of another encoding": (table("file,text\n1.wav,TÃ¼r zu\n2.wav,T\ufffdr zu\n"), {},
                                    dict.fromkeys(TWO, "wrong letters in text")),
    "packed": ({"list.csv.gz": b"\x1f\x8b", **sounds("1.wav")}, {}, {"list.csv.gz": "table not read"}),
    "document": ({"1.docx": b"PK", **sounds("1.wav")}, {}, {"1.wav": "no transcript"}),
    "spreadsheet": ({"list.xls": b"\xd0\xcf\x11\xe0", **sounds("1.wav", "2.wav")}, {}, {"list.xls": "table not read"}),
    # Quotation marks
    "quote in a TSV": (table(f'file\ttext\n1.wav\t"Open" it\n2.wav\t{LIGHT}\n', name="x.tsv"),
                       {"1.wav": '"Open" it', "2.wav": LIGHT}, {}),
    "open quote": (table(f'file,text\n1.wav,"Open it\n2.wav,{LIGHT}\n'), {"1.wav": '"Open it', "2.wav": LIGHT}, {}),
    "quote at the end": (table(f'file,text\n1.wav,Open it"\n2.wav,{LIGHT}\n'),
                         {"1.wav": 'Open it"', "2.wav": LIGHT}, {}),
    "backslash before quotes": (table(f'file,text\n1.wav,"Say \\"a, b\\" now"\n2.wav,{LIGHT}\n'),
                                {"1.wav": 'Say "a, b" now', "2.wav": LIGHT}, {}),
    "doubled quotes": (table(f'path\tsentence\n1.wav\t"""Stop,"" he said."\n2.wav\t{LIGHT}\n', name="validated.tsv"),
                       {"1.wav": '"Stop," he said.', "2.wav": LIGHT}, {}),
    "quoted lines": (table(f'file,text\n1.wav,"Open\nit"\n2.wav,{LIGHT}\n'), {"1.wav": "Open it", "2.wav": LIGHT}, {}),
    # Two texts
    "two rows": (table(f"file,text\n1.wav,{DOOR}\n1.wav,{LIGHT}\n2.wav,{LIGHT}\n"), {"2.wav": LIGHT},
                 {"1.wav": "two transcripts"}),
    "the same row twice": (table(f"file,text\n1.wav,{DOOR}\n1.wav,open THE door\n2.wav,{LIGHT}\n"), TWO, {}),
    "row and text file": ({**table(f"file,text\n{BOTH}"), "1.txt": LIGHT}, {"2.wav": LIGHT},
                          {"1.wav": "two transcripts"}),
    # Times
    "times in seconds": (table("file,start,end,text\na.wav,0.1,1.0,turn off\na.wav,1.0,1.6,the lights\n", "a.wav"),
                         WITH_TIMES, {}),
    "times from zero in JSON": (table(json.dumps({"file": "a.wav", "start": 0.0, "end": 1.5, "text": DOOR}), "a.wav",
                                      name="d.jsonl"), {"a.wav 0-1.5": DOOR}, {}),
    "times in milliseconds": (table("file,start_ms,end_ms,text\na.wav,100,1000,turn off\na.wav,1000,1600,the lights\n",
                                    "a.wav"), WITH_TIMES, {}),
    "times with a decimal comma": (table("file;start;end;text\na.wav;0,1;1,0;turn off\na.wav;1,0;1,6;the lights\n",
                                         "a.wav"), WITH_TIMES, {}),
    "times of an unknown unit": (table("file,start,end,text\na.wav,100,1000,turn off\n", "a.wav"), {},
                                 {"list.csv:2": "unreadable row", "a.wav": "no transcript"}),
    "Audacity": ({"a.txt": AUDACITY, **sounds("a.wav")}, WITH_TIMES, {}),
    "Audacity and notes": ({"a.txt": f"{AUDACITY}notes\n", **sounds("a.wav")}, WITH_TIMES,
                           {"a.txt:4": "unreadable row"}),
    "Praat": ({"a.TextGrid": TEXTGRID, **sounds("a.wav")}, WITH_TIMES, {}),
    "Praat in UTF-16": ({"a.TextGrid": TEXTGRID.encode("utf-16"), **sounds("a.wav")}, WITH_TIMES, {}),
    "Praat, damaged": ({"a.TextGrid": TEXTGRID[:200], **sounds("a.wav")}, {}, {"a.TextGrid": "unreadable row",
                                                                              "a.wav": "no transcript"}),
    "ELAN": ({"a.eaf": ELAN, **sounds("a.wav")}, WITH_TIMES, {}),
    "cues named STYLE and REGION": ({"a.vtt": VTT.replace("NOTE-1", "STYLE").replace("last", "REGION 2"),
                                     **sounds("a.wav")}, WITH_TIMES, {}),
    "a language with its country": ({"talk.en-US.srt": SRT, **sounds("talk.wav")},
                                    {key.replace("a.", "talk."): text for key, text in WITH_TIMES.items()}, {}),
    "NOTE-1 and last": ({"a.vtt": VTT, **sounds("a.wav")}, WITH_TIMES, {}),
    "cue beside WEBVTT": ({"a.vtt": VTT.replace("\n\nNOTE-1", "", 1), **sounds("a.wav")}, WITH_TIMES, {}),
    "Whisper's five": ({"a.txt": "turn off\nthe lights\n", "a.srt": SRT, "a.vtt": VTT, "a.tsv": TSV,
                        "a.json": json.dumps(WHISPER), **sounds("a.wav")}, WITH_TIMES, NEEDLESS),
    "Whisper's TSV": ({"a.tsv": TSV, **sounds("a.wav")}, WITH_TIMES, {}),
    "Whisper's JSON": ({"a.json": json.dumps(WHISPER), **sounds("a.wav")}, WITH_TIMES, {}),
    "whisper.cpp's JSON": ({"a.json": json.dumps({"transcription": CPP}), **sounds("a.wav")}, WITH_TIMES, {}),
    "JSON with a transcript": ({"a.json": json.dumps({"transcript": DOOR}), **sounds("a.wav")}, {"a.wav": DOOR}, {}),
    "JSON about something else": ({"a.json": '{"rate": 16000}', "a.txt": DOOR, **sounds("a.wav")}, {"a.wav": DOOR}, {}),
    "JSON with a text alone": ({"a.json": json.dumps({"text": DOOR, "segments": []}), **sounds("a.wav")},
                               {"a.wav": DOOR}, {}),
    # Sound of any ending
    "telephone": ({"memo.qta": QTA, "memo.txt": DOOR}, {"memo.qta": DOOR}, {}),
    "unusual ending in a table": ({"memo.3ga": QTA, "t.csv": f"file,text\nmemo,{DOOR}\n"}, {"memo.3ga": DOOR}, {}),
    "unusual ending without a text": (sounds("a.wave"), {}, {"a.wave": "no transcript"}),
    "what is no sound": ({"a.txt": DOOR, "a.pdf": b"%PDF-1.7", "README.md": "# About", **sounds("a.wav")},
                         {"a.wav": DOOR}, {}),
    # What is not said
    "remark": ({"1.txt": "[say ah for five seconds]", "2.txt": LIGHT, **sounds("1.wav", "2.wav")}, {"2.wav": LIGHT},
               {"1.wav": "not a transcript"}),
    "pointers of Git LFS": ({"1.txt": LFS, "t.csv": LFS, **sounds("1.wav", "2.wav")}, {},
                            {"1.wav": "not a transcript", "t.csv": "table not read"}),
    "empty table": ({"t.csv": "", **sounds("1.wav")}, {}, {"t.csv": "table not read"}),
    "NaN": (table(f"file,text\n1.wav,NaN\n2.wav,{LIGHT}\n"), {"2.wav": LIGHT}, {"1.wav": "not a transcript"}),
}  # fmt: skip


def read(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What prepare learns from a source, and what is named, with the reason."""
    clips, rejections = read_source(folder)
    said, named = {}, {rejection.file.removeprefix(f"{folder.name}/"): rejection.reason for rejection in rejections}
    assert len(named) == len(rejections)
    for clip in clips:
        text, problem = transcript_of(clip.text, clip.language)
        if problem:
            named[said_in(clip)] = problem[0]
        else:
            assert said_in(clip) not in said
            said[said_in(clip)] = text
    return said, named


@pytest.mark.parametrize("name", CASES)
def test_each_recording_gets_its_own_words_or_is_named(name, tmp_path):
    files, said, named = CASES[name]
    assert read(source(tmp_path / "x", files)) == (said, named)


# Catches: a folder that prepare reads in another way than the page.
@pytest.mark.parametrize("name", CASES)
def test_upload_gives_the_same_pairs_as_prepare(name, tmp_path):
    files, said, _ = CASES[name]
    content = [(path, one if isinstance(one, bytes) else one.encode()) for path, one in files.items()]
    found = [(Path(pair.name).stem, pair.text) for pair in read_uploads(content).pairs if pair.text]
    whole = {key: re.sub(r" [\d.]+-[\d.]+$", "", key) for key in said}  # a part comes as a recording of its own
    there = [(unicodedata.normalize("NFC", Path(whole[key]).stem), said[key]) for key in said if whole[key] in files]
    assert sorted(found) == sorted(there)

"""What a person uploads, as pairs of sound and text to look through before saving.

Sound files, text files of the same name, tables (CSV, TSV, JSONL), and ZIPs that hold all these in folders. Everything
stays in memory: no name that somebody else chose ever becomes a path on this disk. Text belongs to a sound by its
name, never by its place in a list; where a name could mean two sounds, none is guessed.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import posixpath
import re
import stat
import struct
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from stages.speech.tables import AUDIO_SUFFIXES
from stages.speech.text import clean

TABLE_SUFFIXES = {".csv", ".tsv", ".jsonl"}
# First name found in the header counts; capitals do not.
COLUMNS = {
    "file": ("file", "audio_path", "path", "audio_filepath", "file_name"),
    "text": ("text", "sentence", "transcript", "transcription"),
    "language": ("language",),
    "speaker": ("speaker",),
}

# Files in all ZIPs of one upload: nobody looks through more rows than this before saving.
MAX_MEMBERS = 10_000
# One file in a ZIP: an hour of 16-bit mono at 48 kHz, far above any clip, so that a wrong file stops early.
MAX_MEMBER_BYTES = 400 * 2**20
# All ZIPs of one upload, unpacked: they stay in memory until saved. Three hours of 16-bit mono at 48 kHz.
MAX_UNPACKED_BYTES = 2**30
# Speech packs 3 to 1, text 10 to 1, and only digital silence or a bomb 1,000 to 1. The first bytes are free, because
# one short silent clip may pack that well.
MAX_RATIO = 100
RATIO_FREE_BYTES = 16 * 2**20
# Tables and text files: 100,000 rows. Python takes ten times as much memory for a table as the file has bytes.
MAX_TEXT_BYTES = 16 * 2**20

CHUNK_BYTES = 2**16
CENTRAL_ENTRY = b"PK\x01\x02"  # begins each file's entry in a ZIP's directory
ENCRYPTED = 0x1  # flag bits of an entry
UTF8_NAME = 0x800
# What zipfile and zlib raise for a damaged ZIP.
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, OverflowError)

# How sound begins whose name does not say so.
SOUND_BEGINNINGS = re.compile(
    rb"RIFF....WAVE|riff|fLaC|OggS|ID3|\xff[\xe2-\xfd]|FORM....AIF[FC]|\.snd|caff|#!AMR|"
    rb"....ftyp(?!hei|mif1|avif)|"  # MP4 and M4A, no pictures of telephones
    rb"\x1aE\xdf\xa3|\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # WebM, WMA
    re.DOTALL,
)
JUNK = {".ds_store", "thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Pair:
    """A sound and what is said in it; the text is empty where the upload does not say."""

    name: str
    content: bytes = field(repr=False)
    text: str = ""
    language: str | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class Problem:
    """What could not be used: the file as the person knows it, and what is wrong and what to do."""

    file: str
    words: str


@dataclass(frozen=True)
class Upload:
    """Pairs in the order of the upload. Names may repeat: two folders may hold files of one name."""

    pairs: list[Pair]
    problems: list[Problem]


@dataclass(frozen=True)
class _File:
    """An uploaded file; `path` is clean text with / between folders, `origin` tells apart the ZIPs (0: none)."""

    path: str
    content: bytes = field(repr=False)
    origin: int = 0

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix.lower()


@dataclass(frozen=True)
class _Claim:
    """What a row or a text file says about the sound that it names."""

    where: str
    names: str
    text: str
    language: str | None = None
    speaker: str | None = None
    by_stem: bool = False  # a text file: it names the sound without its ending


@dataclass
class _Allowance:
    """What the ZIPs of one upload may still unpack to."""

    members: int = MAX_MEMBERS
    unpacked_bytes: int = MAX_UNPACKED_BYTES


class _ZipRefused(Exception):
    """A ZIP of which nothing is taken, and why."""


def read_uploads(files: Sequence[tuple[str, bytes]]) -> Upload:
    """Pair the uploaded (name, content) files; whatever cannot be used is named in `problems`."""
    sounds: list[_File] = []
    others: list[_File] = []
    problems: list[Problem] = []
    for item in _all_files(files):
        if isinstance(item, Problem):
            problems.append(item)
        elif item.suffix in AUDIO_SUFFIXES:
            sounds.append(item)
        elif item.suffix in TABLE_SUFFIXES or item.suffix == ".txt":
            others.append(item)
        elif SOUND_BEGINNINGS.match(item.content):
            sounds.append(item)
        else:
            problems.append(Problem(item.path, _words_for_unknown(item)))

    index = _Index(sounds)
    claims: dict[int, list[_Claim]] = defaultdict(list)
    for file in others:
        for item in _read_text_file(file) if file.suffix == ".txt" else _read_table(file):
            if isinstance(item, Problem):
                problems.append(item)
                continue
            found = index.find(item, file)
            if len(found) == 1:
                claims[found[0]].append(item)
            else:
                problems.append(Problem(item.where, _words_for_no_pair(item, [sounds[i].path for i in found])))

    pairs = []
    for number, sound in enumerate(sounds):
        values = {}
        for name in ("text", "language", "speaker"):
            said: dict[str, str] = {}
            for claim in claims[number]:
                if value := getattr(claim, name):
                    said.setdefault(value, claim.where)
            if len(said) > 1:
                one, other = list(said.values())[:2]
                words = f"{one} and {other} give it a different {name}. It is left empty: fill in the right one."
                problems.append(Problem(sound.path, words))
            elif said:
                (values[name],) = said
        pairs.append(Pair(sound.path, sound.content, **values))
    return Upload(pairs, problems)


def _all_files(files: Sequence[tuple[str, bytes]]) -> Iterator[_File | Problem]:
    """The files themselves and those in ZIPs."""
    allowance = _Allowance()
    for origin, (name, content) in enumerate(files, 1):
        path = _clean_path(name)
        if _is_junk(path):
            continue
        if words := _words_for_path(path):
            yield Problem(path, words)
        elif path.lower().endswith(".zip"):
            try:
                yield from list(_unpack(content, origin, allowance)) or [Problem(path, "There is nothing in this ZIP.")]
            except _ZipRefused as refusal:
                yield Problem(path, str(refusal))
        else:
            yield _File(path, content)


def _unpack(content: bytes, origin: int, allowance: _Allowance) -> Iterator[_File | Problem]:
    """The files in a ZIP, read into memory; limits count the bytes that really come out of it.

    Raises: _ZipRefused where it is no ZIP or holds too much.
    """
    # Zipfile reads the whole directory before it can be asked for its length.
    if content.count(CENTRAL_ENTRY) > allowance.members:
        raise _ZipRefused(f"It holds too many files: at most {MAX_MEMBERS:,} come in at once. Upload it in parts.")
    stream = io.BytesIO(content)
    try:
        archive = zipfile.ZipFile(stream)
    except BROKEN_ZIP as error:
        raise _ZipRefused("This ZIP is damaged or not a ZIP at all. Make it again and upload it again.") from error
    unpacked_bytes = packed_bytes = 0
    for entry in archive.infolist():
        path = _clean_path(_member_name(entry))
        if entry.filename.endswith(("/", "\\")) or _is_junk(path):  # a folder; is_dir fails where there is no name
            continue
        if words := _words_for_path(path) or _words_for_entry(entry, path):
            yield Problem(path, words)
            continue
        unpacked = io.BytesIO()
        packed = 0
        try:
            with archive.open(entry) as member:
                while chunk := member.read(CHUNK_BYTES):
                    unpacked.write(chunk)
                    # Where zipfile stands in the upload: an entry may lie about its packed size.
                    packed = max(packed, stream.tell() - entry.header_offset)
                    in_all = unpacked_bytes + unpacked.tell()
                    if in_all > RATIO_FREE_BYTES + MAX_RATIO * min(packed_bytes + packed, len(content)):
                        raise _ZipRefused(
                            "This ZIP unpacks to far more than recordings and text can, so reading it was stopped at "
                            f"{path}. Remove that file, or make the ZIP again."
                        )
                    if in_all > allowance.unpacked_bytes:
                        raise _ZipRefused(
                            f"This ZIP unpacks to too much: {MAX_UNPACKED_BYTES / 2**30:g} GB can be uploaded at once. "
                            "Upload it in parts."
                        )
        except BROKEN_ZIP:
            yield Problem(path, "It is damaged inside its ZIP. Make the ZIP again, or upload the file by itself.")
        else:
            yield _File(path, unpacked.getvalue(), origin)
        unpacked_bytes += unpacked.tell()
        packed_bytes += packed
    allowance.members -= len(archive.infolist())
    allowance.unpacked_bytes -= unpacked_bytes


def _member_name(entry: zipfile.ZipInfo) -> str:
    """Its name; many programs (macOS) write UTF-8 and do not say so, and zipfile then takes it for code page 437."""
    if not entry.flag_bits & UTF8_NAME:
        try:
            return entry.filename.encode("cp437").decode("utf-8")
        except ValueError:
            return entry.filename  # of another encoding, which a ZIP does not name
    return entry.filename


def _clean_path(name: str) -> str:
    """Plain text without control characters, with / between folders."""
    return clean(name.replace("\\", "/")) or "unnamed"


def _is_junk(path: str) -> bool:
    """What macOS and Windows put beside files."""
    *folders, name = path.split("/")
    return "__MACOSX" in folders or name.lower() in JUNK or name.startswith("._")


def _words_for_path(path: str) -> str | None:
    parts = path.split("/")
    if ".." in parts or path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "Its name leads out of its folder, so it was not read. Rename it, or pack it again."
    if parts[-1] in ("", "."):
        return "It has no name. Give it one."
    return None


def _words_for_entry(entry: zipfile.ZipInfo, path: str) -> str | None:
    """Why a ZIP's entry is not unpacked, None where it is."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if stat.S_ISLNK(kind):
        return "This is a link to another file. Pack the file itself."
    if kind and not stat.S_ISREG(kind):
        return "This is not an ordinary file. Pack the recording itself."
    if entry.flag_bits & ENCRYPTED:
        return "It is locked with a password. Make the ZIP again without one."
    # Others unpack without a limit on memory (bzip2, LZMA) or not at all.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "It is packed in a rare way that is not read here. Make the ZIP again with ordinary compression."
    if path.lower().endswith(".zip"):
        return "A ZIP inside a ZIP is not opened. Upload it by itself."
    if entry.file_size > MAX_MEMBER_BYTES:
        return f"It is larger than {MAX_MEMBER_BYTES // 2**20} MB. Cut it into clips."
    return None


def _words_for_unknown(file: _File) -> str:
    if file.content.startswith(b"PK\x03\x04"):
        return "This is not sound, text or a table. Save a spreadsheet as CSV; a ZIP must be called .zip."
    return "This is not sound, text (.txt) or a table (.csv, .tsv, .jsonl). Save it as one of these, or leave it out."


def _words_for_no_pair(claim: _Claim, candidates: list[str]) -> str:
    if not candidates:
        if claim.by_stem:
            return "No sound file has the same name. Upload the recording as well, or rename one of them."
        return f"There is no sound file {claim.names}. Upload it as well, or correct the name."
    found = ", ".join(candidates[:3]) + (" ..." if len(candidates) > 3 else "")
    if claim.by_stem:
        return f"More than one sound file has the same name: {found}. Rename them, so that each text has one."
    if len(set(candidates)) == 1:
        return f"{len(candidates)} sound files are called {candidates[0]}. Rename one, or upload one of them later."
    return f"{claim.names} could be any of {found}. Write it with its folder."


def _read_text_file(file: _File) -> Iterator[_Claim | Problem]:
    text = _decoded(file)
    if isinstance(text, Problem):
        yield text
    else:
        yield _Claim(file.path, file.path[: -len(".txt")], clean(text), by_stem=True)


def _read_table(file: _File) -> Iterator[_Claim | Problem]:
    text = _decoded(file)
    if isinstance(text, Problem):
        yield text
        return
    for line, row in _read_jsonl(text) if file.suffix == ".jsonl" else _read_delimited(text):
        where = f"{file.path}, line {line}"
        if isinstance(row, str):
            yield Problem(where, row)
            continue
        values = {name: clean(row[name]) for name in COLUMNS if row.get(name)}
        if not values.get("file"):
            yield Problem(where, "This line names no sound file. Fill in its file column, or remove the line.")
            continue
        names = _clean_path(values["file"])
        language = values.get("language", "").lower() or None
        yield _Claim(where, names, values.get("text", ""), language, values.get("speaker"))


def _read_jsonl(text: str) -> Iterator[tuple[int, dict[str, str | None] | str]]:
    """(line, row or what is wrong with it)"""
    # Not splitlines: JSON may hold other line separators inside a string.
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError):
            yield line, "This line is not JSON. Correct it, or save the table as CSV."
            continue
        if not isinstance(row, dict):
            yield line, 'Write each line like {"file": "a.wav", "text": "what is said"}.'
            continue
        row = {name.strip().lower(): value for name, value in row.items()}
        row = {name: next((row[key] for key in keys if key in row), None) for name, keys in COLUMNS.items()}
        if any(value is not None and not isinstance(value, str) for value in row.values()):
            yield line, "File, text, language and speaker must be text in quotes."
        else:
            yield line, row


def _read_delimited(text: str) -> Iterator[tuple[int, dict[str, str | None] | str]]:
    """(line, row or what is wrong with it); the header shows what stands between the columns."""
    for delimiter in (",", ";", "\t"):
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            header = [name.strip().lower() for name in next(reader, [])]
        except csv.Error:
            continue
        places = {
            name: next((header.index(key) for key in keys if key in header), None) for name, keys in COLUMNS.items()
        }
        if places["file"] is not None and places["text"] is not None:
            break
    else:
        yield 1, "The first line must name the columns: file and text, and language and speaker where known."
        return
    try:
        for cells in reader:
            if not any(cells):
                continue
            if any(cells[len(header) :]):
                words = f"It has {len(cells)} columns, the first line names {len(header)}. Put the text in quotes."
                yield reader.line_num, words
                continue
            cells += [""] * (len(header) - len(cells))
            yield reader.line_num, {name: None if place is None else cells[place] for name, place in places.items()}
    except csv.Error:
        yield reader.line_num, "A quote in this line or above it is not closed, so the rest was not read. Correct it."


def _decoded(file: _File) -> str | Problem:
    if len(file.content) > MAX_TEXT_BYTES:
        return Problem(file.path, f"It is larger than {MAX_TEXT_BYTES // 2**20} MB. Upload it in parts.")
    # Excel's "Unicode text" is UTF-16.
    utf16 = file.content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return file.content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        return Problem(file.path, "Its letters cannot be read. Save it as UTF-8 (in Excel: CSV UTF-8).")


class _Index:
    """Finds sounds by the names that tables and text files give them."""

    def __init__(self, sounds: Sequence[_File]) -> None:
        self.sounds = sounds
        self.origins = {sound.origin for sound in sounds}
        # Under the name with its ending (True) and without: Windows hides endings, so people leave them out.
        self.by_path: dict[tuple[bool, str], list[int]] = defaultdict(list)
        self.by_name: dict[tuple[bool, str], list[int]] = defaultdict(list)
        for number, sound in enumerate(sounds):
            for ending, path in ((True, sound.path), (False, str(PurePosixPath(sound.path).with_suffix("")))):
                key = _key(path)
                self.by_path[ending, key].append(number)
                self.by_name[ending, posixpath.basename(key)].append(number)

    def find(self, claim: _Claim, file: _File) -> list[int]:
        """Numbers of the sounds that a claim in `file` may mean: one, if it is clear.

        Sounds of the same ZIP come first. The whole path counts, beside the file or from the ZIP's root; failing that,
        a path of which the other is the end: a.wav is found as one/a.wav, and /home/me/one/a.wav as one/a.wav.
        """
        key = _key(claim.names)
        whole = {key}
        if not claim.by_stem:
            whole.add(_key(posixpath.join(posixpath.dirname(file.path), claim.names)))
        for ending in (not claim.by_stem, claim.by_stem):
            for origins in ({file.origin}, self.origins):
                exact = [number for path in sorted(whole) for number in self.by_path.get((ending, path), [])]
                if found := [number for number in exact if self.sounds[number].origin in origins]:
                    return found
                alike = self.by_name.get((ending, posixpath.basename(key)), [])
                if found := [number for number in alike if self._fits(number, key, origins)]:
                    return found
        return []

    def _fits(self, number: int, key: str, origins: set[int]) -> bool:
        """Whether one of two paths is the end of the other, their last parts being alike."""
        sound = self.sounds[number]
        folders = [part for part in key.split("/")[:-1] if part not in ("", ".", "..")]
        others = _key(sound.path).split("/")[:-1]
        pairs = zip(reversed(folders), reversed(others), strict=False)
        return sound.origin in origins and all(one == other for one, other in pairs)


def _key(path: str) -> str:
    """For comparing names: capitals do not count, as on Windows and macOS."""
    return posixpath.normpath(path).casefold()

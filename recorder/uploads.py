"""What a person uploads, as pairs of sound and text to look through before saving.

Sound files, and their texts in any way that prepare reads (stages/speech/sources.py): text files of the same name,
tables, subtitles, whole data sets in a ZIP. The files are written to a temporary folder, read there as a source in
data/raw would be, and come back as bytes; the folder is gone afterwards.
"""

from __future__ import annotations

import io
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import soundfile

from stages.speech import audio, sources
from stages.speech.clips import RawClip
from stages.speech.names import AUDIO_SUFFIXES, names_in
from stages.speech.pairing import FORMS, NEVER_SOUND, open_source
from stages.speech.tables import TABLE_SUFFIXES
from stages.speech.text import clean
from stages.speech.transcripts import transcript_of

# Of a ZIP: nobody looks through more rows before saving, and Pair holds the files in memory.
MAX_FILES = 10_000
MAX_UNPACKED_BYTES = 2**30  # three hours of 16-bit mono at 48 kHz
MAX_FOLDERS = 30  # one in another; Python goes down a few hundred
MAX_TEXT_BYTES = 16 * 2**20  # 100,000 rows; Python takes ten times as much memory for a table
CENTRAL_ENTRY = b"PK\x01\x02"  # begins each file's entry in a ZIP's directory
ENCRYPTED, UTF8_NAME = 0x1, 0x800  # flag bits of an entry
# What zipfile and zlib raise for a damaged ZIP, and a full disk.
BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, OverflowError)
JUNK = {"__macosx", "thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Pair:
    """A sound and what is said in it; the text is empty if the upload does not say."""

    name: str
    content: bytes = field(repr=False)
    text: str = ""
    language: str | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class Problem:
    """What cannot be used: the file as the person knows it, and what is wrong and what to do."""

    file: str
    words: str


@dataclass(frozen=True)
class Upload:
    """Pairs in the order of their names, and what cannot be used."""

    pairs: list[Pair]
    problems: list[Problem]


class _Refused(Exception):
    """A file that is not taken; its words say why, and what to do."""


def read_uploads(files: Sequence[tuple[str, bytes]]) -> Upload:
    """Pair the uploaded (name, content) files: one ZIP at most, and what belongs to its recordings or stands alone."""
    found: list[Pair | Problem] = []
    with tempfile.TemporaryDirectory(prefix="ownvoice-") as folder:
        place = Path(folder, "upload")
        place.mkdir()
        archives = [one for one in files if one[0].lower().endswith(".zip")]
        for name, content in archives[:1]:
            try:
                found += _unpack(content, place)
            except _Refused as refusal:
                found.append(Problem(clean(name), str(refusal)))
        # Two of them may hold files of the same name, and a table of one would name recordings of the other.
        found += [Problem(clean(name), "Only one ZIP is read at once. Upload it next.") for name, _ in archives[1:]]
        place = _only_folder(place)
        for name, content in files:
            try:
                if not name.lower().endswith(".zip"):
                    _write(place, name, io.BytesIO(content), len(content))
            except _Refused as refusal:
                found.append(Problem(clean(name), str(refusal)))
        found += _read_source(place)
    pairs = [one for one in found if isinstance(one, Pair)]
    return Upload(pairs, [one for one in found if isinstance(one, Problem)])


def _read_source(folder: Path) -> Iterator[Pair | Problem]:
    """What is in one folder, read as prepare reads a source."""
    source = open_source(folder)
    paired = set()
    for clip in source.clips:
        name = shown = clip.path_in_source
        path = sources.locate(folder.parent, clip)
        if path is None or not path.is_file():
            yield Problem(
                name, "A table names this sound file, but it is not here. Upload it too, or correct the name."
            )
            continue
        content = path.read_bytes()
        if clip.begins_s is not None:
            shown = clip.where.removeprefix(f"{folder.name}/")
            try:
                content, name = _part(content, clip), str(PurePosixPath(name).with_suffix(".flac"))
            except audio.UnreadableSound as error:
                yield Problem(shown, f"This sound cannot be used: {error}.")
                continue
        paired.add(clip.path_in_source)
        text, problem = transcript_of(clip.text, clip.language)
        if problem:
            yield Problem(shown, f"{problem[0].capitalize()}: {problem[1]}.")
            text = ""
        yield Pair(name, content, text, clean(clip.language or "").lower() or None, clip.speaker)
    named = set()
    for rejection in source.rejections:
        name = rejection.file.removeprefix(f"{folder.name}/")
        named.add(name)
        if rejection.reason == "two transcripts" and name not in paired and (folder / name).is_file():
            words = f"{rejection.remedy}, or fill in the right one below."
            yield Problem(name, f"It has two different texts, languages or speakers: {words}")
            yield Pair(name, (folder / name).read_bytes())
        elif rejection.reason not in ("no transcript", "not needed") or not (folder / name).is_file():
            yield Problem(name, f"{rejection.reason.capitalize()}: {rejection.remedy}.")
    for name in source.without_text:
        yield Pair(name, (folder / name).read_bytes())
    read = [path.relative_to(folder).as_posix() for path in (*source.tables, *source.beside)]
    known = {*source.without_text, *read, *paired, *named}
    yield from _not_read(folder, known)


def _not_read(folder: Path, known: set[str]) -> Iterator[Problem]:
    """Files that say nothing, because they are not what they should be."""
    known_suffixes = {*AUDIO_SUFFIXES, *FORMS} - TABLE_SUFFIXES
    for name in names_in(folder):
        suffix = PurePosixPath(name).suffix.lower()
        if not (folder / name).is_file() or suffix in known_suffixes or name in known:
            continue
        if suffix in TABLE_SUFFIXES:
            yield Problem(name, "This table was not read: its first line must name the columns, file and text.")
        else:
            yield Problem(name, "This is not sound, text or a table. Save a spreadsheet as CSV, or leave it out.")


def _part(content: bytes, clip: RawClip) -> bytes:
    """A part of a recording, as FLAC. Raises: audio.UnreadableSound."""
    samples, sample_rate_hz = audio.decode(content, clip.begins_s, clip.ends_s)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _unpack(content: bytes, folder: Path) -> Iterator[Problem]:
    """Write the files in a ZIP into a folder, and yield what is refused.

    zipfile never returns more of an entry than the size that it declares.

    Raises: _Refused if it is not a ZIP or holds too much.
    """
    # zipfile reads the whole directory before it can be asked for its length.
    if content.count(CENTRAL_ENTRY) > MAX_FILES:
        raise _Refused(f"It holds too many files: at most {MAX_FILES:,} can be uploaded at once. Upload it in parts.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except BROKEN as error:
        raise _Refused("This ZIP is damaged or not a ZIP at all. Make it again and upload it again.") from error
    entries = [entry for entry in archive.infolist() if not entry.filename.endswith(("/", "\\"))]
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        raise _Refused(f"More than {MAX_UNPACKED_BYTES / 2**30:g} GB cannot be uploaded at once. Upload it in parts.")
    if not entries:
        raise _Refused("There is nothing in this ZIP.")
    for entry in entries:
        name = _name_of(entry)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        try:
            # zipfile unpacks others without a limit on memory (bzip2, LZMA) or not at all.
            is_ordinary = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if not is_ordinary or entry.flag_bits & ENCRYPTED or (kind and not stat.S_ISREG(kind)):
                words = "This is a link, has a password, or is packed in an unusual way"
                raise _Refused(f"{words}. Make the ZIP again with the file itself.")
            with archive.open(entry) as member:
                _write(folder, name, member, entry.file_size)
        except _Refused as refusal:
            yield Problem(clean(name), str(refusal))
        except BROKEN as error:  # before anything is written
            yield Problem(clean(name), f"It cannot be read: {error}. Make the ZIP again, or upload the file by itself.")


def _name_of(entry: zipfile.ZipInfo) -> str:
    """Its name; many programs (macOS) write UTF-8 and do not say so, and zipfile then takes it for code page 437."""
    if not entry.flag_bits & UTF8_NAME:
        try:
            return entry.filename.encode("cp437").decode("utf-8")
        except ValueError:
            return entry.filename  # in another encoding, which a ZIP does not name
    return entry.filename


def _write(folder: Path, name: str, content: io.BufferedIOBase, size_bytes: int) -> None:
    """Write a file below `folder`, whole or not at all; what computers put beside files is left out.

    Raises: _Refused if its name leads out of the folder or is taken, if it is too large, or cannot be read or written.
    """
    name = clean(name.replace("\\", "/"))
    parts = name.split("/")
    if JUNK.intersection(name.lower().split("/")):
        return
    if ".." in parts or name.startswith("/") or re.match(r"[A-Za-z]:", name) or len(parts) > MAX_FOLDERS:
        raise _Refused("Its name leads out of its folder, or through too many, so it was not read. Rename it.")
    is_sound = PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES
    is_hidden = any(part.startswith(".") and part != "." for part in parts)
    if is_sound and is_hidden and not parts[-1].startswith("._"):  # macOS writes these beside files
        raise _Refused("A name that begins with a dot is hidden, so it was not read. Rename it.")
    is_text = PurePosixPath(name).suffix.lower() in NEVER_SOUND
    if size_bytes > MAX_TEXT_BYTES and is_text:
        raise _Refused(f"It is no sound and larger than {MAX_TEXT_BYTES // 2**20} MB. Upload it in parts.")
    path = folder / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    except OSError as error:
        raise _Refused(f"It cannot be written: {error.strerror}. Give it another, shorter name.") from None
    with file:
        try:
            shutil.copyfileobj(content, file)
        except BROKEN as error:
            path.unlink()
            raise _Refused(f"It cannot be read or written: {error}. Make the ZIP again, or free some space.") from None


def _only_folder(folder: Path) -> Path:
    """The folder that all of a ZIP is in: most programs pack the folder itself."""
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return _only_folder(inside[0]) if len(inside) == 1 and inside[0].is_dir() else folder

"""One source: its recordings with their transcripts, from all of its tables and of the files beside the recordings.

names.py says which recording a name means. What cannot be paired, and what is said in two ways, becomes a Rejection.
"""

from __future__ import annotations

import functools
import os
import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from stages.common.plurals import counted
from stages.speech import tables
from stages.speech.beside import Said, files_beside, read_beside
from stages.speech.clips import RawClip, Rejection
from stages.speech.columns import OPTIONAL_FIELDS
from stages.speech.labels import TEXT_SUFFIXES, TIMED_SUFFIXES
from stages.speech.names import Recordings, alike, is_named_as_sound, names_in
from stages.speech.tables import NotATable, printable, unreadable, where_in, wrong_letters
from stages.speech.text import clean
from stages.speech.transcripts import LFS_POINTER

# Tables that always are about the recordings beside them, the first counts most; others only if they name some.
KNOWN_TABLES = ("clips.jsonl", "validated.tsv", "metadata.jsonl", "metadata.csv", "transcripts.csv")
CONFIRMED = "validated.tsv"  # Common Voice: the other tables beside it repeat its rows, or hold what nobody confirmed
UNCONFIRMED = ("invalidated.tsv", "reported.tsv")
# Texts in other forms, which are not read; looked for beside a recording without a text.
OTHER_TEXTS = {".doc", ".docx", ".odt", ".rtf", ".pdf", ".pages"}
OTHER_TEXTS |= {".ass", ".ssa", ".sbv", ".lrc", ".ttml", ".dfxp", ".stl"}
FORMS = (*TIMED_SUFFIXES, *TEXT_SUFFIXES)  # of a file beside a recording
NEVER_SOUND = {*FORMS, *tables.TABLE_SUFFIXES, *tables.OTHER_TABLES}
SHOWN_NAMES = 5
Note = Callable[[str], None]


@dataclass
class Source:
    """What is in one source."""

    clips: list[RawClip] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    without_text: list[str] = field(default_factory=list)  # names of recordings whose text nothing says
    rows: list[RawClip] = field(default_factory=list)  # all that is said, also what is rejected
    tables: list[Path] = field(default_factory=list)  # that were read
    beside: dict[Path, str] = field(default_factory=dict)  # text files, and the recording that each is about


def open_source(folder: Path, note: Note = lambda words: None) -> Source:
    """Read one source."""
    source = Source()
    names = names_in(folder)
    recordings = Recordings(names, lambda name: is_recording(folder / name))
    beside, strays = files_beside(folder, recordings)
    said: dict[str, list[Said]] = defaultdict(list)  # by the recording's name
    settled: set[str] = set()  # recordings with a text, or named already
    unread = _read_tables(folder, recordings, strays, source, said, settled, note)
    for path, meant in beside.items():
        if path in source.tables or (one := read_beside(folder, meant[0], path)) is None:
            continue
        unread.pop(path, None)
        if len(meant) > 1:
            source.rejections.append(_fits_several(where_in(path, folder), path.name, meant))
            settled.update(meant)
        else:
            said[meant[0]].append(one)
            source.beside[path] = meant[0]
    for name, statements in said.items():
        if len(statements) == 1 and statements[0].parts is None and statements[0].clip.begins_s is None:
            clips, rejections = [statements[0].clip], []  # as most: no need to judge
        else:
            judged = list(_judge(statements))
            rejections = [item for item in judged if isinstance(item, Rejection)]
            clips = [item for item in judged if isinstance(item, RawClip)]
        source.rows += clips or [one.clip for one in statements]
        for clip in [clip for clip in clips if not clip.text.isascii()]:
            if wrong := wrong_letters(clip.text):
                clips.remove(clip)
                remedy = f"write its text again, in UTF-8: it holds {wrong}"
                rejections.append(Rejection(clip.where, "wrong letters in text", remedy))
        where = f"{folder.name}/{name}"
        if not where.isprintable() and where != (where := printable(where)):
            clips, rejections = [], [Rejection(where, "no transcript", "rename it: its name is not UTF-8")]
        if clips or any(one.file.split(" from ")[0] == where for one in rejections):
            settled.add(name)
        source.clips += clips
        source.rejections += rejections
    if not source.tables:  # beside a table they may be about something else
        remedy = "put the recording of the same name beside it, or remove it"
        source.rejections += [Rejection(where_in(path, folder), "missing audio", remedy) for path in strays]
    for name in names:
        if name in settled:
            continue
        if (folder / name).is_symlink() and (folder / name).is_dir():
            source.rejections.append(link_to_folder(printable(f"{folder.name}/{name}")))
        elif is_recording(folder / name):
            source.without_text.append(name)
    source.rejections += _without_text(folder, names, source, unread)
    return source


def _read_tables(
    folder: Path,
    recordings: Recordings,
    strays: list[Path],
    source: Source,
    said: dict[str, list[Said]],
    settled: set[str],
    note: Note,
) -> dict[Path, str]:
    """Read all tables of a source into it; returns why others are not read."""
    unread: dict[Path, str] = {}
    rows_of: dict[str, list[tuple[Said, str]]] = defaultdict(list)  # recording: what rows say, and the name they write
    for path in _tables_in(folder, recordings.names, strays):
        place = path.parent.relative_to(folder).as_posix()
        place = "" if place == "." else place

        def finds(cell: str, place: str = place) -> bool:
            return bool(cell.strip()) and len(recordings.find(cell.strip(), place)) > 0

        where = where_in(path, folder)
        is_stray = path in strays
        if is_stray and any(one.suffix.lower() in tables.TABLE_SUFFIXES for one in source.tables):
            break  # beside tables, text files may be about something else
        if path.name in UNCONFIRMED:
            unread[path] = "nobody has confirmed what it says"
            continue
        try:
            rows = tables.read(path, finds, lambda words, where=where: note(f"{where}: {words}"))
        except NotATable as error:
            if not is_stray:
                unread[path] = str(error)
            continue
        if is_stray:
            if not any(isinstance(row, dict) and finds(row["audio_path"]) for _, row in rows):
                continue
            strays.remove(path)
        source.tables.append(path)
        for line, row in rows:
            if isinstance(row, str):
                source.rejections.append(unreadable(path, folder, line, row))
                continue
            try:
                times = tables.times_of(row)
            except (ValueError, TypeError) as error:
                remedy = f"write its times in seconds: {error}"
                source.rejections.append(unreadable(path, folder, line, remedy))
                continue
            written = row["audio_path"].strip()
            meant = recordings.find(written, place)
            if len(meant) > 1:
                source.rejections.append(_fits_several(f"{where}:{line}", written, meant))
                settled.update(meant)
                continue
            missing = posixpath.join(place, written) if place else written
            name = meant[0] if meant else missing
            # Without its folders, as most tables write it, or in another spelling.
            is_exact = name == missing or alike(os.path.basename(name)) == alike(written).rpartition("/")[2]
            one = Said(_raw_clip(folder, name, row, *times), f"{where}:{line}", is_exact=is_exact)
            rows_of[os.path.normpath(name)].append((one, missing))
    for name, found in rows_of.items():
        exact = [one for one, _ in found if one.is_exact] if len(found) > 1 else []
        for one, missing in found:
            # Another row is about this recording for certain: this one means a recording that is not here.
            if exact and not one.is_exact and any(_differ(one, other) for other in exact):
                one.clip = replace(one.clip, recorded_file=f"{folder.name}/{missing}")
                said[os.path.normpath(missing)].append(one)
            else:
                said[name].append(one)
    return unread


def _tables_in(folder: Path, names: list[str], strays: list[Path]) -> list[Path]:
    """Files of a source that may be tables, the ones that count first at the beginning."""
    confirmed = {os.path.dirname(name) for name in names if os.path.basename(name) == CONFIRMED}
    found = []
    for name in names:
        place, file = os.path.split(name)
        suffix = os.path.splitext(file)[1].lower()
        if suffix not in tables.TABLE_SUFFIXES | tables.OTHER_TABLES or not (folder / name).is_file():
            continue
        if suffix != ".tsv" or place not in confirmed or file == CONFIRMED:
            found.append(folder / name)

    def order(path: Path) -> tuple[int, int]:
        known = path.name.lower()
        return len(path.parts), KNOWN_TABLES.index(known) if known in KNOWN_TABLES else len(KNOWN_TABLES)

    return [*sorted(found, key=order), *strays]


def _raw_clip(
    source: Path, name: str, row: Mapping, begins_s: float | None = None, ends_s: float | None = None
) -> RawClip:
    """A clip from a row; `name` is the recording's path below the source's folder."""
    optional = {field: clean(str(row[field])) or None for field in OPTIONAL_FIELDS if row.get(field) is not None}
    if "language" in optional:
        optional["language"] = (optional["language"] or "").split("-")[0] or None  # Common Voice: zh-CN
    if begins_s is not None or ends_s is not None:
        begins_s = begins_s or 0.0
    return RawClip(source.name, f"{source.name}/{name}", row["text"], **optional, begins_s=begins_s, ends_s=ends_s)


def _judge(statements: list[Said]) -> Iterator[RawClip | Rejection]:
    """The clips of one recording; of two texts for the same sound none is guessed."""
    by_times: dict[tuple, list[Said]] = defaultdict(list)
    for one in statements:
        by_times[one.clip.begins_s, one.clip.ends_s].append(one)
    for (begins_s, _), same in by_times.items():
        for one in same:
            yield from one.problems
        # What says nothing contradicts nothing.
        meant = [one for one in same if one.words] or [one for one in same if one.parts is None][:1]
        if not meant:
            continue
        first, rest = meant[0], meant[1:]
        if other := next((one for one in rest if _differ(first, one)), None):
            remedy = f"{first.where} and {other.where} differ: make them say the same, or remove one of them"
            yield Rejection(first.clip.where, "two transcripts", remedy)
            continue
        clip = first.clip
        for one in rest:
            known = {name: getattr(one.clip, name) for name in OPTIONAL_FIELDS if getattr(clip, name) is None}
            clip = replace(clip, **known)
        timed = min((one for one in meant if one.parts is not None), key=_form, default=None)
        if timed is None:
            # What was said in one go shares its room, day and microphone.
            is_part = begins_s is not None
            yield replace(clip, session=clip.session or clip.path_in_source) if is_part else clip
            continue
        for part in timed.parts or []:
            speaker = clip.speaker or part["speaker"]
            yield replace(clip, **part | {"speaker": speaker}, session=clip.session or clip.path_in_source)
        for one in meant:
            if one is not timed and _form(one) < len(FORMS):
                yield Rejection(one.where, "not needed", f"nothing to do: {timed.where} says the same, with times")


def _form(one: Said) -> int:
    """Which of several files beside a recording that say the same is taken: the first."""
    suffix = Path(one.where).suffix.lower()
    return FORMS.index(suffix) if suffix in FORMS else len(FORMS)


def _differ(one: Said, other: Said) -> bool:
    """Whether they cannot both be right."""
    pairs = [(getattr(one.clip, name), getattr(other.clip, name)) for name in ("language", "speaker")]
    return one.words != other.words or any(a and b and a.lower() != b.lower() for a, b in pairs)


def _without_text(folder: Path, names: list[str], source: Source, unread: Mapping[Path, str]) -> Iterator[Rejection]:
    """Tables that were not read, with the recordings that wait for them; other recordings without a text by name."""
    waiting = list(source.without_text)
    for path, reason in unread.items():
        place = path.parent.relative_to(folder).as_posix()
        below = [name for name in waiting if place == "." or name.startswith(f"{place}/")]
        if not _may_name(path, below):
            continue
        waiting = [name for name in waiting if name not in below]
        shown = ", ".join(map(printable, below[:SHOWN_NAMES]))
        more = f" and {len(below) - SHOWN_NAMES} more" if len(below) > SHOWN_NAMES else ""
        missing = f". {counted(len(below), 'recording')} without a text: {shown}{more}" if below else ""
        yield Rejection(where_in(path, folder), "table not read", f"it was not read, because {reason}{missing}")
    others = {alike(os.path.splitext(name)[0]): name for name in names if Path(name).suffix.lower() in OTHER_TEXTS}
    for name in waiting:
        where = printable(f"{folder.name}/{name}")
        beside = others.get(alike(os.path.splitext(name)[0])) or others.get(alike(name))
        if name != printable(name):
            yield Rejection(where, "no transcript", "rename it: its name is not UTF-8")
        elif beside:
            remedy = f"{printable(beside)} cannot be read: save it as plain text ({Path(name).stem}.txt) or as SRT"
            yield Rejection(where, "no transcript", remedy)
        elif source.tables:
            remedy = f"add a row with its text to {where_in(source.tables[0], folder)}"
            yield Rejection(where, "no transcript", remedy)
        else:
            yield Rejection(where, "no transcript", f"write what was said into {Path(name).with_suffix('.txt')}")


def _may_name(path: Path, recordings: list[str]) -> bool:
    """Whether an unread table may be about these recordings."""
    if path.name.lower() in KNOWN_TABLES:
        return True
    if not recordings or path.suffix.lower() in tables.OTHER_TABLES:
        return bool(recordings)
    content = path.read_bytes().replace(b"\0", b"")
    files = [os.path.basename(name) for name in recordings[:1000]]
    ways = [one for name in files for one in (name, os.path.splitext(name)[0]) if len(one) > 2]
    is_lost = not content.strip() or content.startswith(LFS_POINTER.encode())  # what it named, nobody knows
    return is_lost or any(os.fsencode(way) in content for way in ways)


def _fits_several(where: str, written: str, meant: list[str]) -> Rejection:
    remedy = f"{printable(written)} can be {' or '.join(map(printable, meant[:SHOWN_NAMES]))}: write the whole name"
    return Rejection(where, "name fits several", remedy)


def link_to_folder(where: str) -> Rejection:
    return Rejection(where, "link to a folder", "copy the folder itself here: links are not followed")


def is_recording(path: Path) -> bool:
    """By its ending, also a broken link; a file of an unusual ending by its content."""
    if is_named_as_sound(path.name):
        return not path.is_dir()
    if path.suffix.lower() in NEVER_SOUND or not path.is_file():
        return False
    state = path.stat()
    return _holds_sound(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=10_000)
def _holds_sound(path: Path, size_bytes: int, changed_ns: int) -> bool:
    from stages.speech import audio  # imported here: most files have a usual ending

    with path.open("rb") as file:
        try:
            audio.decode(file, 0.0, 0.1)
        except audio.BadCut:
            return True  # shorter
        except audio.UnreadableSound:
            return False
    return True

"""Publish the prepared clips as a data set on the Hub.

    python -m stages.hub.dataset    (or `make push-dataset`: the recordings alone, no model needed)

Reads data/prepared, data/split and the consents in data/raw. Writes data/receipts/dataset.json: what went where, or
why nothing did. A row is id, audio, text, language, speaker and duration_s, and nothing else leaves this machine: no
names, dates, sessions or file names. It goes up only when every speaker agreed to that (`"publish": true` in a
consents.jsonl) and no text holds an address or a long number that nobody has confirmed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import re
import secrets
import shutil
import statistics
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path

from stages.common import paths
from stages.common.cache import fingerprint
from stages.common.files import read_json, sha256_of_file, whole_folder, write_json
from stages.common.params import Params, load_params
from stages.common.plurals import counted
from stages.common.stage import UserError, announce, run
from stages.hub.receipts import amount, reason_to_stay
from stages.speech import prepared
from stages.speech import text as speech_text
from stages.speech.clips import HUB, ID_LENGTH, Clip, read_clips
from stages.speech.sources import locate, read_sources

UNNAMED = "USER/NAME"  # of a data set that is only looked at
PARTS = ("train", "validation", "test")
TEMPLATE = paths.TEMPLATES / "dataset_card.md.j2"
CONSENTS = "consents.jsonl"
WAITING_CHANGES = Path("data/inbox")
SHARD_BYTES = 200_000_000
ROWS_IN_GROUP = 100  # 50 MB of the longest clips: what writing holds in memory, and what the Hub's viewer reads at once
SAMPLE_RATE_HZ = 16_000
# As `datasets` writes them into a schema; also stands in the card's metadata.
FEATURES = {
    "id": {"dtype": "string", "_type": "Value"},
    "audio": {"sampling_rate": SAMPLE_RATE_HZ, "_type": "Audio"},
    "text": {"dtype": "string", "_type": "Value"},
    "language": {"dtype": "string", "_type": "Value"},
    "speaker": {"dtype": "string", "_type": "Value"},
    "duration_s": {"dtype": "float64", "_type": "Value"},
}
DIVIDED = {
    "prompt": "The same sentence never stands in two splits.",
    "clip": "The same sentence may stand in two splits, recorded several times.",
    "session": "What was recorded on one day stands in one split; the same sentence may stand in two.",
    "speaker": "No speaker stands in two splits.",
}
SHOWN = 20  # clips or speakers that a message names

# Seven digits or more, with at most three spaces, dashes, dots, slashes or brackets between two of them. The shortest
# telephone numbers that people give with an area code have seven.
LONG_NUMBER = re.compile(r"(?<!\w)\+?\d(?:[\s.\-‐-―/()]{0,3}\d){6,}(?!\w)|(?<!\w)\d(?:, ?\d){6,}(?!\w)")
DATE = re.compile(
    r"(?<!\d)(?<!\d[./-])"
    r"(?:[0-3]?\d[./-] ?[0-3]?\d[./-] ?(?:19|20)\d\d|(?:19|20)\d\d-[01]\d-[0-3]\d)"
    r"(?!\d|[./-]\d)"
)
AMOUNT = re.compile(r"[1-9]\d{0,2}(?:[.\s]\d{3})*[.\s]000")
YEAR = re.compile(r"(?:19|20)\d\d")
IBAN = re.compile(r"(?<!\w)[A-Z]{2}\s?\d{2}(?:[\s-]?[A-Z0-9]){11,30}(?!\w)", re.IGNORECASE)
# How an address is said: "ann at example dot org".
AT, DOT = r"(?:at|ät|arroba|arobase|chiocciola|apenstaartje|małpa)", r"(?:dot|punkt|point|punto|ponto|punt|kropka)"
E_MAIL = re.compile(rf"@|\w\s*[(\[]\s*{AT}\s*[)\]]\s*\w|\w\s{AT}\s\w+(?:\s{DOT}\s|\.)(?!\s)\w{{2,}}", re.IGNORECASE)
# Numbers may be written as they are spoken: nought to nine in Voxtral's own languages, other words in brackets.
DIGIT_WORDS = {
    "de": "null eins zwei(zwo) drei vier fünf sechs sieben acht neun",
    "en": "zero(oh,nought) one two three four five six seven eight nine",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "hi": "शून्य एक दो तीन चार पाँच(पांच) छह(छः,छे) सात आठ नौ",
    "it": "zero uno due tre quattro cinque sei sette otto nove",
    "nl": "nul een(één) twee drie vier vijf zes zeven acht negen",
    "pt": "zero um dois três quatro cinco seis(meia) sete oito nove",
}
# Japanese and Chinese put no spaces around a name.
WRITTEN_WITHOUT_SPACES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


@dataclass(frozen=True)
class Row:
    """A clip as it goes out; `id` and `speaker` say nothing to who has not data/recorder/pseudonyms.json."""

    id: str
    text: str
    language: str
    speaker: str
    duration_s: float
    sound: Path  # of data/prepared; read only when it is written out


def publish_dataset(params: Params) -> dict:
    """Publish data/prepared, divided as in data/split; returns the receipt.

    Raises: UserError where a speaker has not agreed, a text holds what should stay private, the clips are older than
    data/raw, a setting is missing, or the Hub refuses. Nothing has been created or sent then, but for the last.
    """
    if reason := reason_to_stay(True, "push.dataset"):
        return {"published": False, "reason": reason}
    settings = params.push.dataset
    if settings.repo_id is None and not params.push.dry_run:
        raise UserError("params.yaml: push.dataset.repo_id is empty: write USER/NAME, where the data set is to be")
    parts = read_parts()
    clips = [clip for part in PARTS for clip in parts[part]]
    check_current(clips, params.prepare.language)
    check_consents(clips)
    check_texts(clips, settings.confirmed)
    with _alone():
        rows = anonymous_rows(settings.repo_id or UNNAMED, parts)
        files: dict[str, Path | bytes] = dict(build(rows))
        files["README.md"] = str(render_card(params, rows, files)).encode()
        about = {
            "repo_id": settings.repo_id,
            "private": settings.private,
            "clips": len(clips),
            "speakers": len({clip.speaker for clip in clips}),
        }
        # Imported here: push starts without it when nothing is to be published.
        from stages.hub import publish

        if params.push.dry_run:
            listed = publish.listing(files)
            return {"published": False, "reason": "push.dry_run is true", **about, "files": listed}
        message = content_of(about)
        sent = publish.publish(settings.repo_id, "dataset", files, private=settings.private, message=message, tag=None)
        return {
            "published": True,
            "reason": None,
            **about,
            "private": sent.private,
            "commit": sent.commit,
            "url": sent.url,
            "files": sent.files,
        }


def read_parts() -> dict[str, list[Clip]]:
    """Clips by part. Raises: UserError where prepare or split has not run."""
    for folder in (paths.PREPARED, paths.SPLIT):
        if not folder.is_dir():
            raise UserError(f"{folder} is missing: run 'dvc repro split'")
    return {part: read_clips(paths.SPLIT / f"{part}.jsonl") for part in PARTS}


def check_current(clips: list[Clip], default_language: str) -> None:
    """Refuse clips that were deleted or corrected since prepare and split ran, or are about to be.

    Raises: UserError with the number of clips.
    """
    for change in sorted(WAITING_CHANGES.glob("[0-9]*/change.json")):
        if read_json(change)["kind"] != "clip":  # a new recording more or less does no harm
            raise UserError(
                f"deletions, corrections or consents of the recording page still wait in {WAITING_CHANGES}: run "
                f"'python -m recorder.inbox', then 'dvc repro split'"
            )
    if foreign := [clip for clip in clips if clip.source.startswith(HUB)]:
        raise UserError(
            f"not yours to publish, from data sets on the Hub such as {foreign[0].source}: {len(foreign)} of "
            f"{counted(len(clips), 'clip')}: take prepare.sources out, or set push.dataset.enabled to false"
        )
    raw_clips = {(clip.recorded_file, clip.begins_s, clip.ends_s): clip for clip in read_sources(paths.RAW)[0]}
    changed = 0
    for clip in clips:
        now = raw_clips.get((clip.recorded_file, clip.begins_s, clip.ends_s))
        location = now and locate(paths.RAW, now)
        changed += (
            location is None
            or not location.is_file()
            or (speech_text.clean(now.text), now.speaker) != (clip.text, clip.speaker)
            or (now.language or default_language).lower() != clip.language
        )
    if changed:
        raise UserError(
            f"changed or deleted in {paths.RAW} since: {changed} of {counted(len(clips), 'clip')} in {paths.SPLIT}: "
            f"run 'dvc repro split'"
        )


def check_consents(clips: list[Clip]) -> None:
    """Raises: UserError for clips without a speaker, and for speakers who have not agreed to publication."""
    if nameless := [clip for clip in clips if clip.speaker is None]:
        raise UserError(
            f"no speaker is named by {len(nameless)} of {counted(len(clips), 'clip')}, such as "
            f"{nameless[0].recorded_file}: nobody can be asked. Add the speaker to their rows in {paths.RAW}, or "
            f"remove them, then run 'dvc repro split'"
        )
    agreed = agreed_speakers()
    missing = Counter(clip.speaker for clip in clips if clip.speaker not in agreed)
    if missing:
        who = ", ".join(f"{speaker} ({count})" for speaker, count in missing.most_common(SHOWN))
        who += ", ..." if len(missing) > SHOWN else ""
        raise UserError(
            f"nobody has agreed to publication of {missing.total()} of {counted(len(clips), 'clip')}: {who}. Speakers "
            f"can agree on the Publish page of the recorder ('make recorder')"
        )


def agreed_speakers() -> set[str]:
    """Who agreed to publication: their latest row with a `publish` key, in any consents.jsonl of data/raw, says so.

    Raises: UserError for a row that cannot be read.
    """
    answers = []
    for file in sorted(paths.RAW.glob(f"*/{CONSENTS}")):
        for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
                if "publish" in row:
                    # Without a zone it is taken for local time, as the page's own times are.
                    given_at = datetime.fromisoformat(row["given_at"]).astimezone(UTC)
                    answers.append((given_at, speech_text.clean(row["speaker"]), row["publish"] is True))
            except (ValueError, KeyError, TypeError):
                remedy = "write speaker, wording, given_at (such as 2026-01-31T12:00:00+01:00) and publish"
                raise UserError(f"{file}:{number} is no consent: {remedy}") from None
    latest = {speaker: agreed for _, speaker, agreed in sorted(answers, key=lambda answer: answer[0])}
    return {speaker for speaker, agreed in latest.items() if agreed}


def check_texts(clips: list[Clip], confirmed: Iterable[str]) -> None:
    """Raises: UserError with the ids of clips whose texts should be looked at; what was found is not repeated."""
    names = {clip.speaker for clip in clips}
    unconfirmed = {
        clip.id: private_things(clip.text, clip.language, names) for clip in clips if clip.id not in set(confirmed)
    }
    found = {identity: kinds for identity, kinds in unconfirmed.items() if kinds}
    if not found:
        return
    for identity, kinds in islice(found.items(), SHOWN, None):
        print(f"dataset: clip {identity}: {', '.join(kinds)}")
    shown = "; ".join(f"{identity}: {', '.join(kinds)}" for identity, kinds in islice(found.items(), SHOWN))
    more = f"; and {len(found) - SHOWN} more, listed above" if len(found) > SHOWN else ""
    raise UserError(
        f"what should perhaps not become public stands in {counted(len(found), 'text')} ({shown}{more}): correct "
        f"them, or add the ids to push.dataset.confirmed in params.yaml"
    )


def private_things(text: str, language: str = "en", names: Iterable[str | None] = ()) -> list[str]:
    """Kinds of private things in a text: e-mail address, bank account, card number, telephone or other long number,
    a speaker's name.

    Rather too much than too little, since a person decides: any number of seven digits or more counts, but for dates,
    years, amounts that end in 000, and counting.
    """
    text = "".join(str(unicodedata.decimal(char, char)) for char in unicodedata.normalize("NFKC", text))
    found = set()
    if E_MAIL.search(text):
        found.add("e-mail address")
    for match in IBAN.finditer(text):
        # A word after the number would be taken in: try shorter ones.
        words = match.group().split()
        if any(_is_iban("".join(words[:count])) for count in range(1, len(words) + 1)):
            found.add("bank account")
            text = text.replace(match.group(), " ")
    for match in LONG_NUMBER.finditer(DATE.sub("|", _with_digits(text, language))):
        groups = re.findall(r"\d+", match.group())
        digits = "".join(groups)
        if any(_is_card(digits[:length]) for length in range(13, 20)):  # an expiry date may follow
            found.add("card number")
        elif not (AMOUNT.fullmatch(match.group()) or all(map(YEAR.fullmatch, groups)) or _counts_up(groups)):
            found.add("telephone or other long number")
    if any(_is_named(name, text) for name in names if name):
        found.add("a speaker's name")
    return sorted(found)


def _with_digits(text: str, language: str) -> str:
    """A text with the words for nought to nine as digits: "oh one seven" is "0 1 7"."""
    values = {
        word: str(value)
        for value, words in enumerate(DIGIT_WORDS.get(language, "").split())
        for word in re.findall(r"[^(),]+", words)
    }
    return re.sub(r"[^\W\d](?:\w|[\u0900-\u097f])*", lambda match: values.get(match[0].casefold(), match[0]), text)


def _is_card(digits: str) -> bool:
    """13 to 19 digits with the check digit of ISO/IEC 7812 (Luhn)."""
    doubled = (int(digit) * (1 + index % 2) for index, digit in enumerate(reversed(digits)))
    return 13 <= len(digits) <= 19 and sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def _is_iban(account: str) -> bool:
    """Check digits of ISO 13616: moved to the end, letters as 10 to 35, the number is 1 modulo 97."""
    account = account.replace("-", "")
    return len(account) >= 15 and int("".join(str(int(char, 36)) for char in account[4:] + account[:4])) % 97 == 1


def _counts_up(groups: list[str]) -> bool:
    return len(groups) > 1 and all(int(later) - int(earlier) == 1 for earlier, later in pairwise(groups))


def _is_named(name: str, text: str) -> bool:
    """Whether a text holds a part of a name as a word; a name typed in small letters may begin with a capital there."""
    for part in re.findall(r"\w+", name):
        if WRITTEN_WITHOUT_SPACES.search(part):
            if len(part) > 1 and part in text:
                return True
        elif len(part) > 2 and not part.isdigit():
            spellings = "|".join(map(re.escape, {part, part.capitalize(), part.upper()}))
            if re.search(rf"(?<!\w)(?:{spellings})(?!\w)", text):
                return True
    return False


def anonymous_rows(repo_id: str, parts: dict[str, list[Clip]]) -> dict[str, list[Row]]:
    """What goes out, by part, in an order that says nothing about when it was recorded.

    A clip's id here is a keyed hash of its own, since that one is a hash of the recorded file: who has the file could
    find its speaker's other clips. A speaker's number is drawn at random among those who join together, and stays.
    Both differ between data sets.
    """
    all_known = json.loads(paths.PSEUDONYMS.read_text(encoding="utf-8")) if paths.PSEUDONYMS.exists() else {}
    known = all_known.setdefault(repo_id, {"key": secrets.token_hex(32), "next": 1, "speakers": {}})
    new = sorted({clip.speaker for clips in parts.values() for clip in clips} - set(known["speakers"]))
    secrets.SystemRandom().shuffle(new)
    for speaker in new:
        known["speakers"][speaker] = f"speaker-{known['next']}"
        known["next"] += 1  # never given twice, also after a speaker was forgotten
    if new:
        write_json(paths.PSEUDONYMS, all_known)
    key = bytes.fromhex(known["key"])
    rows = {}
    for part, clips in parts.items():
        rows[part] = [
            Row(
                id=hmac.new(key, clip.id.encode(), hashlib.sha256).hexdigest()[:ID_LENGTH],
                text=clip.text,
                language=clip.language,
                speaker=known["speakers"][clip.speaker],
                duration_s=clip.duration_s,
                sound=paths.PREPARED / clip.audio_path,
            )
            for clip in clips
        ]
        rows[part].sort(key=lambda row: row.id)
    return rows


def build(parts: dict[str, list[Row]]) -> dict[str, Path]:
    """The parquet files, by their names on the Hub; made once for the same rows, and kept in the content cache."""
    import pyarrow

    key = {
        "rows": {part: [_key_of(row) for row in rows] for part, rows in parts.items()},
        "code": sha256_of_file(Path(__file__)),
        "pyarrow": pyarrow.__version__,
    }
    folder = paths.cache_root() / "dataset" / fingerprint(key)
    if not _is_whole(folder):
        with whole_folder(folder) as partial:
            (partial / "data").mkdir()
            for part, rows in parts.items():
                shards = list(in_shards(rows))
                for number, shard in enumerate(shards):
                    write_shard(partial / f"data/{part}-{number:05d}-of-{len(shards):05d}.parquet", shard)
            sums = {path.relative_to(partial).as_posix(): sha256_of_file(path) for path in partial.rglob("*.parquet")}
            write_json(partial / "sums.json", sums)
    for older in folder.parent.iterdir():
        if older.is_dir() and older != folder:
            shutil.rmtree(older)
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.parquet"))}


def _key_of(row: Row) -> dict:
    return {**asdict(row), "sound": prepared.sha256(row.sound)}


def _is_whole(folder: Path) -> bool:
    """Whether a built folder is there and as it was written."""
    if not (folder / "sums.json").exists():
        return False
    sums = read_json(folder / "sums.json")
    return all((folder / name).is_file() and sha256_of_file(folder / name) == sums[name] for name in sums)


def in_shards(rows: list[Row]) -> Iterator[list[Row]]:
    """Rows in their order, in runs of at most SHARD_BYTES of sound; one run at least."""
    shard: list[Row] = []
    size = 0
    for row in rows:
        bytes_more = prepared.size_of(row.sound)
        if shard and size + bytes_more > SHARD_BYTES:
            yield shard
            shard, size = [], 0
        shard.append(row)
        size += bytes_more
    yield shard


def write_shard(path: Path, rows: list[Row]) -> None:
    """One parquet file that `datasets` knows as Audio; the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"string": pa.string(), "float64": pa.float64()}
    sound = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema(
        [(name, types[feature["dtype"]] if "dtype" in feature else sound) for name, feature in FEATURES.items()],
        metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
    )
    # Not compressed: FLAC is, and the Hub, which cuts files by content, stores what has not changed no second time.
    # No statistics: those of the sounds would be sounds.
    options = {"compression": "none", "use_dictionary": ["language", "speaker"], "write_statistics": False}
    with pq.ParquetWriter(path, schema, **options) as writer:
        for start in range(0, len(rows), ROWS_IN_GROUP):
            group = [as_published(row) for row in rows[start : start + ROWS_IN_GROUP]]
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def as_published(row: Row) -> dict:
    """A row's columns, in the order of FEATURES."""
    sound = {"bytes": without_tags(prepared.content(row.sound), row.sound), "path": f"{row.id}.flac"}
    values = {**asdict(row), "audio": sound}
    return {name: values[name] for name in FEATURES}


def without_tags(flac: bytes, where: Path) -> bytes:
    """A FLAC file with its stream description and its frames alone: no tags, pictures or names of programs.

    Raises: ValueError for another kind of file, or another rate or number of channels than prepare writes.
    (RFC 9639, section 8: after `fLaC` come blocks of one byte, whose highest bit marks the last one and whose other
    bits are its type, three bytes of length, and the content; type 0 describes the stream.)
    """
    if flac[:4] != b"fLaC" or flac[4] & 0x7F != 0:
        raise ValueError(f"{where} is no FLAC file: it was not written by the prepare stage")
    position, is_last, description = 4, False, b""
    while not is_last:
        is_last, kind = bool(flac[position] & 0x80), flac[position] & 0x7F
        end = position + 4 + int.from_bytes(flac[position + 1 : position + 4], "big")
        if kind == 0:
            description = flac[position + 4 : end]
        position = end
    rate_and_channels = int.from_bytes(description[10:14], "big")  # 20 bits rate, 3 bits channels - 1
    if (rate_and_channels >> 12, rate_and_channels >> 9 & 7) != (SAMPLE_RATE_HZ, 0):
        raise ValueError(f"{where} is not {SAMPLE_RATE_HZ} Hz mono: it was not written by the prepare stage")
    return b"fLaC" + b"\x80" + len(description).to_bytes(3, "big") + description + flac[position:]


def render_card(params: Params, parts: dict[str, list[Row]], files: dict[str, Path]):
    """The data set's README.md, a huggingface_hub.DatasetCard."""
    from huggingface_hub import DatasetCard, DatasetCardData

    rows = [row for part in PARTS for row in parts[part]]
    languages = [language for language, _ in Counter(row.language for row in rows).most_common()]
    repo_id = params.push.dataset.repo_id or UNNAMED
    name = repo_id.rpartition("/")[2]
    download_size = sum(path.stat().st_size for path in files.values())
    part_sizes = {
        part: sum(path.stat().st_size for file, path in files.items() if file.startswith(f"data/{part}-"))
        for part in PARTS
    }
    card_data = DatasetCardData(
        pretty_name=name,
        language=sorted(languages),
        license=params.push.dataset.license,
        task_categories=["automatic-speech-recognition"],
        size_categories=size_category(len(rows)),
        tags=["audio", "speech", "personal-speech", "ownvoice"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": part, "path": f"data/{part}-*"} for part in PARTS],
            }
        ],
        dataset_info={
            "features": [
                {
                    "name": column,
                    "dtype": feature.get("dtype") or {"audio": {"sampling_rate": feature["sampling_rate"]}},
                }
                for column, feature in FEATURES.items()
            ],
            "splits": [
                {"name": part, "num_bytes": part_sizes[part], "num_examples": len(parts[part])} for part in PARTS
            ],
            "download_size": download_size,
            "dataset_size": download_size,
        },
    )
    durations_s = [row.duration_s for row in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return DatasetCard.from_template(
            card_data,
            template_path=str(TEMPLATE),
            name=name,
            repo_id=repo_id,
            license=params.push.dataset.license,
            divided=DIVIDED[params.split.group_by],
            total=_figures(rows),
            by_part={part: _figures(parts[part]) for part in PARTS},
            by_language=_by(rows, "language"),
            by_speaker=_by(rows, "speaker"),
            counted=counted,
            shortest_s=min(durations_s),
            median_s=statistics.median(durations_s),
            longest_s=max(durations_s),
            megabytes=download_size / 1e6,
        )


def size_category(count: int) -> str:
    """The Hub's word for a number of rows."""
    steps = [(1_000, "1K"), (10_000, "10K"), (100_000, "100K"), (1_000_000, "1M"), (10_000_000, "10M")]
    if count < steps[0][0]:
        return "n<1K"
    for (_, low), (limit, high) in pairwise(steps):
        if count < limit:
            return f"{low}<n<{high}"
    return "n>10M"


def _figures(rows: list[Row]) -> dict:
    return {"clips": len(rows), "minutes": sum(row.duration_s for row in rows) / 60}


def _by(rows: list[Row], field: str) -> dict[str, dict]:
    """Figures of the rows with each value of a field, the most frequent first."""
    values = Counter(getattr(row, field) for row in rows)
    order = sorted(values, key=lambda value: (-values[value], len(value), value))
    return {value: _figures([row for row in rows if getattr(row, field) == value]) for value in order}


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One process at a time: a second one waits, since both would draw pseudonyms and build the same folder."""
    folder = paths.cache_root() / "dataset"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> str:
    params = load_params()
    settings = params.push.dataset
    announce("dataset", repo_id=settings.repo_id, private=settings.private, dry_run=params.push.dry_run)
    receipt = publish_dataset(params)
    write_json(paths.RECEIPTS / "dataset.json", receipt)
    return summary(receipt)


def summary(receipt: Mapping) -> str:
    """What a receipt of a data set says, in a line."""
    if receipt["published"]:
        return f"{content_of(receipt)} -> {receipt['url']} ({receipt['commit'][:8]})"
    line = f"nothing published: {receipt['reason']}"
    return f"{line}; {content_of(receipt)}: {amount(receipt['files'])} would go up" if "files" in receipt else line


def content_of(receipt: Mapping) -> str:
    return f"{counted(receipt['clips'], 'clip')} of {counted(receipt['speakers'], 'speaker')}"


if __name__ == "__main__":
    run("dataset", main)

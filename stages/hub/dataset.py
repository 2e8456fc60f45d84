"""Publish the prepared clips as a data set on the Hub.

    python -m stages.hub.dataset    (or `make push-dataset`: the recordings alone, no model needed)

Reads data/prepared, data/split and the consents in data/raw. Writes data/receipts/dataset.json: what went where, or
why nothing did. A row is id, audio, text, language, speaker and duration_s. Nothing else leaves this machine: no
names, dates, sessions or file names. stages.hub.privacy says what is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import shutil
import statistics
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.common import paths
from stages.common.files import write_json
from stages.common.locks import FOR_EVER, lock
from stages.common.params import Params, load_params
from stages.common.plurals import counted
from stages.common.stage import UserError, announce, run
from stages.hub.privacy import check_consents, check_current, check_texts
from stages.hub.receipts import amount, reason_to_stay
from stages.speech import prepared
from stages.speech.clips import ID_LENGTH, Clip, read_clips

UNNAMED = "USER/NAME"  # of a data set in a dry run
PARTS = ("train", "validation", "test")
TEMPLATE = paths.TEMPLATES / "dataset_card.md.j2"
ROWS_IN_GROUP = 100  # 50 MB of the longest clips: what writing holds in memory, and what the Hub's viewer reads at once
SAMPLE_RATE_HZ = 16_000
# As `datasets` writes them into a schema.
FEATURES = {
    "id": {"dtype": "string", "_type": "Value"},
    "audio": {"sampling_rate": SAMPLE_RATE_HZ, "_type": "Audio"},
    "text": {"dtype": "string", "_type": "Value"},
    "language": {"dtype": "string", "_type": "Value"},
    "speaker": {"dtype": "string", "_type": "Value"},
    "duration_s": {"dtype": "float64", "_type": "Value"},
}
DIVIDED = {
    "prompt": "The same sentence is never in two splits.",
    "clip": "The same sentence may be in two splits, recorded several times.",
    "session": "All recordings of one day are in one split; the same sentence may be in two.",
    "speaker": "No speaker is in two splits.",
}


@dataclass(frozen=True)
class Row:
    """A clip as it is published; without data/recorder/pseudonyms.json, `id` and `speaker` say nothing."""

    id: str
    text: str
    language: str
    speaker: str
    duration_s: float
    sound: Path  # in data/prepared; read only when it is written out


def publish_dataset(params: Params) -> dict:
    """Publish data/prepared, divided as in data/split; returns the receipt.

    Raises: UserError if a speaker has not agreed, a text holds something private, the clips are older than data/raw,
    or a setting is missing, before anything is created or sent; and if the Hub refuses.
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
    about = {
        "repo_id": settings.repo_id,
        "private": settings.private,
        "clips": len(clips),
        "speakers": len({clip.speaker for clip in clips}),
    }
    # One process at a time: two would draw different pseudonyms, and write the same files.
    with lock(paths.cache_root() / "dataset.lock", FOR_EVER):
        folder = paths.cache_root() / "dataset"
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        try:
            rows = anonymous_rows(settings.repo_id or UNNAMED, parts)
            files: dict[str, Path | bytes] = dict(build(rows, folder))
            files["README.md"] = str(render_card(params, rows, files)).encode()
            return about | _send(params, files, content_of(about))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _send(params: Params, files: Mapping[str, Path | bytes], message: str) -> dict:
    """The receipt's part that says what was sent, or would be."""
    from stages.hub import publish  # imported here: push starts without it if nothing is to be published

    if params.push.dry_run:
        return {"published": False, "reason": "push.dry_run is true", "files": publish.listing(files)}
    settings = params.push.dataset
    sent = publish.publish(settings.repo_id, "dataset", files, private=settings.private, message=message, tag=None)
    return {"published": True, "reason": None, **asdict(sent)}


def read_parts() -> dict[str, list[Clip]]:
    """Clips by part. Raises: UserError if prepare or split has not run."""
    for folder in (paths.PREPARED, paths.SPLIT):
        if not folder.is_dir():
            raise UserError(f"{folder} is missing: run 'dvc repro split'")
    return {part: read_clips(paths.SPLIT / f"{part}.jsonl") for part in PARTS}


def anonymous_rows(repo_id: str, parts: dict[str, list[Clip]]) -> dict[str, list[Row]]:
    """What is published, by part, in an order that says nothing about when it was recorded.

    An id is a keyed hash of the clip's own, which is a hash of the recorded file: whoever has the file could find its
    speaker's other clips. Speakers get numbers in random order, and keep them. Both differ between data sets.
    """
    all_known = json.loads(paths.PSEUDONYMS.read_text(encoding="utf-8")) if paths.PSEUDONYMS.exists() else {}
    known = all_known.setdefault(repo_id, {"key": secrets.token_hex(32), "next": 1, "speakers": {}})
    new = sorted({clip.speaker for clips in parts.values() for clip in clips} - set(known["speakers"]))
    secrets.SystemRandom().shuffle(new)
    for speaker in new:
        known["speakers"][speaker] = f"speaker-{known['next']}"
        known["next"] += 1  # never given twice, even if a speaker is forgotten
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


def build(parts: dict[str, list[Row]], folder: Path) -> dict[str, Path]:
    """Write a parquet file for each part; by their names on the Hub. The same rows give the same bytes."""
    files = {f"data/{part}-00000-of-00001.parquet": rows for part, rows in parts.items()}
    for name, rows in files.items():
        write_parquet(folder / name, rows)
    return {name: folder / name for name in files}


def write_parquet(path: Path, rows: list[Row]) -> None:
    """Write rows in the columns of FEATURES, in the schema of `datasets`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    types = {"string": pa.string(), "float64": pa.float64()}
    sound = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema(
        [(name, types[feature["dtype"]] if "dtype" in feature else sound) for name, feature in FEATURES.items()],
        metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
    )
    # Not compressed: FLAC is, and the Hub stores parts that have not changed only once. No statistics: the smallest and
    # the largest sound would be among them.
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
    """A FLAC file without tags, pictures or names of programs: only its stream description and its frames.

    After `fLaC` come blocks: a byte whose highest bit marks the last one and whose other bits are its type, three bytes
    of length, and the content; type 0 describes the stream (RFC 9639, section 8).
    Raises: ValueError for another kind of file, or another rate or number of channels than prepare writes.
    """
    if flac[:4] != b"fLaC" or flac[4] & 0x7F != 0:
        raise ValueError(f"{where} is not a FLAC file: it was not written by the prepare stage")
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
    repo_id = params.push.dataset.repo_id or UNNAMED
    name = repo_id.rpartition("/")[2]
    card_data = DatasetCardData(
        pretty_name=name,
        language=sorted({row.language for row in rows}),
        license=params.push.dataset.license,
        task_categories=["automatic-speech-recognition"],
        tags=["audio", "speech", "personal-speech", "ownvoice"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": part, "path": f"data/{part}-*"} for part in PARTS],
            }
        ],
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
            megabytes=sum(path.stat().st_size for path in files.values()) / 1e6,
        )


def _figures(rows: list[Row]) -> dict:
    return {"clips": len(rows), "minutes": sum(row.duration_s for row in rows) / 60}


def _by(rows: list[Row], field: str) -> dict[str, dict]:
    """Figures of the rows with each value of a field, the most frequent first."""
    values = Counter(getattr(row, field) for row in rows)
    order = sorted(values, key=lambda value: (-values[value], len(value), value))
    return {value: _figures([row for row in rows if getattr(row, field) == value]) for value in order}


def main() -> str:
    params = load_params()
    settings = params.push.dataset
    announce("dataset", repo_id=settings.repo_id, private=settings.private, dry_run=params.push.dry_run)
    receipt = publish_dataset(params)
    write_json(paths.RECEIPTS / "dataset.json", receipt)
    return summary(receipt)


def summary(receipt: Mapping) -> str:
    """A data set's receipt in one line."""
    if receipt["published"]:
        return f"{content_of(receipt)} -> {receipt['url']} ({receipt['commit'][:8]})"
    line = f"nothing published: {receipt['reason']}"
    return (
        f"{line}; {content_of(receipt)}: {amount(receipt['files'])} would be uploaded" if "files" in receipt else line
    )


def content_of(receipt: Mapping) -> str:
    return f"{counted(receipt['clips'], 'clip')} of {counted(receipt['speakers'], 'speaker')}"


if __name__ == "__main__":
    run("dataset", main)

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
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from stages.common import paths
from stages.common.files import write_json
from stages.common.locks import FOR_EVER, lock
from stages.common.params import Params, load_params
from stages.common.plurals import counted
from stages.common.stage import UserError, announce, run
from stages.hub import publish
from stages.hub.privacy import check_consents, check_current, check_texts
from stages.hub.receipts import amount, reason_to_stay
from stages.speech import prepared
from stages.speech.clips import ID_LENGTH, Clip, read_clips

UNNAMED = "USER/NAME"  # of a data set in a dry run
PARTS = ("train", "validation", "test")
TEMPLATE = paths.TEMPLATES / "dataset_card.md.j2"
ROWS_IN_GROUP = 100  # 50 MB of the longest clips: what writing holds in memory, and what the Hub's viewer reads at once


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
    check_current(clips)
    check_consents(clips)
    check_texts(clips, settings.confirmed)
    receipt = {
        "repo_id": settings.repo_id,
        "private": settings.private,
        "clips": len(clips),
        "speakers": len({clip.speaker for clip in clips}),
    }
    folder = paths.cache_root() / "dataset"
    # One process at a time: two would draw different pseudonyms, and write the same files.
    with lock(paths.cache_root() / "dataset.lock", FOR_EVER):
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        try:
            rows = anonymous_rows(settings.repo_id or UNNAMED, parts)
            files: dict[str, Path | bytes] = {**build(rows, folder), "README.md": render_card(params, rows).encode()}
            if params.push.dry_run:
                listed = publish.listing(files)
                return {**receipt, "published": False, "reason": "push.dry_run is true", "files": listed}
            sent = publish.publish(
                settings.repo_id, "dataset", files, private=settings.private, message=content_of(receipt)
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return {**receipt, "published": True, "reason": None, **asdict(sent)}


def read_parts() -> dict[str, list[Clip]]:
    """Clips by part. Raises: UserError if prepare or split has not run."""
    for folder in (paths.PREPARED, paths.SPLIT):
        if not folder.is_dir():
            raise UserError(f"{folder} is missing: run 'dvc repro split'")
    return {part: read_clips(paths.SPLIT / f"{part}.jsonl") for part in PARTS}


def anonymous_rows(repo_id: str, parts: dict[str, list[Clip]]) -> dict[str, list[dict]]:
    """What is published, by part, in an order that says nothing about when it was recorded; `file` holds the sound.

    An id is a keyed hash of the clip's own, which is a hash of the recorded file: whoever has the file could find its
    speaker's other clips. Speakers get numbers in random order, and keep them. Both differ between data sets, and
    without data/recorder/pseudonyms.json they say nothing.
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
            {
                "id": hmac.new(key, clip.id.encode(), hashlib.sha256).hexdigest()[:ID_LENGTH],
                "text": clip.text,
                "language": clip.language,
                "speaker": known["speakers"][clip.speaker],
                "duration_s": clip.duration_s,
                "file": paths.PREPARED / clip.audio_path,
            }
            for clip in clips
        ]
        rows[part].sort(key=lambda row: row["id"])
    return rows


def build(parts: dict[str, list[dict]], folder: Path) -> dict[str, Path]:
    """Write a parquet file for each part; by their names on the Hub. The same rows give the same bytes."""
    names = {f"data/{part}-00000-of-00001.parquet": rows for part, rows in parts.items()}
    for name, rows in names.items():
        write_parquet(folder / name, rows)
    return {name: folder / name for name in names}


def write_parquet(path: Path, rows: list[dict]) -> None:
    """Write rows in the schema of `datasets`."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Audio, Features, Value

    path.parent.mkdir(parents=True, exist_ok=True)
    text = Value("string")
    columns = {"id": text, "audio": Audio(16_000), "text": text, "language": text, "speaker": text}
    schema = Features({**columns, "duration_s": Value("float64")}).arrow_schema
    # Not compressed: FLAC is, and the Hub stores parts that have not changed only once. No statistics: the smallest and
    # the largest sound would be among them.
    options = {"compression": "none", "use_dictionary": ["language", "speaker"], "write_statistics": False}
    with pq.ParquetWriter(path, schema, **options) as writer:
        for start in range(0, len(rows), ROWS_IN_GROUP):
            group = [
                # Written by prepare from samples alone, the sound carries nothing else of the recording.
                {**row, "audio": {"bytes": prepared.content(row["file"]), "path": f"{row['id']}.flac"}}
                for row in rows[start : start + ROWS_IN_GROUP]
            ]
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def render_card(params: Params, parts: dict[str, list[dict]]) -> str:
    """The data set's README.md."""
    from huggingface_hub import DatasetCard, DatasetCardData

    rows = [row for part in PARTS for row in parts[part]]
    repo_id = params.push.dataset.repo_id or UNNAMED
    name = repo_id.rpartition("/")[2]
    files = [{"split": part, "path": f"data/{part}-*"} for part in PARTS]
    card_data = DatasetCardData(
        pretty_name=name,
        language=sorted({row["language"] for row in rows}),
        license=params.push.dataset.license,
        task_categories=["automatic-speech-recognition"],
        tags=["audio", "speech", "personal-speech", "ownvoice"],
        configs=[{"config_name": "default", "data_files": files}],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        card = DatasetCard.from_template(
            card_data,
            template_path=str(TEMPLATE),
            name=name,
            repo_id=repo_id,
            license=params.push.dataset.license,
            group_by=params.split.group_by,
            speakers=len({row["speaker"] for row in rows}),
            total=_figures(rows),
            by_part={part: _figures(parts[part]) for part in PARTS},
            counted=counted,
        )
    return str(card)


def _figures(rows: list[dict]) -> dict:
    return {"clips": len(rows), "minutes": sum(row["duration_s"] for row in rows) / 60}


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
    would = f"; {content_of(receipt)}: {amount(receipt['files'])} would be uploaded" if "files" in receipt else ""
    return f"nothing published: {receipt['reason']}{would}"


def content_of(receipt: Mapping) -> str:
    return f"{counted(receipt['clips'], 'clip')} of {counted(receipt['speakers'], 'speaker')}"


if __name__ == "__main__":
    run("dataset", main)

"""params.yaml as typed objects: one class per section, without defaults, so that DVC sees every value.

A key that is missing, unknown or of the wrong type gives one line on the screen, with the place and the fix.
"""

from __future__ import annotations

import difflib
import functools
import os
from pathlib import Path
from typing import Annotated, Literal

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for them takes a tenth of a command's start
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.common.stage import UserError

PARAMS_FILE = Path("params.yaml")
# Keys of older versions, for the hint: nothing that a spelling could tell.
RENAMED = {"outside": "other_speakers", "bootstrap_by": "intervals_by"}
REMOVED = {"filters", "trim_silence", "validate_every_steps", "augment_variants", "phrases", "bootstrap_samples"}

Fraction = Annotated[float, Field(gt=0, lt=1)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """Strict: no unknown keys, no strings instead of numbers, no change after reading."""

    # deferred: all sections are built once, with Params
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


class ModelParams(Section):
    name: str
    revision: str | None
    dtype: Literal["auto", "float32", "bfloat16", "float16"]


class HubColumns(Section):
    audio: str
    text: str
    speaker: str | None
    language: str | None


class HubSourceParams(Section):
    repo_id: str
    config: str | None
    split: str
    revision: str | None
    columns: HubColumns
    language: str | None
    max_clips: PositiveInt | None
    max_hours: PositiveFloat | None
    other_speakers: bool


class PrepareParams(Section):
    language: str
    min_duration_s: NonNegativeFloat
    max_duration_s: PositiveFloat
    channels: Literal["auto", "mix", "left", "right"]
    silence_dbfs: Annotated[float, Field(lt=0)]
    max_characters_per_s: PositiveFloat
    max_clipped_fraction: Annotated[float, Field(ge=0, le=1)]
    workers: Annotated[int, Field(ge=0)]
    max_seconds_per_file: PositiveFloat
    dask_scheduler: str | None
    sources: list[HubSourceParams]


class SplitParams(Section):
    group_by: Literal["prompt", "clip", "session", "speaker"]
    test_fraction: Fraction
    validation_fraction: Fraction
    salt: str


class LoraParams(Section):
    r: PositiveInt
    alpha: PositiveInt
    dropout: Annotated[float, Field(ge=0, lt=1)]
    scope: Annotated[list[Literal["encoder", "projector", "decoder"]], Field(min_length=1)]

    @field_validator("scope")
    @classmethod
    def _each_part_once(cls, scope: list[str]) -> list[str]:
        if len(set(scope)) < len(scope):
            raise ValueError("has a part twice")
        return scope


class TrackingParams(Section):
    enabled: bool
    project: str
    space_id: str | None


class TrainParams(Section):
    mode: Literal["lora", "qlora", "full"]
    lora: LoraParams
    epochs: PositiveInt
    min_updates: Annotated[int, Field(ge=0)]
    learning_rate: Literal["auto"] | PositiveFloat
    batch_size: Literal["auto"] | PositiveInt
    clips_per_update: PositiveInt | None
    gradient_checkpointing: bool
    optimizer: Literal["adamw", "adamw_8bit"]
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)]
    scheduler: Literal["cosine", "linear", "constant_with_warmup"]
    weight_decay: NonNegativeFloat
    max_gradient_norm: PositiveFloat
    early_stopping_patience: PositiveInt | None
    max_clips: PositiveInt | None
    augment: Literal["off", "light"]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    launcher: str
    tracking: TrackingParams


class EvaluateParams(Section):
    precision: Literal["auto", "whole", "four_bit"]
    batch_size: PositiveInt
    intervals_by: Literal["split", "prompt", "clip", "session", "speaker"]
    keywords: list[str]
    other_speakers: str | None
    listed_words: PositiveInt
    listed_clips: PositiveInt


class CardParams(Section):
    title: str
    license: str
    speaker: str | None


class DatasetParams(Section):
    enabled: bool
    repo_id: str | None
    private: bool
    license: str
    confirmed: list[str]


class PushParams(Section):
    enabled: bool
    repo_id: str | None
    private: bool
    merged: bool
    dry_run: bool
    require: Literal["better", "not_worse", "none"]
    max_forgetting: NonNegativeFloat | None
    checked_clips: PositiveInt
    dataset: DatasetParams


class DeployParams(Section):
    enabled: bool
    space_id: str | None
    private: bool
    hardware: str
    wait_minutes: PositiveFloat


class RecorderParams(Section):
    set_size: PositiveInt
    stop_after_silence_s: PositiveFloat | None
    longest_take_s: PositiveFloat
    train_after_clips: PositiveInt | None


class Params(Section):
    """All of params.yaml. A stage reads `model` and its own section, the recording page reads `recorder`."""

    model: ModelParams
    prepare: PrepareParams
    split: SplitParams
    train: TrainParams
    evaluate: EvaluateParams
    card: CardParams
    push: PushParams
    deploy: DeployParams
    recorder: RecorderParams


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml, by the YAML library that DVC uses too (so `1e-5` is a number to both).

    Raises: UserError if the file is missing, or as `parse_params`.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run from the root of the repository") from None
    return parse_params(content, path)


@functools.lru_cache(maxsize=2)
def parse_params(content: bytes, path: Path = PARAMS_FILE) -> Params:
    """Check the content of params.yaml; cached, because the recording page asks again and again.

    Raises: UserError, one line, for bad YAML, a missing or unknown key, or a value of the wrong type.
    """
    try:
        values = YAML(typ="safe").load(content)
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} has no sections: restore it with 'git checkout {path}'")
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        explained = dict.fromkeys(_explain(problem) for problem in error.errors())
        raise UserError(f"{path}: " + "; ".join(list(explained)[:3])) from None
    if params.split.test_fraction + params.split.validation_fraction >= 1:
        raise UserError(
            f"{path}: split.test_fraction + split.validation_fraction must be below 1, or no clip is left for training"
        )
    if params.train.batch_size == "auto" and params.train.clips_per_update is None:
        raise UserError(f"{path}: train.batch_size auto needs a number as train.clips_per_update, such as 8")
    if params.prepare.min_duration_s >= params.prepare.max_duration_s:
        raise UserError(f"{path}: prepare.min_duration_s must be below prepare.max_duration_s")
    return params


def _explain(problem: dict) -> str:
    """One pydantic problem in words: where, what was expected, what was found, what to do."""
    known = {name for section in Section.__subclasses__() for name in section.model_fields}
    location = problem["loc"]
    if problem["type"] == "extra_forbidden":
        where, key = ".".join(map(str, location)), location[-1]
        if key in REMOVED:
            return f"{where} is no longer a setting: remove its line"
        close = [RENAMED[key]] if key in RENAMED else difflib.get_close_matches(key, sorted(known), n=1)
        return f"{where} is an unknown key: {f'did you mean {close[0]}?' if close else 'remove it, or correct it'}"
    # The location also names members of a union ('constrained-float' ...), which are no keys.
    where = ".".join(str(part) for part in location if part in known or isinstance(part, int))
    if problem["type"] == "missing":
        return f"{where} is missing: add it (git show HEAD:params.yaml has every key)"
    return f"{where}: {problem['msg'].lower()}, found {problem['input']!r}"

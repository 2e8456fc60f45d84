"""params.yaml as the page shows and changes it: a few settings by their dotted keys, comments kept."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from stages.common.files import write_whole
from stages.common.params import PARAMS_FILE, load_params, parse_params

SHOWN = (
    "model.name",
    "model.revision",
    "train.mode",
    "train.epochs",
    "train.batch_size",
    "train.learning_rate",
    "train.lora.r",
    "train.lora.scope",
)


def shown_settings() -> dict[str, Any]:
    """The settings that are noted with each run, by their dotted keys."""
    values = load_params().model_dump()
    return {key: _at(values, key) for key in SHOWN}


def change_settings(changes: Mapping[str, Any]) -> None:
    """Write values by their dotted keys into params.yaml.

    Raises: UserError if the schema refuses a value; the file is then unchanged.
    """
    yaml = YAML()
    yaml.representer.add_representer(type(None), _written_null)
    yaml.preserve_quotes = True
    yaml.width = 10_000
    values = yaml.load(PARAMS_FILE)
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = _at(values, ".".join(sections))
        if section.get(name) != value:  # an equal one stays as it is written
            section[name] = _on_its_line(value) if isinstance(value, list) else value
    text = StringIO()
    yaml.dump(values, text)
    content = text.getvalue().encode()
    parse_params(content)
    write_whole(PARAMS_FILE, content)


def _at(values: Mapping, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _on_its_line(values: list) -> CommentedSeq:
    """Otherwise the library puts the line's comment among the values, and writes what is no YAML the next time."""
    sequence = CommentedSeq(values)
    sequence.fa.set_flow_style()
    return sequence


def _written_null(representer: RoundTripRepresenter, _: None) -> ScalarNode:
    """`null`, as people write it; the library writes nothing."""
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")

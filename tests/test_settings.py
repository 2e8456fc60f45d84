"""Settings from the page: written into params.yaml with every comment kept, or refused with the file unchanged."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from recorder.settings import change_settings
from stages.common.params import load_params
from stages.common.stage import UserError


@pytest.fixture
def params_text(workspace) -> str:
    return Path("params.yaml").read_text()


def test_unchanged_settings_leave_the_file_byte_for_byte(params_text):
    for old, new in (("learning_rate: auto", "learning_rate: 1.0e-4"), ("salt: ownvoice", "salt: 'ownvoice'")):
        assert old in params_text
        params_text = params_text.replace(old, new)
    Path("params.yaml").write_text(params_text)
    values = load_params().model_dump()
    same = {
        f"{section}.{name}": value
        for section in ("model", "train", "recorder", "prepare", "split", "push")
        for name, value in values[section].items()
        if not isinstance(value, dict)
    }
    assert len(same) > 25
    change_settings(same)
    assert Path("params.yaml").read_text() == params_text


def test_changed_settings_keep_every_comment_and_every_other_line(params_text):
    changes = {
        "model.name": "data/demo/voxtral-tiny",
        "model.revision": None,
        "train.mode": "full",
        "train.epochs": 3,
        "train.learning_rate": 2e-5,
        "train.lora.r": 128,
        "train.gradient_checkpointing": True,
        "recorder.train_after_clips": 50,
        "push.dataset.confirmed": ["0123456789abcdef"],
    }
    before = {key: value_of(key) for key in changes}
    change_settings(changes)
    after = Path("params.yaml").read_text()
    pairs = zip(params_text.splitlines(), after.splitlines(), strict=True)
    assert sum(old != new for old, new in pairs) == len(changes)
    assert re.findall("#.*", after) == re.findall("#.*", params_text)
    for key, value in changes.items():
        assert value_of(key) == value and type(value_of(key)) is type(value), key
    # DVC reads the file with this library: a number must not come back as a string.
    assert isinstance(YAML(typ="safe").load(after)["train"]["learning_rate"], float)
    change_settings(before)
    assert re.sub(r"(?<=\S) +#", " #", Path("params.yaml").read_text()) == params_text


def value_of(key: str) -> object:
    found = load_params().model_dump()
    for part in key.split("."):
        found = found[part]
    return found


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train.epochs", 0, "train.epochs: .*, found 0"),
        ("train.learning_rate", "quick", "train.learning_rate: .*, found 'quick'"),
        ("train.lora.scope", [], "train.lora.scope: "),
        ("train.epoch", 5, "train.epoch is an unknown key: did you mean epochs"),
        ("split.test_fraction", 0.95, "split.test_fraction .* must be below 1"),
    ],
)
def test_refused_setting_leaves_the_file_as_it_was(params_text, key, value, words):
    with pytest.raises(UserError, match=rf"^params\.yaml: {words}"):
        change_settings({"train.lora.r": 4, key: value})
    assert Path("params.yaml").read_text() == params_text
    assert [path.name for path in Path().iterdir() if "params" in path.name] == ["params.yaml"]

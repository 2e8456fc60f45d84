"""params.yaml: both files of the repository fit the schema; a mistake is one line with the key and the fix."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.common.params import load_params
from stages.common.stage import UserError
from tests.workspaces import ROOT


def leaves(values: dict, prefix: str = "") -> dict[str, object]:
    """All values under their full keys, such as train.lora.r."""
    found = {}
    for key, value in values.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


@pytest.fixture
def edit(workspace):
    """Replace a piece of the workspace's params.yaml."""

    def replace(old: str, new: str) -> None:
        path = workspace / "params.yaml"
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in params.yaml"
        path.write_text(text.replace(old, new))

    return replace


def error_of_load() -> str:
    """The one line that is wrong with the workspace's params.yaml."""
    with pytest.raises(UserError) as caught:
        load_params()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("params.yaml")
    return message


def test_file_of_the_repository_loads_with_the_values_written_in_it():
    written = leaves(YAML(typ="safe").load(ROOT / "params.yaml"))
    assert leaves(load_params(ROOT / "params.yaml").model_dump()) == written


def test_every_line_with_a_value_says_what_it_does():
    lines = (ROOT / "params.yaml").read_text().splitlines()
    with_value = [line for line in lines if re.match(r"\s*\w+:\s*[^\s#]", line)]
    assert len(with_value) == len(leaves(YAML(typ="safe").load(ROOT / "params.yaml")))
    assert [line for line in with_value if not re.search(r" # \S.{9,}", line)] == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\ndeploy:\n", "\nx:\n", "deploy is missing: add it"),
        ("    r: 16", "    r: 16\n    aplha: 1", "train.lora.aplha is an unknown key: did you mean alpha?"),
        ("    r: 16", "    r: 16\n    quux: 1", "train.lora.quux is an unknown key: remove it, or correct it"),
        ("  workers:", "  filters: {}\n  workers:", "prepare.filters is no longer a setting: remove its line"),
        ("  keywords:", "  outside: x\n  keywords:", "evaluate.outside is an unknown key: did you mean other_speakers"),
        ("epochs: 15", 'epochs: "15"', "train.epochs: input should be a valid integer, found '15'"),
        ("learning_rate: auto", "learning_rate: fast", "train.learning_rate: input should be 'auto', found 'fast'"),
        ("test_fraction: 0.15", "test_fraction: 15", "split.test_fraction: input should be less than 1, found 15"),
        ("[encoder, projector, decoder]", "[encoder, head]", "train.lora.scope.1: input should be 'encoder', 'proj"),
    ],
)
def test_a_mistake_is_named_with_its_key_what_was_found_and_the_fix(edit, old, new, message):
    edit(old, new)
    assert error_of_load().startswith(f"params.yaml: {message}")


def test_values_mean_what_yaml_1_2_says(edit):
    """By YAML 1.1, as in PyYAML, 1e-5 is a string (github.com/yaml/pyyaml/issues/173) and Norwegian `no` false."""
    edit("learning_rate: auto", "learning_rate: 1e-5")
    edit("language: en", "language: no")
    params = load_params()
    assert (params.train.learning_rate, params.prepare.language) == (0.00001, "no")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split.test_fraction": 0.5, "split.validation_fraction": 0.49}, None),
        ({"split.test_fraction": 0.5, "split.validation_fraction": 0.5}, "split.test_fraction + "),
        ({"prepare.max_duration_s": 0.1}, "prepare.min_duration_s must be below prepare.max_duration_s"),
        ({"train.batch_size": "auto", "train.clips_per_update": None}, "train.batch_size auto needs a number"),
    ],
)
def test_settings_fit_together(set_param, changes, words):
    for key, value in changes.items():
        set_param(key, value)
    if words:
        assert error_of_load().startswith(f"params.yaml: {words}")
    else:
        load_params()


def test_a_file_that_is_missing_broken_or_empty_is_one_line(edit):
    edit("epochs: 15 #", "epochs: [15 #")
    lines = Path("params.yaml").read_text().splitlines()
    place = next(number for number, line in enumerate(lines, 1) if "epochs: [15" in line)
    message = error_of_load()
    assert message.startswith("params.yaml is not valid YAML: ") and f"line {place}, column" in message
    Path("params.yaml").write_text("\n".join(lines).replace("[15", "15\n  epochs: 15"))
    assert 'duplicate key "epochs"' in error_of_load()
    for content in ("", "- model\n", "model\n"):
        Path("params.yaml").write_text(content)
        assert "has no sections" in error_of_load()
    Path("params.yaml").unlink()
    assert error_of_load() == "params.yaml is missing: run from the root of the repository"


def test_mistake_in_params_is_one_line_on_the_screen_and_exit_code_1(edit, run_stage):
    edit("epochs: 15", "epoch: 15")
    result = run_stage("split")
    assert result.returncode == 1
    assert len(result.errors) == 1
    assert result.errors[0].startswith("split: params.yaml: train.epochs is missing")
    assert "train.epoch is an unknown key: did you mean epochs?" in result.errors[0]

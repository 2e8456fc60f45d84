"""dvc.yaml against the code: stages, commands, dependencies, settings and outs say what is true."""

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from recorder import erasing
from stages.common import code, paths
from stages.common.code import ROOT
from stages.common.params import Params, TrainParams, load_params

ORDER = ["prepare", "split", "train", "evaluate", "card", "push", "deploy"]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def outs_of(stage: str) -> dict[str, dict]:
    """Outs with their options."""
    found = {}
    for out in STAGES[stage]["outs"]:
        found |= out if isinstance(out, dict) else {out: {}}
    return found


def git(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_stages_are_in_order_and_the_folder_shows_them():
    assert list(STAGES) == ORDER
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"} == set(ORDER)


def test_make_forget_removes_every_folder_of_results():
    folders = {Path(out) for stage in ORDER for out in outs_of(stage)} | {paths.REVIEW}
    assert {folder for folder in folders if folder.parent != paths.RECEIPTS} == set(erasing.RESULTS)


@pytest.mark.parametrize("stage", ORDER)
def test_stage_runs_as_a_module(stage):
    # Run as a file, `import evaluate` would find our own stage. The launcher comes with more than one device. Without
    # exec, a shell that forks for its only command (dash) would outlive a killed DVC, and the stage with it.
    assert STAGES[stage]["cmd"] == f"exec python -m stages.{stage}"


@pytest.mark.parametrize("stage", ORDER)
def test_deps_are_exactly_the_imported_modules_that_decide_a_result(stage):
    """A module that is imported, and neither a dep nor exempt in code.PLUMBING, gives stale results."""
    wanted = {code.file_of(module).relative_to(ROOT).as_posix() for module in code.deciding(f"stages.{stage}")}
    listed = {dep for dep in STAGES[stage]["deps"] if dep.startswith("stages/")}
    assert f"stages/{stage}.py" in listed
    missing, superfluous = sorted(wanted - listed), sorted(listed - wanted)
    assert not missing and not superfluous, f"dvc.yaml, {stage}: missing deps {missing}, superfluous deps {superfluous}"


def test_exempt_modules_are_imported_by_a_stage_and_import_only_exempt_ones():
    imported = set().union(*(code.all_imports(f"stages.{stage}") for stage in ORDER))
    assert set(code.PLUMBING) - imported == set()
    # Else a result could depend on a module by way of one that decides nothing.
    assert set().union(*map(code.all_imports, code.PLUMBING)) - set(code.PLUMBING) == set()


@pytest.mark.parametrize("stage", ["prepare", "split", "card", "push", "deploy"])
def test_stage_loads_no_torch_and_only_modules_that_the_source_names(stage):
    """Asks Python itself, so that an import which `code` does not see is found."""
    program = f"import sys, stages.{stage}; print(*(n for n, m in sys.modules.items() if not hasattr(m, '__path__')))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert f"stages.{stage}" in loaded
    assert {name for name in loaded if name.startswith("stages.")} - code.all_imports(f"stages.{stage}") == set()
    assert not [name for name in loaded if name.split(".")[0] in ("torch", "transformers", "accelerate", "peft")]


@pytest.mark.parametrize("stage", ORDER)
def test_deps_are_files_of_ours_or_come_from_an_earlier_stage(stage):
    deps = STAGES[stage]["deps"]
    assert len(deps) == len(set(deps))
    earlier = [out for other in ORDER[: ORDER.index(stage)] for out in outs_of(other)] + ["data/raw"]
    data = [dep for dep in deps if any(dep == out or dep.startswith(f"{out}/") for out in earlier)]
    assert data
    assert [dep for dep in deps if dep not in data and not (ROOT / dep).is_file()] == []


@pytest.mark.parametrize("stage", ORDER)
def test_every_setting_named_in_dvc_yaml_is_in_the_schema(stage):
    assert stage in STAGES[stage]["params"] + [key.split(".")[0] for key in STAGES[stage]["params"]]
    values = load_params(ROOT / "params.yaml").model_dump()
    for key in STAGES[stage]["params"]:
        value = values
        for part in key.split("."):
            assert part in value, f"dvc.yaml, {stage}: params.yaml has no {key}"
            value = value[part]


def test_every_section_of_params_is_read_by_a_stage_but_that_of_the_page():
    read = {key.split(".")[0] for stage in ORDER for key in STAGES[stage]["params"]}
    assert read | {"recorder"} == set(Params.model_fields) and "recorder" not in read


def test_training_runs_again_for_all_its_settings_but_who_watches_and_who_starts_it():
    named = {key for key in STAGES["train"]["params"] if key.startswith("train.")}
    assert named == {f"train.{name}" for name in TrainParams.model_fields if name not in ("tracking", "launcher")}
    assert all("model" in STAGES[stage]["params"] for stage in ("train", "evaluate"))


@pytest.mark.parametrize("stage", ["push", "deploy"])
def test_publishing_stage_runs_always_and_its_receipt_is_never_restored(stage):
    # A stage with cached outs can be skipped from the run cache: push A, push B, back to A would send nothing.
    assert STAGES[stage]["always_changed"] is True
    assert outs_of(stage) == {f"data/receipts/{stage}.json": {"cache": False}}


@pytest.mark.parametrize("stage", ORDER[:5])
def test_other_stages_run_only_when_something_changed(stage):
    assert "always_changed" not in STAGES[stage]
    assert all(options.get("cache", True) for options in outs_of(stage).values())


def test_one_stage_writes_one_folder():
    outs = [out for stage in ORDER for out in outs_of(stage)]
    assert len(outs) == len(set(outs)) == 7
    assert not any(one != other and one.startswith(f"{other}/") for one in outs for other in outs)


@pytest.mark.parametrize(
    "path",
    [
        *(out for stage in ORDER for out in outs_of(stage)),
        "data/raw",
        "data/inbox",
        ".cache/x",
        "data/.prepared-x/audio/1.flac",
    ],
)
def test_git_ignores_what_stages_and_people_write(path):
    if git("rev-parse").returncode != 0:
        pytest.skip("this copy of the project has no git repository")
    assert git("check-ignore", "--quiet", path).returncode == 0

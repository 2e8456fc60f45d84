"""dvc.yaml against the code: stages, commands, dependencies, settings and outs say what is true."""

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from recorder import erasing
from stages.common import code, paths
from stages.common.code import ROOT
from stages.common.params import Params, TrainParams

ORDER = ["prepare", "split", "train", "evaluate", "card", "push", "deploy"]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def outs_of(stage: str) -> dict[str, dict]:
    """Outs with their options."""
    found = {}
    for out in STAGES[stage]["outs"]:
        found |= out if isinstance(out, dict) else {out: {}}
    return found


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


UNUSED = {
    "bitsandbytes", "boto3", "datasets", "pandas", "scipy", "sklearn", "matplotlib", "librosa", "gradio", "streamlit",
    "trackio", "stages.hub.sources",
}  # fmt: skip
HEAVY = UNUSED | {"torch", "transformers", "accelerate", "peft", "mistral_common", "huggingface_hub"}
NOT_LOADED = {"train": UNUSED, "card": HEAVY - {"huggingface_hub"}}


@pytest.mark.parametrize("stage", ["prepare", "split", "card", "push", "deploy", "train"])
def test_stage_loads_no_library_that_it_does_not_use_and_only_modules_that_the_source_names(stage):
    """Seconds at each start, a Hub that is asked nothing, and a dep of dvc.yaml that `code` does not see."""
    program = f"import sys, stages.{stage}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert f"stages.{stage}" in loaded
    ours = {name for name in loaded if name.startswith("stages.") and not (ROOT / name.replace(".", "/")).is_dir()}
    assert ours - code.all_imports(f"stages.{stage}") == set()
    assert loaded & NOT_LOADED.get(stage, HEAVY) == set()


def test_every_section_of_params_is_read_by_a_stage_but_that_of_the_page():
    read = {key.split(".")[0] for stage in ORDER for key in STAGES[stage]["params"]}
    assert read | {"recorder"} == set(Params.model_fields) and "recorder" not in read


def test_training_runs_again_for_all_its_settings_but_who_watches_and_who_starts_it():
    named = {key for key in STAGES["train"]["params"] if key.startswith("train.")}
    assert named == {f"train.{name}" for name in TrainParams.model_fields if name not in ("tracking", "launcher")}
    assert all("model" in STAGES[stage]["params"] for stage in ("train", "evaluate"))


@pytest.mark.parametrize("stage", ORDER)
def test_stages_that_publish_run_always_and_no_receipt_is_restored_and_others_run_when_something_changed(stage):
    # A stage with cached outs can be skipped from the run cache: push A, push B, back to A would send nothing.
    publishes = stage in ("push", "deploy")
    assert STAGES[stage].get("always_changed", False) is publishes
    assert all(options.get("cache", True) is not publishes for options in outs_of(stage).values())


def test_git_ignores_what_stages_and_people_write():
    if subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True).returncode != 0:
        pytest.skip("this copy of the project has no git repository")
    written = [*(out for stage in ORDER for out in outs_of(stage)), "data/raw", "data/inbox", ".cache/x"]
    written += ["data/.prepared-x/audio/1.flac", str(paths.PSEUDONYMS)]
    command = ["git", "check-ignore", *written]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines() == written

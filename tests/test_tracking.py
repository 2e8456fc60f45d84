"""Tracking: figures arrive in trackio's own store, and a tracker that fails stops nothing."""

import json
import os
import subprocess
import sys

from transformers import TrainerControl, TrainerState, TrainingArguments

from stages.common.params import TrackingParams
from stages.voxtral.tracking import Tracker
from tests.workspaces import ROOT

PARAMS = TrackingParams(enabled=True, project="tests", space_id=None)


def test_failing_tracker_warns_once_and_stops_no_training(tmp_path, caplog):
    tracker = Tracker(PARAMS, "run", {})
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)

    class Unreachable:
        def log(self, *args, **kwargs):
            raise ConnectionError("the Space sleeps")

    tracker.trackio = Unreachable()
    for _ in range(3):
        tracker.on_log(arguments, TrainerState(), TrainerControl(), logs={"loss": 1.0})
    assert [record.message for record in caplog.records] == [
        "tracking stopped, training continues: ConnectionError: the Space sleeps"
    ]


TRACKED_RUN = """
import sys
from transformers import TrainerControl, TrainerState, TrainingArguments
from stages.common.params import TrackingParams
from stages.voxtral.tracking import Tracker
tracker = Tracker(TrackingParams(enabled=True, project="tests", space_id=None), "a-run", {"epochs": 2})
arguments, state, control = TrainingArguments(output_dir=sys.argv[1], use_cpu=True), TrainerState(), TrainerControl()
tracker.on_train_begin(arguments, state, control)
state.global_step, state.epoch = 5, 1.0
tracker.on_log(arguments, state, control, logs={"loss": 0.5, "learning_rate": 0.001})
tracker.on_log(arguments, state, control, logs={"eval_loss": 0.4, "eval_wer": 0.25, "eval_perplexity": 1.49})
tracker.on_train_end(arguments, state, control)
from trackio.sqlite_storage import SQLiteStorage
import json
print("LOGGED", json.dumps(SQLiteStorage.get_logs("tests", "a-run"), default=str))
"""


def test_loss_wer_perplexity_and_rate_arrive_on_this_machine(tmp_path):
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    # Of another project: where space_id is null, nothing may leave this machine.
    environment |= {"TRACKIO_SPACE_ID": "someone/elsewhere", "TRACKIO_SERVER_URL": "http://127.0.0.1:9"}
    result = subprocess.run(
        [sys.executable, "-c", TRACKED_RUN, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr[-2000:]
    logged = json.loads(result.stdout.split("LOGGED ")[1])
    values = {name: value for row in logged for name, value in row.items()}
    expected = {"loss": 0.5, "learning_rate": 0.001, "validation/loss": 0.4, "validation/wer": 0.25}
    assert {name: values.get(name) for name in expected} == expected
    assert values["validation/perplexity"] == 1.49

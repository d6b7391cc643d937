"""A run that is killed again and again around W&B's calls has each round there exactly once."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from cli import QUIET, ROOT
from wandb_files import inspect

PLACES = ["named", "opened", "logged 1", "written 1", "written 2", "logged 3"]
PLACES += ["ending", "ended", "finished"]
LOGGER = """\
defaults:
  - wandb
  - _self_
_target_: wandb_kills.KilledLog
"""


@pytest.mark.slow
def test_kills_at_every_step_of_logging_leave_each_round_once_under_one_id(folder):
    (folder / "conf" / "logger").mkdir(parents=True)
    (folder / "conf" / "logger" / "killed.yaml").write_text(LOGGER)
    here = Path(__file__).parent
    command = [sys.executable, here / "wandb_kills.py", folder, *PLACES, "--"]
    command += ["--config-dir", folder / "conf", "logger=killed", "rounds=2", "steps=5", *QUIET]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{here}"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = (folder / "run.log").read_text()
    assert ended.stdout.splitlines() == [*(f"{place} -9" for place in PLACES), "done 0"], said

    found = [e for file in folder.glob("run/wandb/offline-run-*/*.wandb") for e in inspect(file)]
    assert len({entry["run"]["run_id"] for entry in found if entry["type"] == "run"}) == 1
    history = [entry["history"]["item"] for entry in found if entry["type"] == "history"]
    assert Counter(row["_step"] for row in history) == {0: 1, 1: 1, 2: 1, 3: 1}
    rounds = {row["_step"]: row["n_labelled"] for row in history if "test/nll" in row}
    assert rounds == {0: 20, 1: 30, 2: 40}
    assert [e["exit"]["exit_code"] for e in found if e["type"] == "exit"] == [0]
    assert said.count("logging the end of this run, which W&B does not have") in (3, 4)

"""Runs that are killed and continued end like one that was not, bit for bit."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest
from cli import QUIET, ROOT

sys.path.insert(0, str(ROOT / "scripts"))  # where the script finds its package

from kills.comparing import Outcome, differences, phase

ROUND = {"round": 0, "test/accuracy": 0.5, "acquired": [3, 1]}
WANTED = Outcome([ROUND, {**ROUND, "round": 1}], ids=1, logged={0: 1, 1: 1, 2: 1}, ended=True)


def kill_runs(folder, *arguments):
    command = [sys.executable, ROOT / "scripts" / "kill_runs.py", "--out", folder, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_25_kills_at_random_times_change_nothing(folder):
    job = ["rounds=3", "steps=10", *QUIET]
    ended = kill_runs(folder / "kills", "--fork", "--kills", "25", "--", *job)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"^25 kills of \d+ runs, 0 differences$", ended.stdout, re.MULTILINE)


@pytest.mark.slow
def test_a_kill_at_each_moment_of_writing_changes_nothing(folder):
    ended = kill_runs(folder / "kills", "--moments", "--", "rounds=1", "steps=5", "logger=none")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (count,) = re.findall(r"^(\d+) kills of \1 runs, 0 differences$", ended.stdout, re.MULTILINE)
    assert int(count) >= 30
    moments = (folder / "kills" / "moments.moments").read_text().splitlines()
    for file in ("state/weights-0001.pt.partial", "rounds.jsonl", "state/pool.json.partial"):
        assert {f"open {file}", f"half of {file}", f"fsync {file}"} <= {*moments}


@pytest.mark.slow
def test_a_run_that_ends_otherwise_is_told_with_what_differs(folder):
    draws = "seed='${oc.decode:${now:1%f}}'"  # another seed in each process
    job = ["rounds=0", "steps=5", "logger=none", draws]
    ended = kill_runs(folder / "kills", "--fork", "--kills", "1", "--", *job)
    assert ended.returncode == 1
    assert re.search(r"^1 kills of \d+ runs, [1-9] differences$", ended.stdout, re.MULTILINE)
    assert "\nkilled-00" in ended.stdout


def test_a_job_that_fails_undisturbed_is_no_measure_of_kills(folder):
    ended = kill_runs(folder / "kills", "--", "strategy=bold")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: the undisturbed run ended with 1, see ")


def test_runs_of_before_are_not_touched(folder):
    (folder / "kills").mkdir()
    (folder / "kills" / "mine").touch()
    ended = kill_runs(folder / "kills")
    assert ended.returncode == 1
    assert "is not empty; delete it, or choose another --out" in ended.stderr


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"rounds": WANTED.rounds[:1]}, "1 lines in rounds.jsonl instead of 2"),
        (
            {"rounds": [{**ROUND, "test/accuracy": 0.5000000001}, WANTED.rounds[1]]},
            "round 0: test/accuracy differ",
        ),
        (
            {"rounds": [WANTED.rounds[0], {**WANTED.rounds[1], "acquired": [1, 3]}]},
            "round 1: acquired differ",
        ),
        ({"ids": 2}, "W&B's ids: 2 instead of 1"),
        ({"logged": {0: 1, 1: 2, 2: 1}}, "W&B's logged: {0: 1, 1: 2, 2: 1} instead of"),
        ({"logged": {0: 1, 2: 1}}, "W&B's logged: {0: 1, 2: 1} instead of"),
        ({"ended": False}, "W&B's ended: False instead of True"),
    ],
)
def test_each_difference_is_seen(change, line):
    assert differences(WANTED, WANTED) == []
    (found,) = differences(WANTED, dataclasses.replace(WANTED, **change))
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, "in the first round"),
        ({"state/weights-0000.pt": ""}, "between two files"),
        ({"state/weights-0000.pt.partial": ""}, "in a file"),
        ({"rounds.jsonl": '{"acquired": [1]}\n{"acq'}, "in a file"),
        ({"rounds.jsonl": '{"acquired": [1]}\n', "state/weights-0000.pt": ""}, "in a later round"),
        ({"rounds.jsonl": '{"acquired": []}\n'}, "after the last round"),
    ],
)
def test_the_phase_of_a_kill_is_told_from_the_files(tmp_path, files, wanted):
    (tmp_path / "state").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert phase(tmp_path, "bald digits-cnn seed=0") == wanted
    assert phase(tmp_path, "") == "before it spoke"

"""The command that writes a report, from runs of the command that makes them."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from cli import ROOT

SHORT = ["rounds=2", "steps=5", "logger=none"]
COMMAND = [sys.executable, ROOT / "scripts/report.py"]


def report(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, env=environment
    )


@pytest.mark.slow
def test_a_sweep_becomes_a_report(train, folder):
    ended = train("-m", "strategy=random,margin", "seed=range(2)", *SHORT)
    assert ended.code == 0, ended.err
    (folder / "runs/default/digits-cnn/margin/seed=1/rounds.jsonl").unlink()
    written = report("runs", "--out", "report", "--targets", ".05,.99")
    assert written.returncode == 0, written.stderr
    summary = pd.read_csv("report/summary.csv").set_index("strategy")
    assert dict(summary["n_seeds"]) == {"random": 2, "margin": 1}
    assert set(summary["labels_to_0.99"]) == {float("inf")}
    assert set(summary["labels_to_0.05"]) == {20.0}
    page = (folder / "report/index.html").read_text()
    assert 'http-equiv="refresh"' not in page
    assert "margin: seed 1 is missing" in page
    assert "margin: seed 1 is missing" in written.stdout
    assert written.stdout.splitlines()[-1] == "report   report/index.html"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent"], "no run with a finished round below"),
        (["."], "no run with a finished round below"),
    ],
)
def test_without_runs_there_is_one_line_and_no_report(arguments, said, folder):
    ended = report(*arguments)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (folder / "report").exists()


@pytest.mark.parametrize("options", [["--targets", ".9,x"], ["--watch", "0"]])
def test_options_that_are_no_numbers_are_refused(options, folder):
    ended = report("runs", *options)
    assert ended.returncode == 2
    assert "wanted" in ended.stderr


@pytest.mark.slow
def test_watching_writes_again_when_a_run_goes_on_and_ends_with_ctrl_c(train, folder):
    assert train("strategy=random", *SHORT).code == 0
    run = folder / "runs/default/digits-cnn/random/seed=0/rounds.jsonl"
    whole = run.read_bytes()
    run.write_bytes(whole.splitlines(keepends=True)[0])
    command = [*COMMAND, "runs", "--watch", "0.2"]
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert "waiting: none of 1 runs is finished" in watching.stdout.readline()
        run.write_bytes(whole)
        page, deadline = folder / "report/index.html", time.monotonic() + 120
        while not page.exists() and time.monotonic() < deadline:
            assert watching.poll() is None, watching.stderr.read()
            time.sleep(0.1)
        assert 'http-equiv="refresh"' in page.read_text()
    finally:
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=60)
    assert watching.returncode == 0

"""Sweeps, and the curves drawn from what they leave."""

import subprocess
import sys

import pytest
from cli import ROOT

SHORT = ["rounds=1", "steps=5", "logger=none"]


def plot(*arguments):
    command = [sys.executable, ROOT / "scripts/plot_curves.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_sweep_leaves_one_folder_per_job_and_the_curves_have_all_seeds(train, folder):
    ended = train("-m", "strategy=random,margin,bald", "seed=range(2)", *SHORT)
    assert ended.code == 0, ended.err
    assert len(list((folder / "runs/default/digits-cnn").glob("*/seed=*/rounds.jsonl"))) == 6
    drawn = plot("runs/default")
    assert drawn.returncode == 0, drawn.stderr
    rows = {line.split()[0]: line.split() for line in drawn.stdout.splitlines()}
    assert {rows[name][1] for name in ("random", "margin", "bald")} == {"2"}
    assert (folder / "runs/default/curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_joblib_launcher_gives_what_the_basic_one_gives(folder, train, records):
    jobs = ["-m", "strategy=random,margin", *SHORT]
    assert train(*jobs, "name=basic").code == 0
    command = [sys.executable, ROOT / "train.py", *jobs, "name=joblib", "hydra/launcher=joblib"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for strategy in ("random", "margin"):
        basic, joblib = (records(f"{n}/digits-cnn/{strategy}/seed=0") for n in ("basic", "joblib"))
        assert [r["acquired"] for r in basic] == [r["acquired"] for r in joblib]
        assert [r["test/nll"] for r in basic] == [r["test/nll"] for r in joblib]


def test_a_failed_job_does_not_lose_the_others_and_the_sweep_fails(train, folder):
    ended = train("-m", "model=linear,cnn", "strategy=entropy", *SHORT)
    assert ended.code == 1
    assert "error in entropy digits-linear seed=0" in ended.err
    assert (folder / "runs/default/digits-cnn/entropy/seed=0/rounds.jsonl").exists()


def test_a_folder_without_runs_is_refused_by_the_curves(folder):
    drawn = plot(str(folder))
    assert drawn.returncode == 1
    assert drawn.stderr.startswith("error: no finished round")

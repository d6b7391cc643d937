"""Sweeps: what is told of them at their end, and what a second one finds done."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli import ROOT
from slurm_cluster import wait_until

SHORT = ["rounds=1", "steps=5", "logger=none"]
REPORT = "next    python scripts/report.py runs/default --out report/"


@pytest.fixture
def launch(folder):
    """Start a sweep in a process of its own."""

    def start(*arguments):
        command = [sys.executable, "-u", ROOT / "train.py", "-m", *arguments]
        environment = dict(os.environ)
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    return start


def told(out):
    """The line that counts what became of the jobs, without its time."""
    (line,) = [line for line in out.splitlines() if line.startswith("sweep   ")]
    return re.sub(r"; [0-9 a-z]+$", "", line.removeprefix("sweep").strip())


def runs(folder, name="default"):
    files = sorted((folder / "runs" / name).glob("*/*/seed=*/rounds.jsonl"))
    return {str(file.parent.relative_to(folder / "runs" / name)): file for file in files}


def results(folder, name):
    """What does not depend on the clock of each run's rounds."""
    kept = ("acquired", "acquired_labels", "test/accuracy", "test/nll", "n_labelled")
    return {
        run: [
            {key: json.loads(line)[key] for key in kept} for line in file.read_text().splitlines()
        ]
        for run, file in runs(folder, name).items()
    }


def test_a_sweep_leaves_one_folder_per_job_and_says_what_ran_and_what_to_type_next(train, folder):
    ended = train("-m", "strategy=random,margin,bald", "seed=range(2)", *SHORT)
    assert ended.code == 0, ended.err
    assert len(runs(folder)) == 6
    assert told(ended.out) == "6 runs: 6 ran"
    assert ended.out.splitlines()[-1] == REPORT
    assert "[1/6] random digits-cnn seed=0  20 labelled" in ended.out
    assert "[6/6] bald digits-cnn seed=1  done  30 labels" in ended.out
    assert "wandb" not in ended.out
    assert ended.err == ""
    assert not list(folder.rglob(".sweep"))


def test_the_same_sweep_again_finds_all_complete_before_torch_data_or_logs_are_touched(
    train, folder, edge, monkeypatch
):
    sweep = ["-m", "strategy=random,margin", *SHORT]
    assert train(*sweep).code == 0
    before = {file: file.stat().st_mtime_ns for file in runs(folder).values()}
    monkeypatch.setattr(edge, "experiment", lambda *_, **__: 1 / 0)
    ended = train(*sweep)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[:2] == [
        "[1/2] random digits-cnn seed=0  complete, 30 labels",
        "[2/2] margin digits-cnn seed=0  complete, 30 labels",
    ]
    assert told(ended.out) == "2 runs: 2 already complete"
    assert {file: file.stat().st_mtime_ns for file in runs(folder).values()} == before


def test_a_complete_run_is_found_without_loading_torch(train, folder):
    sweep = ["-m", "strategy=random", *SHORT]
    assert train(*sweep).code == 0
    (folder / "torch.py").write_text("raise ImportError('torch is not wanted')\n")
    command = [sys.executable, ROOT / "train.py", *sweep]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert told(ended.stdout) == "1 runs: 1 already complete"


def test_a_run_with_another_setting_or_a_changed_file_is_not_taken_for_complete(train, folder):
    assert train("-m", *SHORT).code == 0
    ended = train("-m", *SHORT, "query_size=5")
    assert ended.code == 1
    assert "query_size (10 -> 5)" in ended.out
    (file,) = runs(folder).values()
    file.write_text(file.read_text().replace('"n_labelled": 30', '"n_labelled": 31'))
    ended = train("-m", *SHORT)
    assert ended.code == 1
    assert "rounds.jsonl is damaged in line 2" in ended.out


def test_a_failed_job_does_not_lose_the_others_and_is_named_with_its_reason(train, folder):
    ended = train("-m", "model=linear,cnn", "strategy=entropy,random", *SHORT)
    assert ended.code == 1
    reason = "MC dropout needs a torch.nn.Dropout layer with p > 0 and the network has none"
    assert f"error in [1/4] entropy digits-linear seed=0: {reason}" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert f"failed  entropy digits-linear seed=0: {reason}" in ended.out
    assert told(ended.out) == "4 runs: 3 ran, 1 failed"
    assert len(runs(folder)) == 3
    (folder / "runs/default/digits-linear/entropy/seed=0/state/data.json").unlink()
    again = train("-m", "model=linear,cnn", "strategy=entropy,random", *SHORT)
    assert told(again.out) == "4 runs: 3 already complete, 1 failed"


def test_an_interrupted_sweep_says_what_was_done_so_far(train, folder, edge, monkeypatch):
    def experiment(config, directory, title, *, sweep):
        if "seed=1" in title:
            raise KeyboardInterrupt
        return real(config, directory, title, sweep=sweep)

    real = edge.experiment
    monkeypatch.setattr(edge, "experiment", experiment)
    ended = train("-m", "seed=range(3)", *SHORT)
    assert ended.code == 130
    assert told(ended.out) == "3 runs: 1 ran, 1 interrupted, 1 not begun"
    assert "again   the same command runs what is missing" in ended.out
    assert ended.err.startswith("interrupted; the same command continues")


def test_a_sweep_over_names_is_summed_up_for_the_folder_above_them(train, folder):
    ended = train("-m", "name=a,b", *SHORT)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == REPORT.replace("runs/default", "runs")


@pytest.mark.parametrize(
    ("swept", "name"),
    [
        (["batch_size=8,16"], "batch_size_${batch_size}"),
        (
            ["query_size=range(5,7)", "val_size=0,9"],
            "query_size_${query_size}_val_size_${val_size}",
        ),
    ],
)
def test_jobs_that_would_share_a_directory_are_refused_and_the_remedy_works(
    train, folder, swept, name
):
    ended = train("-m", *swept, *SHORT)
    assert ended.code == 1
    assert ended.err.startswith("error: jobs that differ in ")
    assert ended.err.endswith(f"add 'name={name}' with the quotes to give each its own\n")
    assert not list(folder.iterdir())
    ended = train("-m", *swept, f"name={name}", *SHORT)
    assert ended.code == 0, ended.err
    jobs = 2 ** len(swept)
    assert told(ended.out) == f"{jobs} runs: {jobs} ran"
    assert len({*folder.rglob("rounds.jsonl")}) == jobs


def test_variants_of_a_strategy_become_strategies_of_one_setting(train, folder):
    power = ["strategy=power", "strategy@score=entropy,variation_ratios", "strategy.beta=1,8"]
    ended = train("-m", *power, *SHORT)
    (subdir,) = re.findall(r"add '(hydra.sweep.subdir=.*)' with the quotes", ended.err)
    assert not list(folder.iterdir())
    ended = train("-m", *power, *SHORT, subdir)
    assert ended.code == 0, ended.err
    assert set(runs(folder)) == {
        f"digits-cnn/power_score_{score}_beta_{beta}/seed=0"
        for score in ("entropy", "variation_ratios")
        for beta in (1, 8)
    }


@pytest.mark.parametrize(
    "swept",
    [
        ["stopping=[budget]", "stopping.budget.limit=25,60"],  # no folder can follow what is ???
        ["scenario=[long_tail],[redundant]"],  # nor what is more than a word
    ],
)
def test_where_no_folder_can_follow_one_sweep_each_is_asked_for(train, folder, swept):
    ended = train("-m", *swept, *SHORT)
    assert ended.code == 1
    assert ended.err.endswith("start one sweep for each value, with a name=... of its own\n")
    assert not list(folder.iterdir())


def test_a_value_that_is_swept_twice_is_named(train, folder):
    ended = train("-m", "strategy=bald,random,bald", *SHORT)
    assert ended.err == "error: strategy is swept over bald twice; name each value once\n"
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "subdir", ["${hydra:job.num}", "${batch_size}", "${hydra:job.override_dirname}"]
)
def test_jobs_whose_directories_differ_may_sweep_anything(train, folder, subdir):
    ended = train("-m", "batch_size=8,16", *SHORT, f"hydra.sweep.subdir={subdir}")
    assert ended.code == 0, ended.err
    assert told(ended.out) == "2 runs: 2 ran"


def test_a_sweep_that_hydra_refuses_says_so_in_one_line_and_starts_nothing(train, folder):
    ended = train("-m", "strategy=random,bal", *SHORT)
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert "did you mean bald?" in ended.err
    assert ended.out == ""
    assert runs(folder) == {}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_other_launchers_give_what_the_basic_one_gives_and_lose_no_job_by_a_failed_one(
    folder, train, launch, launcher
):
    jobs = ["strategy=entropy,random", "model=linear,cnn", *SHORT]
    basic = train("-m", *jobs, "name=basic")
    other = launch(*jobs, "name=other", f"hydra/launcher={launcher}")
    out, err = other.communicate(timeout=300)
    assert other.returncode == 1, err
    assert told(out) == told(basic.out) == "4 runs: 3 ran, 1 failed"
    assert "failed  entropy digits-linear seed=0: MC dropout needs" in out
    assert "python scripts/report.py runs/other --out report/" in out
    assert results(folder, "basic") == results(folder, "other") != {}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_killed_on_its_way_is_finished_by_the_same_command_with_nothing_lost(
    folder, train, launch, launcher
):
    jobs = ["strategy=random,margin", "seed=range(3)", "rounds=2", "steps=20", "logger=none"]
    sweep = [*jobs, "name=killed", f"hydra/launcher={launcher}"]
    first = launch(*sweep)
    wait_until(lambda: done(folder, "killed") >= 2, "two complete runs", 120)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    before = done(folder, "killed")
    assert before < 6
    second = launch(*sweep)
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    assert told(out) == f"6 runs: {6 - before} ran, {before} already complete"
    assert train("-m", *jobs, "name=whole").code == 0
    assert results(folder, "killed") == results(folder, "whole")
    assert not list(folder.rglob(".sweep"))


def done(folder: Path, name: str) -> int:
    return len(list((folder / "runs" / name).glob("*/*/seed=*/state/complete.json")))

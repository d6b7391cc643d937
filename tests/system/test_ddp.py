"""`trainer=ddp`: one command, two processes, one run."""

import json
import os
import subprocess
import sys

import pytest
from cli import QUIET, ROOT
from processes import SECONDS, TORCHRUN

SHORT = ["rounds=2", "query_size=5", "steps=10", "strategy=bald", "trainer.accelerator=cpu"]


def start(folder, *arguments, by=(), **more):
    return subprocess.run(
        [sys.executable, *by, str(ROOT / "train.py"), *SHORT, *arguments], cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"} | more,
        capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip


def rounds(folder, name):
    file = folder / f"runs/{name}/digits-cnn/bald/seed=0/rounds.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_make_one_run_whoever_starts_them(folder):
    ended = start(folder, "trainer=ddp", "name=own", *QUIET)
    assert ended.returncode == 0, ended.stderr
    for line in ("round   0", "round   2", "wandb  offline", "run    runs/own"):
        assert ended.stdout.count(line) == 1
    run = folder / "runs/own/digits-cnn/bald/seed=0"
    assert len(list((run / "wandb").glob("offline-run-*"))) == 1
    assert not list(run.rglob("*.partial"))

    by = start(folder, "trainer=ddp", "name=torchrun", "logger=none", by=TORCHRUN)
    assert by.returncode == 0, by.stderr
    assert by.stdout.count("round   1") == 1
    for one, other in zip(rounds(folder, "own"), rounds(folder, "torchrun"), strict=True):
        for key in ("acquired", "acquired_labels", "scores", "test/accuracy", "test/nll"):
            assert one[key] == other[key]
    again = start(folder, "trainer=ddp", "name=own", *QUIET)
    assert (again.returncode, again.stdout.count("already complete")) == (0, 1)


@pytest.mark.slow
def test_untrained_weights_choose_alike_on_one_and_on_two(folder):
    same = ["optimizer.lr=1e-30", "logger=none"]
    ended = start(folder, "trainer=ddp", "name=two", *same)
    assert ended.returncode == 0, ended.stderr
    ended = start(folder, "trainer=cpu", "name=one", *same)
    assert ended.returncode == 0, ended.stderr
    for two, one in zip(rounds(folder, "two"), rounds(folder, "one"), strict=True):
        assert (two["acquired"], two["scores"]) == (one["acquired"], one["scores"])
        assert two["test/accuracy"] == pytest.approx(one["test/accuracy"], abs=1e-6)
        assert two["test/nll"] == pytest.approx(one["test/nll"], rel=1e-5)


@pytest.mark.slow
def test_the_first_process_says_why_a_run_ends(folder):
    run = folder / "runs/default/digits-cnn/bald/seed=0"
    run.mkdir(parents=True)
    (run / "rounds.jsonl").write_text("nonsense\n")
    ended = start(folder, "trainer=ddp", "logger=none")
    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("error: runs/default/digits-cnn/bald/seed=0/config.yaml is damaged")


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork"])
def test_processes_that_give_nothing_back_are_refused(train, strategy):
    ended = train(*SHORT, "logger=none", f"trainer.strategy={strategy}", "trainer.devices=2")
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("error: trainer.strategy must be ddp: processes of ddp_spawn")


def test_a_sweep_whose_jobs_would_start_processes_is_refused(train, folder):
    ended = train("-m", *SHORT, "logger=none", "trainer=ddp", "seed=0,1")
    assert ended.code == 1
    assert (
        ended.err.count("a job of a sweep cannot start 2 processes; use hydra/launcher=slurm") >= 2
    )
    assert not list((folder / "runs").rglob("rounds.jsonl"))


def test_torchrun_without_ddp_says_what_to_add(folder):
    ended = start(folder, "trainer=cpu", "logger=none", RANK="0", WORLD_SIZE="2", LOCAL_RANK="0")
    assert ended.returncode == 1
    assert "2 processes were started" in ended.stderr
    assert "use trainer=ddp trainer.devices=2" in ended.stderr

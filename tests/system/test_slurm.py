"""Sweeps on a real SLURM: jobs that are pre-empted, run out of time or are cancelled."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli import QUIET, ROOT
from slurm_cluster import started, wait_until

pytestmark = pytest.mark.slow
STRATEGIES = ("random", "bald", "entropy")
JOB = ["rounds=2", "steps=10"]
SMALL = ["gpus_per_node=null", "cpus_per_task=1", "mem_gb=1"]
LINE = "stopped by {}; the same command continues after the last finished round"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    yield from started(tmp_path_factory.mktemp("cluster"))


class Sweep:
    """`python train.py -m hydra/launcher=slurm` in a folder of its own."""

    def __init__(self, cluster, folder: Path, strategies, waiting):
        self.cluster, self.folder, self.place = cluster, folder, folder / "waiting"
        self.strategies = list(strategies)
        self.place.mkdir()
        for strategy in waiting:
            (self.place / strategy).touch()
        logger = folder / "conf" / "logger"
        logger.mkdir(parents=True)
        (logger / "waiting.yaml").write_text(
            f"defaults: [wandb]\n_target_: waiting_log.WaitingLog\nplace: {self.place}\n"
        )
        launcher = [f"hydra.launcher.{setting}" for setting in SMALL]
        command = [
            sys.executable, str(ROOT / "train.py"), "-m", f"--config-dir={folder / 'conf'}",
            "hydra/launcher=slurm", *launcher, "logger=waiting", *QUIET, *JOB,
            f"strategy={','.join(self.strategies)}",
        ]  # fmt: skip
        own = {
            "HOME": str(folder),
            "PYTHONPATH": f"{Path(__file__).parent}:{ROOT}",
            "WANDB_MODE": "offline",
        }
        own |= {f"WANDB_{n}_DIR": str(folder / "wandb") for n in ("CACHE", "DATA", "CONFIG")}
        self.out = folder / "launcher.out"
        with self.out.open("w") as out:
            self.launcher = subprocess.Popen(
                command, cwd=folder, env=os.environ | cluster.environment | own,
                stdout=out, stderr=out,
            )  # fmt: skip

    def __enter__(self):
        wait_until(lambda: self.launcher.poll() is not None or self.submissions(), "submission")
        assert self.submissions(), self.out.read_text()
        self.number = self.submissions()[0].parent.name.partition("_")[0]
        return self

    def __exit__(self, *error):
        self.launcher.kill()
        self.launcher.wait()

    @property
    def submitted(self) -> Path:
        return self.folder / "runs/default/.submitit"

    def submissions(self) -> list[Path]:
        return list(self.submitted.glob("*/*_submitted.pkl"))

    def name(self, strategy: str) -> str:
        several = len(self.strategies) > 1
        return f"{self.number}_{self.strategies.index(strategy)}" if several else self.number

    def job(self, strategy: str) -> dict[str, str]:
        return self.cluster.job(self.name(strategy))

    def log(self, strategy: str, stream: str) -> str:
        name = self.name(strategy)
        return (self.submitted / name / f"{name}_0_log.{stream}").read_text()

    def until(self, strategy: str, *states: str) -> None:
        what = f"{strategy} to be {states}"
        wait_until(lambda: self.job(strategy)["JobState"] in states, what, 120)

    def until_it_waits(self, strategy: str) -> None:
        file = self.place / f"{strategy} waits"
        ended = self.launcher.poll
        wait_until(lambda: file.exists() or ended() is not None, f"round 1 of {strategy}", 120)
        assert file.exists(), self.out.read_text()

    def start_again(self, strategy: str) -> None:
        """Not after the two minutes for which SLURM holds what was requeued."""
        (self.place / strategy).unlink()
        self.cluster.call("scontrol", "update", f"jobid={self.name(strategy)}", "StartTime=now")

    def rounds(self, strategy: str) -> list[dict]:
        file = self.folder / f"runs/default/digits-cnn/{strategy}/seed=0/rounds.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def sweep(cluster, tmp_path_factory):
    """Three jobs: one left alone, one pre-empted while it trains, one signalled as out of time."""
    folder = tmp_path_factory.mktemp("sweep")
    with Sweep(cluster, folder, STRATEGIES, waiting=("bald", "entropy")) as sweep:
        for strategy in ("bald", "entropy"):
            sweep.until_it_waits(strategy)
        cluster.call("scancel", "--signal=USR2", sweep.name("entropy"))
        sweep.until("entropy", "PENDING")
        sweep.until("random", "COMPLETED")
        cluster.call("sbatch", "--partition=high", "--cpus-per-task=4", "--output=/dev/null",
                     "--wrap=true")  # fmt: skip
        sweep.until("bald", "PENDING")
        for strategy in ("bald", "entropy"):
            sweep.start_again(strategy)
        sweep.code = sweep.launcher.wait(120)
    return sweep


def test_a_sweep_with_a_preempted_job_ends_as_if_nothing_had_happened(sweep, train, records):
    assert sweep.code == 0, sweep.out.read_text()
    assert train("-m", f"strategy={','.join(STRATEGIES)}", "logger=none", *JOB).code == 0
    for strategy in STRATEGIES:
        expected = records(f"default/digits-cnn/{strategy}/seed=0")
        rounds = sweep.rounds(strategy)
        assert [r["acquired"] for r in rounds] == [r["acquired"] for r in expected]
        tested = [[v for k, v in r.items() if k.startswith("test/")] for r in rounds]
        assert tested == [[v for k, v in r.items() if k.startswith("test/")] for r in expected]


def test_preemption_and_the_signal_of_the_time_limit_each_stop_and_requeue_a_job_once(sweep):
    for strategy, restarts in (("random", "0"), ("bald", "1"), ("entropy", "1")):
        assert sweep.job(strategy)["Restarts"] == restarts
    assert sweep.log("bald", "err").splitlines().count(LINE.format("SIGTERM")) == 1
    assert sweep.log("entropy", "err").splitlines().count(LINE.format("SIGUSR2")) == 1
    assert "stopped" not in sweep.log("random", "err")


def test_a_requeued_job_continues_after_its_last_round(sweep):
    for strategy in ("bald", "entropy"):
        assert sweep.log(strategy, "out").count("round   0 ") == 1


def test_lightning_leaves_no_checkpoint_of_its_own_requeueing(sweep):
    assert not list(sweep.folder.rglob("hpc_ckpt*"))


def test_a_cancelled_job_closes_its_run_and_is_not_requeued(cluster, tmp_path):
    with Sweep(cluster, tmp_path, ["margin"], waiting=["margin"]) as sweep:
        sweep.until_it_waits("margin")
        sweep.launcher.send_signal(signal.SIGINT)
        assert sweep.launcher.wait(120) == 130
        assert sweep.job("margin")["JobState"] == "RUNNING"
        cluster.call("scancel", sweep.name("margin"))
        sweep.until("margin", "CANCELLED", "PENDING")
    assert sweep.job("margin")["JobState"] == "CANCELLED"
    assert LINE.format("SIGTERM") in sweep.log("margin", "err")
    assert len(sweep.rounds("margin")) == 1

"""Which trainers a run takes, and what its processes say to each other."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy
from processes import SECONDS, answers_of
from toys import trainer

from dal.processes import (
    Processes,
    check_strategy,
    check_sweep,
    launch,
    naming_lost_processes,
    starts_processes,
    without_requeue,
)

SLURM = {
    "SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0", "SLURM_JOB_NAME": "x", "SLURM_NTASKS_PER_NODE": "2",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_NTASKS", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["ddp_spawn", "ddp_fork"])
@pytest.mark.parametrize("devices", [1, 2])
def test_processes_that_cannot_give_back_what_they_chose_are_refused(name, devices):
    with pytest.raises(ValueError, match=r"trainer\.strategy must be ddp: processes of ddp_spawn"):
        check_strategy(trainer(strategy=name, devices=devices))


class Sharding(DDPStrategy):
    """Stands for strategies that divide the weights."""


def test_strategies_that_divide_the_weights_are_refused():
    with pytest.raises(ValueError, match=r"several devices work together by .*=ddp, got Sharding"):
        check_strategy(trainer(strategy=Sharding()))


def test_one_device_and_ddp_are_taken():
    check_strategy(trainer())
    check_strategy(trainer(strategy="ddp", devices=2))


def test_processes_of_torchrun_want_a_trainer_of_as_many_devices(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ValueError, match=r"2 processes were started .* use trainer=ddp trainer\.de"
    ):
        check_strategy(trainer())


def test_a_trainer_of_several_devices_starts_processes_unless_others_did(monkeypatch):
    several = partial(trainer, strategy="ddp", devices=2)
    assert not starts_processes(trainer())
    assert starts_processes(several())
    check_sweep(trainer)
    with pytest.raises(ValueError, match="cannot start 2 processes; use hydra/launcher=slurm"):
        check_sweep(several)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert not starts_processes(several())
    check_sweep(several)


def test_one_process_is_started_without_a_group():
    assert launch(trainer()) == Processes()


def environment_of(trainer):
    return trainer._accelerator_connector.cluster_environment


def test_under_slurm_no_trainer_requeues_its_job(monkeypatch):
    several = partial(
        trainer, strategy="ddp", devices=2, plugins=[MixedPrecision("bf16-mixed", "cpu")]
    )
    assert without_requeue(several, several()) is several
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert environment_of(several()).auto_requeue
    made = without_requeue(several, several())()
    assert environment_of(made).auto_requeue is False
    assert isinstance(made.precision_plugin, MixedPrecision)  # what was given stays
    assert without_requeue(trainer, trainer()) is trainer  # where Lightning ignores SLURM
    own = partial(trainer, strategy="ddp", devices=2, plugins=SLURMEnvironment(auto_requeue=True))
    assert without_requeue(own, own()) is own


def test_a_lost_process_is_named_and_other_errors_are_left_alone():
    with (
        pytest.raises(ConnectionError, match="another process"),
        naming_lost_processes(Processes(0, 2)),
    ):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:545] Connection closed by peer")
    with pytest.raises(RuntimeError, match="mat1"), naming_lost_processes(Processes(0, 2)):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="gloo"), naming_lost_processes(Processes()):
        raise RuntimeError("gloo")


def asked(rank):
    processes, said = Processes(rank, 2), []

    def fails():
        raise ValueError(f"process {rank} cannot")

    said.append(processes.first_does(lambda: (rank, {"a": [1]})))
    try:
        processes.first_does(fails)
    except (ValueError, ConnectionError) as error:
        said.append(str(error))
    return said


def test_the_first_process_works_and_all_have_the_result_or_the_failure(tmp_path):
    first, second = answers_of(asked, 2, tmp_path)
    assert first == [(0, {"a": [1]}), "process 0 cannot"]
    assert second == [(0, {"a": [1]}), "process 0 failed, whose error says why"]


ORPHAN = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
import sys, time
sys.path[:0] = {paths!r}
from dal.processes import _end_with_parent
_end_with_parent()
print("ready", flush=True)
time.sleep(600)
'''], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
"""


def test_a_process_ends_when_the_one_that_started_it_is_gone(tmp_path):
    script = ORPHAN.format(paths=[str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=SECONDS,
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    gone = subprocess.run(
        ["timeout", "30", "tail", "-f", "/dev/null", f"--pid={done.stdout.strip()}"], check=False
    )
    assert gone.returncode == 0

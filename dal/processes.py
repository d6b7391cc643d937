"""The processes that run an experiment together: how they start, and what the first does alone."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed

T = TypeVar("T")

LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")


@dataclass(frozen=True)
class Processes:
    """This process among those that run an experiment together.

    Args:
        rank: its number.
        count: how many there are.
        device: where it works; what they send each other is there.
    """

    rank: int = 0
    count: int = 1
    device: torch.device | None = None

    @property
    def first(self) -> bool:
        """Whether this one writes, speaks and asks for labels."""
        return self.rank == 0

    def first_does(self, work: Callable[[], T]) -> T:
        """Let the first process work; all get its result.

        Raises:
            ConnectionError: in the others, if the work failed.
        """
        if self.count == 1:
            return work()
        outcome: list[Any] = [None, False]
        failure: Exception | None = None
        if self.first:
            try:
                outcome = [work(), True]
            except Exception as error:  # whatever it is, the others must hear of it
                failure = error
        distributed.broadcast_object_list(outcome, device=self.device)
        if failure is not None:
            raise failure
        result, done = outcome
        if not done:
            raise ConnectionError("process 0 failed, whose error says why")
        return result  # type: ignore[no-any-return]


def check_strategy(trainer: pl.Trainer) -> None:
    """Raise ValueError unless a trainer works in this process, or in processes run as scripts."""
    launcher = trainer.strategy.launcher
    if launcher is None:
        started = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
        if started > 1:
            raise ValueError(
                f"{started} processes were started and the trainer uses 1 device; use trainer=ddp "
                f"trainer.devices={started}"
            )
        return
    if type(trainer.strategy) is not DDPStrategy:
        name = type(trainer.strategy).__name__
        raise ValueError(f"several devices work together by trainer.strategy=ddp, got {name}")
    if not isinstance(launcher, _SubprocessScriptLauncher):
        raise ValueError(
            "trainer.strategy must be ddp: processes of ddp_spawn, ddp_fork and ddp_notebook "
            "cannot give back what they chose"
        )


def check_sweep(make_trainer: Callable[..., pl.Trainer]) -> None:
    """Raise ValueError if the trainers of a job in a sweep would start processes.

    Each would run the command of the whole sweep.
    """
    trainer = make_trainer(max_epochs=1)
    if starts_processes(trainer):
        raise ValueError(
            f"a job of a sweep cannot start {trainer.world_size} processes; use "
            f"hydra/launcher=slurm with hydra.launcher.tasks_per_node={trainer.num_devices}, or "
            f"give the commands one by one"
        )


def starts_processes(trainer: pl.Trainer) -> bool:
    """Whether a trainer starts further processes, rather than torchrun or SLURM."""
    launcher = trainer.strategy.launcher
    return (
        trainer.world_size > 1
        and isinstance(launcher, _SubprocessScriptLauncher)
        and not launcher.cluster_environment.creates_processes_externally
    )


def launch(trainer: pl.Trainer) -> Processes:
    """Start the processes of a trainer, if need be, and let them meet.

    Later trainers of these processes find them there. Each process runs the whole script.
    """
    strategy = trainer.strategy
    launcher = strategy.launcher
    if launcher is None:
        return Processes()
    if not (trainer.is_global_zero or distributed.is_initialized()):
        _end_with_parent()
    launcher.launch(strategy.setup_environment)
    return Processes(trainer.global_rank, trainer.world_size, strategy.root_device)


def without_requeue(
    make_trainer: Callable[..., pl.Trainer], like: pl.Trainer
) -> Callable[..., pl.Trainer]:
    """Keep Lightning from putting the job back into SLURM's queue by itself.

    It would load the checkpoint that it left then in every later round.

    Args:
        make_trainer: makes Trainers.
        like: one of them.
    """
    tasks = int(os.environ.get("SLURM_NTASKS", "0"))
    if not SLURMEnvironment.detect() or tasks != like.world_size:  # it takes no notice of SLURM
        return make_trainer
    given = getattr(make_trainer, "keywords", {}).get("plugins") or []
    own = given if isinstance(given, list | tuple) else [given]
    if any(isinstance(plugin, ClusterEnvironment) for plugin in own):
        return make_trainer
    return partial(make_trainer, plugins=[*own, SLURMEnvironment(auto_requeue=False)])


@contextmanager
def naming_lost_processes(processes: Processes) -> Iterator[None]:
    """Say in plain words that another process ended, where it shows as an error of the network.

    Raises:
        ConnectionError: instead of that error.
    """
    try:
        yield
    except RuntimeError as error:
        if processes.count == 1 or not any(sign in str(error) for sign in LOST):
            raise
        raise ConnectionError(
            "another process of this run ended; its own error says why, unless it was killed"
        ) from error


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, even from within a collective."""
    parent = os.getppid()
    asleep = threading.Event()

    def watch() -> None:
        while os.getppid() == parent:
            asleep.wait(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()

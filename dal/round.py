"""One round: train a fresh model, query the pool with it, and test it."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from dal.callbacks.acquire import Acquire
from dal.callbacks.loss_watch import LossWatch
from dal.callbacks.round_log import Record
from dal.callbacks.training_checkpoint import TrainingCheckpoint
from dal.data.datamodule import ActiveDataModule
from dal.files import load_tensors, make_folder, reason, save_atomically
from dal.memory import peak_memory_bytes
from dal.metrics_check import check_metrics
from dal.posteriors.ensemble import Ensemble
from dal.seeding import global_seed


@dataclass(frozen=True)
class Trainings:
    """What all trainings of a round have in common.

    Args:
        data: labelled rows, pool and test set.
        model: makes a module with new weights.
        trainer: makes a Trainer, given callbacks and `root`, the folder of its own files.
        rank: of this process among those that train together.
        folder: keeps what an interrupted training goes on from.
        every_n_steps: optimiser steps from one checkpoint to the next; None: a round that was
            interrupted begins anew.
    """

    data: ActiveDataModule
    model: Callable[[], pl.LightningModule]
    trainer: Callable[..., pl.Trainer]
    rank: int = 0
    folder: Path | None = None
    every_n_steps: int | None = None

    def checkpoint(self, watch: LossWatch, part: str = "training") -> list[TrainingCheckpoint]:
        """Make the callback that keeps checkpoints, if there shall be any."""
        file = self._file(f"{part}.ckpt")
        if file is None or self.every_n_steps is None:
            return []
        return [TrainingCheckpoint(file, self.every_n_steps, watch.agree)]

    def new_trainer(self, *callbacks: pl.Callback) -> pl.Trainer:
        """Make a Trainer; what keeps checkpoints comes after the callbacks whose state it keeps."""
        return self.trainer(*callbacks, root=self.folder or Path.cwd())

    def fit(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        checkpoint: list[TrainingCheckpoint],
        part: str = "",
    ) -> None:
        """Train, from the checkpoint of an interrupted training if there is one."""
        data = self.data
        own = f"{part} process {self.rank}".strip() if self.rank else part
        found = checkpoint[0].found() if checkpoint else None
        with global_seed(data.seed, "batches", data.round, own):
            fit(trainer, module, datamodule=data, ckpt_path=found)

    def member(self, bootstrap: bool, part: str) -> pl.LightningModule:  # noqa: FBT001 (bound)
        """Train one more network, with weights and batches of its own."""
        data = self.data
        with global_seed(data.seed, "weights", data.round, part):
            member = self.model()
        finished = self._file(f"{part}.pt")
        if not data.n_labelled:
            return member
        if finished and finished.exists():
            try:
                member.load_state_dict(load_tensors(finished))
            except (ValueError, RuntimeError, TypeError) as error:
                raise ValueError(
                    f"{finished} cannot be read ({reason(error)}); remove it, and that member is "
                    f"trained anew"
                ) from error
            return member
        watch = LossWatch()
        checkpoint = self.checkpoint(watch, part)
        with data.as_member(part, bootstrap=bootstrap):
            self.fit(self.new_trainer(watch, *checkpoint), member, checkpoint, part)
        if finished and self.rank == 0:
            make_folder(finished.parent)
            save_atomically(finished, member.state_dict())
        return member

    def _file(self, name: str) -> Path | None:
        if self.folder is None or self.every_n_steps is None:
            return None
        return self.folder / name.replace(" ", "-")


def run_round(trainings: Trainings, module: pl.LightningModule, acquire: Acquire | None) -> Record:
    """Train a module, choose what to buy, and test.

    Args:
        trainings: how.
        module: with the weights to start from.
        acquire: chooses; None in the last round.

    Returns:
        The round's record; nothing is bought yet.

    Raises:
        ValueError: if the training diverged, the strategy cannot choose, or a metric is no number.
    """
    data, watch = trainings.data, LossWatch()
    checkpoint = trainings.checkpoint(watch)
    trainer = trainings.new_trainer(watch, *([acquire] if acquire else []), *checkpoint)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    if acquire and isinstance(acquire.posterior, Ensemble) and acquire.asks_probabilities(data):
        acquire.expect(trainer, module, data)  # before the members are trained
        acquire.posterior.train(partial(trainings.member, acquire.posterior.bootstrap))
    if data.n_labelled:
        trainings.fit(trainer, module, checkpoint)
    elif acquire:  # no labels yet: an untrained model asks
        acquire.run(trainer, module.to(trainer.strategy.root_device), data)
    fitted = time.perf_counter()
    metrics = {
        name: float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith("val/")
    }
    if acquire and acquire.query is None:
        raise ValueError(
            f"round {data.round}: the training ended before it began, and nothing was chosen; see "
            f"trainer.limit_train_batches, trainer.max_steps and trainer.max_time"
        )
    with interruptible(trainer):
        for measured in trainer.test(module, datamodule=data, verbose=False):
            metrics |= measured
    check_metrics(data.round, metrics)
    tested = time.perf_counter()
    query = acquire.query if acquire else None
    return {
        "round": data.round,
        "n_labelled": data.n_labelled,
        "labels_used": data.labels_used,
        "n_pool": data.pool.n_unlabelled,
        **metrics,
        "train/loss": watch.mean,
        "train_seconds": fitted - started - (query.seconds if query else 0.0),
        "acquisition_seconds": query.seconds if query else 0.0,
        "test_seconds": tested - fitted,
        "peak_memory_bytes": peak_memory_bytes(),
        "acquired": query.indices.tolist() if query else [],
        "acquired_labels": [],
        "scores": None if query is None or query.scores is None else _finite(query.scores),
    }


def _finite(scores: Tensor) -> list[float | None]:
    """Scores as JSON has them: none for what is wanted least, minus infinity."""
    return [None if score == -math.inf else score for score in scores.tolist()]


def fit(trainer: pl.Trainer, module: pl.LightningModule, **options: Any) -> None:
    """Train, and let Ctrl-C be a KeyboardInterrupt."""
    with interruptible(trainer):
        trainer.fit(module, **options)


@contextmanager
def interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt, of which Lightning makes a silent exit."""
    try:
        yield
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise

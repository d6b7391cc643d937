"""One round: train a fresh model, query the pool with it, and test it."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from dal.callbacks.acquire import Acquire
from dal.callbacks.group_accuracy import GroupAccuracy
from dal.callbacks.keep_best import KeepBest
from dal.callbacks.loss_watch import LossWatch
from dal.callbacks.mean_prediction import MeanPrediction
from dal.callbacks.round_log import Record
from dal.callbacks.training_checkpoint import TrainingCheckpoint
from dal.callbacks.until_accuracy import UntilAccuracy
from dal.data.datamodule import ActiveDataModule
from dal.files import load_tensors, make_folder, reason, save_atomically
from dal.memory import peak_memory_bytes
from dal.metrics_check import check_metrics
from dal.posteriors.ensemble import Ensemble
from dal.posteriors.posterior import Posterior
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
        patience: validations without a better accuracy that end a training; None: no matter.
        until_train_accuracy: what ends a training that reaches it; None: no matter.
        test_posterior: whose mean prediction is tested; None: the network as it is.
    """

    data: ActiveDataModule
    model: Callable[[], pl.LightningModule]
    trainer: Callable[..., pl.Trainer]
    rank: int = 0
    folder: Path | None = None
    every_n_steps: int | None = None
    patience: int | None = None
    until_train_accuracy: float | None = None
    test_posterior: Posterior | None = None

    def ends(self) -> list[pl.Callback]:
        """Make the callbacks that end a training before its last epoch, if any shall."""
        share, patience = self.until_train_accuracy, self.patience
        until = [] if share is None else [UntilAccuracy(share)]
        return [*until, *([] if patience is None else [KeepBest(patience)])]

    def checkpoint(
        self, *watching: pl.Callback, part: str = "training"
    ) -> list[TrainingCheckpoint]:
        """Make the callback that keeps checkpoints, after all agreed, if there shall be any."""
        file = self._file(f"{part}.ckpt")
        if file is None or self.every_n_steps is None:
            return []

        def agree(trainer: pl.Trainer) -> None:
            for callback in watching:
                if isinstance(callback, LossWatch | UntilAccuracy):
                    callback.agree(trainer)

        return [TrainingCheckpoint(file, self.every_n_steps, agree)]

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
        watching = [LossWatch(), *self.ends()]
        checkpoint = self.checkpoint(*watching, part=part)
        with data.as_member(part, bootstrap=bootstrap):
            trainer = self.new_trainer(*watching, *checkpoint)
            self.fit(trainer, member, checkpoint, part)
        if finished and self.rank == 0:
            make_folder(finished.parent)
            save_atomically(finished, member.state_dict())
        return member

    def _file(self, name: str) -> Path | None:
        if self.folder is None or self.every_n_steps is None:
            return None
        return self.folder / name.replace(" ", "-")


def run_round(
    trainings: Trainings,
    module: pl.LightningModule,
    acquire: Acquire | None,
    *others: pl.Callback,
) -> Record:
    """Train a module, choose what to buy, and test.

    Args:
        trainings: how.
        module: with the weights to start from.
        acquire: chooses; None in the last round.
        others: callbacks that look at the training and the test too.

    Returns:
        The round's record; nothing is bought yet.

    Raises:
        ValueError: if the training diverged, the strategy cannot choose, or a metric is no number.
    """
    data, watch, tested_by = trainings.data, LossWatch(), trainings.test_posterior
    ends = trainings.ends()
    checkpoint = trainings.checkpoint(watch, *ends)
    asks = [acquire] if acquire else []  # after what gives the best weights back
    groups = GroupAccuracy(data)
    tests = [MeanPrediction(tested_by, data)] if tested_by else []
    trainer = trainings.new_trainer(watch, *ends, *asks, *tests, groups, *others, *checkpoint)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    if acquire and acquire.asks_probabilities(data):
        tested_by = acquire.posterior
    if isinstance(tested_by, Ensemble):
        if acquire:
            acquire.expect(trainer, module, data)  # before the members are trained
        tested_by.train(partial(trainings.member, tested_by.bootstrap))
    if data.n_labelled:
        trainings.fit(trainer, module, checkpoint)
    elif acquire:  # no labels yet: an untrained model asks
        acquire.run(trainer, module.to(trainer.strategy.root_device), data)
    fitted = time.perf_counter()
    metrics = _validation(trainer, module, data, watch, ends)
    if acquire and acquire.query is None:
        raise ValueError(
            f"round {data.round}: the training ended before it began, and nothing was chosen; see "
            f"trainer.limit_train_batches, trainer.max_steps and trainer.max_time"
        )
    with interruptible(trainer):
        for measured in trainer.test(module, datamodule=data, verbose=False):
            metrics |= measured
    check_metrics(data.round, metrics)
    no_class = {"n_no_class": data.pool.n_no_class} if data.data.no_class else {}
    tested = time.perf_counter()
    query = acquire.query if acquire else None
    return {
        "round": data.round,
        "n_labelled": data.n_labelled,
        "labels_used": data.labels_used,
        "n_pool": data.pool.n_unlabelled,
        **no_class,
        **metrics,
        **groups.metrics,
        "train/loss": watch.mean,
        "train/epochs": trainer.current_epoch,
        "train_seconds": fitted - started - (query.seconds if query else 0.0),
        "acquisition_seconds": query.seconds if query else 0.0,
        "test_seconds": tested - fitted,
        "peak_memory_bytes": peak_memory_bytes(),
        "acquired": query.indices.tolist() if query else [],
        "acquired_labels": [],
        "scores": None if query is None or query.scores is None else _finite(query.scores),
    }


def _validation(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    data: ActiveDataModule,
    watch: LossWatch,
    ends: Sequence[pl.Callback],
) -> dict[str, float]:
    """What validation measures of the weights that the training ended with."""
    for end in ends:
        if isinstance(end, KeepBest):
            return end.metrics
    outdated = data.n_labelled and watch.validated != trainer.global_step
    if outdated and len(data.val_dataloader()) and trainer.enable_validation:
        with interruptible(trainer):
            trainer.validate(module, datamodule=data, verbose=False)
    measured = trainer.callback_metrics.items()
    return {name: float(value) for name, value in measured if name.startswith("val/")}


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

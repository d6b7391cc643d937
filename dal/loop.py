"""The experiment: train, query, test, buy labels, and again."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from dal.acquisition_signature import Strategy, takes_given_features
from dal.callbacks.acquire import Acquire
from dal.callbacks.agreement import PredictionAgreement
from dal.callbacks.round_log import Record, RoundLog, Run
from dal.callbacks.stop_at_once import StopAtOnce
from dal.data.datamodule import ActiveDataModule
from dal.models.weights import cold
from dal.posteriors.posterior import Posterior
from dal.processes import (
    Processes,
    check_strategy,
    launch,
    naming_lost_processes,
    without_requeue,
)
from dal.purchase import buy_labels, costs_of_purchase
from dal.quiet import quiet_lightning
from dal.round import Trainings, run_round
from dal.run_directory import RunDirectory
from dal.seeding import global_seed
from dal.settings import Count, Number, Share, checked
from dal.signatures import name_of
from dal.stopping.criteria import Criterion, asks, check_criteria

StartWeights = Callable[[pl.LightningModule, Mapping[str, Tensor]], None]

PLAIN_TRAINER = partial(
    pl.Trainer,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)


@checked
def run_rounds(
    data: ActiveDataModule,
    *,
    model: Callable[[], pl.LightningModule],
    strategy: Strategy,
    rounds: Number,
    query_size: Count,
    posterior: Posterior | None = None,
    score: Strategy | None = None,
    features: Callable[[], Tensor | None] = lambda: None,
    trainer: Callable[..., pl.Trainer] = PLAIN_TRAINER,
    epochs: Count = 1,
    patience: Count | None = None,
    until_train_accuracy: Share | None = None,
    test_posterior: bool = False,
    weights: StartWeights = cold,
    stopping: Sequence[Criterion] = (),
    spill_dir: str | Path | None = None,
    directory: str | Path | None = None,
    checkpoint_every_n_steps: Count | None = None,
    config: Mapping[str, Any] | None = None,
    logs: Sequence[RoundLog] = (),
) -> list[Record]:
    """Make `rounds` purchases of `query_size` labels, training a fresh model before each.

    There are `rounds` + 1 trainings and records; the last buys nothing. The run ends early when
    the pool is empty, or in a round whose purchase a criterion of `stopping` forbids. Each round
    has a new module, Trainer and `Acquire`, and draws all it needs from (data.seed, purpose,
    round): with equal seeds every strategy starts from the same labels and weights, and a run
    continued from `directory` ends like one that was not interrupted.

    Args:
        data: labelled rows, pool and test set; what is bought is labelled in it.
        model: makes the LightningModule, with new weights.
        strategy: what chooses, see `dal.callbacks.acquire.Acquire`.
        rounds: number of purchases, at least 0.
        query_size: labels per purchase.
        posterior: where samples come from; the network itself if None.
        score: where the strategy's `scores` come from.
        features: gives [rows of the train set, D], a representation for the strategies that take
            any, or None for the model's own. Called once all else was checked, if the strategy
            looks at it.
        trainer: makes the Trainer, given `max_epochs`, `callbacks` and `default_root_dir`.
        epochs: passes over `data.train_dataloader()` per round.
        patience: end a training after so many validations without a better `val/accuracy`, and
            go on with the weights of the best; needs validation rows. None: whatever it is.
        until_train_accuracy: end a training with the first epoch in which this share of the rows
            was predicted right as they were trained on. None: whatever it is.
        test_posterior: test the mean prediction of the posterior's samples, not the network.
        weights: changes the new weights in place, given the last round's state.
        stopping: criteria, see `dal.stopping.criteria`; why one ends the run is its last record's
            `stopped`.
        spill_dir: folder for what no memory has room for during a query; that for temporary files
            if None.
        directory: where the run is kept, and continued if it was begun; None keeps nothing.
        checkpoint_every_n_steps: optimiser steps from one checkpoint of a training to the next; an
            interrupted round goes on from the last in `directory`. None: it begins anew.
        config: plain settings that `directory` keeps; a run of others is not continued there.
            Without them one begun with other arguments, `stopping` included, is taken for this.
        logs: what watches.

    Returns:
        One record per round, see the README.

    Raises:
        ValueError: for arguments out of range, a diverged model, a strategy that cannot run or
            whose queries will not fit into memory, or a criterion that looks at what there is not.
    """
    make_query = partial(
        Acquire,
        strategy,
        posterior=posterior,
        score=score,
        on_batch=_to_each(logs, "on_pool_batch_end"),
        spill_dir=spill_dir,
        on_preflight=_to_each(logs, "on_preflight"),
    )

    validated = len(data.val_dataloader())  # batches; of rows of a class
    if patience is not None and not validated:
        raise ValueError("patience needs validation rows and there are none; set val_size higher")
    check_criteria(stopping, strategy, score, validated)
    probe = _check(data, make_query, trainer, rounds=rounds, query_size=query_size)
    make_query = partial(make_query, features=_given(features, strategy, score))
    make_query(n=query_size).check_features(data)
    kept = RunDirectory(directory) if directory is not None else None
    root = kept.path if kept else None
    with ExitStack() as stack:
        stack.enter_context(quiet_lightning())
        processes = launch(probe)
        stack.enter_context(naming_lost_processes(processes))
        begin = partial(_begin, stack, kept, data, config or {})
        records, state = processes.first_does(begin)  # the others neither read nor write files
        data.load_state_dict(state)
        logs = logs if processes.first else ()
        run = Run(data, name_of(strategy), rounds, query_size, root, records)
        for log in logs:
            stack.callback(log.close)
        for log in logs:
            log.on_run_start(run)
        trainings = Trainings(
            data,
            model,
            partial(_watched, partial(without_requeue(trainer, probe), max_epochs=epochs), logs),
            rank=processes.rank,
            every_n_steps=checkpoint_every_n_steps,
            patience=patience,
            until_train_accuracy=until_train_accuracy,
            test_posterior=posterior if test_posterior else None,
        )
        player = _Rounds(
            trainings,
            make_query=make_query,
            weights=weights,
            rounds=rounds,
            query_size=query_size,
            stopping=stopping,
            kept=kept,
            processes=processes,
        )
        player.go_on_after(len(records) - 1)
        while not records or records[-1]["acquired"]:
            records.append(player.play(records))
            for log in logs:
                log.on_round_end(run, records[-1])
        for log in logs:
            log.on_run_end(run)
    return records


@dataclass
class _Rounds:
    """Plays the rounds of a run, each with what the last one left."""

    trainings: Trainings
    make_query: Callable[..., Acquire]
    weights: StartWeights
    rounds: int
    query_size: int
    stopping: Sequence[Criterion]
    kept: RunDirectory | None
    processes: Processes
    previous: Mapping[str, Tensor] | None = None  # weights
    told: bool = False  # what the queries will take

    def go_on_after(self, number: int) -> None:
        """Take the weights of the last round that was finished, if there is one."""
        if self.kept and number >= 0:
            self.previous = self.processes.first_does(partial(self.kept.load_weights, number))

    def play(self, records: Sequence[Record]) -> Record:
        """Train, query, test, buy, and keep it all."""
        data, kept, number = self.trainings.data, self.kept, len(records)
        n = min(self.query_size, data.pool.n_unlabelled) if number < self.rounds else 0
        paid = self.processes.first_does(partial(_paid, kept, data, n)) if n else None
        acquire = self._acquire(n, number) if n and paid is None else None
        with global_seed(data.seed, "weights", number):
            module = self.trainings.model()
            if self.previous is not None:
                self.weights(module, self.previous)
        folder = kept.training_folder(number) if kept else None
        look = PredictionAgreement(data, self.previous) if self.compares else None
        others = [look] if look else []
        record = run_round(replace(self.trainings, folder=folder), module, acquire, *others)
        if look:
            record["prediction_agreement"] = look.kappa
        if n:
            buy = partial(buy_labels, data, [*records, record], self.stopping, kept)
            record |= paid or self.processes.first_does(buy)
        record |= costs_of_purchase(data, record)
        if record["acquired"]:
            data.label(record["acquired"], record["acquired_labels"])
        self.previous = {name: value.cpu().clone() for name, value in module.state_dict().items()}
        if kept:
            self.processes.first_does(partial(kept.commit, record, data, self.previous))
        return record

    @property
    def compares(self) -> bool:
        """Whether a criterion looks at how far the models of two rounds agree."""
        return asks(self.stopping, "prediction_agreement")

    def _acquire(self, n: int, number: int) -> Acquire:
        ahead, self.told = 0 if self.told else self.rounds - number, True
        return self.make_query(n=n, preflight=ahead)


def _begin(
    stack: ExitStack,
    kept: RunDirectory | None,
    data: ActiveDataModule,
    config: Mapping[str, Any],
) -> tuple[list[Record], dict[str, Any]]:
    """Hold the directory until the stack closes; give the finished rounds and the pool's state."""
    if kept is None:
        return [], data.state_dict()
    stack.enter_context(kept.hold())
    return kept.resume(data, config), data.state_dict()


def _paid(kept: RunDirectory | None, data: ActiveDataModule, n: int) -> Record | None:
    """What was bought in this round before it was interrupted, if anything was."""
    if kept is None:
        return None
    return kept.paid(data.round).read(n, data.pool, len(data.data.classes))


def _to_each(logs: Sequence[RoundLog], hook: str) -> Callable[..., None]:
    """Make a function that calls a hook of every log."""

    def call(*values: Any) -> None:
        for log in logs:
            getattr(log, hook)(*values)

    return call


def _given(
    features: Callable[[], Tensor | None], strategy: Strategy, score: Strategy | None
) -> Tensor | None:
    return features() if takes_given_features(strategy, score) else None


def _watched(
    trainer: Callable[..., pl.Trainer],
    logs: Sequence[RoundLog],
    *own: pl.Callback,
    root: Path,
) -> pl.Trainer:
    """Make a Trainer that the logs watch."""
    watchers = [callback for log in logs for callback in log.trainer_callbacks()]
    return trainer(callbacks=[*own, StopAtOnce(), *watchers], default_root_dir=str(root))


def _check(
    data: ActiveDataModule,
    make_query: Callable[..., Acquire],
    trainer: Callable[..., pl.Trainer],
    *,
    rounds: int,
    query_size: int,
) -> pl.Trainer:
    """Refuse what cannot work before anything is written; return a Trainer like those to come."""
    make_query(n=query_size).check(data, rounds)
    if data.pool_subset is not None and data.pool_subset < query_size:
        raise ValueError(f"pool_subset {data.pool_subset} is below query_size {query_size}")
    try:
        with quiet_lightning():
            probe = trainer(max_epochs=1)
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {error} Use trainer=cpu, or trainer=auto.") from None
    check_strategy(probe)
    data.check_shares(probe.world_size)
    return probe

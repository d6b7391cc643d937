"""The experiment: train, query, test, buy labels, and again."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.warnings import PossibleUserWarning
from torch import Tensor

from dal.acquisition_signature import Strategy, name_of, takes_given_features
from dal.callbacks.acquire import Acquire
from dal.callbacks.loss_watch import LossWatch
from dal.callbacks.round_log import Record, RoundLog, Run
from dal.data.datamodule import ActiveDataModule
from dal.functional.checks import check_count
from dal.memory import peak_memory_bytes
from dal.models.weights import cold
from dal.posteriors.ensemble import Ensemble
from dal.posteriors.posterior import Posterior
from dal.run_directory import RunDirectory
from dal.seeding import global_seed

StartWeights = Callable[[pl.LightningModule, Mapping[str, Tensor]], None]

PLAIN_TRAINER = partial(
    pl.Trainer,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)


def run_rounds(
    data: ActiveDataModule,
    *,
    model: Callable[[], pl.LightningModule],
    strategy: Strategy,
    rounds: int,
    query_size: int,
    posterior: Posterior | None = None,
    score: Strategy | None = None,
    features: Callable[[], Tensor | None] = lambda: None,
    trainer: Callable[..., pl.Trainer] = PLAIN_TRAINER,
    epochs: int = 1,
    weights: StartWeights = cold,
    spill_dir: str | Path | None = None,
    directory: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    logs: Sequence[RoundLog] = (),
) -> list[Record]:
    """Make `rounds` purchases of `query_size` labels, training a fresh model before each.

    There are `rounds` + 1 trainings and records; the last buys nothing. The run ends early when
    the pool is empty. Each round has a new module, Trainer and `Acquire`, and draws all it needs
    from (data.seed, purpose, round): with equal seeds every strategy starts from the same labels
    and weights, and a run continued from `directory` ends like one that was not interrupted.

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
        weights: changes the new weights in place, given the last round's state.
        spill_dir: folder for what no memory has room for during a query; that for temporary files
            if None.
        directory: where the run is kept, and continued if it was begun; None keeps nothing.
        config: plain settings that `directory` keeps; a run of others is not continued there.
        logs: what watches.

    Returns:
        One record per round, see the README.

    Raises:
        ValueError: for arguments out of range, a diverged model, or a strategy that cannot run or
            whose queries will not fit into memory.
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

    _check(data, make_query, trainer, rounds=rounds, query_size=query_size, epochs=epochs)
    make_query = partial(make_query, features=_given(features, strategy, score))
    make_query(n=query_size).check_features(data)
    kept = RunDirectory(directory) if directory is not None else None
    root = kept.path if kept else Path.cwd()
    make_trainer = partial(_watched, partial(trainer, max_epochs=epochs), logs, root)
    records = kept.resume(data, config or {}) if kept else []
    begun = len(records)
    run = Run(data, name_of(strategy), rounds, query_size, kept.path if kept else None, records)
    with ExitStack() as stack:
        stack.enter_context(quiet_lightning())
        for log in logs:
            stack.callback(log.close)
        for log in logs:
            log.on_run_start(run)
        previous = kept.load_weights(len(records) - 1) if kept and records else None
        while not records or records[-1]["acquired"]:
            number = len(records)
            n = min(query_size, data.pool.n_unlabelled) if number < rounds else 0
            ahead = rounds - number if number == begun else 0
            watch, acquire = LossWatch(), make_query(n=n, preflight=ahead) if n else None
            with global_seed(data.seed, "weights", number):
                module = model()
                if previous is not None:
                    weights(module, previous)
            record = _round(
                data,
                module,
                make_trainer(watch, *([acquire] if acquire else [])),
                watch,
                acquire,
                train_member=partial(_train_member, data, model, make_trainer),
            )
            previous = {name: value.cpu().clone() for name, value in module.state_dict().items()}
            if kept:
                kept.save_weights(number, previous)
                kept.append(record)
                kept.save_pool(data)
                kept.forget_weights(number - 1)
            records.append(record)
            for log in logs:
                log.on_round_end(run, record)
        for log in logs:
            log.on_run_end(run)
    return records


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
    trainer: Callable[..., pl.Trainer], logs: Sequence[RoundLog], root: Path, *own: pl.Callback
) -> pl.Trainer:
    """Make a Trainer that the logs watch."""
    watchers = [callback for log in logs for callback in log.trainer_callbacks()]
    return trainer(callbacks=[*own, *watchers], default_root_dir=str(root))


def _round(
    data: ActiveDataModule,
    module: pl.LightningModule,
    trainer: pl.Trainer,
    watch: LossWatch,
    acquire: Acquire | None,
    *,
    train_member: Callable[[bool, str], pl.LightningModule],
) -> Record:
    """Train, query, test, label."""
    number = data.round
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    if acquire and isinstance(acquire.posterior, Ensemble) and acquire.asks_probabilities(data):
        acquire.expect(trainer, module, data)  # before the members are trained
        acquire.posterior.train(partial(train_member, acquire.posterior.bootstrap))
    if data.n_labelled:
        with global_seed(data.seed, "batches", number):
            fit(trainer, module, datamodule=data)
    elif acquire:
        acquire.run(trainer, module, data)  # no labels yet: an untrained model asks
    fitted = time.perf_counter()
    metrics = {
        name: float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith("val/")
    }
    metrics |= trainer.test(module, datamodule=data, verbose=False)[0]
    tested = time.perf_counter()
    query = acquire.query if acquire else None
    record: Record = {
        "round": number,
        "n_labelled": data.n_labelled,
        "labels_used": data.labels_used,
        "n_pool": data.pool.n_unlabelled,
        **metrics,
        "train/loss": watch.mean,
        "train_seconds": fitted - started - (query.seconds if query else 0.0),
        "acquisition_seconds": query.seconds if query else 0.0,
        "test_seconds": tested - fitted,
        "peak_memory_bytes": peak_memory_bytes(),
        "acquired": [],
        "acquired_labels": [],
        "scores": None,
    }
    if query:
        record["acquired"] = query.indices.tolist()
        record["acquired_labels"] = data.label(query.indices).tolist()
        record["scores"] = None if query.scores is None else query.scores.tolist()
    return record


def _train_member(
    data: ActiveDataModule,
    model: Callable[[], pl.LightningModule],
    make_trainer: Callable[..., pl.Trainer],
    bootstrap: bool,  # noqa: FBT001 (bound in order)
    part: str,
) -> pl.LightningModule:
    """Train one more network of this round, with weights and batches of its own."""
    with global_seed(data.seed, "weights", data.round, part):
        member = model()
    if data.n_labelled:
        with (
            global_seed(data.seed, "batches", data.round, part),
            data.as_member(part, bootstrap=bootstrap),
        ):
            fit(make_trainer(LossWatch()), member, datamodule=data)
    return member


def fit(trainer: pl.Trainer, module: pl.LightningModule, **data: Any) -> None:
    """Train, and let Ctrl-C be a KeyboardInterrupt."""
    try:
        trainer.fit(module, **data)
    except SystemExit:
        if trainer.interrupted:  # Lightning turns Ctrl-C into a silent exit
            raise KeyboardInterrupt from None
        raise


def _check(
    data: ActiveDataModule,
    make_query: Callable[..., Acquire],
    trainer: Callable[..., pl.Trainer],
    *,
    rounds: int,
    query_size: int,
    epochs: int,
) -> None:
    """Refuse what cannot work before anything is written."""
    check_count("rounds", rounds, 0)
    check_count("epochs", epochs, 1)
    make_query(n=query_size).check(data, rounds)
    if data.pool_subset is not None and data.pool_subset < query_size:
        raise ValueError(f"pool_subset {data.pool_subset} is below query_size {query_size}")
    try:
        with quiet_lightning():
            devices = trainer(max_epochs=1).world_size
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {error} Use trainer=cpu, or trainer=auto.") from None
    if devices > 1:
        raise ValueError(f"a run uses one device, got {devices}; use trainer.devices=1")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep back Lightning's tips, which speak of choices that the loop makes on purpose."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")
            warnings.filterwarnings(
                "ignore", r"`isinstance\(treespec, LeafSpec\)`"
            )  # Lightning's own
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

"""Run the model over the pool once, in a stream, and hand a strategy what its arguments name."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from dal.acquisition_gather import OnBatch
from dal.acquisition_parts import asked_leaves, choose
from dal.acquisition_pass import SCORE, Pass
from dal.acquisition_shares import as_the_first, check_same, together
from dal.acquisition_signature import Strategy, inputs_of, missing_score
from dal.acquisition_storage import Storage
from dal.data.datamodule import ActiveDataModule
from dal.functional.shards import Shards
from dal.models.loss_prediction import LossPrediction
from dal.posteriors.posterior import Posterior
from dal.seeding import generator_for


@dataclass(frozen=True)
class Query:
    """What a strategy chose.

    Args:
        indices: [n] long; dataset rows on the CPU, in the order of choice.
        scores: [n] float32; their scores, or None if the strategy gives none.
        seconds: wall time of the pool pass and the selection.
    """

    indices: Tensor
    scores: Tensor | None
    seconds: float


def query(
    strategy: Strategy,
    n: int,
    *,
    model: nn.Module,
    data: ActiveDataModule,
    posterior: Posterior,
    score: Strategy | None = None,
    features: Tensor | None = None,
    losses: LossPrediction | None = None,
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    on_batch: OnBatch | None = None,
    group: distributed.ProcessGroup | None = None,
    spill_dir: str | Path | None = None,
) -> Query:
    """Choose n rows of the pool.

    The pool is dealt in a new order. A score is computed batch by batch on the model's device, so
    that only [N] numbers remain; a selection gets the tensors of the whole pool that it names. A
    strategy that asks the model nothing (random, or one on given features) runs no pass, and of a
    strategy made of others only the parts that this round asks are computed.

    Tensors that the device has no room for are kept in host memory, else in a memory-mapped file,
    and a selection on them runs on the CPU.

    Several processes share the pass: each predicts a run of the batches that one process would,
    then all hold the same tensors and select with the same seeds. What the first one chose counts.

    Args:
        strategy: a score, a selection, or one that combines others.
        n: how many; fewer if the pool holds fewer.
        model: inputs [B, ...] -> logits [B, C]; left as it was.
        data: holds pool, round and seed.
        posterior: gives the samples, if the strategy looks at probabilities.
        score: where `scores` comes from.
        features: [rows of data.data.train, D]; what `features` means for strategies that take any
            representation. None: what enters the model's last layer.
        losses: predicts them, for strategies that name `predicted_losses`.
        context: autocast of the training precision.
        on_batch: called with rows done and rows in all, in the first process.
        group: of the processes that query together, each with the same weights and data; they get
            the first one's buffers (statistics of normalisation layers). None: this one alone.
        spill_dir: folder of the memory-mapped files; that for temporary files if None.

    Raises:
        ValueError: from strategy or posterior, if the strategy gives wrong positions, if processes
            hold different pools, if not even `spill_dir` has room, if there is no memory for a
            single row, or if the model says exactly the same of all candidates.
        RuntimeError: if the query failed in another process.
    """
    started = time.perf_counter()
    data.deal()
    rows, like = len(data.pool.dealt), next(model.parameters())
    device = like.device
    n = min(n, rows)
    processes = Shards(0, group, device)
    check_same(data.pool.dealt, processes, device)
    given = {
        "n": n,
        "round": data.round,
        "n_labelled": data.n_labelled,
        "n_pool": rows,
        "labels": data.pool.labels.to(device),
        "shards": None,
    }

    def fresh() -> dict[str, Any]:
        return {"generator": generator_for(data.seed, "query", data.round, device)}

    leaves = asked_leaves(strategy, given | fresh(), n, rows)
    on_scores = [leaf for leaf in leaves.values() if "scores" in inputs_of(leaf)]
    if on_scores:
        if score is None:
            raise missing_score(on_scores[0])
        leaves = {SCORE: score, **leaves}  # first, as others work on it
    storage = Storage(device, processes, spill_dir)
    pool_pass = Pass(
        leaves,
        data=data,
        posterior=posterior,
        features=features,
        like=like,
        given=given,
        storage=storage,
    )
    free = torch.arange(rows, device=device)
    with torch.no_grad():
        as_the_first(_states(model, losses), processes, device)
        pool_pass.compute(model, losses, context, on_batch)
        pool_pass.check(n)
        with together(processes, device):
            positions = choose(strategy, given | fresh(), n, pool_pass.pick, free)
        as_the_first([positions], processes, device)
    scores = pool_pass.values.get("", pool_pass.values.get(SCORE)) if rows else None
    return Query(
        indices=data.pool.to_index(positions),
        scores=None if scores is None else scores[positions].float().cpu(),
        seconds=time.perf_counter() - started,
    )


def _states(model: nn.Module, losses: LossPrediction | None) -> list[Tensor]:
    """What processes that train one model need not have in common: each saw batches of its own."""
    beside = [] if losses is None or losses.module is None else [*losses.module.parameters()]
    return [*model.buffers(), *beside]

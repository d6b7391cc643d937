"""Run the model over the pool once, in a stream, and hand a strategy what its arguments name."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dal.acquisition_signature import (
    LABELLED,
    POOL,
    Strategy,
    check_positions,
    check_scores,
    inputs_of,
    is_score,
    name_of,
    needs_of,
)
from dal.data.datamodule import ActiveDataModule
from dal.functional.information import mean_log_probs
from dal.functional.ranking import top_n
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.posterior import Posterior, Predict, Prediction
from dal.seeding import generator_for

OnBatch = Callable[[int, int], None]


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
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    on_batch: OnBatch | None = None,
) -> Query:
    """Choose n rows of the pool.

    The pool is dealt in a new order. A score is computed batch by batch on the model's device, so
    that only [N] numbers remain; a selection gets the tensors of the whole pool that it names. A
    strategy that names none of them (random) runs no pass.

    Args:
        strategy: a score or a selection.
        n: how many; fewer if the pool holds fewer.
        model: inputs [B, ...] -> logits [B, C]; left as it was.
        data: holds pool, round and seed.
        posterior: gives the samples, if the strategy looks at probabilities.
        score: where `scores` comes from.
        context: autocast of the training precision.
        on_batch: called with rows done and rows in all.

    Raises:
        ValueError: from strategy or posterior, or if the strategy gives wrong positions.
    """
    started = time.perf_counter()
    data.deal()
    names, rows = inputs_of(strategy), len(data.pool.dealt)
    needed = needs_of(strategy, score)
    device = next(model.parameters()).device
    n = min(n, rows)
    values: dict[str, Any] = {
        "n": n,
        "round": data.round,
        "n_labelled": data.n_labelled,
        "n_pool": rows,
        "labels": data.pool.labels.to(device),
        "generator": generator_for(data.seed, "query", data.round, device),
    }
    if "head" in needed:
        values["head"] = head_of(model)
    if rows and (is_score(strategy) or needed & (POOL | LABELLED)):
        if not any(name.endswith("probs") for name in needed):
            posterior = Deterministic()  # features alone need no samples
        masks = generator_for(data.seed, "masks", data.round)
        with posterior.draw(model, masks) as predict, context():
            values |= _labelled_values(needed & LABELLED, data, device, predict)
            takes = _takes(strategy, score, values)
            loader = data.pool_dataloader()
            values |= _gather(loader, rows, device, predict, takes, on_batch=on_batch)
    scores: Tensor | None = values.get("scores")
    if not rows:
        positions = torch.empty(0, dtype=torch.long)
    elif is_score(strategy):
        positions = top_n(values["scores"], n)
    else:
        positions = strategy(**{name: values[name] for name in names})
        check_positions(positions, n, rows, name_of(strategy))
    return Query(
        indices=data.pool.to_index(positions),
        scores=None if scores is None else scores[positions].float().cpu(),
        seconds=time.perf_counter() - started,
    )


def head_of(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Last layer of a model: its (or its network's) `head`, or its last linear layer.

    Raises:
        ValueError: if it has neither.
    """
    owner = model if hasattr(model, "head") else getattr(model, "network", model)
    head = getattr(owner, "head", None)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if head is None and not linear:
        raise ValueError("the strategy needs the model's last layer: give the model a head(z)")
    found: Callable[[Tensor], Tensor] = head if head is not None else linear[-1]
    return found


def _probs(prediction: Prediction) -> Tensor:
    return mean_log_probs(prediction.log_probs).exp()


def _features(prediction: Prediction) -> Tensor:
    if prediction.features is None:
        raise ValueError(
            "the strategy needs features and the model shows none: give it features(x), or a "
            "linear last layer"
        )
    return prediction.features


_TAKE: dict[str, Callable[[Prediction], Tensor]] = {
    "log_probs": lambda prediction: prediction.log_probs,
    "probs": _probs,
    "features": _features,
}


def _takes(
    strategy: Strategy, score: Strategy | None, values: Mapping[str, Any]
) -> dict[str, Callable[[Prediction], Tensor]]:
    """What to keep of each batch's prediction: the score alone, or what a selection names."""
    if is_score(strategy):
        return {"scores": partial(_score_batch, strategy, values)}
    names = inputs_of(strategy)
    takes = {name: _TAKE[name] for name in names & _TAKE.keys()}
    if score is not None and "scores" in names:
        takes["scores"] = partial(_score_batch, score, values)
    return takes


def _score_batch(strategy: Strategy, values: Mapping[str, Any], prediction: Prediction) -> Tensor:
    names = inputs_of(strategy)
    batch = {name: _TAKE[name](prediction) for name in names & _TAKE.keys()}
    scores = strategy(**batch, **{name: values[name] for name in names - batch.keys()})
    check_scores(scores, len(prediction.log_probs), name_of(strategy))
    return scores


def _labelled_values(
    names: frozenset[str], data: ActiveDataModule, device: torch.device, predict: Predict
) -> dict[str, Tensor]:
    """Tensors of the labelled rows; without any, empty ones of the right width."""
    takes = {name: _TAKE[name.removeprefix("labelled_")] for name in names}
    if not takes or data.n_labelled:
        return _gather(data.labelled_dataloader(), data.n_labelled, device, predict, takes)
    example = predict(next(iter(data.pool_dataloader()))[:1].to(device))
    return {name: take(example)[:0] for name, take in takes.items()}


def _gather(
    loader: DataLoader[Any],
    rows: int,
    device: torch.device,
    predict: Predict,
    takes: Mapping[str, Callable[[Prediction], Tensor]],
    *,
    on_batch: OnBatch | None = None,
) -> dict[str, Tensor]:
    """One pass over a loader; the tensors [rows, ...] that `takes` picks, on the device."""
    gathered: dict[str, Tensor] = {}
    done = 0
    for batch in loader if takes else ():
        inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
        prediction = predict(inputs.to(device, non_blocking=True))
        for name, take in takes.items():
            part = take(prediction)
            if name not in gathered:  # one allocation: a list of batches would need two
                gathered[name] = part.new_empty(rows, *part.shape[1:])
            gathered[name][done : done + len(part)] = part
        done += len(inputs)
        if on_batch is not None:
            on_batch(done, rows)
    return gathered

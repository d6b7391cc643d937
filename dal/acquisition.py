"""Run the model over the pool once, in a stream, and hand a strategy what its arguments name."""

import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dal.data.datamodule import ActiveDataModule
from dal.functional.information import mean_log_probs
from dal.functional.ranking import top_n
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.posterior import Posterior, Predict, Prediction
from dal.seeding import generator_for

Strategy = Callable[..., Tensor]
OnBatch = Callable[[int, int], None]

POOL = frozenset({"log_probs", "probs", "features", "scores"})
LABELLED = frozenset({"labelled_log_probs", "labelled_probs", "labelled_features"})
GIVEN = frozenset({"labels", "head", "round", "n_labelled", "n_pool", "n", "generator"})
VOCABULARY = POOL | LABELLED | GIVEN


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


def inputs_of(strategy: Strategy) -> frozenset[str]:
    """Names of the vocabulary that a strategy asks for.

    Raises:
        ValueError: if it needs a name outside the vocabulary that its YAML does not set.
    """
    bound = strategy.keywords if isinstance(strategy, partial) else {}
    try:
        parameters = inspect.signature(strategy).parameters
    except ValueError as error:
        raise ValueError(f"strategy {name_of(strategy)} cannot take {sorted(bound)}") from error
    asked = frozenset(name for name in parameters if name in VOCABULARY and name not in bound)
    unknown = [
        name
        for name, parameter in parameters.items()
        if name not in VOCABULARY and parameter.default is inspect.Parameter.empty
    ]
    if unknown:
        raise ValueError(
            f"strategy {name_of(strategy)} needs {', '.join(unknown)}, which is neither set in its "
            f"YAML nor one of {', '.join(sorted(VOCABULARY))}"
        )
    return asked


def is_score(strategy: Strategy) -> bool:
    """Whether a strategy scores items one by one; a selection takes `n` instead."""
    return "n" not in inputs_of(strategy)


def needs_of(strategy: Strategy, score: Strategy | None) -> frozenset[str]:
    """Names that a query has to compute: the strategy's, and those of its score."""
    names = inputs_of(strategy)
    return names | inputs_of(score) if score is not None and "scores" in names else names


def name_of(strategy: Strategy) -> str:
    """Name of the function behind a strategy."""
    function = strategy.func if isinstance(strategy, partial) else strategy
    return getattr(function, "__name__", type(function).__name__)


def rehearse(strategy: Strategy, score: Strategy | None, *, samples: int, num_classes: int) -> None:
    """Call a strategy on six made-up items, so that what is wrong with it shows before training.

    Args:
        strategy: a score or a selection.
        score: what `scores` comes from, if the strategy names it.
        samples: K of the posterior.
        num_classes: C.

    Raises:
        ValueError: if the strategy refuses, fails, or gives something else than its kind must.
    """
    if "scores" in inputs_of(strategy):
        if score is None:
            raise ValueError(
                f"strategy {name_of(strategy)} works on scores; name their strategy under `score`"
            )
        if not is_score(score):
            raise ValueError(f"score must be a score, but {name_of(score)} takes n: a selection")
        rehearse(score, None, samples=samples, num_classes=num_classes)
    generator = torch.Generator().manual_seed(0)
    pool, labelled, width, n = 6, 4, 3, 2

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    values: dict[str, Any] = {"scores": draw(pool), "generator": generator, "n": n, "round": 0}
    values |= {"n_pool": pool, "n_labelled": labelled, "labels": torch.arange(labelled) % 2}
    last_layer = draw(width, num_classes)
    values["head"] = lambda features: features @ last_layer
    for prefix, rows in (("", pool), ("labelled_", labelled)):
        log_probs = draw(rows, samples, num_classes).log_softmax(-1)
        values[f"{prefix}log_probs"] = log_probs
        values[f"{prefix}probs"] = mean_log_probs(log_probs).exp()
        values[f"{prefix}features"] = draw(rows, width)
    try:
        out = strategy(**{name: values[name] for name in inputs_of(strategy)})
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"strategy {name_of(strategy)} fails on a small example: {error!r}"
        ) from error
    if is_score(strategy):
        _check_scores(out, pool, name_of(strategy))
    else:
        _check_positions(out, n, pool, name_of(strategy))


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
        _check_positions(positions, n, rows, name_of(strategy))
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
    _check_scores(scores, len(prediction.log_probs), name_of(strategy))
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


def _check_scores(scores: Any, rows: int, name: str) -> None:
    if not isinstance(scores, Tensor) or scores.shape != (rows,):
        raise ValueError(
            f"score {name} must give one number per item, a tensor of shape [{rows}], "
            f"got {_shape(scores)}"
        )


def _check_positions(positions: Any, n: int, rows: int, name: str) -> None:
    whole = isinstance(positions, Tensor) and positions.dtype == torch.long
    if not whole or positions.shape != (n,):
        raise ValueError(f"strategy {name} must give {n} long positions, got {_shape(positions)}")
    if n and (int(positions.min()) < 0 or int(positions.max()) >= rows):
        raise ValueError(
            f"strategy {name} must give positions from 0 to {rows - 1}, got {positions.tolist()}"
        )
    if len(positions.unique()) != n:
        raise ValueError(f"strategy {name} must give distinct positions, got {positions.tolist()}")


def _shape(value: Any) -> str:
    known = isinstance(value, Tensor)
    return f"{value.dtype} of shape {list(value.shape)}" if known else type(value).__name__

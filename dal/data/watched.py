"""Rows that are looked at beside the pool: a target set, and those a stopping criterion watches."""

from typing import Literal

import torch
from torch import Tensor

from dal.data.data import Data, Rows
from dal.pool import LabelledPool
from dal.seeding import generator_for

Target = Literal["pool", "test", "given"]


def check_target(target: str, data: Data) -> None:
    """Raise ValueError unless a data set can give such a target set."""
    if target not in ("pool", "test", "given"):
        raise ValueError(f"target must be pool, test or given, got {target!r}")
    if target == "given" and (data.target is None or not len(data.target)):
        raise ValueError(
            "target=given needs a dataset that brings target inputs and this one has none; "
            "use dataset=tensors with target_inputs in the file, or target=pool"
        )


def target_rows(
    target: Target, data: Data, pool: LabelledPool, n: int, seed: int
) -> tuple[Rows | Tensor, Tensor]:
    """Draw this round's target set.

    Args:
        target: where it comes from.
        data: the data set.
        pool: as it is in this round.
        n: at most so many rows.
        seed: the draw follows from it and the round.

    Returns:
        inputs, and which of their rows, [at most n] long.

    Raises:
        ValueError: if there is nothing to draw from.
    """
    inputs: Rows | Tensor = data.train
    rows = pool.unlabelled
    if target == "test":
        inputs, rows = data.test, torch.arange(len(data.test))
    elif target == "given" and data.target is not None:
        inputs, rows = data.target, torch.arange(len(data.target))
    if not len(rows):
        raise ValueError("the target set is empty, as the pool is; use target=test")
    return inputs, _some(rows, n, generator_for(seed, "target", pool.round))


def stop_rows(pool: LabelledPool, n: int, seed: int) -> Tensor:
    """Draw train rows of the first round's pool, the same in each round: [at most n] long."""
    first = torch.ones(pool.size, dtype=torch.bool)
    first[pool.held_out] = False
    first[list(pool.history[0].indices)] = False
    return _some(first.nonzero().squeeze(1), n, generator_for(seed, "stop"))


def _some(rows: Tensor, n: int, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:n]]

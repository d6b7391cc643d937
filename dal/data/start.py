"""Which rows are labelled before the first round."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from dal.pool import LabelledPool
from dal.seeding import generator_for

Start = Literal["random", "balanced"] | Sequence[int]


def first_rows(initial: Start, size: int, pool: LabelledPool, targets: Tensor, seed: int) -> Tensor:
    """Choose the rows to start from.

    Args:
        initial: at random, balanced over the classes, or these dataset indices.
        size: how many; not used where indices are given.
        pool: has the rows that may be bought.
        targets: [rows of the dataset]; class numbers, which only a balanced start looks at.
        seed: of the run.

    Returns:
        [size] long dataset indices, in the order in which they are labelled.

    Raises:
        ValueError: if there are not so many rows, or an index is no row of the pool.
    """
    if not isinstance(initial, str):
        return pool.check(initial)
    free = pool.unlabelled
    if size > len(free):
        raise ValueError(
            f"initial_size must be at most the {len(free)} rows that may be bought, got {size}"
        )
    order = free[torch.randperm(len(free), generator=generator_for(seed, "initial"))]
    if initial == "random":
        return order[:size]
    if initial != "balanced":
        raise ValueError(
            f"initial must be random, balanced or a list of dataset indices, got {initial!r}"
        )
    order = order[targets[order] >= 0]  # examples of the classes; there may be rows of none
    if size > len(order):
        raise ValueError(
            f"initial_size must be at most the {len(order)} rows of a class that may be bought, "
            f"got {size}"
        )
    classes = targets[order]
    rank = torch.empty_like(order)  # how many rows of its class come before each
    for number in classes.unique():
        members = (classes == number).nonzero().squeeze(1)
        rank[members] = torch.arange(len(members))
    return order[rank.argsort(stable=True)[:size]]

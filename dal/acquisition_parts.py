"""Strategies made of strategies: each part becomes a function that chooses among free items."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dal.acquisition_signature import (
    POOL,
    Strategy,
    check_combining,
    check_positions,
    inputs_of,
    leaves_of,
    parts_of,
)
from dal.seeding import child_of
from dal.signatures import name_of

Pick = Callable[[str, Tensor, int], Tensor]
"""Path of a leaf, [F] long positions of the pool that are free, n -> [n] long places in them."""


def choose(
    strategy: Strategy,
    values: Mapping[str, Any],
    n: int,
    pick: Pick,
    free: Tensor,
    *,
    path: str = "",
) -> Tensor:
    """Choose n of the free items with a strategy; a combining one gets its parts as functions.

    A part arrives in the argument `strategies` as `part(positions, n) -> positions`: which n of
    some positions it takes.

    Args:
        strategy: a score, a selection, or one that combines others.
        values: of the names in `PLAIN`, for combining strategies.
        n: how many, at most F.
        pick: chooses for the leaves.
        free: [F] long; positions of the pool.
        path: of the strategy within the whole.

    Returns:
        [n] long; places in `free`.
    """
    parts = parts_of(strategy)
    if n == 0:
        return free[:0]
    if not parts:
        return pick(path, free, n)

    def part_of(name: str, part: Strategy) -> Callable[[Tensor, int], Tensor]:
        def chosen(positions: Tensor, count: int) -> Tensor:
            positions = positions.to(free.device)
            places = choose(part, values, count, pick, free[positions], path=f"{path}/{name}")
            return positions[places]

        return chosen

    given = {**values, "n": n, "n_pool": len(free)}
    if path:  # of its own, so that it does not depend on what the others draw
        given["generator"] = child_of(values["generator"], path)
    own = {name: given[name] for name in inputs_of(strategy)}
    functions = {name: part_of(name, part) for name, part in parts.items()}
    places = strategy(**own, strategies=functions)
    check_positions(places, n, len(free), name_of(strategy))
    return places


def asked_leaves(
    strategy: Strategy, values: Mapping[str, Any], n: int, rows: int
) -> dict[str, Strategy]:
    """Leaves that a query would ask, found by a call in which each takes the first free items.

    Only these are computed: of a schedule the part whose turn it is.

    Args:
        strategy: as in `choose`.
        values: as in `choose`; its generator is used up.
        n: how many.
        rows: N.

    Returns:
        The leaves by path.
    """
    leaves = leaves_of(strategy)
    if "" in leaves:
        return leaves
    check_combining(strategy)
    asked: dict[str, Strategy] = {}

    def pick(path: str, free: Tensor, count: int) -> Tensor:
        asked[path] = leaves[path]
        return torch.arange(count, device=free.device)

    device = values["generator"].device
    choose(strategy, values, n, pick, torch.arange(rows, device=device))
    return asked


def pick_with(
    leaf: Strategy,
    inputs: Mapping[str, Any],
    generator: torch.Generator,
    free: Tensor,
    n: int,
    *,
    rows_of: Callable[[str, Tensor, Tensor], Tensor],
) -> Tensor:
    """Call a selection on the free items.

    Args:
        leaf: a selection.
        inputs: the tensors of the whole pool, or of a share of it, and the rest that it names.
        generator: its own.
        free: [F] long; positions of the pool.
        n: how many.
        rows_of: name, tensor and positions -> those rows of it.

    Returns:
        [n] long; places in `free`.

    Raises:
        ValueError: if it gives anything else.
    """
    names = inputs_of(leaf)
    given: dict[str, Any] = {"n": n, "n_pool": len(free), "generator": generator}
    rows = [name for name in names & POOL if name in inputs]
    whole = inputs.get("shards") is not None or (
        all(len(inputs[name]) == len(free) for name in rows)
        and bool((free == torch.arange(len(free), device=free.device)).all())
    )
    for name in names - given.keys():
        value = inputs[name]
        given[name] = rows_of(name, value, free) if name in POOL and not whole else value
    places = leaf(**{name: given[name] for name in names})
    check_positions(places, n, len(free), name_of(leaf))
    return places

"""What a selection will cost, told before it is run.

A selection carries a formula; the shell fills in the sizes and this machine's speeds.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

F = TypeVar("F", bound=Callable[..., Tensor])


class Sizes(NamedTuple):
    """Sizes of a query, by the letters of the docstrings.

    Args:
        N: items of the pool.
        n: how many are chosen.
        M: labelled items.
        D: width of the features.
        C: classes.
        K: posterior samples.
        J: target items.
    """

    N: int
    n: int
    M: int
    D: int
    C: int
    K: int
    J: int


class Cost(NamedTuple):
    """What a call is expected to take, within a factor of about three.

    Args:
        products: multiply-adds in matrix products.
        elements: numbers gone over one by one outside of products, passes added up.
        steps: calls that have to wait for one another, such as one per pick.
        numbers: most numbers held at a time beyond the inputs.
    """

    products: float = 0.0
    elements: float = 0.0
    steps: float = 0.0
    numbers: float = 0.0

    def seconds(self, speeds: "Cost") -> float:
        """Time, given how many of each are done in a second; `numbers` take none."""
        rates = zip(self[:3], speeds[:3], strict=True)
        return sum(amount / rate for amount, rate in rates)

    def plus(self, other: "Cost") -> "Cost":
        """Cost of both, whose numbers are held at the same time."""
        return Cost(*(one + more for one, more in zip(self, other, strict=True)))


def k_center_cost(rows: int, centres: int, n: int, width: int) -> Cost:
    """Cost of `k_center_greedy`."""
    return Cost(
        products=rows * width * (centres + n / 2),
        elements=2.5 * rows * width,
        steps=6 * n,
        numbers=4 * rows + 4096 * width + min(max(15 * n, 256), 1536) ** 2,
    )


def kmeans_cost(rows: float, k: float, width: int) -> Cost:
    """Cost of `kmeans`, of which small clusters need fewer iterations, and `nearest_distinct`."""
    iterations = min(20, 4 + rows / (10 * max(k, 1)))
    return Cost(
        products=1.5 * iterations * rows * k * width,
        elements=rows * (5 * width + iterations * (width / 3 + k)),
        steps=8 * k + rows / 50,
        numbers=rows * (width + 8) + 4096 * (width + k),
    )


def costs(formula: Callable[..., Cost]) -> Callable[[F], F]:
    """Tell what a selection costs.

    Args:
        formula: sizes, and settings of the selection by name -> its cost.

    >>> @costs(lambda s, rounds: Cost(products=rounds * s.N * s.D))
    ... def walk(*, features, n, rounds=2): ...
    >>> cost_of(partial(walk, rounds=3), Sizes(N=10, n=1, M=0, D=4, C=2, K=1, J=0)).products
    120
    """

    def mark(selection: F) -> F:
        selection.costs = formula  # type: ignore[attr-defined]
        return selection

    return mark


def cost_of(strategy: Callable[..., Tensor], sizes: Sizes) -> Cost | None:
    """Cost of a strategy with its settings, or None if it does not tell."""
    function = strategy.func if isinstance(strategy, partial) else strategy
    formula: Callable[..., Cost] | None = getattr(function, "costs", None)
    if formula is None:
        return None
    settings: dict[str, Any] = {
        name: parameter.default
        for name, parameter in inspect.signature(strategy).parameters.items()
    }
    asked = list(inspect.signature(formula).parameters)[1:]
    return formula(sizes, **{name: settings[name] for name in asked})

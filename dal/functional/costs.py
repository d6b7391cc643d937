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

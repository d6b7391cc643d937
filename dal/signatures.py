"""What a function of a configuration asks for by the names of its arguments."""

import inspect
from collections.abc import Callable, Collection
from functools import partial
from typing import Any


def asked_by(
    function: Callable[..., Any], vocabulary: Collection[str], *, kind: str
) -> tuple[str, ...]:
    """Names of a vocabulary that a function asks for and its YAML does not set.

    Args:
        function: a function or a partial of one.
        vocabulary: names that have a meaning; another argument needs a value or a default.
        kind: what the function is called in an error.

    Returns:
        The names, in the order of the arguments.

    Raises:
        ValueError: if it needs a name that is neither, or cannot take what its YAML sets.

    >>> asked_by(lambda features, n, power=2: n, {"features", "n", "labels"}, kind="strategy")
    ('features', 'n')
    """
    bound = function.keywords if isinstance(function, partial) else {}
    try:
        parameters = inspect.signature(function).parameters
    except ValueError as error:
        raise ValueError(f"{kind} {name_of(function)} cannot take {sorted(bound)}") from error
    lacking = [
        name
        for name, parameter in parameters.items()
        if name not in vocabulary and parameter.default is inspect.Parameter.empty
    ]
    if lacking:
        raise ValueError(
            f"{kind} {name_of(function)} needs {', '.join(lacking)}, which is neither set in its "
            f"YAML nor one of {', '.join(sorted(vocabulary))}"
        )
    return tuple(name for name in parameters if name in vocabulary and name not in bound)


def name_of(function: Callable[..., Any]) -> str:
    """Name of a function, or of the one behind a partial."""
    inner = function.func if isinstance(function, partial) else function
    return getattr(inner, "__name__", type(inner).__name__)

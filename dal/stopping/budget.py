"""Stop when the labels, or what they cost, have used up a budget."""

from collections.abc import Sequence
from itertools import accumulate

from dal.settings import Positive, checked

ROUNDING = 1e-6  # of the limit: ten labels of 0.1 cost 1, in float32 too


@checked
def budget(
    *, cost_used: float, acquired_costs: Sequence[float], limit: Positive
) -> str | int | None:
    """Buy the longest run of wanted labels, in the order of choice, that the limit has room for.

    Args:
        cost_used: cost of all labels so far, those of the start and of validation included.
        acquired_costs: of the labels wanted now, in the order of choice.
        limit: of the cost in all; where the data have no costs each label costs 1.

    Returns:
        How many there is room for, None for all of them, or why not even for the first.

    Raises:
        ValueError: if the limit is not above 0.

    >>> budget(cost_used=5.0, acquired_costs=[2.0, 2.0, 0.5], limit=8.0)
    1
    >>> budget(cost_used=5.0, acquired_costs=[4.0], limit=8.0)
    '5 of 8 is used and the next label costs 4'
    """
    room = limit * (1 + ROUNDING) - cost_used
    fitting = sum(total <= room for total in accumulate(acquired_costs))
    if fitting == len(acquired_costs):
        return None
    if fitting:
        return fitting
    return f"{cost_used:g} of {limit:g} is used and the next label costs {acquired_costs[0]:g}"

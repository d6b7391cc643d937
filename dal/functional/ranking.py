"""From scores to positions, and draws that are proportional to weights."""

import torch
from torch import Tensor

from dal.functional.checks import check_n, check_tensor


def top_n(scores: Tensor, n: int) -> Tensor:
    """Positions of the n highest scores, best first; ties keep the order of the positions.

    The pool is shuffled once a round, so position order is a random order of the dataset.

    Args:
        scores: [N]; -inf allowed, NaN refused.
        n: how many, between 0 and N.

    Returns:
        [n] long.

    Raises:
        ValueError: if n is out of range or a score is NaN.

    >>> top_n(torch.tensor([0.1, 0.9, 0.4, 0.9]), 3)
    tensor([1, 3, 2])
    """
    check_tensor("scores", scores, "N")
    check_n(n, len(scores))
    return scores.sort(descending=True, stable=True).indices[:n]


def draw_proportional(weights: Tensor, free: Tensor, generator: torch.Generator) -> int:
    """Draw one position with probability proportional to its weight.

    Args:
        weights: [N]; non-negative.
        free: [N] bool; the positions that may be drawn. If none of them has weight, the draw
            is uniform over them: coinciding points must neither loop for ever nor repeat.
        generator: on the device of `weights`.

    Returns:
        The position.

    >>> weights, free = torch.tensor([0.0, 2.0, 0.0]), torch.tensor([True, True, False])
    >>> draw_proportional(weights, free, torch.Generator().manual_seed(0))
    1
    """
    mass = torch.where(free, weights.double(), 0.0)  # [N]
    cumulative = mass.cumsum(0)
    if not cumulative[-1] > 0:
        cumulative = free.double().cumsum(0)
    uniform = torch.rand(1, generator=generator, device=weights.device, dtype=torch.float64)
    # side="right" skips positions without mass; the last one with mass bounds rounding at 1.
    target = torch.searchsorted(cumulative, uniform * cumulative[-1], right=True)
    last = torch.searchsorted(cumulative, cumulative[-1:], right=False)
    return int(torch.minimum(target, last))

"""Soft-rank sampling: draws in proportion to a power of the rank of any score."""

import torch
from torch import Tensor

from dal.functional.checks import check_n, check_positive
from dal.functional.costs import Cost, costs
from dal.functional.ranking import gumbel_top_n, top_n


@costs(lambda s: Cost(elements=120 * s.N, numbers=20 * s.N))
def softrank(*, scores: Tensor, n: int, generator: torch.Generator, beta: float = 1.0) -> Tensor:
    """Take the n highest of -ln r_i + Gumbel(0, 1/β): draws without replacement, each ∝ r_i^-β.

    The best score has the rank r = 1; only the order of the scores matters.

    Source: Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron and Gal, TMLR 2023.

    Deviation: none; among equal scores the lowest position has the best rank.

    Cost: time O(N log N); memory O(N).

    Args:
        scores: [N]; of any sign, -inf allowed.
        n: how many, between 0 and N.
        generator: on the tensors' device.
        beta: the power; large is near the top n, small near uniform.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if scores are not [N] or hold NaN, n is out of range, or beta is not above 0.

    With β = 100 the draw is as good as sure: 2^100 to 1 for the best, 1.5^100 for the next.

    >>> scores, generator = torch.tensor([0.3, 0.1, 0.2]), torch.Generator().manual_seed(0)
    >>> softrank(scores=scores, n=3, generator=generator, beta=100.0)
    tensor([0, 2, 1])
    """
    order = top_n(scores, len(scores))
    check_n(n, len(scores))
    check_positive("beta", beta)
    ranks = torch.empty(len(scores), dtype=torch.float64, device=scores.device)
    ranks[order] = torch.arange(1, len(scores) + 1, dtype=ranks.dtype, device=scores.device)
    return gumbel_top_n(-beta * ranks.log(), n, generator)

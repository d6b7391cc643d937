"""Power sampling: draws in proportion to a power of any score."""

import torch
from torch import Tensor

from dal.functional.checks import check_n, check_positive, check_tensor
from dal.functional.costs import Cost, costs
from dal.functional.ranking import gumbel_top_n, non_negative


@costs(lambda s: Cost(elements=75 * s.N, numbers=20 * s.N))
def power(*, scores: Tensor, n: int, generator: torch.Generator, beta: float = 1.0) -> Tensor:
    """Take the n highest of ln s_i + Gumbel(0, 1/β): draws without replacement, each ∝ s_i^β.

    Source: Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron and Gal, TMLR 2023.

    Deviation: negative scores are lifted first, as the law needs s >= 0. Where none is above 0, as
    with `margin` in [-1, 0], all are lifted by 1, which makes margin the paper's 1 - (p_(1) -
    p_(2)); were some below -1, by as much as makes the least of them 0. Where scores of both signs
    meet, the least of them is lifted to 0 too: nothing if it is BALD's rounding below 0, but a law
    that hangs on the pool if the score is of both signs by nature, for which `softmax` is the
    better choice. Scores of 0 and of -inf are never drawn before the others are used up, then
    uniformly.

    Cost: time O(N log N); memory O(N).

    Args:
        scores: [N]; -inf allowed.
        n: how many, between 0 and N.
        generator: on the tensors' device.
        beta: the power; large is near the top n, small near uniform.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if scores are not [N] or hold NaN or +inf, n is out of range, or beta is not
            above 0.

    With β = 100 the draw is as good as sure: (.9/.5)^100 is 10^25.

    >>> scores, generator = torch.tensor([0.0, 0.5, 0.9]), torch.Generator().manual_seed(0)
    >>> power(scores=scores, n=3, generator=generator, beta=100.0)
    tensor([2, 1, 0])
    """
    check_tensor("scores", scores, "N")
    check_n(n, len(scores))
    check_positive("beta", beta)
    return gumbel_top_n(beta * non_negative(scores.double()).log(), n, generator)

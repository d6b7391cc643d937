"""Softmax sampling: draws in proportion to the exponential of any score."""

import torch
from torch import Tensor

from dal.functional.checks import check_n, check_positive, check_tensor
from dal.functional.costs import Cost, costs
from dal.functional.ranking import gumbel_top_n


@costs(lambda s: Cost(elements=75 * s.N, numbers=20 * s.N))
def softmax(*, scores: Tensor, n: int, generator: torch.Generator, beta: float = 1.0) -> Tensor:
    """Take the n highest of s_i + Gumbel(0, 1/β): draws without replacement, each ∝ exp(β s_i).

    Source: Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron and Gal, TMLR 2023.

    Deviation: none; scores of -inf are drawn once the others are used up, then uniformly.

    Cost: time O(N log N); memory O(N).

    Args:
        scores: [N]; of any sign, -inf allowed. Their scale matters: scores in [0, 1] with β = 1
            are drawn almost uniformly.
        n: how many, between 0 and N.
        generator: on the tensors' device.
        beta: the inverse temperature; large is near the top n, small near uniform.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if scores are not [N] or hold NaN, n is out of range, or beta is not above 0.

    With β = 100 the draw is as good as sure: exp(100 · .5) is 10^21.

    >>> scores, generator = torch.tensor([-0.5, 0.0, 0.5]), torch.Generator().manual_seed(0)
    >>> softmax(scores=scores, n=3, generator=generator, beta=100.0)
    tensor([2, 1, 0])
    """
    check_tensor("scores", scores, "N")
    check_n(n, len(scores))
    check_positive("beta", beta)
    return gumbel_top_n(beta * scores.double(), n, generator)

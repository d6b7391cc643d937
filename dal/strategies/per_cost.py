"""Score per cost: what a label is worth, for what it takes."""

import torch
from torch import Tensor

from dal.functional.checks import check_n, check_not_negative, check_rows, check_tensor
from dal.functional.costs import Cost
from dal.functional.costs import costs as declared
from dal.functional.ranking import top_n


@declared(lambda s: Cost(elements=75 * s.N, numbers=20 * s.N))
def per_cost(*, scores: Tensor, costs: Tensor, n: int, beta: float = 1.0) -> Tensor:
    """Take the n highest of s_i / c_i^β.

    Source: Haertel, Seppi, Ringger and Carroll, NIPS Workshop on Cost-Sensitive Learning, 2008, as
    return on investment.

    Deviation: the power β of the cost is 1 in the paper.

    Cost: time O(N log N); memory O(N).

    Args:
        scores: [N]; at least 0, or -inf for what is never wanted.
        costs: [N]; above 0.
        n: how many, between 0 and N.
        beta: at least 0; 0 is the score alone, large the cost alone.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, a score is negative, a cost is not above 0, a
            number is NaN or +inf, n is out of range, or beta is negative.

    Per unit of cost they are worth 2/4, 1/1 and 3/4.

    >>> scores, costs = torch.tensor([2.0, 1.0, 3.0]), torch.tensor([4.0, 1.0, 4.0])
    >>> per_cost(scores=scores, costs=costs, n=2)
    tensor([1, 2])
    """
    check_tensor("scores", scores, "N")
    check_tensor("costs", costs, "N")
    check_rows(scores=scores, costs=costs)
    check_n(n, len(scores))
    check_not_negative("beta", beta)
    wrong = scores[((scores < 0) & ~scores.isneginf()) | scores.isposinf()]
    if len(wrong):
        raise ValueError(
            f"scores must be at least 0 and finite to be divided by costs, got {float(wrong[0]):g}"
        )
    if not (torch.isfinite(costs) & (costs > 0)).all():
        raise ValueError(f"costs must be finite and above 0, got {float(costs.min()):g}")
    return top_n(scores.double() / costs.double() ** beta, n)

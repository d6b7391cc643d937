"""FALCUN: draws of items that are uncertain and predicted otherwise than those drawn before."""

import torch
from torch import Tensor

from dal.functional.checks import check_n, check_positive, check_probs
from dal.functional.costs import Cost, costs
from dal.functional.ranking import draw_proportional


@costs(lambda s: Cost(elements=s.n * s.N * (s.C + 14), steps=15 * s.n, numbers=25 * s.N))
def falcun(*, probs: Tensor, n: int, generator: torch.Generator, gamma: float = 10.0) -> Tensor:
    """Draw one by one ∝ (u_i + d_i)^γ with u = 1 - (p_(1) - p_(2)) and d the L1 distance below.

    d starts at u, falls to min_s ‖p_i - p_s‖₁ over the items s drawn, and is rescaled to [0, 1]
    over the remaining items before each draw.

    Source: Gilhuber, Beer, Ma and Seidl, ECML-PKDD 2024.

    Deviation: none from the text. Their released code has four variants and draws by d^γ alone
    unless told otherwise; it rescales before the first draw too, which is done here.

    Cost: time O(n N C); memory O(N).

    Args:
        probs: [N, C]; predictive probabilities.
        n: how many, between 0 and N.
        generator: on the tensors' device.
        gamma: how much the relevant are preferred, above 0; small is near uniform.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if `probs` is not [N, C >= 2] or holds NaN, n is out of range, or gamma is
            not above 0.

    Large γ takes the largest. The second item, as unsure as the first, is then close to it: its
    u + d = .9 + 0 comes after .2 + 1 of the third.

    >>> probs = torch.tensor([[0.5, 0.5], [0.45, 0.55], [0.9, 0.1]])
    >>> falcun(probs=probs, n=2, generator=torch.Generator().manual_seed(0), gamma=1000.0)
    tensor([0, 2])
    """
    check_probs(probs)
    check_n(n, len(probs))
    check_positive("gamma", gamma)
    chosen = torch.empty(n, dtype=torch.long, device=probs.device)
    first, second = probs.topk(2, dim=1).values.unbind(1)
    uncertainty = (1 - (first - second)).clamp_min(0)  # [N]
    distance, tiny = uncertainty, torch.finfo(probs.dtype).tiny
    free = torch.ones_like(uncertainty, dtype=torch.bool)
    for step in range(n):
        relevance = uncertainty + _rescaled(distance, free)  # [N]
        largest = torch.where(free, relevance, 0.0).amax().clamp_min(tiny)
        weights = (relevance / largest).double() ** gamma  # at most 1: γ must not overflow
        position = draw_proportional(weights, free, generator)
        chosen[step] = position
        free[position] = False
        to_new = torch.cdist(probs, probs[position : position + 1], p=1.0).squeeze(1)  # [N]
        distance = torch.minimum(distance, to_new)
    return chosen


def _rescaled(values: Tensor, free: Tensor) -> Tensor:
    """Values [N] moved and scaled so that the free ones span [0, 1]; 0 where all are equal."""
    least = torch.where(free, values, torch.inf).amin()
    span = torch.where(free, values, -torch.inf).amax() - least
    return torch.where(span > 0, (values - least) / span, 0.0)

"""Lightweight coreset: half at random, half by the distance from the mean."""

import torch
from torch import Tensor

from dal.functional.checks import check_features, check_n
from dal.functional.costs import Cost, costs
from dal.functional.factored import Factored
from dal.functional.ranking import gumbel_top_n


@costs(lambda s: Cost(elements=s.N * (1.2 * s.D + 75), numbers=20 * s.N + 4096 * s.D))
def lightweight_coreset(*, features: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw items with probability q(x) = 1/(2N) + |h_x - μ|² / (2 Σ_y |h_y - μ|²).

    Source: Bachem, Lucic and Krause, KDD 2018.

    Deviation: drawn without replacement, each item in proportion to q among those left; the
    paper draws with replacement and weights what it drew. If all items coincide, q is uniform.

    Cost: time O(N D + N log N); memory O(N) and a tile of 2048 x D.

    Args:
        features: [N, D].
        n: how many, between 0 and N.
        generator: on the tensors' device.

    Returns:
        [n] long positions, in the order of the draws.

    Raises:
        ValueError: if n is out of range, or a feature is NaN or too large to square.

    The mean is 1, so that q is 1/6, 1/6, 1/6 and 1/8 + 9/24 = 1/2.

    >>> pool, rng = torch.tensor([[0.0], [0.0], [0.0], [4.0]]), torch.Generator().manual_seed(0)
    >>> firsts = (lightweight_coreset(features=pool, n=1, generator=rng) for _ in range(1000))
    >>> round(sum(first.item() == 3 for first in firsts) / 1000, 1)
    0.5
    >>> lightweight_coreset(features=pool, n=4, generator=rng).sort().values
    tensor([0, 1, 2, 3])
    """
    check_features("features", features)
    check_n(n, len(features))
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=features.device)
    squared = Factored(features, offset=features.mean(0)).norms.double()  # [N]
    share = squared / squared.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return gumbel_top_n((share + 1 / len(features)).log(), n, generator)

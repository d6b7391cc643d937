"""Information density: uncertain items that are like many others."""

import torch
from torch import Tensor

from dal.functional.checks import (
    check_features,
    check_n,
    check_not_negative,
    check_rows,
    check_tensor,
)
from dal.functional.costs import Cost, costs
from dal.functional.geometry import ROWS
from dal.functional.kernels import unit_rows
from dal.functional.ranking import non_negative, top_n


@costs(lambda s: Cost(elements=s.N * (1.7 * s.D + 30), numbers=10 * s.N + 4096 * s.D))
def information_density(*, scores: Tensor, features: Tensor, n: int, beta: float = 1.0) -> Tensor:
    """Take the n highest of u_i (mean_j sim(h_i, h_j))^β, sim = (1 + cos) / 2.

    Source: Settles and Craven, EMNLP 2008.
    Deviation: the cosine is moved to [0, 1], as a negative mean has no power β; u is any strategy's
    score, lifted as in `power` where some are negative.
    Cost: time O(N D); memory O(N) and a tile of 4096 x D. The mean over j is one product with the
    mean of the unit features, so that no pair is ever formed.

    Args:
        scores: [N]; u, higher is more uncertain, -inf allowed.
        features: [N, D].
        n: how many, between 0 and N.
        beta: weight of the density; 0 leaves the scores alone.

    Returns:
        [n] long positions, best first.

    Raises:
        ValueError: if shapes differ from the above, n is out of range, `beta` is negative, a score
            is NaN or +inf, or a feature is NaN or too large to square.

    Two alike and one apart: mean similarities 2/3, 2/3 and 1/3.

    >>> pool = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    >>> scores = torch.tensor([0.5, 0.6, 0.9])
    >>> information_density(scores=scores, features=pool, n=3)
    tensor([1, 0, 2])
    """
    check_tensor("scores", scores, "N")
    check_features("features", features)
    check_rows(scores=scores, features=features)
    check_n(n, len(features))
    check_not_negative("beta", beta)
    blocks = features.split(ROWS)
    mean = torch.stack([unit_rows(rows).sum(0) for rows in blocks]).sum(0) / max(1, len(features))
    cosine = torch.cat([unit_rows(rows) @ mean for rows in blocks])  # [N]
    similarity = ((1 + cosine) / 2).clamp_min(0)
    return top_n(non_negative(scores) * similarity**beta, n)

"""Weighted k-means: the items that stand for n clusters of uncertain items."""

import torch
from torch import Tensor

from dal.functional.checks import check_features, check_n, check_rows, check_tensor
from dal.functional.clustering import kmeans, nearest_distinct
from dal.functional.costs import costs, kmeans_cost
from dal.functional.ranking import non_negative


@costs(lambda s: kmeans_cost(s.N, s.n, s.D))
def weighted_kmeans(
    *, scores: Tensor, features: Tensor, n: int, generator: torch.Generator
) -> Tensor:
    """Take the items nearest to the centroids of argmin Σ_x w_x min_j |h_x - c_j|².

    With `score=entropy` this is CLUE.

    Source: Prabhu, Chandrasekaran, Saenko and Hoffman, ICCV 2021; Zhdanov, arXiv 1901.05954, 2019.

    Deviation: the weights are the scores of any strategy, lifted as in `power` where some are
    negative; -inf weighs nothing; if nothing has weight, all items weigh the same. Two centroids
    never share an item.

    Cost: time O(n N D) per iteration, at most 20; fewer where clusters are small; memory one
    copy of the features and a tile of 2048 x n.

    Args:
        scores: [N]; higher weighs more, -inf allowed.
        features: [N, D].
        n: how many, between 0 and N.
        generator: on the tensors' device.

    Returns:
        [n] long positions, in the order of the centroids.

    Raises:
        ValueError: if shapes differ from the above, n is out of range, a score is NaN or +inf, or
            a feature is NaN or too large to square.

    The weight pulls the centroid from 5 to 9.

    >>> pool, scores = torch.tensor([[0.0], [5.0], [10.0]]), torch.tensor([0.1, 0.0, 0.9])
    >>> weighted_kmeans(scores=scores, features=pool, n=1, generator=torch.Generator())
    tensor([2])
    """
    check_tensor("scores", scores, "N")
    check_features("features", features)
    check_rows(scores=scores, features=features)
    check_n(n, len(features))
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=features.device)
    weights = non_negative(scores)
    weights = weights / weights.amax().clamp_min(torch.finfo(weights.dtype).tiny)
    centroids = kmeans(features, n, generator, weights=weights.to(features)).centroids
    return nearest_distinct(features, centroids)

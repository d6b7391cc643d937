"""k-means: the items that stand for n clusters."""

import torch
from torch import Tensor

from dal.functional import clustering
from dal.functional.checks import check_features, check_n
from dal.functional.costs import costs, kmeans_cost


@costs(lambda s: kmeans_cost(s.N, s.n, s.D))
def kmeans(*, features: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Take argmin_x |h_x - c_j| for the centroids c_1 ... c_n of a k-means clustering.

    Source: Zhdanov, arXiv 1901.05954, 2019; Yuan, Lin and Boyd-Graber, EMNLP 2020.

    Deviation: two centroids never share an item: the later one takes the nearest that is free.

    Cost: time O(n N D) per iteration, at most 20; fewer where clusters are small; memory one
    copy of the features and a tile of 2048 x n.

    Args:
        features: [N, D].
        n: how many, between 0 and N.
        generator: on the tensors' device.

    Returns:
        [n] long positions, in the order of the centroids.

    Raises:
        ValueError: if n is out of range, or a feature is NaN or too large to square.

    Of each cluster the item in its middle is taken.

    >>> pool = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
    >>> kmeans(features=pool, n=2, generator=torch.Generator().manual_seed(0)).sort().values
    tensor([1, 4])
    """
    check_features("features", features)
    check_n(n, len(features))
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=features.device)
    centroids = clustering.kmeans(features, n, generator).centroids
    return clustering.nearest_distinct(features, centroids)

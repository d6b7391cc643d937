"""Density: items typical of the pool from where few labels are."""

import torch
from torch import Tensor

from dal.functional.checks import (
    check_count,
    check_feature_sets,
    check_n,
)
from dal.functional.costs import Cost, costs
from dal.functional.factored import Factored
from dal.functional.geometry import nearest_neighbours, nearest_squared_distance


@costs(
    lambda s: Cost(
        products=s.N * s.D * (s.N + s.M + 8 * s.n),
        elements=s.N * (5 * s.N + 4 * s.D + 12 * s.n),
        steps=12 * s.n,
        numbers=s.N * (s.D + 10) + 2 * 4096**2,
    )
)
def density(*, features: Tensor, labelled_features: Tensor, n: int, neighbours: int = 20) -> Tensor:
    """Repeat argmax_x |h_x - h_L∪S|² / r_k(x)²: far from all labels, close to many items.

    r_k is the distance to the k-th nearest item of the pool and |h_x - h_L∪S| that to the nearest
    labelled or chosen one. Up to the power D/2 their ratio is the nearest-neighbour estimate of the
    density of the pool over that of the labels. Without labels the first is the densest item.

    Source: Zhu, Wang, Yao and Tsou, COLING 2008, for density by nearest neighbours; Loftsgaarden
    and Quesenberry, Annals of Mathematical Statistics 1965, for its estimate.
    Deviation: they multiply an uncertainty by the density (here `information_density`); dividing
    by the density of the labels, and counting picks among them, keeps picks apart.
    Cost: time O(N (N + M + n) D); memory one copy of the features and two tiles of 4096 x 4096.

    Args:
        features: [N, D]; of the pool.
        labelled_features: [M, D]; of the labelled items, M may be 0.
        n: how many, between 0 and N.
        neighbours: k; fewer where the pool is smaller.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, n is out of range, `neighbours` is below 1, or
            a feature is NaN or too large to square.

    Dense and far from the label, then the lone item, then the dense ones beside the label:

    >>> pool = torch.tensor([[0.0], [0.1], [0.3], [8.9], [9.0], [9.1], [20.0]])
    >>> density(features=pool, labelled_features=pool[1:2] + 0.05, n=2, neighbours=2)
    tensor([4, 6])
    """
    check_feature_sets(features, labelled_features)
    check_n(n, len(features))
    check_count("neighbours", neighbours, 1)
    chosen = torch.empty(n, dtype=torch.long, device=features.device)
    if n == 0:
        return chosen
    mean = features.mean(0)  # far from the origin the expanded distance cancels in float32
    features, labelled_features = features - mean, labelled_features - mean
    k = min(neighbours, len(features) - 1)
    radius = nearest_neighbours(features, features, k + 1)[0][:, k]  # [N]; each finds itself
    floor = radius.mean() * torch.finfo(radius.dtype).eps  # coinciding items have no radius
    radius = radius + floor + torch.finfo(radius.dtype).tiny
    norms = Factored(features).norms  # [N]
    distance = nearest_squared_distance(features, labelled_features)  # [N]
    for step in range(n):
        value = (distance + floor) / radius
        if step == 0 and not len(labelled_features):
            value = -radius
        value[chosen[:step]] = -torch.inf
        position = value.argmax()
        chosen[step] = position
        to_new = norms + norms[position] - 2 * (features @ features[position])
        distance = torch.minimum(distance, to_new.clamp_min_(0))
    return chosen

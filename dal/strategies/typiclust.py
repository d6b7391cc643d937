"""TypiClust: typical items of clusters that hold few labels."""

import torch
from torch import Tensor

from dal.functional.checks import (
    check_count,
    check_feature_sets,
    check_n,
)
from dal.functional.clustering import kmeans, typicality, typicality_bounds
from dal.functional.costs import Cost, Sizes, costs, kmeans_cost
from dal.functional.geometry import ROWS


def _cost(s: Sizes, max_clusters: int) -> Cost:
    k = max(1, min(s.M + s.n, max_clusters))
    members = 2 * (s.N + s.M) / k  # of a large cluster
    within = Cost(
        products=min(s.n, k) * s.D * members**2 / 2,
        elements=2.5 * min(s.n, k) * members**2,
        steps=30 * s.n,
        numbers=(s.N + s.M) * s.D + min(members, ROWS) ** 2,
    )
    return kmeans_cost(s.N + s.M, k, s.D).plus(within)


@costs(_cost)
def typiclust(
    *,
    features: Tensor,
    labelled_features: Tensor,
    n: int,
    generator: torch.Generator,
    neighbours: int = 20,
    max_clusters: int = 500,
    smallest: int = 5,
) -> Tensor:
    """Take argmax_x 1 / mean distance to the nearest neighbours of x, cluster by cluster.

    Pool and labelled items together are clustered by k-means, k = min(M + n, max_clusters).
    Clusters take turns, those with the fewest labelled items first and the larger first among
    equals; the next item of a cluster is the one most typical among its unlabelled rest.

    Source: Hacohen, Dekel and Weinshall, ICML 2022.

    Deviation: distances are averaged, as in the paper; its code averages their squares. Where the
    clusters above `smallest` have no item left, the smaller ones follow in the same order (the
    code fails). All k-means are full ones; the code changes to minibatches beyond 50 clusters.

    Cost: time O((N + M) k D) per k-means iteration and O(m² D) per chosen cluster of m items,
    together O((N + M)² D / k) if sizes are even; memory two copies of the features and tiles of
    2048 x k and m x m, 4096 x 4096 at most.

    Args:
        features: [N, D].
        labelled_features: [M, D]; M may be 0.
        n: how many, between 0 and N.
        generator: on the tensors' device; seeds the k-means.
        neighbours: at least 1; at most half of a cluster counts.
        max_clusters: at least 1.
        smallest: clusters of so many members or fewer, labelled ones included, come last.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, a number is out of range, or a feature is NaN
            or too large to square.

    The labelled item sits in the right cluster; the middle of the left one is most typical.

    >>> pool = torch.tensor([[0.0], [1.0], [1.5], [3.0], [20.0], [21.0]])
    >>> labelled, generator = torch.tensor([[20.5]]), torch.Generator().manual_seed(0)
    >>> typiclust(features=pool, labelled_features=labelled, n=1, generator=generator, smallest=0)
    tensor([1])
    """
    check_feature_sets(features, labelled_features)
    check_n(n, len(features))
    check_count("neighbours", neighbours, 1)
    check_count("max_clusters", max_clusters, 1)
    check_count("smallest", smallest, 0)
    k = min(len(labelled_features) + n, max_clusters)
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=features.device)
    assignment = kmeans(torch.cat([features, labelled_features]), k, generator).assignment
    pool, labelled = assignment[: len(features)], assignment[len(features) :]
    sizes = torch.bincount(assignment, minlength=k)
    order = sizes.argsort(descending=True, stable=True)
    order = order[torch.bincount(labelled, minlength=k)[order].argsort(stable=True)]  # [k]
    large = sizes[order] > smallest
    members = pool.argsort(stable=True).split(torch.bincount(pool, minlength=k).tolist())
    chosen: list[Tensor] = []
    for numbers in (order[large].tolist(), order[~large].tolist()):
        turns = [_Cluster(features, members[c], neighbours) for c in numbers if len(members[c])]
        while turns and len(chosen) < n:
            chosen += [cluster.take() for cluster in turns[: n - len(chosen)]]
            turns = [cluster for cluster in turns if len(cluster.rest)]
    return torch.stack(chosen)


class _Cluster:
    """The unlabelled items of one cluster, which are taken one by one."""

    def __init__(self, features: Tensor, items: Tensor, neighbours: int) -> None:
        self.features, self.rest, self.neighbours = features, items, neighbours
        self.counted = -1  # neighbours that the bounds stand for
        self.bounds = features[:0, 0]  # [m]; typicality, or no less

    def take(self) -> Tensor:
        """Remove the most typical item and return its position."""
        points = self.features[self.rest]
        count = min(self.neighbours, len(self.rest) // 2)
        if count != self.counted:  # typicality only falls as items leave: old bounds hold
            self.bounds, self.counted = typicality_bounds(points, count), count
        best = self.bounds.argmax()
        while True:
            self.bounds[best] = typicality(points, count, best.view(1))[0]
            if self.bounds.argmax() == best:
                break
            best = self.bounds.argmax()
        item = self.rest[best]
        keep = torch.arange(len(self.rest), device=best.device) != best
        self.rest, self.bounds = self.rest[keep], self.bounds[keep]
        return item

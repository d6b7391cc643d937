"""DropQuery: items whose prediction flips when features are dropped."""

from collections.abc import Callable

import torch
from torch import Tensor

from dal.functional.checks import check_count, check_features, check_n, check_share
from dal.functional.clustering import kmeans, nearest_distinct
from dal.functional.costs import Cost, costs, kmeans_cost
from dal.functional.geometry import ROWS
from dal.functional.gradients import LastLayer
from dal.functional.ranking import top_n


@costs(
    lambda s, samples: kmeans_cost(s.N / 2, s.n, s.D).plus(
        Cost(
            products=4 * samples * s.N * s.D * s.C,
            elements=8 * samples * s.N * s.D,
            numbers=(s.N / 2 + 4 * ROWS) * s.D,
        )
    )
)
def drop_query(
    *,
    features: LastLayer,
    head: Callable[[Tensor], Tensor],
    n: int,
    generator: torch.Generator,
    samples: int = 3,
    dropout: float = 0.75,
) -> Tensor:
    """Cluster the items with 1/S Σ_s [argmax f(m_s h) ≠ argmax f(h)] > 1/2, take the central ones.

    f is the last layer and m_s a dropout mask on its input, drawn for each item and sample. Of
    the n clusters of k-means each gives the item nearest to its centroid.

    Source: Gupte, Aklilu, Nirschl and Yeung-Levy, TMLR 2024.

    Deviation: where fewer than n items flip more often than not, those with the highest share of
    flips follow. Two centroids never share an item.

    Cost: time O(samples N D C), then that of k-means on the candidates; memory four
    tiles of 4096 x D, and two copies of the candidates' features.

    Args:
        features: [N, D]; what enters the last layer.
        head: the last layer, [..., D] -> [..., C] logits.
        n: how many, between 0 and N.
        generator: on the tensors' device.
        samples: S, at least 1; how often features are dropped.
        dropout: share of the features that is dropped, above 0 and below 1; the rest is scaled
            by 1 / (1 - dropout).

    Returns:
        [n] long positions; in the order of the centroids, or by share of flips if all candidates
        are taken.

    Raises:
        ValueError: if a number is out of range, or a feature is NaN or too large to square.

    The first item is class 0 in any case; the second becomes it where both its features are
    dropped, which happens in 81 % of the draws.

    >>> def head(h):
    ...     return torch.nn.functional.pad(h.sum(-1, keepdim=True), (1, 0), value=2.5)
    >>> pool, rng = torch.tensor([[0.0, 0.0], [1.5, 1.5]]), torch.Generator().manual_seed(0)
    >>> drop_query(features=pool, head=head, n=1, generator=rng, samples=99, dropout=0.9)
    tensor([1])
    """
    check_features("features", features)
    check_n(n, len(features))
    check_count("samples", samples, 1)
    check_share("dropout", dropout)
    if dropout in {0, 1}:
        raise ValueError(f"dropout must lie above 0 and below 1, got {dropout!r}")
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=features.device)
    flips = torch.zeros(len(features), device=features.device)  # [N]
    for start in range(0, len(features), ROWS):
        rows = features[start : start + ROWS]
        predicted = head(rows).argmax(-1)
        for _ in range(samples):
            kept = torch.rand(rows.shape, generator=generator, device=rows.device) >= dropout
            dropped = head(rows * kept / (1 - dropout)).argmax(-1)
            flips[start : start + ROWS] += dropped != predicted
    candidates = (flips > samples / 2).nonzero().squeeze(1)
    if len(candidates) <= n:
        return top_n(flips, n)
    points = features[candidates]
    return candidates[nearest_distinct(points, kmeans(points, n, generator).centroids)]

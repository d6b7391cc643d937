"""BADGE: k-means++ over hypothesised last-layer gradients."""

import torch
from torch import Tensor

from dal.functional.checks import check_features, check_n, check_probs, check_rows
from dal.functional.costs import Cost, costs
from dal.functional.factored import Factored
from dal.functional.gradients import LastLayer, hypothesised_error
from dal.functional.kmeans_plus_plus import kmeans_plus_plus
from dal.functional.shards import Shards


@costs(
    lambda s: Cost(
        products=s.N * (s.C + s.D) * (1 + s.n / 8),
        elements=s.N * (s.D + 4 * s.C),
        steps=8 * s.n,
        numbers=s.N * (s.C + 8) + 4096 * (s.D + min(s.n, 256)) + 3 * min(s.n, 512) ** 2,
    )
)
def badge(
    *,
    probs: Tensor,
    features: LastLayer,
    n: int,
    generator: torch.Generator,
    shards: Shards | None = None,
) -> Tensor:
    """Seed k-means++ on g_i = (p_i - e_ŷi) ⊗ h_i, so that picks are uncertain and diverse.

    Source: Ash, Zhang, Krishnamurthy, Langford and Agarwal, ICLR 2020.
    Deviation: as in their code and not their text, the first pick is the largest gradient;
    labelled points are not centres, and the bias is left out.
    Cost: time O(n N (C + D)) at most and a small part of it where distances spread, as all items
    are compared with picks in few products; memory O(N C) and tiles of 8 MB. Distances are
    factorised, [N, C·D] is never built.

    Args:
        probs: [N, C]; predictive probabilities.
        features: [N, D]; what enters the last layer.
        n: how many, between 0 and N.
        generator: on the tensors' device.
        shards: the processes that hold the pool, each its share of the N rows; None for this one
            alone.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, n is out of range, or a feature is NaN or
            too large to square.

    Gradients of norm² 0.26, 0.375 and 1.52: the last is taken first.

    >>> probs = torch.tensor([[0.6, 0.3, 0.1], [0.9, 0.05, 0.05], [0.2, 0.5, 0.3]])
    >>> features = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    >>> badge(probs=probs, features=features, n=1, generator=torch.Generator())
    tensor([2])
    """
    check_probs(probs)
    check_features("features", features)
    check_rows(probs=probs, features=features)
    check_n(n, shards.rows if shards else len(probs))
    gradients = Factored(features, hypothesised_error(probs))
    return kmeans_plus_plus(gradients, n, generator, shards=shards)

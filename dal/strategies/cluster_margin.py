"""Cluster-margin: narrow margins, spread over clusters."""

import math

import torch
from torch import Tensor

from dal.functional.checks import (
    check_count,
    check_features,
    check_n,
    check_positive,
    check_probs,
    check_rows,
)
from dal.functional.clustering import average_linkage, cut
from dal.functional.costs import Cost, Sizes, costs
from dal.functional.ranking import top_n


def _cost(s: Sizes, oversample: int) -> Cost:
    k = min(oversample * s.n, s.N)
    return Cost(
        products=12 * k * k * s.D,
        elements=s.N * (s.D + 8 * s.C + 75),
        steps=9 * k,
        numbers=(k + 4096) * s.D + 12 * s.N,
    )


@costs(_cost)
def cluster_margin(
    *,
    probs: Tensor,
    features: Tensor,
    n: int,
    generator: torch.Generator,
    oversample: int = 10,
    threshold: float | None = None,
) -> Tensor:
    """Cluster the items of lowest p_(1) - p_(2) and let the clusters take turns.

    The oversample · n items of narrowest margin are the candidates. Their clusters are those of
    average linkage below the threshold ε; the smallest comes first, and each turn draws one of
    its candidates that are left.

    Source: Citovsky, DeSalvo, Gentile, Karydas, Rajagopalan, Rostamizadeh and Kumar,
    NeurIPS 2021.

    Deviation: the paper clusters the whole pool once, before the first round; here the
    candidates of the round are clustered, in the features of its model. Linkage is the root of
    the mean squared distance, which needs no table of all pairs. Without a threshold the
    hierarchy is cut where n clusters are left.

    Cost: time O(N C + k² D) for k = oversample · n candidates, one by one; memory O(N + k D).

    Args:
        probs: [N, C]; predictive probabilities.
        features: [N, D].
        n: how many, between 0 and N.
        generator: on the tensors' device.
        oversample: at least 1; candidates per item to choose.
        threshold: ε above 0, in units of the features; None for n clusters.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, a number is out of range, a probability is
            NaN, or a feature is NaN or too large to square.

    The item in the middle is on its own, and the sure one at the end is no candidate.

    >>> pool = torch.tensor([[0.0], [0.1], [0.2], [5.0], [9.0]])
    >>> probs = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.6, 0.4], [1.0, 0.0]])
    >>> rng = torch.Generator().manual_seed(0)
    >>> cluster_margin(probs=probs, features=pool, n=2, generator=rng, oversample=2)[0]
    tensor(3)
    """
    check_probs(probs)
    check_features("features", features)
    check_rows(probs=probs, features=features)
    check_n(n, len(probs))
    check_count("oversample", oversample, 1)
    if threshold is not None:
        check_positive("threshold", threshold)
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=features.device)
    best = probs.topk(2, 1).values  # [N, 2]
    candidates = top_n(best[:, 1] - best[:, 0], min(oversample * n, len(probs)))  # [k]
    merges = average_linkage(features[candidates])
    height = math.inf if threshold is None else threshold
    labels = cut(merges, clusters=n if threshold is None else 1, height=height)
    shuffle = torch.randperm(len(candidates), generator=generator, device=candidates.device)
    turns = _turns(labels.to(candidates.device)[shuffle])
    return candidates[shuffle[turns.argsort(stable=True)[:n]]]


def _turns(labels: Tensor) -> Tensor:
    """When an item's turn comes: [k] labels -> [k] long, its rank in its cluster, then cluster."""
    sizes = torch.bincount(labels)
    place = torch.empty_like(sizes)  # of a cluster among the clusters, smallest first
    place[sizes.argsort(stable=True)] = torch.arange(len(sizes), device=labels.device)
    order = labels.argsort(stable=True)
    within = torch.empty_like(labels)  # rank of an item in its cluster
    starts = (sizes.cumsum(0) - sizes)[labels[order]]
    within[order] = torch.arange(len(labels), device=labels.device) - starts
    return within * len(sizes) + place[labels]

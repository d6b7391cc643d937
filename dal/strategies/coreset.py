"""Core-set: the k-centre greedy cover of the feature space."""

from torch import Tensor

from dal.functional.checks import (
    check_feature_sets,
    check_n,
)
from dal.functional.costs import costs, k_center_cost
from dal.functional.k_center import k_center_greedy
from dal.functional.shards import Shards


@costs(lambda s: k_center_cost(s.N, s.M, s.n, s.D))
def coreset(
    *, features: Tensor, labelled_features: Tensor, n: int, shards: Shards | None = None
) -> Tensor:
    """Repeat argmax_x min_{c in labelled and chosen} |h_x - h_c|.

    The labelled items are the first centres; where there are none, the item nearest to the mean
    starts.

    Source: Sener and Savarese, ICLR 2018.
    Deviation: their k-centre greedy 2-approximation, not the robust integer program.
    Cost: time O(N (M + n) D) at most, of which the part of n is mostly a tenth or less; memory
    O(N), 1,536 items and a table of their distances (30 MB at D = 512).

    Args:
        features: [N, D]; of the pool.
        labelled_features: [M, D]; of the labelled items, M may be 0.
        n: how many, between 0 and N.
        shards: the processes that hold the pool, each its share of the N rows; None for this one
            alone.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, n is out of range, or a feature is NaN or
            too large to square.

    >>> import torch
    >>> pool, labelled = torch.tensor([[0.0], [1.2], [2.5], [10.0]]), torch.tensor([[0.5]])
    >>> coreset(features=pool, labelled_features=labelled, n=2)
    tensor([3, 2])
    """
    check_feature_sets(features, labelled_features)
    check_n(n, shards.rows if shards else len(features))
    return k_center_greedy(features, labelled_features, n, shards=shards)

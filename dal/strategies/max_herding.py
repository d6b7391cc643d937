"""MaxHerding: points whose kernels cover the pool where nothing covers it yet."""

from torch import Tensor

from dal.functional.checks import (
    check_feature_sets,
    check_n,
    check_positive,
)
from dal.functional.costs import costs
from dal.functional.kernels import (
    gaussian_of,
    in_precision_of,
    lazy_greedy,
    lazy_greedy_cost,
    unit_rows,
)


@costs(lambda s: lazy_greedy_cost(s.N, s.M, s.n, s.D))
def max_herding(
    *, features: Tensor, labelled_features: Tensor, n: int, bandwidth: float = 1.0
) -> Tensor:
    """Repeat argmax_x̃ mean_x max(k(x, x̃) - max_{c in labelled and chosen} k(x, c), 0).

    k(x, c) = exp(-|x - c|² / σ²) on features scaled to length 1. Nothing is drawn; where nothing
    is labelled, the first pick is the densest point.

    Source: Bae, Noh and Sutherland, ECCV 2024.

    Deviation: only in the work: the released code holds all N² kernel values and draws a subset of
    a large pool; here old gains serve as upper bounds and the whole pool takes part. σ = 1 on unit
    features is the paper's choice; as in the released code, the exponent has no factor 1/2.

    Cost: time O(N² D / 2) for the first gains, O(N (M + n) D) for the new centres, and for gains
    looked at again at most twice the pairs of points and rows that changed; memory one or two
    copies of the features and O(N).

    Args:
        features: [N, D]; of the pool.
        labelled_features: [M, D]; of the labelled items, M may be 0.
        n: how many, between 0 and N.
        bandwidth: σ of the kernel, above 0; distances of unit features lie in [0, 2].

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, n is out of range, the bandwidth is not above
            0, or a feature is NaN or too large to square.

    The labelled direction covers the first two; of the other three the middle one is the densest.

    >>> import torch
    >>> pool = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-0.3, 1.0], [0.0, 1.0], [-0.4, 0.9]])
    >>> labelled = torch.tensor([[2.0, 0.0]])
    >>> max_herding(features=pool, labelled_features=labelled, n=2)
    tensor([2, 3])
    """
    check_feature_sets(features, labelled_features)
    check_n(n, len(features))
    check_positive("bandwidth", bandwidth)
    points = in_precision_of(bandwidth, unit_rows(features))
    centres = unit_rows(labelled_features).to(points.dtype)
    return lazy_greedy(points, centres, n, gaussian_of(bandwidth))

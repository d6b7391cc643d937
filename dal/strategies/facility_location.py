"""Facility location: points to which the pool as a whole is similar."""

from torch import Tensor

from dal.functional.checks import (
    check_feature_sets,
    check_n,
)
from dal.functional.costs import costs
from dal.functional.kernels import lazy_greedy, lazy_greedy_cost, shifted_cosine, unit_rows


@costs(lambda s: lazy_greedy_cost(s.N, s.M, s.n, s.D))
def facility_location(*, features: Tensor, labelled_features: Tensor, n: int) -> Tensor:
    """Maximise Σ_x max_{c in labelled and chosen} s(x, c) greedily, s = (1 + cos) / 2.

    The similarity lies in [0, 1], as the guarantee of the greedy needs: 1 - 1/e of what the best
    n points add. A row of zeros has cosine 0 with everything.

    Source: Wei, Iyer and Bilmes, ICML 2015; the greedy is that of Nemhauser, Wolsey and Fisher,
    Mathematical Programming 1978, made lazy as by Minoux 1978.

    Deviation: without the filter to the most uncertain items of Wei, Iyer and Bilmes: the whole
    pool is the ground set. Labelled items are facilities from the start.

    Cost: time O(N² D / 2) for the first gains, O(N (M + n) D) for the new centres, and for gains
    looked at again at most twice the pairs of points and rows that changed; memory a copy of the
    features and O(N).

    Args:
        features: [N, D]; of the pool.
        labelled_features: [M, D]; of the labelled items, M may be 0.
        n: how many, between 0 and N.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, n is out of range, or a feature is NaN or
            too large to square.

    Three directions of which the middle one serves all; with it, the first is the farthest.

    >>> import torch
    >>> pool = torch.tensor([[1.0, 0.0], [0.1, 1.0], [0.0, 2.0], [-0.5, 1.0]])
    >>> facility_location(features=pool, labelled_features=torch.empty(0, 2), n=2)
    tensor([1, 0])
    """
    check_feature_sets(features, labelled_features)
    check_n(n, len(features))
    return lazy_greedy(unit_rows(features), unit_rows(labelled_features), n, shifted_cosine)

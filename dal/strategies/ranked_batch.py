"""Ranked batch: uncertain items unlike those labelled and chosen."""

import torch
from torch import Tensor

from dal.functional.checks import (
    check_feature_sets,
    check_n,
    check_rows,
    check_tensor,
)
from dal.functional.costs import Cost, costs
from dal.functional.factored import Factored
from dal.functional.geometry import nearest_squared_distance


@costs(
    lambda s: Cost(
        products=s.N * s.D * (s.M + 8 * s.n),
        elements=s.N * (3 * s.D + 12 * s.n),
        steps=6 * s.n,
        numbers=s.N * (s.D + 10) + 4096 * s.D,
    )
)
def ranked_batch(*, scores: Tensor, features: Tensor, labelled_features: Tensor, n: int) -> Tensor:
    """Repeat argmax_x α (1 - max_{c in L and S} 1 / (1 + |h_x - h_c|)) + (1 - α) u_x.

    α = |U| / (|U| + |L|), where an item counts as labelled once it is chosen: while little is
    labelled, exploration decides. u are the scores, brought to [0, 1] by their lowest and highest.

    Source: Cardoso, Silva, Canuto, Moro and Gonçalves, Information Sciences 2017.

    Deviation: the scale of u, as any strategy may give the scores; equal scores and -inf become
    0. Without labelled items the first is the one nearest to the mean; there the paper takes the
    least mean distance to all others, which needs all pairs.

    Cost: time O(N (M + n) D); memory a copy of the features.

    Args:
        scores: [N]; higher is more uncertain, -inf allowed.
        features: [N, D].
        labelled_features: [M, D]; M may be 0.
        n: how many, between 0 and N.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, n is out of range, a score is NaN or +inf, or
            a feature is NaN or too large to square.

    With three of four unlabelled, α = 3/4: 3/4 · 1/2 + 1/4 · 1, 3/4 · 1/2 and 3/4 · 3/4.

    >>> pool, labelled = torch.tensor([[1.0], [-1.0], [3.0]]), torch.tensor([[0.0]])
    >>> scores = torch.tensor([0.9, 0.1, 0.1])
    >>> ranked_batch(scores=scores, features=pool, labelled_features=labelled, n=2)
    tensor([0, 2])
    """
    check_tensor("scores", scores, "N")
    check_feature_sets(features, labelled_features)
    check_rows(scores=scores, features=features)
    check_n(n, len(features))
    chosen = torch.empty(n, dtype=torch.long, device=features.device)
    if n == 0:
        return chosen
    uncertainty = _unit_range(scores).to(features)
    mean = features.mean(0)  # far from the origin the expanded distance cancels in float32
    features, labelled_features = features - mean, labelled_features - mean
    norms = Factored(features).norms  # [N]
    squared = nearest_squared_distance(features, labelled_features)  # [N]
    size, labelled = len(features), len(labelled_features)
    for step in range(n):
        alpha = (size - step) / (size + labelled)
        similarity = 1 / (1 + squared.sqrt())  # 0 where there is nothing to be similar to
        value = alpha * (1 - similarity) + (1 - alpha) * uncertainty
        if step + labelled == 0:
            value = -norms
        value[chosen[:step]] = -torch.inf
        position = value.argmax()
        chosen[step] = position
        to_new = norms + norms[position] - 2 * (features @ features[position])
        squared = torch.minimum(squared, to_new.clamp_min_(0))
    return chosen


def _unit_range(scores: Tensor) -> Tensor:
    """Map the scores to [0, 1] by their lowest and highest."""
    if scores.isposinf().any():
        raise ValueError(
            f"scores must be below inf, got {int(scores.isposinf().sum())} that are not"
        )
    finite = scores.isfinite()
    lowest = scores.masked_fill(~finite, torch.inf).amin()
    above = (scores - lowest).masked_fill(~finite, 0)
    return above / above.amax().clamp_min(torch.finfo(above.dtype).tiny)

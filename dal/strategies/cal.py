"""CAL: the items that are predicted otherwise than their labelled neighbours."""

import torch
from torch import Tensor

from dal.functional.checks import (
    check_count,
    check_feature_sets,
    check_probs,
    check_rows,
    check_tensor,
    check_widths,
)
from dal.functional.geometry import nearest_neighbours
from dal.functional.information import probs_entropy


def cal(
    *,
    probs: Tensor,
    features: Tensor,
    labelled_probs: Tensor,
    labelled_features: Tensor,
    neighbours: int = 10,
) -> Tensor:
    """Score mean_l KL(p_l ‖ p_x) over the labelled items l nearest to x in h / ‖h‖, in nats.

    Source: Margatina, Vernikos, Barrault and Aletras, EMNLP 2021.

    Deviation: features are scaled to unit norm, as in their code and not in their text. ln p_x is
    taken at the smallest normal number of its type at least (-87 in float32), so that an item
    that denies its neighbour's class outright scores high and not infinite. Where there are
    fewer labelled items than `neighbours` all of them count; without any the score is the
    entropy of p_x.

    Cost: time O(N M D + N k C) for k neighbours; memory O(N (D + C)) and one tile of distances.

    Args:
        probs: [N, C]; predictive probabilities.
        features: [N, D].
        labelled_probs: [M, C]; of the labelled items, M may be 0.
        labelled_features: [M, D]; of the labelled items.
        neighbours: how many labelled items to compare with, at least 1.

    Returns:
        [N] from 0 up, higher is more at odds with the neighbours.

    Raises:
        ValueError: if shapes differ from the above, `neighbours` is below 1, a value is NaN, or
            a feature is too large to square.

    The pool's items lie by the first labelled item: one is predicted like it, one halfway.

    >>> near, far = [1.0, 0.0], [0.0, 1.0]
    >>> cal(
    ...     probs=torch.tensor([[1.0, 0.0], [0.5, 0.5]]),
    ...     features=torch.tensor([near, near]),
    ...     labelled_probs=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ...     labelled_features=torch.tensor([near, far]),
    ...     neighbours=1,
    ... )
    tensor([0.0000, 0.6931])
    """
    check_probs(probs)
    check_feature_sets(features, labelled_features)
    check_tensor("labelled_probs", labelled_probs, "M", "C")
    check_rows(probs=probs, features=features)
    check_rows(labelled_probs=labelled_probs, labelled_features=labelled_features)
    check_widths(probs=probs, labelled_probs=labelled_probs)
    check_count("neighbours", neighbours, 1)
    if not len(labelled_probs):
        return probs_entropy(probs)
    unit = torch.nn.functional.normalize
    k = min(neighbours, len(labelled_probs))
    _, nearest = nearest_neighbours(unit(features), unit(labelled_features), k)  # [N, k]
    log_probs = probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
    divergence = probs.new_zeros(len(probs))
    for positions in nearest.unbind(1):
        other = labelled_probs[positions]  # [N, C]
        divergence += (torch.special.xlogy(other, other) - other * log_probs).sum(1)
    return (divergence / k).clamp_min(0)

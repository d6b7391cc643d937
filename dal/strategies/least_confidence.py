"""Least confidence: the items whose best class is least probable."""

from torch import Tensor

from dal.functional.checks import check_nan, check_probs_shape


def least_confidence(*, probs: Tensor) -> Tensor:
    """Score 1 - max_c p_c.

    Source: Lewis and Gale, SIGIR 1994; Culotta and McCallum, AAAI 2005.

    Args:
        probs: [N, C]; predictive probabilities.

    Returns:
        [N] in [0, 1 - 1/C], higher is less confident.

    Raises:
        ValueError: if `probs` is not [N, C >= 2] or holds NaN.

    >>> import torch
    >>> least_confidence(probs=torch.tensor([[0.9, 0.1], [0.5, 0.5]]))
    tensor([0.1000, 0.5000])
    """
    check_probs_shape(probs)
    scores = 1 - probs.amax(1)
    check_nan("probs", probs, scores)
    return scores

"""Entropy of the predictive distribution."""

from torch import Tensor

from dal.functional.checks import check_nan, check_probs_shape
from dal.functional.information import probs_entropy


def entropy(*, probs: Tensor) -> Tensor:
    """Score H(p) = -Σ_c p_c log p_c, in nats.

    With a posterior of several samples p is their mean: the max-entropy rule of MC dropout, which
    others list as `mc_entropy`.

    Source: Shannon 1948; Settles 2009; with MC dropout: Gal, Islam and Ghahramani, ICML 2017.

    Cost: time O(N C); memory one block of rows.

    Args:
        probs: [N, C]; predictive probabilities, zeros allowed.

    Returns:
        [N] in [0, ln C], higher is more uncertain.

    Raises:
        ValueError: if `probs` is not [N, C >= 2] or holds NaN.

    >>> import torch
    >>> entropy(probs=torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor([0.0000, 0.6931])
    """
    check_probs_shape(probs)
    scores = probs_entropy(probs)
    check_nan("probs", probs, scores)
    return scores

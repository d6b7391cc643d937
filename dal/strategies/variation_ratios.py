"""Variation ratio: how many posterior samples vote against the most common class."""

import torch
from torch import Tensor

from dal.functional.blocks import score_rows
from dal.functional.checks import check_samples


def variation_ratios(*, log_probs: Tensor) -> Tensor:
    """Score 1 - (votes of the modal class) / K, each sample voting for its argmax.

    It takes at most K values, so ties are common; they follow the shuffled order of the pool.

    Source: Freeman 1965; Gal, Islam and Ghahramani, ICML 2017.
    Deviation: the vote form of their released code; their text's form is `variation_ratios_mean`.

    Args:
        log_probs: [N, K, C]; K >= 2 posterior samples.

    Returns:
        [N] in [0, 1 - 1/K], higher is more disagreement.

    Raises:
        ValueError: if `log_probs` is not [N, K >= 2, C] or holds NaN.

    >>> a, b = [0.9, 0.1], [0.2, 0.8]
    >>> variation_ratios(log_probs=torch.tensor([[a, a, a], [a, b, a]]).log())
    tensor([0.0000, 0.3333])
    """
    check_samples(log_probs, "variation_ratios")
    return score_rows(_minority, log_probs)


def _minority(log_probs: Tensor) -> Tensor:
    """[B, K, C] -> [B]."""
    votes = torch.nn.functional.one_hot(log_probs.argmax(2), log_probs.shape[2])  # [B, K, C]
    return 1 - votes.sum(1).amax(1).to(log_probs.dtype) / log_probs.shape[1]

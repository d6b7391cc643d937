"""BALD: the items on which confident posterior samples disagree."""

from torch import Tensor

from dal.functional.checks import check_nan, check_samples_shape
from dal.functional.information import mutual_information


def bald(*, log_probs: Tensor) -> Tensor:
    """Score I(y; ω) = H(mean_k p_k) - mean_k H(p_k), in nats.

    Source: Houlsby, Huszár, Ghahramani and Lengyel, arXiv 1112.5745, 2011; with MC dropout: Gal,
    Islam and Ghahramani, ICML 2017.

    Cost: time O(N K C); memory one block of rows.

    Args:
        log_probs: [N, K, C]; K >= 2 posterior samples, -inf allowed.

    Returns:
        [N] in [0, min(ln C, ln K)], higher is more informative.

    Raises:
        ValueError: if `log_probs` is not [N, K >= 2, C] or holds NaN. One sample gives 0 for
            every item, which would be a random choice in disguise.

    >>> import torch
    >>> unsure, split = [[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]
    >>> bald(log_probs=torch.tensor([unsure, split]).log())
    tensor([0.0000, 0.6931])
    """
    check_samples_shape(log_probs, "bald")
    scores = mutual_information(log_probs)
    check_nan("log_probs", log_probs, scores)
    return scores

"""Mean standard deviation of the class probabilities over posterior samples."""

from torch import Tensor

from dal.functional.blocks import score_rows
from dal.functional.checks import check_nan, check_samples_shape


def mean_std(*, log_probs: Tensor) -> Tensor:
    """Score mean_c sqrt(mean_k p_kc² - (mean_k p_kc)²), the population form.

    Source: Kampffmeyer, Salberg and Jenssen, CVPRW 2016; Gal, Islam and Ghahramani, ICML 2017.

    Args:
        log_probs: [N, K, C]; K >= 2 posterior samples.

    Returns:
        [N] in [0, 0.5], higher is more disagreement.

    Raises:
        ValueError: if `log_probs` is not [N, K >= 2, C] or holds NaN.

    >>> import torch
    >>> agree, split = [[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]
    >>> mean_std(log_probs=torch.tensor([agree, split]).log())
    tensor([0.0000, 0.5000])
    """
    check_samples_shape(log_probs, "mean_std")
    scores = score_rows(_mean_std, log_probs)
    check_nan("log_probs", log_probs, scores)
    return scores


def _mean_std(log_probs: Tensor) -> Tensor:
    return log_probs.exp().std(1, correction=0).mean(1)  # [B, K, C] -> [B, C] -> [B]

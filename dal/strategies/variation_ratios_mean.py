"""Variation ratio of the mean: the share of the mean prediction outside its best class."""

from torch import Tensor

from dal.functional.blocks import score_rows
from dal.functional.checks import check_nan, check_samples_shape


def variation_ratios_mean(*, log_probs: Tensor) -> Tensor:
    """Score 1 - max_c p̄_c, where p̄ = 1/K Σ_k p_k is the mean probability.

    Source: Freeman, Elementary Applied Statistics 1965; Gal, Islam and Ghahramani, ICML 2017.

    Deviation: that paper's text has this form, the code released with it counts the samples'
    votes, which is `variation_ratios`. This one is `least_confidence` of p̄; unlike the votes it
    also grows where all samples agree on being unsure.

    Args:
        log_probs: [N, K, C]; K >= 2 posterior samples, -inf allowed.

    Returns:
        [N] in [0, 1 - 1/C], higher is less certain.

    Raises:
        ValueError: if `log_probs` is not [N, K >= 2, C] or holds NaN. With one sample it is
            `least_confidence`: ask for that by name.

    >>> import torch
    >>> agree, split = [[0.75, 0.25], [0.75, 0.25]], [[1.0, 0.0], [0.0, 1.0]]
    >>> variation_ratios_mean(log_probs=torch.tensor([agree, split]).log())
    tensor([0.2500, 0.5000])
    """
    check_samples_shape(log_probs, "variation_ratios_mean")
    best = score_rows(_best_of_mean, log_probs)
    check_nan("log_probs", log_probs, best)
    return (1 - best).clamp_min(0)


def _best_of_mean(log_probs: Tensor) -> Tensor:
    return log_probs.exp().mean(1).amax(1)  # [B, K, C] -> [B, C] -> [B]

"""Entropies of categorical predictions, in nats.

N items, K posterior samples, C classes. Log-probabilities of -inf are legal: 0 log 0 = 0.
"""

import math

import torch
from torch import Tensor


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy H = -Σ_c p_c log p_c over the last dimension.

    Args:
        log_probs: [..., C]; normalised log-probabilities, -inf allowed.

    Returns:
        [...] in [0, ln C].

    >>> entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log())
    tensor([0.6931, 0.0000])
    """
    finite = log_probs.clamp_min(torch.finfo(log_probs.dtype).min)  # exp(-inf) * -inf is NaN
    return (log_probs.exp() * -finite).sum(-1)


def mean_log_probs(log_probs: Tensor) -> Tensor:
    """Log of the mean *probability* over the samples, log 1/K Σ_k p_k.

    Averaging logits or log-probabilities instead gives another distribution.

    Args:
        log_probs: [..., K, C].

    Returns:
        [..., C].

    >>> samples = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).log()
    >>> mean_log_probs(samples).exp()
    tensor([0.5000, 0.5000])
    """
    return log_probs.logsumexp(-2) - math.log(log_probs.shape[-2])


def mutual_information(log_probs: Tensor) -> Tensor:
    """I(y; ω) = H(mean_k p_k) - mean_k H(p_k), the information between label and parameters.

    Houlsby, Huszár, Ghahramani and Lengyel, arXiv 1112.5745, 2011.

    Args:
        log_probs: [..., K, C].

    Returns:
        [...] in [0, min(ln C, ln K)]; rounding below 0 is clamped.

    >>> samples = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]]).log()
    >>> mutual_information(samples)
    tensor([0.6931, 0.0000])
    """
    total = entropy(mean_log_probs(log_probs))  # [...]
    expected = entropy(log_probs).mean(-1)  # [..., K] -> [...]
    return (total - expected).clamp_min(0)

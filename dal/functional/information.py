"""Entropies of categorical predictions, in nats.

N items, K posterior samples, C classes. Log-probabilities of -inf are legal: 0 log 0 = 0.
"""

import math

import torch
from torch import Tensor

from dal.functional.blocks import score_rows


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


def probs_entropy(probs: Tensor) -> Tensor:
    """Entropy H = -Σ_c p_c log p_c of rows of probabilities.

    Time O(N C), one logarithm each; memory one block.

    Args:
        probs: [N, C]; zeros allowed.

    Returns:
        [N] in [0, ln C]; carries no gradient.

    >>> probs_entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """
    return score_rows(_entropy_into, probs, buffers=1)


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

    Time that of one exponential per number; memory one block.

    Args:
        log_probs: [..., K, C].

    Returns:
        [...] in [0, min(ln C, ln K)]; rounding below 0 is clamped; carries no gradient.

    >>> samples = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]]).log()
    >>> mutual_information(samples)
    tensor([0.6931, 0.0000])
    """
    rows = log_probs.reshape(-1, *log_probs.shape[-2:])  # [N, K, C]
    return score_rows(_information_into, rows, buffers=2).reshape(log_probs.shape[:-2])


def _entropy_into(probs: Tensor, terms: Tensor) -> Tensor:
    """[B, C] and a buffer like it -> [B]."""
    torch.clamp_min(probs, torch.finfo(probs.dtype).tiny, out=terms)  # 0 * log 0 is NaN
    return 0 - terms.log_().mul_(probs).sum(1)  # never -0


def _information_into(log_probs: Tensor, probs: Tensor, terms: Tensor) -> Tensor:
    """[B, K, C] and two buffers like it -> [B]."""
    torch.exp(log_probs, out=probs)
    mean = probs.mean(1)  # [B, C]
    total = _entropy_into(mean, torch.empty_like(mean))
    torch.clamp_min(log_probs, torch.finfo(log_probs.dtype).min, out=terms)  # 0 * -inf is NaN
    expected = terms.mul_(probs).flatten(1).sum(1).div_(-log_probs.shape[1])
    return total.sub_(expected).clamp_min_(0)
